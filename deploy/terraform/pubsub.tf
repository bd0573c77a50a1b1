# Topics and subscriptions as `lowtide bridge --create` makes them. No variable deletes one: what waits would be gone.

resource "google_pubsub_topic" "topic" {
  for_each = var.pubsub.topics

  name = each.value

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_pubsub_subscription" "subscription" {
  for_each = var.pubsub.subscriptions

  name                       = each.key
  topic                      = try(google_pubsub_topic.topic[each.value].id, each.value) # else of another project
  ack_deadline_seconds       = 30
  message_retention_duration = "604800s"

  # Never. There is no dead-letter policy either: its counter burns on preemptions, so the bridge dead-letters.
  expiration_policy {
    ttl = ""
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Each upload is a request: see docs/contract.md.
resource "google_storage_notification" "uploads" {
  for_each = var.uploads

  bucket         = each.key
  topic          = google_pubsub_topic.topic[each.value].id
  payload_format = "JSON_API_V1"
  event_types    = ["OBJECT_FINALIZE"]

  depends_on = [google_pubsub_topic_iam_member.uploads]
}

resource "google_bigquery_dataset" "results" {
  count = var.bigquery == null ? 0 : 1

  dataset_id = var.bigquery.dataset
  location   = var.region

  lifecycle {
    prevent_destroy = true
  }
}

# A result as it was published, as one JSON: whatever fields a later release adds, Pub/Sub can write it.
resource "google_bigquery_table" "results" {
  count = var.bigquery == null ? 0 : 1

  dataset_id = google_bigquery_dataset.results[0].dataset_id
  table_id   = "results"
  schema = jsonencode([
    { name = "subscription_name", type = "STRING" },
    { name = "message_id", type = "STRING" },
    { name = "publish_time", type = "TIMESTAMP" },
    { name = "attributes", type = "JSON" },
    { name = "data", type = "JSON" },
  ])

  time_partitioning {
    type  = "DAY"
    field = "publish_time"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_pubsub_subscription" "bigquery" {
  count = var.bigquery == null ? 0 : 1

  name                       = "${var.bigquery.topic}-bigquery"
  topic                      = google_pubsub_topic.topic[var.bigquery.topic].id
  message_retention_duration = "604800s"

  bigquery_config {
    table          = "${var.project}.${google_bigquery_table.results[0].dataset_id}.${google_bigquery_table.results[0].table_id}"
    write_metadata = true
  }

  expiration_policy {
    ttl = ""
  }

  lifecycle {
    prevent_destroy = true
  }

  # Pub/Sub looks, when it is made, whether it may write.
  depends_on = [google_bigquery_table_iam_member.results]
}
