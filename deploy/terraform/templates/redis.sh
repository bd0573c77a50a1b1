#!/bin/sh
# redis.sh DEVICE FOLDER: mounts Redis' disk; a disk that holds nothing, and only such a one, gets a file system.
set -eu
device=$1 folder=$2
mkdir -p "$folder"
mountpoint -q "$folder" && exit 0

# blkid's 2: nothing that it knows is there. No other failure is a reason to format a disk.
[ -b "$device" ]
status=0
blkid -p "$device" || status=$?
case $status in
0) ;;
2) mkfs.ext4 -m 0 "$device" ;;
*) exit "$status" ;;
esac
# 1: it has repaired something.
fsck.ext4 -p "$device" || [ $? -le 1 ]
mount -o noatime,discard "$device" "$folder"
# Longer disks come with longer file systems.
resize2fs "$device"
