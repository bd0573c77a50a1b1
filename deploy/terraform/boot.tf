# What VMs do when they boot: cloud-init writes a systemd unit per container and starts it. A unit fetches its image and
# Redis' password by the VM's own account, and is started again whenever it ends. On the control VM timers also start
# again what is unhealthy, and delete old images, which would fill its disk. An unhealthy worker, and its disk, the group makes
# anew with its VM.

locals {
  redis_port  = "6379"
  health_port = "8080"
  flower_port = "5555"

  # Processes end by themselves within their grace period; 5 s later they are killed.
  stop_s = ceil(var.grace_s) + 5

  images = {
    for name in ["bridge", "autoscaling", "flower", "worker"] : name => "${var.image_repository}/${name}:${var.image_tag}"
  }

  # What differs from the defaults below.
  services = {
    control = local.control_services
    worker  = { worker = local.worker_service }
  }

  units = {
    for machine, services in local.services : machine => {
      for name, service in services : "/etc/systemd/system/lowtide-${name}.service" => templatefile(
        "${path.module}/templates/container.service.tftpl",
        merge(
          {
            name       = name
            image      = lookup(local.images, name, "")
            options    = ""
            memory_mb  = null
            health     = null
            command    = "lowtide ${name}"
            beforehand = "/bin/true"
            redis      = merge(local.redis, { secret = "projects/${var.project}/secrets/${local.redis.secret}" })
            start_s    = var.worker_start_s
            stop_s     = local.stop_s
          },
          service,
        )
      )
    }
  }

  started = {
    for machine, units in local.units :
    machine => concat([for path in keys(units) : basename(path)], machine == "control" ? ["lowtide-heal.timer", "lowtide-prune.timer"] : [])
  }

  files = merge(
    {
      "/var/lib/lowtide/prepare.sh"   = file("${path.module}/templates/prepare.sh")
      "/var/lib/lowtide/settings.env" = join("", [for name, value in var.settings : "${name}=${value}\n"])
    },
    { for redis in google_redis_instance.memorystore : "/var/lib/lowtide/redis-ca.pem" => join("\n", redis.server_ca_certs[*].cert) },
  )
  control_files = {
    "/var/lib/lowtide/redis.sh"                 = file("${path.module}/templates/redis.sh")
    "/var/lib/lowtide/heal.sh"                  = file("${path.module}/templates/heal.sh")
    "/etc/systemd/system/lowtide-heal.service"  = file("${path.module}/templates/heal.service")
    "/etc/systemd/system/lowtide-heal.timer"    = file("${path.module}/templates/heal.timer")
    "/etc/systemd/system/lowtide-prune.service" = file("${path.module}/templates/prune.service")
    "/etc/systemd/system/lowtide-prune.timer"   = file("${path.module}/templates/prune.timer")
  }

  # Redis asks for it: its fork shares nearly all memory.
  control_commands = [
    "sysctl -w vm.overcommit_memory=1",
    # Container-Optimized OS forwards no ports. Of a keyword that is there twice the first counts, and its /etc is made
    # anew by each boot, as this is. Only what outputs.tf shows is to be reached.
    "sed -i '1i AllowTcpForwarding local\\nPermitOpen localhost:${local.flower_port} ${local.redis_address}' /etc/ssh/sshd_config",
    "systemctl try-reload-or-restart sshd",
  ]

  cloud_config = {
    for machine, units in local.units : machine => "#cloud-config\n${yamlencode({
      # As base64: no setting can break out of the YAML.
      write_files = [
        for path, content in merge(local.files, machine == "control" ? local.control_files : {}, units) :
        { path = path, permissions = "0644", encoding = "b64", content = base64encode(content) }
      ]
      runcmd = concat(
        # Container-Optimized OS lets nothing in but SSH; what may come is for the network's firewall to say.
        [for port in [local.redis_port, local.health_port] : "iptables -w -A INPUT -p tcp --dport ${port} -j ACCEPT"],
        machine == "control" ? local.control_commands : [],
        ["systemctl daemon-reload"],
        # Other systems run this at their first boot alone.
        [for unit in local.started[machine] : "systemctl enable ${unit}"],
        [for unit in local.started[machine] : "systemctl start --no-block ${unit}"],
      )
    })}"
  }
}
