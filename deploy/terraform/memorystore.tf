# Memorystore in the place of Redis on the control VM: it outlives a zone, and costs more. docs/deploy.md compares them.

locals {
  memorystore = one(google_redis_instance.memorystore)

  redis_address = (
    local.memorystore == null
    ? "${local.control_address}:${local.redis_port}"
    : "${local.memorystore.host}:${local.memorystore.port}"
  )

  # LOWTIDE_REDIS_URL without the password, and the secret that has it. Memorystore's authority signs for this instance alone, whose address may stand
  # in no certificate.
  redis = local.memorystore == null ? {
    scheme = "redis"
    place  = "${local.redis_address}/0"
    secret = var.redis_password_secret
    } : {
    scheme = "rediss"
    place  = "${local.redis_address}/0?ssl_ca_certs=/redis-ca.pem&ssl_check_hostname=false"
    secret = google_secret_manager_secret.memorystore[0].secret_id
  }
}

resource "google_redis_instance" "memorystore" {
  count = var.memorystore == null ? 0 : 1

  name                    = "${var.name}-redis"
  region                  = var.region
  location_id             = var.zone
  tier                    = var.memorystore.tier
  memory_size_gb          = var.memorystore.memory_gb
  redis_version           = "REDIS_7_2"
  authorized_network      = google_compute_network.network.id
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  # Its default, volatile-lru, drops records, results and content when it is full.
  redis_configs = { maxmemory-policy = "noeviction" }

  # For who is without a replica, or loses both.
  persistence_config {
    persistence_mode    = "RDB"
    rdb_snapshot_period = "ONE_HOUR"
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Its password, which Google chooses, where VMs look for it. Terraform's state holds it. The secret is not that of Redis on the
# control VM, whose password would go when Memorystore does.
resource "google_secret_manager_secret" "memorystore" {
  count = var.memorystore == null ? 0 : 1

  secret_id = "${var.name}-memorystore-auth"

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "memorystore" {
  count = var.memorystore == null ? 0 : 1

  secret      = google_secret_manager_secret.memorystore[0].id
  secret_data = local.memorystore.auth_string
}
