"""A fleet on Google Cloud.

Comes in: settings, and what Terraform plans. Goes out: variables of deploy/terraform, and what they mean, in words.
Next: terraform.
"""
