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
