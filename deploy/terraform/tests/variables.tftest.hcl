# Values that are refused before anything is planned.

mock_provider "google" {}

run "a_region_that_there_is_not" {
  command = plan

  variables {
    region = "us"
  }

  expect_failures = [var.region]
}

run "a_zone_of_another_region" {
  command = plan

  variables {
    zone = "europe-west4-a"
  }

  expect_failures = [var.zone]
}

run "a_name_that_no_service_account_may_have" {
  command = plan

  variables {
    name = "Lowtide"
  }

  expect_failures = [var.name]
}

run "an_image_instead_of_a_repository" {
  command = plan

  variables {
    image_repository = "us-central1-docker.pkg.dev/my-project/lowtide/worker:1"
  }

  expect_failures = [var.image_repository]
}

run "an_empty_tag" {
  command = plan

  variables {
    image_tag = ""
  }

  expect_failures = [var.image_tag]
}

run "the_path_of_a_secret" {
  command = plan

  variables {
    redis_password_secret = "projects/my-project/secrets/redis"
  }

  expect_failures = [var.redis_password_secret]
}

run "a_gpu_for_a_machine_that_has_its_own" {
  command = plan

  variables {
    worker_gpu          = { type = "nvidia-l4", count = 1 }
    worker_machine_type = "g2-standard-4"
    worker_boot_image   = "projects/my-project/global/images/family/lowtide-worker"
  }

  expect_failures = [var.worker_gpu]
}

run "an_image_without_a_driver_for_a_gpu" {
  command = plan

  variables {
    worker_boot_image   = "projects/cos-cloud/global/images/family/cos-stable"
    worker_machine_type = "g2-standard-4"
  }

  expect_failures = [var.worker_boot_image]
}

run "a_disk_that_the_image_does_not_fit" {
  command = plan

  variables {
    worker_boot_disk_gb = 10
  }

  expect_failures = [var.worker_boot_disk_gb]
}

run "zones_of_another_region" {
  command = plan

  variables {
    worker_zones = ["europe-west4-a"]
  }

  expect_failures = [var.worker_zones]
}

run "a_fuse_of_a_minute" {
  command = plan

  variables {
    worker_max_run_s = 60
  }

  expect_failures = [var.worker_max_run_s]
}

run "a_start_of_a_second" {
  command = plan

  variables {
    worker_start_s = 1
  }

  expect_failures = [var.worker_start_s]
}

run "a_redis_without_memory" {
  command = plan

  variables {
    redis_memory_mb = 1
  }

  expect_failures = [var.redis_memory_mb]
}

run "a_redis_disk_without_room_for_a_rewrite" {
  command = plan

  variables {
    control_machine_type = "n2-standard-8"
    redis_disk_gb        = 10
    redis_memory_mb      = 8000
  }

  expect_failures = [var.redis_disk_gb]
}

run "more_callers_than_a_firewall_rule_takes" {
  command = plan

  variables {
    caller_accounts = [for number in range(10) : "web-${number}@my-project.iam.gserviceaccount.com"]
  }

  expect_failures = [var.caller_accounts]
}

run "a_password_among_the_settings" {
  command = plan

  variables {
    settings = { LOWTIDE_REDIS_URL = "redis://:secret@10.0.0.1:6379/0" }
  }

  expect_failures = [var.settings]
}

run "a_setting_of_two_lines" {
  command = plan

  variables {
    settings = { LOWTIDE_FLEET = "a\nLOWTIDE_MODELS=b" }
  }

  expect_failures = [var.settings]
}

run "a_grace_period_that_outlasts_the_notice" {
  command = plan

  variables {
    grace_s = 120
  }

  expect_failures = [var.grace_s]
}

run "a_minimum_above_the_maximum" {
  command = plan

  variables {
    policy = merge(var.policy, { min_replicas = 11 })
  }

  expect_failures = [var.policy]
}

run "a_mode_that_compute_engine_has_not" {
  command = plan

  variables {
    policy = merge(var.policy, { mode = "ONLY_SCALE_IN" })
  }

  expect_failures = [var.policy]
}

run "a_stabilization_of_two_hours" {
  command = plan

  variables {
    policy = merge(var.policy, { stabilization_period_s = 7200 })
  }

  expect_failures = [var.policy]
}

run "a_policy_without_a_signal" {
  command = plan

  variables {
    policy = merge(var.policy, { signals = [] })
  }

  expect_failures = [var.policy]
}

run "a_signal_that_comes_from_each_vm" {
  command = plan

  variables {
    policy = merge(var.policy, { signals = [{ metric = "custom.googleapis.com/lowtide/gpu_seconds_outstanding", filter = "metric.labels.fleet = \"default\"", single_instance_assignment = 60 }] })
  }

  expect_failures = [var.policy]
}

