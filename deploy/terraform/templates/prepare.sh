#!/bin/sh
# prepare.sh IMAGE SECRET SCHEME PLACE: fetches the image, and writes how Redis is reached, by the account of this VM.
#
# SECRET: projects/…/secrets/…, Redis' password; SCHEME://:password@PLACE is its URL. What it writes is in memory, for root
# alone. Runs on whatever a boot image has: a shell, curl, sed, base64 and Docker.
set -eu
umask 077
image=$1 secret=$2 scheme=$3 place=$4
folder=${LOWTIDE_RUN:-/run/lowtide}
mkdir -p "$folder"

# The value of KEY in a JSON object of texts.
value() {
  sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"
}

token=$(curl -sSf -H 'Metadata-Flavor: Google' \
  http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token | value access_token)

# By a file and not by an argument, which every user of the machine could read.
password=$(printf 'Authorization: Bearer %s' "$token" |
  curl -sSf -H @- "https://secretmanager.googleapis.com/v1/$secret/versions/latest:access" | value data | base64 -d)
[ -n "$password" ] || { echo "$secret is empty" >&2; exit 1; }
# Several units do this at once: each file is there whole or not at all.
printf 'LOWTIDE_REDIS_URL=%s://:%s@%s\n' "$scheme" "$password" "$place" >"$folder/env.$$"
printf 'requirepass %s\n' "$password" >"$folder/conf.$$"
# Redis is no root and reads this in its container; the folder around it is root's.
chmod 0444 "$folder/conf.$$"
mv "$folder/env.$$" "$folder/redis.env"
mv "$folder/conf.$$" "$folder/redis.conf"

# One that a boot image has brought is not fetched again: a tag does not move.
docker image inspect "$image" >/dev/null 2>&1 && exit 0
case $image in
*-docker.pkg.dev/*) printf %s "$token" | docker login -u oauth2accesstoken --password-stdin "https://${image%%/*}" ;;
esac
docker pull "$image"
