# One subnetwork without a way in: no VM has a public address. Google's APIs are reached privately.

locals {
  addresses       = "10.80.0.0/20"
  control_address = cidrhost(local.addresses, 10)
}

resource "google_compute_network" "network" {
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "subnetwork" {
  name                     = var.name
  network                  = google_compute_network.network.id
  region                   = var.region
  ip_cidr_range            = local.addresses
  private_ip_google_access = true
}

# Redis is found here, whichever VM is the control VM.
resource "google_compute_address" "control" {
  name         = "${var.name}-control"
  region       = var.region
  subnetwork   = google_compute_subnetwork.subnetwork.id
  address_type = "INTERNAL"
  address      = local.control_address
}

resource "google_compute_firewall" "redis" {
  name                    = "${var.name}-redis"
  network                 = google_compute_network.network.id
  description             = "Workers and callers to Redis."
  source_service_accounts = concat([google_service_account.worker.email], tolist(var.caller_accounts))
  target_service_accounts = [google_service_account.control.email]

  allow {
    protocol = "tcp"
    ports    = [local.redis_port]
  }
}

resource "google_compute_firewall" "health" {
  name                    = "${var.name}-health"
  network                 = google_compute_network.network.id
  description             = "Google's health checks to workers."
  source_ranges           = ["35.191.0.0/16", "130.211.0.0/22"]
  target_service_accounts = [google_service_account.worker.email]

  allow {
    protocol = "tcp"
    ports    = [local.health_port]
  }
}

resource "google_compute_firewall" "ssh" {
  name          = "${var.name}-ssh"
  network       = google_compute_network.network.id
  description   = "SSH through Identity-Aware Proxy, which knows who asks: the way to Flower and Redis, too."
  source_ranges = ["35.235.240.0/20"]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}

resource "google_compute_router" "internet" {
  count = var.internet ? 1 : 0

  name    = var.name
  region  = var.region
  network = google_compute_network.network.id
}

resource "google_compute_router_nat" "internet" {
  count = var.internet ? 1 : 0

  name                               = var.name
  region                             = var.region
  router                             = google_compute_router.internet[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
