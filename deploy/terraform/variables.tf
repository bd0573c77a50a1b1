# Where, and with what: a person writes these into terraform.tfvars.

locals {
  # Machines that take no Persistent Disk: https://cloud.google.com/compute/docs/disks/hyperdisks
  hyperdisk_only = "^(a3-ultragpu|a4x?|c4[ad]?|g4|h4d|m4|n4[ad]?|x4)-"
}

variable "region" {
  description = "Region of everything, such as us-central1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Expected a region such as us-central1."
  }
}

variable "zone" {
  description = "Zone of the control VM and of Redis' disk, such as us-central1-b."
  type        = string

  validation {
    condition     = can(regex("^${var.region}-[a-z]$", var.zone))
    error_message = "Expected a zone of the region, such as us-central1-b in us-central1."
  }
}

variable "name" {
  description = "What the names of everything here begin with: another one for each fleet of a project."
  type        = string
  default     = "lowtide"

  validation {
    # A service account's name has 30 characters at most, ours end in -control.
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 22 small letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "image_repository" {
  description = "Repository in Artifact Registry with our images, REGION-docker.pkg.dev/PROJECT/NAME."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+-docker[.]pkg[.]dev/[^/]+/[^/:@]+$", var.image_repository))
    error_message = "Expected a repository such as us-central1-docker.pkg.dev/my-project/lowtide, without image and tag."
  }
}

variable "image_tag" {
  description = "Tag of these images. One that never moves, such as a commit's, tells what runs."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag))
    error_message = "Expected an image's tag, such as 0.1.0."
  }
}

variable "redis_image" {
  description = "Image of Redis. null: redis:7.4-alpine of image_repository, as docs/deploy.md puts it there."
  type        = string
  default     = null

  validation {
    # Else whoever owns the tag decides, at any boot of the control VM, what Redis is.
    condition = anytrue([
      var.redis_image == null,
      can(regex("@sha256:[0-9a-f]{64}$", var.redis_image)),
      startswith(coalesce(var.redis_image, "-"), "${var.image_repository}/"),
    ])
    error_message = "Expected an image of image_repository, or one with its digest (…@sha256:…): other tags may move."
  }
}

variable "redis_password_secret" {
  description = "Secret whose newest version is Redis' password, letters and digits alone. Terraform never sees it."
  type        = string
  default     = "lowtide-redis-password"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.redis_password_secret))
    error_message = "Expected the name of a secret of this project, without its path."
  }
}

variable "worker_machine_type" {
  description = "Machine type of workers. g2, a2 and a3 bring their GPUs; n1 gets those of worker_gpu."
  type        = string
  default     = "g2-standard-4"

  validation {
    condition     = !can(regex(local.hyperdisk_only, var.worker_machine_type))
    error_message = "Such a machine takes Hyperdisk alone, and a worker's boot disk is pd-balanced: take another, such as g2-standard-4, or n2-standard-4 without a GPU."
  }
  validation {
    condition     = !startswith(var.worker_machine_type, "t2a-")
    error_message = "t2a machines are ARM, and our images are for x86: take another, such as n2-standard-4."
  }
}

variable "worker_gpu" {
  description = "GPUs that are attached to an n1 machine, such as { type = \"nvidia-tesla-t4\", count = 1 }. null: none."
  type        = object({ type = string, count = number })
  default     = null

  validation {
    condition     = var.worker_gpu == null || startswith(var.worker_machine_type, "n1-")
    error_message = "GPUs are attached to n1 machines alone: g2, a2 and a3 have theirs."
  }
}

variable "worker_boot_image" {
  description = "Disk image of workers, as deploy/image/bake.sh makes it: Docker, cloud-init, and for GPUs the driver (580 on) and NVIDIA's Container Toolkit."
  type        = string
  default     = "projects/cos-cloud/global/images/family/cos-stable"

  validation {
    condition     = !local.has_gpu || !strcontains(var.worker_boot_image, "cos-cloud")
    error_message = "Container-Optimized OS has no NVIDIA driver: name an image that has one, or a machine type without a GPU."
  }
  validation {
    condition     = !local.has_gpu || !endswith(var.worker_boot_image, "-cpu")
    error_message = "The image of bake.sh --cpu has no NVIDIA driver: name one that was made without --cpu, or a machine type without a GPU."
  }
}

variable "worker_boot_disk_gb" {
  description = "Boot disk of a worker, GB. The worker's image takes 12."
  type        = number
  default     = 50

  validation {
    condition     = var.worker_boot_disk_gb >= 30
    error_message = "The worker's image needs a disk of 30 GB at least."
  }
}

variable "worker_zones" {
  description = "Zones of workers. null: Google takes three of the region, with such machines or not. A change makes a new group."
  type        = set(string)
  default     = null

  validation {
    condition     = alltrue([for zone in coalesce(var.worker_zones, []) : startswith(zone, "${var.region}-")])
    error_message = "Expected zones of the region."
  }
  validation {
    condition     = try(length(var.worker_zones) > 0, true)
    error_message = "No zone is named: leave worker_zones out, or null, where Google is to choose."
  }
}

