"""A fleet on Google Cloud.

Comes in: settings, what a person chose for Terraform, what it plans, and what Google's APIs say of a project. Goes out:
variables of deploy/terraform, and what they mean and what is missing, in words. Next: terraform.
"""
