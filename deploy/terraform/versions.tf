terraform {
  # From 1.9 on a variable's validation may look at another variable.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7" # which has preemption_notice_duration, and is what the tests know
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
  zone    = var.zone

  # Budgets are refused to a person's own login unless it names the project whose quota it uses.
  billing_project       = var.project
  user_project_override = true
}
