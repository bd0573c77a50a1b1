# What VMs do when they boot: cloud-init writes a systemd unit per container and starts it. A unit fetches its image and
# Redis' password by the VM's own account, and is started again whenever it ends.

locals {
  redis_port  = "6379"
  health_port = "8080"

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
            command    = "lowtide ${name}"
            beforehand = "/bin/true"
            secret     = "projects/${var.project}/secrets/${var.redis_password_secret}"
            redis      = "${local.control_address}:${local.redis_port}"
            stop_s     = local.stop_s
          },
          service,
        )
      )
    }
  }

  files = {
    "/var/lib/lowtide/prepare.sh"   = file("${path.module}/templates/prepare.sh")
    "/var/lib/lowtide/redis.sh"     = file("${path.module}/templates/redis.sh")
    "/var/lib/lowtide/settings.env" = join("", [for name, value in var.settings : "${name}=${value}\n"])
  }

  cloud_config = {
    for machine, units in local.units : machine => "#cloud-config\n${yamlencode({
      # As base64: no setting can break out of the YAML.
      write_files = [
        for path, content in merge(local.files, units) :
        { path = path, permissions = "0644", encoding = "b64", content = base64encode(content) }
      ]
      runcmd = concat(
        # Container-Optimized OS lets nothing in but SSH; what may come is for the network's firewall to say.
        [for port in [local.redis_port, local.health_port] : "iptables -w -A INPUT -p tcp --dport ${port} -j ACCEPT"],
        # Redis asks for it: its fork shares nearly all memory.
        ["sysctl -w vm.overcommit_memory=1"],
        ["systemctl daemon-reload"],
        # Other systems run this at their first boot alone.
        [for path in keys(units) : "systemctl enable ${basename(path)}"],
        [for path in keys(units) : "systemctl start --no-block ${basename(path)}"],
      )
    })}"
  }
}
