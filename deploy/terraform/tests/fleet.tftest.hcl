# What holds of a fleet, whatever its settings. `terraform test` needs no account: nothing is made. It needs Terraform 1.11, the
# first that overrides what a plan does not know, as the last run does.

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
  assert {
    condition     = google_compute_region_instance_group_manager.workers.instance_lifecycle_policy[0].force_update_on_repair == "YES"
    error_message = "A preempted worker comes back with the template that it had."
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

run "a_grace_period_that_a_deleted_vm_has_not_is_told_of" {
  command = plan

  variables {
    grace_s = 60
  }

  expect_failures = [check.grace_s]
}

run "a_redis_that_the_control_vm_has_no_memory_for_is_told_of" {
  command = plan

  variables {
    redis_memory_mb = 1024
  }

  expect_failures = [check.control_memory]
}

run "a_bridge_that_the_control_vm_has_no_memory_for_is_told_of" {
  command = plan

  variables {
    memorystore = { memory_gb = 5 }
  }

  expect_failures = [check.control_memory]
}

run "a_larger_control_vm_has_room_for_a_larger_redis" {
  command = plan

  variables {
    control_machine_type = "e2-medium"
    redis_memory_mb      = 1024
  }
}

run "redis_keeps_what_it_has_and_its_disk_is_its_own" {
  command = plan

  assert {
    condition     = strcontains(local.control_services.redis.command, "--appendonly yes") && strcontains(local.control_services.redis.command, "--maxmemory-policy noeviction")
    error_message = "Redis forgets."
  }
  assert {
    condition     = length(google_compute_instance.control.attached_disk) == 1 && length(google_redis_instance.memorystore) == 0
    error_message = "Redis has no disk."
  }
  assert {
    condition     = strcontains(local.control_services.redis.options, "--oom-score-adj=-900")
    error_message = "Redis is killed when another takes its memory."
  }
}

run "what_is_optional_is_not_there_unless_it_is_asked_for" {
  command = plan

  assert {
    condition     = length(google_storage_notification.uploads) + length(google_bigquery_table.results) + length(google_billing_budget.month) + length(google_redis_instance.memorystore) == 0
    error_message = "Something is there that nobody asked for."
  }
}

run "memorystore_takes_the_place_of_redis_with_a_password_and_tls" {
  command = plan

  variables {
    memorystore = { memory_gb = 1 }
  }

  override_resource {
    target          = google_redis_instance.memorystore
    override_during = plan
    values = {
      host            = "10.1.2.3"
      port            = 6378
      auth_string     = "of-google"
      server_ca_certs = [{ cert = "the authority", create_time = "", expire_time = "", serial_number = "", sha1_fingerprint = "" }]
    }
  }

  assert {
    condition     = google_redis_instance.memorystore[0].redis_configs["maxmemory-policy"] == "noeviction"
    error_message = "Memorystore drops what nobody has fetched."
  }
  assert {
    condition     = google_redis_instance.memorystore[0].auth_enabled && google_redis_instance.memorystore[0].transit_encryption_mode == "SERVER_AUTHENTICATION"
    error_message = "Whoever is in the network reads and writes Memorystore."
  }
  assert {
    condition     = !contains(keys(local.control_services), "redis") && length(google_compute_disk.redis) + length(google_compute_instance.control.attached_disk) == 0
    error_message = "There are two Redis servers."
  }
  assert {
    condition     = google_secret_manager_secret_version.memorystore[0].secret_data == "of-google"
    error_message = "VMs do not find the password."
  }
  assert {
    condition     = google_secret_manager_secret.memorystore[0].secret_id == "lowtide-memorystore-auth"
    error_message = "Memorystore's password has no secret of its own."
  }
  assert {
    condition     = alltrue([for one in google_secret_manager_secret_iam_member.redis_password : one.secret_id == "lowtide-memorystore-auth"]) && alltrue([for unit in merge(local.units.control, local.units.worker) : strcontains(unit, " projects/my-project/secrets/lowtide-memorystore-auth rediss ")])
    error_message = "VMs read the password of the Redis that is no more."
  }
  assert {
    condition     = output.redis_address == "10.1.2.3:6378" && alltrue([for unit in values(local.units.worker) : strcontains(unit, "rediss 10.1.2.3:6378/0?ssl_ca_certs=/redis-ca.pem&ssl_check_hostname=false") && strcontains(unit, "--volume=/var/lib/lowtide/redis-ca.pem:/redis-ca.pem:ro")])
    error_message = "Workers do not find Memorystore."
  }
  assert {
    condition     = local.control_services.bridge.memory_mb >= 93 + 1.1 * 1024 / 2
    error_message = "A bridge is ended when it has in Memorystore what it may have there."
  }
  assert {
    condition     = local.files["/var/lib/lowtide/redis-ca.pem"] == "the authority"
    error_message = "Nobody vouches for Memorystore."
  }
}
