#!/bin/sh
# heal.sh: starts again each container of ours that docker finds unhealthy, which docker itself does not.
set -eu
for container in $(docker ps --filter name=^lowtide- --filter health=unhealthy --format '{{.Names}}'); do
  echo "$container is unhealthy: $(docker inspect --format '{{range .State.Health.Log}}{{.Output}}{{end}}' "$container" | tail -n 1)"
  systemctl restart --no-block "$container.service"
done
