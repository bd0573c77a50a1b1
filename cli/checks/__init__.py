"""What `lowtide doctor` looks at: findings, each with what to do."""
