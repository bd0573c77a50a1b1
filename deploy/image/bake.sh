#!/usr/bin/env bash
# Makes a disk image for workers: `bake.sh --help`, docs/deploy.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'END'
Usage: bake.sh --zone ZONE [options] IMAGE

Makes a disk image for workers, on a temporary VM of your project: Ubuntu with NVIDIA's driver, Docker, the worker's
container image and the weights of the models. A VM of it fetches nothing when it boots. The temporary VM is deleted
whatever happens; the image costs what storage costs, until you delete it.

IMAGE is the worker's container image in Artifact Registry, with the tag that Terraform has as image_tag. Project,
models and weights come from the settings (LOWTIDE_PROJECT, LOWTIDE_MODELS, LOWTIDE_WEIGHTS, LOWTIDE_CONFIG), as for
`lowtide deploy vars`.

  --zone ZONE            where the temporary VM runs, such as us-central1-b
  --cpu                  without a driver, for workers without a GPU
  --family NAME          image family; new VMs take its newest image (default lowtide-worker, with --cpu
                         lowtide-worker-cpu)
  --network NAME         network of the temporary VM, which fetches packages from the Internet (default: default)
  --subnet NAME          subnetwork, where the network has none by itself
  --no-address           no public address for it: for a network with Cloud NAT
  --service-account MAIL account by which it reads the registry and weights in gs:// (default: Compute Engine's own)
  --dry-run              print the commands, and run none
  -h, --help             this

Examples:
  bake.sh --zone us-central1-b us-central1-docker.pkg.dev/my-project/lowtide/worker:1a2b3c4
  bake.sh --zone us-central1-b --cpu --dry-run us-central1-docker.pkg.dev/my-project/lowtide/worker:1a2b3c4
END
}

fail() {
  echo "bake.sh: $*" >&2
  exit 1
}

wrong() {
  echo "bake.sh: $*; bake.sh --help says how to call it" >&2
  exit 2
}

# What is done: printed as one could type it, with --dry-run instead of being done.
run() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

zone='' family='' image='' suffix='' branch=580-server dry_run='' network=(--network default) subnet=() address=() account=()
while [[ $# -gt 0 ]]; do
  case $1 in
  --zone | --family | --network | --subnet | --service-account)
    [[ ${2-} && $2 != -* ]] || wrong "$1 needs a value"
    ;;&
  --zone) zone=$2 && shift ;;
  --family) family=$2 && shift ;;
  --network) network=(--network "$2") && shift ;;
  --subnet) subnet=(--subnet "$2") && shift ;;
  --service-account) account=(--service-account "$2") && shift ;;
  --no-address) address=(--no-address) ;;
  --cpu) branch=none suffix=-cpu ;;
  --dry-run) dry_run=yes ;;
  -h | --help) usage && exit ;;
  -*) wrong "there is no option $1" ;;
  *)
    [[ ! $image ]] || wrong "one IMAGE, not both $image and $1"
    image=$1
    ;;
  esac
  shift
