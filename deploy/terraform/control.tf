# The control VM may die at any time: it comes back with Redis' disk, and what it held of messages Pub/Sub gives again.

locals {
  control_services = {
    for name, service in {
      bridge    = {}
      autoscale = { image = local.images.autoscaling, options = "--env=LOWTIDE_FLOWER_URL=http://127.0.0.1:5555" }
      flower    = {} # on loopback, where it needs no login: one comes to it through SSH
      redis = {
        image      = var.redis_image
        beforehand = "/bin/sh /var/lib/lowtide/redis.sh /dev/disk/by-id/google-redis /mnt/disks/redis"
        options    = "--volume=/mnt/disks/redis:/data --volume=/run/lowtide/redis.conf:/redis.conf:ro"
        command = join(" ", [
          "redis-server /redis.conf --dir /data --appendonly yes --appendfsync everysec",
          "--maxmemory ${var.redis_memory_mb}mb --maxmemory-policy noeviction",
        ])
      }
    } : name => service if name != "bridge" || var.pubsub.has_bridge
  }
}

# Tasks and results of Python callers are in here and nowhere else.
resource "google_compute_disk" "redis" {
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

  attached_disk {
    source      = google_compute_disk.redis.id
    device_name = "redis"
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
