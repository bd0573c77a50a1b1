# What holds of a fleet, whatever its settings. `terraform test` needs no account: nothing is made.

mock_provider "google" {}

run "a_worker_is_a_spot_vm_that_hears_of_its_end_two_minutes_before" {
  command = plan

  assert {
    condition     = google_compute_region_instance_template.worker.scheduling[0].provisioning_model == "SPOT" && google_compute_region_instance_template.worker.scheduling[0].preemptible
    error_message = "Workers are not Spot VMs."
  }
  assert {
    condition     = google_compute_region_instance_template.worker.scheduling[0].instance_termination_action == "DELETE"
    error_message = "A preempted worker stays, and its disk is paid for."
  }
  assert {
    condition     = !google_compute_region_instance_template.worker.scheduling[0].automatic_restart && google_compute_region_instance_template.worker.scheduling[0].on_host_maintenance == "TERMINATE"
    error_message = "A Spot VM can neither be restarted nor migrate."
  }
  assert {
    condition     = google_compute_region_instance_template.worker.scheduling[0].preemption_notice_duration[0].seconds == 120
    error_message = "A preempted worker has no time to drain."
  }
  assert {
    condition     = google_compute_region_instance_template.worker.scheduling[0].max_run_duration[0].seconds == var.worker_max_run_s
    error_message = "Nothing ends a group that is held large."
  }
}

run "no_vm_has_a_public_address_and_all_reach_googles_apis" {
  command = plan

  assert {
    condition     = alltrue([for interface in google_compute_region_instance_template.worker.network_interface : length(interface.access_config) + length(interface.ipv6_access_config) == 0])
    error_message = "A worker has a public address."
  }
  assert {
    condition     = alltrue([for interface in google_compute_instance.control.network_interface : length(interface.access_config) + length(interface.ipv6_access_config) == 0])
    error_message = "The control VM has a public address."
  }
  assert {
    condition     = google_compute_subnetwork.subnetwork.private_ip_google_access
    error_message = "Without a public address Pub/Sub is not reached."
  }
  assert {
    condition     = alltrue([for firewall in [google_compute_firewall.redis, google_compute_firewall.health, google_compute_firewall.ssh] : !contains(coalesce(firewall.source_ranges, []), "0.0.0.0/0")])
    error_message = "The Internet may come in."
  }
}

run "the_group_takes_what_machines_there_are_and_its_size_is_the_autoscalers" {
  command = plan

  assert {
    condition     = google_compute_region_instance_group_manager.workers.distribution_policy_target_shape == "ANY"
    error_message = "A zone without machines would hold the group up."
  }
  assert {
    condition     = google_compute_region_instance_group_manager.workers.update_policy[0].instance_redistribution_type == "NONE"
    error_message = "VMs would be deleted to even out zones; Compute Engine refuses that beside ANY."
  }
  assert {
    condition     = google_compute_region_instance_group_manager.workers.update_policy[0].type == "OPPORTUNISTIC"
    error_message = "A new template would stop workers that work."
  }
}

run "the_fleet_is_empty_while_nothing_waits" {
  command = plan

  assert {
    condition     = google_compute_region_autoscaler.workers.autoscaling_policy[0].min_replicas == 0
    error_message = "The group is never empty."
  }
  assert {
    condition     = length(google_compute_region_autoscaler.workers.autoscaling_policy[0].cpu_utilization) + length(google_compute_region_autoscaler.workers.autoscaling_policy[0].load_balancing_utilization) == 0
    error_message = "A group that is sized by its own machines is never empty."
  }
  assert {
    condition     = toset([for signal in google_compute_region_autoscaler.workers.autoscaling_policy[0].metric : signal.name]) == toset(["custom.googleapis.com/lowtide/gpu_seconds_outstanding", "pubsub.googleapis.com/subscription/num_undelivered_messages"])
    error_message = "One of the two signals is missing."
  }
  assert {
    condition     = alltrue([for signal in google_compute_region_autoscaler.workers.autoscaling_policy[0].metric : startswith(signal.name, "pubsub.") || contains(keys(google_monitoring_metric_descriptor.metric), signal.name)])
    error_message = "The autoscaler would be made before its metric."
  }
}

run "what_waits_is_kept_for_seven_days_whoever_reads" {
  command = plan

  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.subscription : subscription.message_retention_duration == "604800s" && subscription.expiration_policy[0].ttl == ""])
    error_message = "A subscription loses what waits."
  }
  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.subscription : length(subscription.dead_letter_policy) == 0])
    error_message = "Pub/Sub would count preemptions as failures."
  }
}

run "gpus_are_attached_to_n1_machines_and_come_with_others" {
  command = plan

  variables {
    worker_machine_type = "n1-standard-4"
    worker_gpu          = { type = "nvidia-tesla-t4", count = 1 }
    worker_boot_image   = "projects/my-project/global/images/family/lowtide-worker"
  }

  assert {
    condition     = google_compute_region_instance_template.worker.guest_accelerator[0].type == "nvidia-tesla-t4"
    error_message = "The GPU is not attached."
  }
  assert {
    condition     = strcontains(local.worker_service.options, "--gpus=all") && !google_compute_region_instance_template.worker.shielded_instance_config[0].enable_secure_boot
    error_message = "The container does not get the GPU."
  }
}

run "a_fleet_on_cpus_has_no_gpu" {
  command = plan

  assert {
    condition     = length(google_compute_region_instance_template.worker.guest_accelerator) == 0 && !strcontains(local.worker_service.options, "--gpus")
    error_message = "A fleet on CPUs asks for GPUs."
  }
}
