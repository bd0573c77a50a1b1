# Two accounts, each with what its processes call. Access to requests, results and content is given resource by resource.

resource "google_service_account" "control" {
  account_id   = "${var.name}-control"
  display_name = "Lowtide: bridge, exporter, Flower and Redis"
}

resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "Lowtide: workers"
}

locals {
  members = {
    control = google_service_account.control.member
    worker  = google_service_account.worker.member
  }

  # metricWriter also makes descriptors; viewer reads Pub/Sub's count, and back what was written.
  control_roles = ["roles/logging.logWriter", "roles/monitoring.metricWriter", "roles/monitoring.viewer"]
  worker_roles  = ["roles/logging.logWriter"]

  repository = regex("^(?P<location>[a-z0-9-]+)-docker[.]pkg[.]dev/(?P<project>[^/]+)/(?P<name>.+)$", var.image_repository)
}

resource "google_project_iam_member" "control" {
  for_each = toset(local.control_roles)

  project = var.project
  role    = each.value
  member  = local.members.control
}

resource "google_project_iam_member" "worker" {
  for_each = toset(local.worker_roles)

  project = var.project
  role    = each.value
  member  = local.members.worker
}

resource "google_artifact_registry_repository_iam_member" "images" {
  for_each = local.members

  project    = local.repository.project
  location   = local.repository.location
  repository = local.repository.name
  role       = "roles/artifactregistry.reader"
  member     = each.value
}

resource "google_secret_manager_secret_iam_member" "redis_password" {
  for_each = local.members

  project   = var.project
  secret_id = local.redis.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

resource "google_storage_bucket_iam_member" "content" {
  for_each = var.worker_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = local.members.worker
}

# A bridge looks, when it starts, whether everything is there.
resource "google_pubsub_topic_iam_member" "seen" {
  for_each = google_pubsub_topic.topic

  topic  = each.value.name
  role   = "roles/pubsub.viewer"
  member = local.members.control
}

resource "google_pubsub_subscription_iam_member" "seen" {
  for_each = var.pubsub.bridge_pulls

  subscription = google_pubsub_subscription.subscription[each.value].name
  role         = "roles/pubsub.viewer"
  member       = local.members.control
}

resource "google_pubsub_subscription_iam_member" "pulled" {
  for_each = var.pubsub.bridge_pulls

  subscription = google_pubsub_subscription.subscription[each.value].name
  role         = "roles/pubsub.subscriber"
  member       = local.members.control
}

resource "google_pubsub_topic_iam_member" "published" {
  for_each = var.pubsub.bridge_publishes

  topic  = google_pubsub_topic.topic[each.value].name
  role   = "roles/pubsub.publisher"
  member = local.members.control
}

# Google's own accounts, which act for the project.
data "google_project" "project" {}

data "google_storage_project_service_account" "uploads" {
  count = length(var.uploads) > 0 ? 1 : 0
}

resource "google_pubsub_topic_iam_member" "uploads" {
  for_each = toset(values(var.uploads))

  topic  = google_pubsub_topic.topic[each.value].name
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.uploads[0].member
}

resource "google_bigquery_table_iam_member" "results" {
  count = var.bigquery == null ? 0 : 1

  dataset_id = google_bigquery_table.results[0].dataset_id
  table_id   = google_bigquery_table.results[0].table_id
  role       = "roles/bigquery.dataEditor"
  member     = "serviceAccount:service-${data.google_project.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}
