#!/usr/bin/env bash
# Builds images for several hosts, and pushes them as one index, which gives each machine its own:
#
#   index.sh REFERENCE [PLATFORM...]    registry.example/owner/binfmt:test linux/amd64 linux/arm64
#
# Without a PLATFORM, for every host of the file `hosts`.
# What `make index` runs, for a registry of one's own; a release is published by publish.sh. Nothing is signed. It needs a Docker
# engine with buildx, and skopeo, logged in to the registry. The last lines are the index's digest and its platforms.
#
# From the environment: QEMU_FROM, source or package (as `hosts` has it); INSECURE=1, the registry speaks plain HTTP.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source deploy/release/push.sh

reference=${1:-}
[[ $reference == */*:* ]] || {
  echo "index.sh: '$reference' names no image in a registry; say where to: make index INDEX=registry.example/owner/binfmt:test" >&2
  exit 2
}
repository=${reference%:*}
platforms=("${@:2}")
((${#platforms[@]})) || mapfile -t platforms < <(deploy/release/hosts.sh)
work=$(mktemp -d)
tag=''
trap 'rm -rf "$work"; [[ -z $tag ]] || docker rmi "$tag" >/dev/null' EXIT

names=()
for platform in "${platforms[@]}"; do
  arch=${platform#linux/}
  tag=binfmt-index:$arch
  QEMU_FROM=${QEMU_FROM:-$(deploy/release/hosts.sh emulators "$platform")} PLATFORM=$platform IMAGE=$tag \
    qemu/image/build.sh
  docker save --output "$work/$arch.tar" "$tag"
  docker rmi "$tag" >/dev/null
  tag=''
  names+=("$repository@$(push_image "$work/$arch.tar" "$reference-$arch")")
done
docker buildx imagetools create --tag "$reference" "${names[@]}"
echo "$repository@$(digest_of "$reference")"
docker buildx imagetools inspect "$reference" | sed -n 's/^ *Platform: *//p'
