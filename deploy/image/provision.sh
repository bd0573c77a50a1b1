#!/bin/bash
# Runs on the temporary VM of bake.sh, as root and as its startup script: makes of an Ubuntu a disk for workers.
#
# Told by the VM's metadata: lowtide-image, the worker's container image; lowtide-driver, the branch of NVIDIA's driver,
# or none; lowtide-settings, NAME=VALUE a line. Tells by guest attributes: lowtide/state, what it is at, at last
# "done" or "failed: …"; lowtide/labels, what is on the disk.
set -euo pipefail
metadata=http://metadata.google.internal/computeMetadata/v1/instance
folder=${LOWTIDE_RUN:-/run/lowtide}
export DEBIAN_FRONTEND=noninteractive HOME=/root DOCKER_CONFIG=$folder/docker

told() {
  curl -sSf -H 'Metadata-Flavor: Google' "$metadata/attributes/lowtide-$1"
}

tell() {
  curl -sSf -X PUT --data "$2" -H 'Metadata-Flavor: Google' "$metadata/guest-attributes/lowtide/$1"
}

step() {
  doing=$1
  echo "lowtide: $doing"
  tell state "$doing"
}

# Wherever it ends before its end: bake.sh shows this, and with it the end of the console's output.
trap '[ $? = 0 ] || tell state "failed: $doing"' EXIT

add() {
  apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

doing='reading what to do'
image=$(told image)
branch=$(told driver)
mkdir -p "$folder"
told settings >"$folder/settings.env"

step 'installing Docker'
# Upgrades lock apt here, and on a worker they would restart Docker.
systemctl mask --now apt-daily.timer apt-daily-upgrade.timer
systemctl stop apt-daily.service apt-daily-upgrade.service
apt-get update
add docker.io curl ca-certificates gpg
driver=none
if [ "$branch" != none ]; then
  step "installing NVIDIA's driver $branch"
  # Modules that Canonical has built for this kernel and signed: nothing is compiled, here or at boot.
  add "linux-modules-nvidia-$branch-open-gcp" "nvidia-headless-no-dkms-$branch-open" "nvidia-utils-$branch"
  # Of the kernel that boots next, which the packages may have brought along.
  kernel=$(linux-version list | linux-version sort | tail -n 1)
  driver=$(modinfo -k "$kernel" -F version nvidia)
  step 'installing the NVIDIA Container Toolkit'
  keyring=/usr/share/keyrings/nvidia-container-toolkit.gpg
  source=https://nvidia.github.io/libnvidia-container
  curl -sSfL "$source/gpgkey" | gpg --batch --yes --dearmor -o "${LOWTIDE_ROOT-}$keyring"
  echo "deb [signed-by=$keyring] $source/stable/deb/$(dpkg --print-architecture) /" \
    >"${LOWTIDE_ROOT-}/etc/apt/sources.list.d/nvidia-container-toolkit.list"
  apt-get update
  add nvidia-container-toolkit
  nvidia-ctk runtime configure --runtime=docker
fi
systemctl restart docker
step 'looking for the log driver gcplogs, by which workers log, in this Docker'
docker info --format '{{.Plugins.Log}}' | grep -w gcplogs

step "pulling $image"
curl -sSf -H 'Metadata-Flavor: Google' "$metadata/service-accounts/default/token" |
  sed 's/.*"access_token": *"\([^"]*\)".*/\1/' |
  docker login -u oauth2accesstoken --password-stdin "https://${image%%/*}"
docker pull "$image"

# deploy/terraform mounts this volume into the worker's container.
step 'loading the models'
worker=(docker run --rm --env-file "$folder/settings.env" --volume lowtide-cache:/home/lowtide/.cache "$image")
"${worker[@]}" lowtide worker --load-only

step 'looking at what is here'
cuda=$("${worker[@]}" python -c 'import torch; print(torch.version.cuda or "none")')
version=$("${worker[@]}" python -c 'from importlib.metadata import version; print(version("lowtide"))')
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes: CUDA 13 asks for a driver from 580 on.
if [ "$driver" != none ] && [ "${cuda%%.*}" = 13 ] && [ "${driver%%.*}" -lt 580 ]; then
  step "comparing: PyTorch is built for CUDA $cuda, which asks for a driver from 580 on, and this one is $driver"
  exit 1
fi
labels="nvidia-driver=$driver,cuda=$cuda,lowtide=$version"

step 'tidying up'
# A worker has no use for snaps, and cloud-init would wait for them at boot.
apt-get purge --yes snapd unattended-upgrades
apt-get clean
# Each VM of this disk is a machine of its own, and has its own cloud-config.
cloud-init clean --logs
truncate --size 0 "${LOWTIDE_ROOT-}/etc/machine-id"
sync

# Labels take small letters, digits, - and _.
tell labels "$(tr 'A-Z.+' 'a-z--' <<<"$labels")"
doing='done'
tell state "$doing"