variable "worker_max_run_s" {
  description = "Longest life of a worker's VM, seconds, whatever the signals say. The group may make another: against one that is held large for ever there are alert_emails and budget."
  type        = number
  default     = 86400

  validation {
    condition     = var.worker_max_run_s >= 600 && var.worker_max_run_s <= 604800
    error_message = "Expected 600 s to 604800 s (seven days)."
  }
}

variable "worker_start_s" {
  description = "Time for a worker to boot, pull its image and load its models, seconds. Until then no health check counts, and systemd lets the pull go on."
  type        = number
  default     = 900

  validation {
    condition     = var.worker_start_s >= 60 && var.worker_start_s <= 3600
    error_message = "Expected 60 s to 3600 s."
  }
}

variable "control_machine_type" {
  description = "Machine type of the control VM: bridge, Redis, exporter and Flower."
  type        = string
  default     = "e2-small"

  validation {
    condition     = !can(regex(local.hyperdisk_only, var.control_machine_type))
    error_message = "Such a machine takes Hyperdisk alone, and the control VM's disks are pd-balanced: take another, such as e2-medium."
  }
  validation {
    condition     = !startswith(var.control_machine_type, "t2a-")
    error_message = "t2a machines are ARM, and our images are for x86: take another, such as e2-medium."
  }
}

variable "redis_memory_mb" {
  description = "What Redis may hold, MB; beyond it, it refuses writes and forgets nothing. The control VM needs 1040 MB and 2.75 times as much."
  type        = number
  default     = 256

  validation {
    condition     = var.redis_memory_mb >= 128
    error_message = "Redis needs 128 MB at least."
  }
}

variable "redis_disk_gb" {
  description = "Redis' disk, GB. It can grow and not shrink. A rewrite of the append-only file needs room for a second one."
  type        = number
  default     = 10

  validation {
    condition     = var.redis_disk_gb * 1000 >= 4 * var.redis_memory_mb && var.redis_disk_gb >= 10
    error_message = "Expected 10 GB at least, and four times redis_memory_mb."
  }
}

variable "memorystore" {
  description = "Memorystore for Redis in the place of Redis on the control VM, such as { memory_gb = 1 }. tier: BASIC has no replica. The control VM needs 1040 MB and three quarters as much. null: none."
  type        = object({ memory_gb = number, tier = optional(string, "STANDARD_HA") })
  default     = null

  validation {
    condition     = try(contains(["BASIC", "STANDARD_HA"], var.memorystore.tier), true)
    error_message = "The tier is BASIC or STANDARD_HA."
  }
  validation {
    condition     = try(var.memorystore.memory_gb >= 1 && floor(var.memorystore.memory_gb) == var.memorystore.memory_gb, true)
    error_message = "memory_gb is a whole number of GB, 1 at least."
  }
}

variable "uploads" {
  description = "Buckets of this project of which each upload is a request: bucket to topic, such as { my-pictures = \"lowtide-requests\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(values(var.uploads), var.pubsub.topics)) == 0
    error_message = "The uploads of a bucket go to a topic that is not among the topics: see LOWTIDE_TOPIC."
  }
  validation {
    condition     = length(setsubtract(keys(var.uploads), var.worker_buckets)) == 0
    error_message = "Workers may not read a bucket whose uploads are requests: add it to LOWTIDE_GS_BUCKETS."
  }
}

variable "bigquery" {
  description = "Where BigQuery keeps results: the topic that they come from and a dataset, which is made, such as { topic = \"lowtide-results\", dataset = \"lowtide\" }. null: nowhere."
  type        = object({ topic = string, dataset = string })
  default     = null

  validation {
    condition     = try(contains(var.pubsub.topics, var.bigquery.topic), true)
    error_message = "The topic is not among the topics: see LOWTIDE_RESULTS_TOPIC."
  }
  validation {
    condition     = var.bigquery == null || can(regex("^[A-Za-z0-9_]+$", var.bigquery.dataset))
    error_message = "A dataset's name has letters, digits and underscores alone."
  }
}

variable "budget" {
  description = "What the project may cost a month, of which Google tells, such as { billing_account = \"012345-6789AB-CDEF01\", units = 100 }: in the account's currency. null: nobody is told."
  type        = object({ billing_account = string, units = number })
  default     = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "Expected a billing account such as 012345-6789AB-CDEF01: gcloud billing accounts list."
  }
  validation {
    condition     = try(var.budget.units >= 1 && floor(var.budget.units) == var.budget.units, true)
    error_message = "units is a whole number, 1 at least."
  }
  validation {
    condition     = var.budget == null || length(var.alert_emails) <= 5
    error_message = "A budget tells five addresses at most: alert_emails has more."
  }
}

variable "caller_accounts" {
  description = "Service accounts of VMs in this network whose Python programs call Lowtide: they reach Redis."
  type        = set(string)
  default     = []

  validation {
    # Workers' own account is the tenth, which is all that a firewall rule takes.
    condition = alltrue([
      length(var.caller_accounts) <= 9,
      alltrue([for account in var.caller_accounts : strcontains(account, "@")]),
    ])
    error_message = "Expected up to nine addresses of service accounts."
  }
}

