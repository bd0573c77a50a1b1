locals {
  tunnel = join(" ", [
    "gcloud compute ssh ${google_compute_instance.control.name} --project=${var.project} --zone=${var.zone}",
    "--tunnel-through-iap -- -NL",
  ])
}

output "flower" {
  description = "Opens Flower at http://localhost:5555."
  value       = "${local.tunnel} ${local.flower_port}:localhost:${local.flower_port}"
}

output "redis_tunnel" {
  description = "Brings Redis to localhost:6379, for lowtide status and doctor."
  value       = "${local.tunnel} ${local.redis_port}:${local.redis_address}"
}

output "redis_password" {
  description = "Prints Redis' password."
  value       = "gcloud secrets versions access latest --secret=${local.redis.secret} --project=${var.project}"
}

output "workers" {
  description = "Shows why a machine that the group wants is not there: quotas, no machine to be had."
  value = join(" ", [
    "gcloud compute instance-groups managed list-errors ${google_compute_region_instance_group_manager.workers.name}",
    "--project=${var.project} --region=${var.region}",
  ])
}

output "redis_address" {
  description = "Where workers and caller_accounts reach Redis."
  value       = local.redis_address
}

output "service_accounts" {
  description = "Accounts of the control VM and of workers: give them what they need of other projects."
  value       = { for name, member in local.members : name => trimprefix(member, "serviceAccount:") }
}
