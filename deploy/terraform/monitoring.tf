# What the exporter writes, a dashboard of it, and alerts: files of deploy/, which gcloud takes as well.

resource "google_monitoring_metric_descriptor" "metric" {
  for_each = var.metrics

  type         = each.key
  metric_kind  = "GAUGE"
  value_type   = "DOUBLE"
  unit         = each.value.unit
  description  = each.value.description
  display_name = each.value.display_name

  # All fleets of a project write these: the end of one leaves them to the others.
  deletion_policy = "ABANDON"

  dynamic "labels" {
    for_each = each.value.labels

    content {
      key = labels.value
    }
  }
}

resource "google_monitoring_dashboard" "fleet" {
  dashboard_json = file("${path.module}/../dashboard.json")

  depends_on = [google_monitoring_metric_descriptor.metric]
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  type         = "email"
  display_name = each.value
  labels       = { email_address = each.value }
}

locals {
  # Else each fleet of the project would tell of all of them.
  of_this_fleet = "metric.labels.fleet = \"${var.fleet}\""
  alerts_folder = "${path.module}/../alerts"
  alerts = {
    for file in fileset(local.alerts_folder, "*.json") :
    trimsuffix(file, ".json") => jsondecode(file("${local.alerts_folder}/${file}"))
    if file != "bridge-missing.json" || var.pubsub.has_bridge
  }
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  display_name          = "${each.value.displayName} (${var.fleet})"
  combiner              = each.value.combiner
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.name]

  documentation {
    content   = each.value.documentation.content
    mime_type = each.value.documentation.mimeType
  }

  dynamic "conditions" {
    for_each = each.value.conditions

    content {
      display_name = conditions.value.displayName

      dynamic "condition_absent" {
        for_each = try([conditions.value.conditionAbsent], [])

        content {
          filter   = "${condition_absent.value.filter} AND ${local.of_this_fleet}"
          duration = condition_absent.value.duration

          dynamic "aggregations" {
            for_each = condition_absent.value.aggregations

            content {
              alignment_period     = aggregations.value.alignmentPeriod
              per_series_aligner   = aggregations.value.perSeriesAligner
              cross_series_reducer = aggregations.value.crossSeriesReducer
              group_by_fields      = aggregations.value.groupByFields
            }
          }
        }
      }

      dynamic "condition_threshold" {
        for_each = try([conditions.value.conditionThreshold], [])

        content {
          filter          = "${condition_threshold.value.filter} AND ${local.of_this_fleet}"
          comparison      = condition_threshold.value.comparison
          threshold_value = condition_threshold.value.thresholdValue
          duration        = condition_threshold.value.duration

          dynamic "aggregations" {
            for_each = condition_threshold.value.aggregations

            content {
              alignment_period     = aggregations.value.alignmentPeriod
              per_series_aligner   = aggregations.value.perSeriesAligner
              cross_series_reducer = aggregations.value.crossSeriesReducer
              group_by_fields      = aggregations.value.groupByFields
            }
          }
        }
      }
    }
  }

  # An alert on a metric that nobody has described is refused.
  depends_on = [google_monitoring_metric_descriptor.metric]
}

# It stops nothing: Google tells of it, hours later as a rule. Who administers the billing account hears of it in any case.
resource "google_billing_budget" "month" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "Lowtide: ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.project.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.budget.units)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1]

    content {
      threshold_percent = threshold_rules.value
    }
  }

  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  dynamic "all_updates_rule" {
    for_each = length(var.alert_emails) > 0 ? [true] : []

    content {
      monitoring_notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
    }
  }
}
