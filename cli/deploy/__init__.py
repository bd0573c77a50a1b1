"""A fleet on Google Cloud.

Comes in: settings. Goes out: what deploy/terraform needs of them. Next: terraform.
"""