variable "alert_emails" {
  description = "Addresses that alerts are sent to."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "Expected addresses such as you@example.org."
  }
}

# What the settings say: `lowtide deploy vars` writes these into lowtide.auto.tfvars.json.

variable "project" {
  description = "LOWTIDE_PROJECT."
  type        = string
}

variable "fleet" {
  description = "LOWTIDE_FLEET."
  type        = string
}

variable "settings" {
  description = "What was set, as environment variables of every process."
  type        = map(string)

  validation {
    condition = alltrue([
      for name, value in var.settings : startswith(name, "LOWTIDE_") && !can(regex("[\r\n]", value))
    ])
    error_message = "Expected LOWTIDE_… variables of one line each."
  }
  validation {
    condition     = length(setintersection(keys(var.settings), ["LOWTIDE_REDIS_URL", "LOWTIDE_FLOWER_BASIC_AUTH"])) == 0
    error_message = "Passwords belong into Secret Manager, not into the metadata of VMs."
  }
}

variable "grace_s" {
  description = "LOWTIDE_GRACE_S: how long a process may finish what runs."
  type        = number

  validation {
    condition     = var.grace_s > 0 && var.grace_s <= 110
    error_message = "A preempted worker has 120 s from the notice to the shutdown: a grace period is 110 s at most."
  }
}

variable "policy" {
  description = "The autoscaler's policy, as `lowtide up` follows it."
  type = object({
    min_replicas           = number
    max_replicas           = number
    mode                   = string
    stabilization_period_s = number
    signals = list(object({
      metric                     = string
      filter                     = string
      single_instance_assignment = number
    }))
    schedules = list(object({
      name                  = string
      min_required_replicas = number
      cron                  = string
      duration_s            = number
      time_zone             = string
      disabled              = bool
    }))
    scale_in_control = object({
      max_scaled_in = number
      time_window_s = number
    })
  })

  validation {
    condition     = 0 <= var.policy.min_replicas && var.policy.min_replicas <= var.policy.max_replicas
    error_message = "0 <= min_replicas <= max_replicas must hold."
  }
  validation {
    condition     = contains(["ON", "ONLY_SCALE_OUT"], var.policy.mode)
    error_message = "The mode is ON or ONLY_SCALE_OUT."
  }
  validation {
    condition     = var.policy.stabilization_period_s >= 0 && var.policy.stabilization_period_s <= 3600
    error_message = "The stabilization period is 0 s to 3600 s."
  }
  validation {
    condition     = length(var.policy.signals) >= 1 && length(var.policy.signals) <= 5
    error_message = "A policy has one signal at least, and Compute Engine takes five."
  }
  validation {
    # Without a resource.type a metric is taken to come from each VM, and a group with such a signal is never empty.
    condition = alltrue([
      for signal in var.policy.signals :
      try(one(regex("resource[.]type = \"([^\"]*)\"", signal.filter)), "gce_instance") != "gce_instance"
    ])
    error_message = "A signal's filter names a resource.type that is not gce_instance."
  }
  validation {
    condition     = alltrue([for signal in var.policy.signals : signal.single_instance_assignment > 0])
    error_message = "A signal's single_instance_assignment is more than 0."
  }
  validation {
    condition     = alltrue([for schedule in var.policy.schedules : schedule.duration_s >= 300])
    error_message = "A schedule lasts 300 s at least."
  }
}

variable "metrics" {
  description = "The metrics that `lowtide autoscale` writes, by their type."
  type = map(object({
    display_name = string
    description  = string
    unit         = string
    labels       = list(string)
  }))

  validation {
    condition = alltrue([
      for signal in var.policy.signals :
      contains(keys(var.metrics), signal.metric) if startswith(signal.metric, "custom.googleapis.com/")
    ])
    error_message = "The policy names a metric of ours that is not described here: Compute Engine would refuse it."
  }
}

variable "pubsub" {
  description = "What the project has of Pub/Sub. subscriptions: each with its topic. What is pulled may all be of other projects."
  type = object({
    has_bridge       = bool
    topics           = set(string)
    subscriptions    = map(string)
    bridge_pulls     = set(string)
    bridge_publishes = set(string)
  })

  validation {
    condition     = length(setsubtract(var.pubsub.bridge_pulls, keys(var.pubsub.subscriptions))) == 0
    error_message = "The bridge pulls a subscription that is not among the subscriptions."
  }
  validation {
    condition     = length(setsubtract(var.pubsub.bridge_publishes, var.pubsub.topics)) == 0
    error_message = "The bridge publishes to a topic that is not among the topics."
  }
}

variable "worker_buckets" {
  description = "Buckets that workers read: those of LOWTIDE_GS_BUCKETS and LOWTIDE_WEIGHTS."
  type        = set(string)
}

variable "internet" {
  description = "Whether a worker's settings name hosts beyond Google: then there is a Cloud NAT."
  type        = bool
}
