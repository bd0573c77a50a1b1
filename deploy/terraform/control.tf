# The control VM may die at any time: it comes back with Redis' disk, and what it held of messages Pub/Sub gives again.

locals {
  # The services share the VM's network: each has a port of its own.
  control_ports = { bridge = "8081", autoscale = "8082" }

  # In a unit's double quotes. Says what is answered, if that is not 200.
  asks = join("", [
    "python -c \\\"import http.client as h; c = h.HTTPConnection('127.0.0.1', %s, timeout=4); c.request('GET', '%s'); ",
    "a = c.getresponse(); raise SystemExit(None if a.status == 200 else a.read().decode())\\\"",
  ])

  redis_mb = var.memorystore == null ? var.redis_memory_mb : 1024 * var.memorystore.memory_gb

  # Memory, with R = redis_mb: the system 400 MB; Redis R, and while it rewrites its file up to R again; and the limits below,
  # well above what the processes were seen to take: exporter 94 MB, Flower 73, a bridge 93 and 1.1 times the content that
  # it has in Redis, R / 2 at most. Together 1040 + 2.75 R: 1744 MB of an e2-small's 2048 with R = 256. With Memorystore
  # 1040 + 0.75 R: 1808 MB with 1 GB. Whoever exceeds a limit is ended, and comes back.
  control_needs_mb = 1040 + (var.memorystore == null ? 2.75 : 0.75) * local.redis_mb
  control_has_mb = lookup(
    { e2-micro = 1024, e2-small = 2048, e2-medium = 4096, e2-standard-2 = 8192 },
    var.control_machine_type,
    local.control_needs_mb, # others we don't know
  )

  control_services = {
    for name, service in {
      bridge = {
        options   = "--env=LOWTIDE_HEALTH_PORT=${local.control_ports.bridge}"
        memory_mb = 192 + ceil(0.75 * local.redis_mb)
        health    = { command = format(local.asks, local.control_ports.bridge, "/healthz"), ill_s = 60 }
      }
      autoscale = {
        image     = local.images.autoscaling
        options   = "--env=LOWTIDE_HEALTH_PORT=${local.control_ports.autoscale} --env=LOWTIDE_FLOWER_URL=http://127.0.0.1:${local.flower_port}"
        memory_mb = 192
        # It is ill also while Redis can't be read, and then writes what it knows: to end it is no help at once.
        health = { command = format(local.asks, local.control_ports.autoscale, "/healthz"), ill_s = 600 }
      }
      # On loopback, where it needs no login: one comes to it through SSH.
      flower = {
        memory_mb = 256
        health    = { command = format(local.asks, local.flower_port, "/healthcheck"), ill_s = 60 }
      }
      redis = {
        image      = coalesce(var.redis_image, "${var.image_repository}/redis:7.4-alpine")
        beforehand = "/bin/sh /var/lib/lowtide/redis.sh /dev/disk/by-id/google-redis /mnt/disks/redis"
        options = join(" ", [
          "--volume=/mnt/disks/redis:/data --volume=/run/lowtide/redis.conf:/redis.conf:ro",
          # When memory runs out, the kernel takes any other process: they all come back, and lose nothing.
          "--oom-score-adj=-900",
        ])
        command = join(" ", [
          "redis-server /redis.conf --dir /data --appendonly yes --appendfsync everysec",
          "--maxmemory ${var.redis_memory_mb}mb --maxmemory-policy noeviction",
        ])
        # Also an error is an answer, such as that a password is missing, or that it loads its file.
        health = { command = "redis-cli ping", ill_s = 60 }
      }
    } : name => service if(name != "bridge" || var.pubsub.has_bridge) && (name != "redis" || var.memorystore == null)
  }
}

check "control_memory" {
  assert {
    condition     = local.control_needs_mb <= local.control_has_mb
    error_message = "${var.control_machine_type} has ${local.control_has_mb} MB, and what runs on the control VM may need ${local.control_needs_mb}: take a larger control_machine_type, or less for Redis."
  }
}

# Tasks and results of Python callers are in here and nowhere else.
resource "google_compute_disk" "redis" {
  count = var.memorystore == null ? 1 : 0

  name = "${var.name}-redis"
  zone = var.zone
  type = "pd-balanced"
  size = var.redis_disk_gb

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_compute_instance" "control" {
  name                      = "${var.name}-control"
  zone                      = var.zone
  machine_type              = var.control_machine_type
  allow_stopping_for_update = true

  boot_disk {
    initialize_params {
      image = "projects/cos-cloud/global/images/family/cos-stable"
      size  = 20
      type  = "pd-balanced"
    }
  }

  dynamic "attached_disk" {
    for_each = google_compute_disk.redis

    content {
      source      = attached_disk.value.id
      device_name = "redis"
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.subnetwork.id
    network_ip = google_compute_address.control.address
  }

  service_account {
    email  = google_service_account.control.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  metadata = {
    user-data              = local.cloud_config.control
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
  }

  lifecycle {
    # A newer image of the system is no reason to stop Redis.
    ignore_changes = [boot_disk[0].initialize_params[0].image]
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.images,
    google_secret_manager_secret_iam_member.redis_password,
  ]
}
