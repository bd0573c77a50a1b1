# Workers: Spot VMs of one template in one regional group, whose size is the autoscaler's.

locals {
  has_gpu = var.worker_gpu != null || can(regex("^(g2|a2|a3)-", var.worker_machine_type))

  worker_service = {
    options = join(" ", concat(
      ["--env=LOWTIDE_HEALTH_ADDRESS=0.0.0.0", "--env=LOWTIDE_HEALTH_PORT=${local.health_port}"],
      # Weights, which deploy/image/bake.sh has put there, outlast the container.
      ["--volume=lowtide-cache:/home/lowtide/.cache"],
      local.has_gpu ? ["--gpus=all"] : [],
    ))
  }
}

check "grace_s" {
  assert {
    # docker kills 5 s after the grace period, systemd 5 s after that.
    condition     = local.stop_s + 5 <= 30
    error_message = "LOWTIDE_GRACE_S is ${var.grace_s}: a preempted worker has 120 s, but one that the autoscaler deletes has 30 s. It does not finish what takes longer than 20 s, and another begins it anew."
  }
}

resource "google_compute_region_instance_template" "worker" {
  name_prefix  = "${var.name}-worker-"
  region       = var.region
  machine_type = var.worker_machine_type

  scheduling {
    provisioning_model          = "SPOT"
    preemptible                 = true
    automatic_restart           = false
    on_host_maintenance         = "TERMINATE"
    instance_termination_action = "DELETE"

    # Without it, the notice comes together with the shutdown, and 30 s are left of everything.
    preemption_notice_duration {
      seconds = 120
    }

    max_run_duration {
      seconds = var.worker_max_run_s
    }
  }

  dynamic "guest_accelerator" {
    for_each = var.worker_gpu[*]

    content {
      type  = guest_accelerator.value.type
      count = guest_accelerator.value.count
    }
  }

  disk {
    boot         = true
    auto_delete  = true
    source_image = var.worker_boot_image
    disk_type    = "pd-balanced"
    disk_size_gb = var.worker_boot_disk_gb
  }

  # Without an access_config there is no public address.
  network_interface {
    subnetwork = google_compute_subnetwork.subnetwork.id
  }

  service_account {
    email  = google_service_account.worker.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = !local.has_gpu # which loads no driver that NVIDIA alone has signed
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    user-data              = local.cloud_config.worker
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# A suspect worker answers 503, and so does one that is stuck: its VM is made anew.
resource "google_compute_health_check" "worker" {
  name                = "${var.name}-worker"
  check_interval_sec  = 15
  timeout_sec         = 5
  unhealthy_threshold = 4

  http_health_check {
    port         = local.health_port
    request_path = "/healthz"
  }
}

resource "google_compute_region_instance_group_manager" "workers" {
  name               = "${var.name}-workers"
  region             = var.region
  base_instance_name = "${var.name}-worker"
  target_size        = 0 # to begin with: see ignore_changes

  # Where there are machines to be had, and where they are: no VM is deleted to have as many in each zone.
  distribution_policy_target_shape = "ANY"
  distribution_policy_zones        = var.worker_zones

  version {
    instance_template = google_compute_region_instance_template.worker.self_link
  }

  # New VMs are of the new template; those that work go on.
  update_policy {
    type                         = "OPPORTUNISTIC"
    minimal_action               = "REPLACE"
    instance_redistribution_type = "NONE"
  }

  auto_healing_policies {
    health_check      = google_compute_health_check.worker.id
    initial_delay_sec = var.worker_start_s
  }

  instance_lifecycle_policy {
    # Without it, a VM that was preempted or ill comes back with the template that it had: an old release, after an upgrade.
    force_update_on_repair = "YES"

    on_repair {
      allow_changing_zone = "YES"
    }
  }

  lifecycle {
    # The size is the autoscaler's alone.
    ignore_changes = [target_size]
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.images,
    google_secret_manager_secret_iam_member.redis_password,
  ]
}
