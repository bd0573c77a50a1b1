# The policy is that of the settings, field by field: docs/autoscaling.md says what each does.

resource "google_compute_region_autoscaler" "workers" {
  name   = "${var.name}-workers"
  region = var.region
  target = google_compute_region_instance_group_manager.workers.id

  autoscaling_policy {
    min_replicas         = var.policy.min_replicas
    max_replicas         = var.policy.max_replicas
    mode                 = var.policy.mode
    stabilization_period = var.policy.stabilization_period_s

    dynamic "metric" {
      for_each = var.policy.signals

      content {
        name                       = metric.value.metric
        filter                     = metric.value.filter
        single_instance_assignment = metric.value.single_instance_assignment
      }
    }

    dynamic "scaling_schedules" {
      for_each = var.policy.schedules

      content {
        name                  = scaling_schedules.value.name
        min_required_replicas = scaling_schedules.value.min_required_replicas
        schedule              = scaling_schedules.value.cron
        duration_sec          = scaling_schedules.value.duration_s
        time_zone             = scaling_schedules.value.time_zone
        disabled              = scaling_schedules.value.disabled
      }
    }

    dynamic "scale_in_control" {
      for_each = var.policy.scale_in_control[*]

      content {
        time_window_sec = scale_in_control.value.time_window_s

        max_scaled_in_replicas {
          fixed = scale_in_control.value.max_scaled_in
        }
      }
    }
  }

  lifecycle {
    # A group that an autoscaler still sizes can't be deleted: other zones make a new one.
    replace_triggered_by = [google_compute_region_instance_group_manager.workers.id]
  }

  # Compute Engine refuses a metric that has no descriptor.
  depends_on = [google_monitoring_metric_descriptor.metric]
}