run "a_signal_of_which_a_worker_does_nothing" {
  command = plan

  variables {
    policy = merge(var.policy, { signals = [merge(var.policy.signals[0], { single_instance_assignment = 0 })] })
  }

  expect_failures = [var.policy]
}

run "a_schedule_of_a_minute" {
  command = plan

  variables {
    policy = merge(var.policy, { schedules = [{ name = "office", min_required_replicas = 1, cron = "30 8 * * Mon-Fri", duration_s = 60, time_zone = "UTC", disabled = false }] })
  }

  expect_failures = [var.policy]
}

run "a_metric_of_ours_that_is_not_described" {
  command = plan

  variables {
    metrics = {}
  }

  expect_failures = [var.metrics]
}

run "a_subscription_that_is_pulled_and_not_made" {
  command = plan

  variables {
    pubsub = merge(var.pubsub, { bridge_pulls = ["other"] })
  }

  expect_failures = [var.pubsub]
}

run "an_image_of_redis_that_may_be_another_tomorrow" {
  command = plan

  variables {
    redis_image = "mirror.gcr.io/library/redis:7.4-alpine"
  }

  expect_failures = [var.redis_image]
}

run "an_image_of_redis_by_its_digest" {
  command = plan

  variables {
    redis_image = "mirror.gcr.io/library/redis@sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
  }
}

run "a_tier_that_memorystore_has_not" {
  command = plan

  variables {
    memorystore = { memory_gb = 1, tier = "STANDARD" }
  }

  expect_failures = [var.memorystore]
}

run "half_a_gigabyte_of_memorystore" {
  command = plan

  variables {
    memorystore = { memory_gb = 0.5 }
  }

  expect_failures = [var.memorystore]
}

run "uploads_to_a_topic_that_there_is_not" {
  command = plan

  variables {
    uploads = { my-bucket = "other" }
  }

  expect_failures = [var.uploads]
}

run "uploads_that_workers_may_not_read" {
  command = plan

  variables {
    uploads = { other = "lowtide-requests" }
  }

  expect_failures = [var.uploads]
}

run "results_of_a_topic_that_there_is_not" {
  command = plan

  variables {
    bigquery = { topic = "other", dataset = "lowtide" }
  }

  expect_failures = [var.bigquery]
}

run "a_dataset_with_a_hyphen" {
  command = plan

  variables {
    bigquery = { topic = "lowtide-results", dataset = "low-tide" }
  }

  expect_failures = [var.bigquery]
}

run "the_name_of_a_billing_account" {
  command = plan

  variables {
    budget = { billing_account = "My Billing Account", units = 100 }
  }

  expect_failures = [var.budget]
}

run "half_a_unit_of_a_currency" {
  command = plan

  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", units = 0.5 }
  }

  expect_failures = [var.budget]
}

run "a_budget_that_tells_six_people" {
  command = plan

  variables {
    budget       = { billing_account = "012345-6789AB-CDEF01", units = 100 }
    alert_emails = [for number in range(6) : "${number}@example.org"]
  }

  expect_failures = [var.budget]
}

run "gpus_that_take_hyperdisk_alone" {
  command = plan

  variables {
    worker_machine_type = "g4-standard-48"
    worker_boot_image   = "projects/my-project/global/images/family/lowtide-worker"
  }

  expect_failures = [var.worker_machine_type]
}

run "workers_that_take_hyperdisk_alone" {
  command = plan

  variables {
    worker_machine_type = "n4-standard-4"
  }

  expect_failures = [var.worker_machine_type]
}

run "workers_on_arm" {
  command = plan

  variables {
    worker_machine_type = "t2a-standard-4"
  }

  expect_failures = [var.worker_machine_type]
}

run "a_control_vm_that_takes_hyperdisk_alone" {
  command = plan

  variables {
    control_machine_type = "c4a-standard-1"
  }

  expect_failures = [var.control_machine_type]
}

run "a_control_vm_on_arm" {
  command = plan

  variables {
    control_machine_type = "t2a-standard-1"
  }

  expect_failures = [var.control_machine_type]
}

run "an_image_made_without_a_driver_for_a_gpu" {
  command = plan

  variables {
    worker_boot_image   = "projects/my-project/global/images/family/lowtide-worker-cpu"
    worker_machine_type = "g2-standard-4"
  }

  expect_failures = [var.worker_boot_image]
}

run "no_zone_at_all" {
  command = plan

  variables {
    worker_zones = []
  }

  expect_failures = [var.worker_zones]
}

run "an_address_without_a_host" {
  command = plan

  variables {
    alert_emails = ["you"]
  }

  expect_failures = [var.alert_emails]
}
