# A small fleet on CPUs, for the tests in this folder alone.

region              = "us-central1"
zone                = "us-central1-b"
image_repository    = "us-central1-docker.pkg.dev/my-project/lowtide"
image_tag           = "0.1.0"
worker_machine_type = "n2-standard-4"

project        = "my-project"
fleet          = "default"
settings       = { LOWTIDE_PROJECT = "my-project" }
grace_s        = 20
internet       = false
worker_buckets = ["my-bucket"]

policy = {
  min_replicas           = 0
  max_replicas           = 10
  mode                   = "ON"
  stabilization_period_s = 600
  schedules              = []
  scale_in_control       = null
  signals = [
    {
      metric                     = "custom.googleapis.com/lowtide/gpu_seconds_outstanding"
      filter                     = "resource.type = \"global\" AND metric.labels.fleet = \"default\""
      single_instance_assignment = 60
    },
    {
      metric                     = "pubsub.googleapis.com/subscription/num_undelivered_messages"
      filter                     = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"lowtide-requests\""
      single_instance_assignment = 1000000
    },
  ]
}

metrics = {
  "custom.googleapis.com/lowtide/gpu_seconds_outstanding" = {
    display_name = "Lowtide gpu seconds outstanding"
    description  = "What the instance group is sized by."
    unit         = "s"
    labels       = ["fleet"]
  }
}

pubsub = {
  has_bridge       = true
  topics           = ["lowtide-requests", "lowtide-results", "lowtide-dead-letters"]
  bridge_pulls     = ["lowtide-requests"]
  bridge_publishes = ["lowtide-results", "lowtide-dead-letters"]
  subscriptions = {
    lowtide-requests     = "lowtide-requests"
    lowtide-results      = "lowtide-results"
    lowtide-dead-letters = "lowtide-dead-letters"
  }
}