done
[[ ${#subnet[@]} == 0 ]] || network=("${subnet[@]}") # whose network gcloud knows
: "${family:=lowtide-worker$suffix}"
[[ $image ]] || wrong "IMAGE is missing, such as us-central1-docker.pkg.dev/my-project/lowtide/worker:1a2b3c4"
[[ $image =~ ^[a-z0-9-]+-docker\.pkg\.dev/[^/]+/[^/]+/[^/:@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] ||
  wrong "$image: expected an image of Artifact Registry with its tag, REGION-docker.pkg.dev/PROJECT/NAME/worker:TAG"
[[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || wrong "--zone ${zone:-is missing}: expected one such as us-central1-b"
# An image's name has 63 characters at most, and a time is added.
[[ $family =~ ^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$ ]] ||
  wrong "--family $family: expected up to 42 small letters, digits and hyphens, a letter first and no hyphen last"
command -v lowtide >/dev/null ||
  fail "lowtide is not on the PATH: after \`make demo\` it is in .venv/bin of the checkout"
[[ $dry_run ]] || command -v gcloud >/dev/null ||
  fail "gcloud is not installed: https://cloud.google.com/sdk/docs/install"

# What the fleet's VMs are told, too: no password is among it.
variables=$(lowtide deploy vars --output -)
project=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["project"])' <<<"$variables")
name=$family-$(date -u +%Y%m%d-%H%M%S)
pause_s=${LOWTIDE_PAUSE_S:-10}
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
there=(--project "$project" --zone "$zone")
work=$(mktemp -d)
made='' # whether there may be a temporary VM

delete_vm() {
  local said
  if [[ $dry_run ]]; then
    run gcloud compute instances delete "$name" "${there[@]}"
    return 0
  fi
  echo "Deleting the temporary VM $name"
  # One that is just being made can't be deleted at once.
  for _ in 1 2 3 4 5 6; do
    # In a trap, a bare return gives the code from before it.
    said=$(gcloud compute instances delete "$name" "${there[@]}" 2>&1) && return 0
    [[ $said != *"was not found"* ]] || return 0
    sleep "$pause_s"
  done
  echo "bake.sh: $said" >&2
  echo "bake.sh: the temporary VM may still be there, and cost. Delete it:" >&2
  echo "  gcloud compute instances delete $name ${there[*]}" >&2
}

clean_up() {
  local status=$?
  trap '' HUP INT TERM
  [[ ! $made ]] || delete_vm
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What the VM tells of itself under this name.
attribute() {
  gcloud compute instances get-guest-attributes "$name" "${there[@]}" --query-path="lowtide/$1" --format='value(value)'
}

# Until the VM says that it is done; a sentence if it never will.
wait_for_vm() {
  local state='' now status lost=0 end_s=$((SECONDS + 3600))
  while [[ $state != 'done' ]]; do
    sleep "$pause_s"
    if now=$(attribute state 2>/dev/null); then
      lost=0
    else # it has said nothing so far, or is gone, or this machine's network is away for a moment
      now=$state
      status=$(gcloud compute instances describe "$name" "${there[@]}" --format='value(status)') ||
        status='not to be seen'
      [[ $status =~ ^(PROVISIONING|STAGING|RUNNING)$ || $((++lost)) -lt 6 ]] ||
        fail "no image was made: the temporary VM is $status"
    fi
    [[ $now == "$state" ]] || echo "  $now"
    state=$now
    [[ $state != failed* && $SECONDS -lt $end_s ]] || give_up "${state#failed: }"
  done
}

give_up() {
  gcloud compute instances get-serial-port-output "$name" "${there[@]}" 2>/dev/null | tail -n 30 >&2 || true
  echo "bake.sh: above is the end of the VM's console." >&2
  [[ $1 != pulling* ]] || echo "bake.sh: perhaps the VM's account may not read the registry: give it \
roles/artifactregistry.reader there (gcloud artifacts repositories add-iam-policy-binding), or name another by \
--service-account" >&2
  fail "no image was made: the temporary VM got no further than: ${1:-its boot}"
}

python3 -c 'import json, sys
for pair in json.load(sys.stdin)["settings"].items():
    print(*pair, sep="=")' <<<"$variables" >"$work/settings.env"

if [[ ! $dry_run ]]; then
  gcloud compute zones describe "$zone" --project "$project" --format='value(name)' >/dev/null ||
    fail "Compute Engine can't be used in $zone of project $project: look at --zone and LOWTIDE_PROJECT; you need \
\`gcloud auth login\`, a billing account for the project, and \`gcloud services enable compute.googleapis.com\`"
  gcloud artifacts docker images describe "$image" --format='value(image_summary.digest)' >/dev/null ||
    fail "$image is not there, or you may not read it: push it first, as docs/deploy.md says"
  echo "Making the temporary VM $name"
fi
told=(enable-guest-attributes=TRUE enable-oslogin=TRUE block-project-ssh-keys=TRUE)
told+=("lowtide-image=$image" "lowtide-driver=$branch")
made=yes
# The image has a driver and needs no GPU to get it: any machine does. Should this script not live to delete the VM, it
# deletes itself.
run gcloud compute instances create "$name" "${there[@]}" \
  --machine-type e2-standard-4 --image-project ubuntu-os-cloud --image-family ubuntu-2404-lts-amd64 \
  --boot-disk-type pd-balanced --boot-disk-size 30GB --max-run-duration 2h --instance-termination-action DELETE \
  "${network[@]}" "${address[@]}" "${account[@]}" --scopes cloud-platform \
  --metadata "$(IFS=, && echo "${told[*]}")" \
  --metadata-from-file "startup-script=$here/provision.sh,lowtide-settings=$work/settings.env"

if [[ $dry_run ]]; then
  labels=nvidia-driver=VERSION,cuda=VERSION,lowtide=VERSION # which the VM tells
else
  echo "It installs what a worker needs; this takes some ten minutes:"
  wait_for_vm
  labels=$(attribute labels)
fi
run gcloud compute instances stop "$name" "${there[@]}"
run gcloud compute images create "$name" --project "$project" --source-disk "$name" --source-disk-zone "$zone" \
  --family "$family" --storage-location "${zone%-*}" --labels "$labels" --description "$image"
[[ $dry_run ]] || cat <<END
Image $name: $labels
New workers boot from it when terraform.tfvars says
  worker_boot_image = "projects/$project/global/images/family/$family"
END
