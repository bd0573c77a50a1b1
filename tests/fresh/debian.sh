#!/usr/bin/env bash
# `make test-fresh`: the first command on a bare Debian, in a chroot: an installation that is broken off goes on, and a
# second run needs no network. Tries the last commit. Takes ten minutes and 8 GB under TMPDIR, or /var/tmp.
# SUITE=trixie is Debian 13, with Python 3.13; forky has Python 3.14.
set -euo pipefail
suite=${SUITE:-trixie}
script=/usr/share/debootstrap/scripts/sid  # newer suites may be unknown here; all of Debian are one script

skip() {
    echo "make test-fresh: skipped, $1"
    exit 0
}
[[ $EUID == 0 ]] || skip "it needs root, for debootstrap and chroot"
command -v debootstrap >/dev/null || skip "it needs debootstrap (apt install debootstrap)"

root=$(mktemp -d "${TMPDIR:-/var/tmp}/lowtide-fresh.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT

debootstrap --variant=minbase --include=python3,python3-venv,git,make,ca-certificates,iproute2 \
    "$suite" "$root" http://deb.debian.org/debian "$script" >"$root.log" 2>&1 || { tail "$root.log" && exit 1; }
rm "$root.log"
# The network of this machine, with whoever it trusts.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
git clone --quiet . "$root/root/lowtide"

# inside [--net] COMMAND: in the chroot, as a login there would; with --net, without a network.
inside() {
    local net=()
    [[ $1 != --net ]] || { net=(--net) && shift; }
    env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        unshare --mount --pid --fork --ipc --uts "${net[@]}" chroot "$root" bash -euc "
            mount -t proc proc /proc
            mount -t tmpfs tmpfs /tmp
            mount -t tmpfs tmpfs /dev/shm
            ip link set lo up
            cd ~/lowtide
            $1"
}

echo "An installation that is broken off after 20 seconds"
inside "timeout --signal=INT 20 make .venv/.ready" && { echo "it was ready already: nothing was tried" && exit 1; }
echo "It goes on"
time inside "make demo"
echo "Again, without a network"
time inside --net "make demo"
