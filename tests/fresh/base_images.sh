#!/usr/bin/env bash
# Stand-ins for the images that Dockerfile and compose.yaml begin with, of Debian 12's packages, under the same names: for
# `make test-compose` where an engine runs and no registry of images is reached. Needs root, debootstrap and 1 GB in /var/tmp.
set -euo pipefail
cd "$(dirname "$0")/../.."
docker info >/dev/null  # says so itself when there is no engine

root=$(mktemp -d "${TMPDIR:-/var/tmp}/lowtide-images.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT

# debian NAME PACKAGES: a minimal system in a folder, which trusts whom this machine trusts.
debian() {
    debootstrap --variant=minbase --include="$2" bookworm "$root/$1" http://deb.debian.org/debian >"$root/$1.log" 2>&1 ||
        { tail "$root/$1.log" && exit 1; }
    rm -rf "$root/$1"/var/cache/apt/archives/*.deb "$root/$1"/var/lib/apt/lists/*
}

# import NAME IMAGE CHANGES: the folder as an image.
import() {
    local folder=$root/$1 image=$2
    shift 2
    tar -C "$folder" --numeric-owner -c . | docker import "${@/#/--change=}" - "$image"
}

debian python python3,python3-pip,ca-certificates
cp -L /etc/ssl/certs/ca-certificates.crt "$root/python/etc/ssl/certs/"
ln -s /usr/bin/python3 "$root/python/usr/local/bin/python"
rm "$root/python"/usr/lib/python3*/EXTERNALLY-MANAGED  # it is an image's Python, not a system's
import python "$(sed -n 's/^FROM \(python:[^ ]*\).*/\1/p' Dockerfile)" 'CMD ["python"]' 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt'

debian redis redis-server
chroot "$root/redis" install -d -o redis -g redis /data
import redis "$(sed -n 's/^ *image: \(redis:.*\)/\1/p' compose.yaml)" 'CMD ["redis-server"]' 'WORKDIR /data' 'VOLUME /data'
