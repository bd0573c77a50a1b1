output "flower" {
  description = "Opens Flower at http://localhost:5555."
  value = join(" ", [
    "gcloud compute ssh ${google_compute_instance.control.name} --project=${var.project} --zone=${var.zone}",
    "--tunnel-through-iap -- -NL 5555:localhost:5555",
  ])
}

output "workers" {
  description = "Shows the group: its size, and why a machine that it wants is not there."
  value = join(" ", [
    "gcloud compute instance-groups managed describe ${google_compute_region_instance_group_manager.workers.name}",
    "--project=${var.project} --region=${var.region}",
  ])
}

output "redis_address" {
  description = "Where workers and caller_accounts reach Redis."
  value       = "${google_compute_address.control.address}:${local.redis_port}"
}

output "service_accounts" {
  description = "Accounts of the control VM and of workers: give them what they need of other projects."
  value       = { for name, member in local.members : name => trimprefix(member, "serviceAccount:") }
}
