#!/usr/bin/env bash
# Makes a release that nobody gets: what `make release-dry-run` runs.
#
#   dry-run.sh            all of it
#   dry-run.sh publish    the second half, with what the first half has left in build/release
#
# It runs the scripts that .github/workflows/release.yml runs, in that order. Instead of the publisher's registries there is
# one on this machine, which ends with the call, and instead of a certificate there is a key that is made for it. Then it does
# what users do: it verifies the signatures and the sums, and pulls each platform. The last lines list all that was made.
#
# From the environment: QEMU_FROM=package, which makes all images within minutes, since nothing of QEMU is compiled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=build/release
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
registry=''
trap '[[ -z $registry ]] || kill "$registry"; rm -rf "$work"' EXIT

cosign() { # what it says by the way is shown where it fails
  build/cosign/cosign "$@" 2>"$work/cosign.log" || { cat "$work/cosign.log" >&2; return 1; }
}

step() { printf '\n== %s\n' "$*"; }

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_registry() { # of Debian; sets site and registry
  qemu/fetch.sh --package docker-registry --release bookworm --keep usr/bin/docker-registry build/registry
  site=127.0.0.1:$(free_port)
  printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' \
    "$work/registry" "$site" >"$work/registry.yml"
  build/registry/docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  registry=$!
  curl --silent --fail --retry 50 --retry-delay 1 --retry-connrefused --output /dev/null "http://$site/v2/" || {
    echo "dry-run.sh: the registry does not start: $(tail -n 1 "$work/registry.log")" >&2
    exit 1
  }
}

manifest_of() { # manifest_of ARCH: of that host's image
  skopeo inspect --tls-verify=false --override-arch "$1" --format '{{.Digest}}' "docker://$IMAGE:$version-$1"
}

verify() { # what users do
  local image platform arch pulled manifest
  local known=(--key "$work/cosign.pub" --insecure-ignore-tlog=true)
  (cd "$out" && sha256sum --check --quiet SHA256SUMS)
  # of no authority: the key is enough
  cosign trusted-root create --out "$work/root.json"
  cosign verify-blob "${known[@]}" --new-bundle-format --trusted-root "$work/root.json" \
    --bundle "$out/SHA256SUMS.sigstore.json" "$out/SHA256SUMS"
  for image in "$IMAGE" "$MIRROR"; do
    cosign verify "${known[@]}" "$image:$version" >/dev/null
    while read -r platform; do
      arch=${platform#linux/}
      docker pull --quiet --platform "$platform" "$image:$version" >/dev/null
      pulled=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "$image:$version")
      docker rmi "$image:$version" >/dev/null
      [[ $pulled == "$platform" ]] || { echo "dry-run.sh: $image gives $pulled to $platform" >&2; exit 1; }
      manifest=$(manifest_of "$arch")
      cosign verify "${known[@]}" "$image@$manifest" >/dev/null
      cosign verify-attestation "${known[@]}" --type spdxjson "$image@$manifest" >/dev/null
      echo "$platform: pulled from $image, and verified with its bill of materials"
    done < <(deploy/release/hosts.sh)
  done
  cosign verify "${known[@]}" "$CHARTS/binfmt:$version" >/dev/null
  build/kubernetes/helm pull --plain-http "oci://$CHARTS/binfmt" --version "$version" --destination "$work"
  cmp "$work/binfmt-$version.tgz" "$out/binfmt-$version-chart.tgz"
}

list() { # all that was made: size, checksum, name
  (cd "$out" && for file in *; do printf '%12s  %s  %s\n' "$(stat -c %s "$file")" "$(sha256sum <"$file" | cut -c 1-64)" "$file"; done)
  docker buildx imagetools inspect "$IMAGE:$version" | sed -nE 's/^(MediaType|Digest|  Name|  Platform): +/  \1: /p'
}

make_all() {
  rm -rf "$out"
  mkdir -p "$out"
  local platform
  while read -r platform; do
    deploy/release/build.sh "$platform" "$out" </dev/null
    step "$platform: what was made"
    deploy/release/prove.sh "$platform" "$out" </dev/null
  done < <(deploy/release/hosts.sh)
  chart_is_of_the_commit
}

# In the workflow, each host's job makes the chart, one job signs it, and another publishes its archive: they must be the same bytes.
chart_is_of_the_commit() {
  local times committed
  times=$(tar --utc -tvzf "$out/binfmt-$version-chart.tgz" | awk '{ print $4, $5 }' | sort -u)
  committed=$(TZ=UTC git log -1 --date='format-local:%Y-%m-%d %H:%M' --format=%cd)
  [[ $times == "$committed" ]] || {
    echo "dry-run.sh: the chart's files are of $times, and the commit of $committed; see deploy/release/build.sh" >&2
    exit 1
  }
}

step 'the repository'
deploy/release/check.sh
deploy/release/notes.sh Unreleased >"$work/notes.md"
[[ ${1:-} == publish ]] || make_all

step 'a registry, and a key'
start_registry
qemu/fetch.sh --package cosign --keep usr/bin/cosign build/cosign
(cd "$work" && COSIGN_PASSWORD='' "$OLDPWD/build/cosign/cosign" generate-key-pair 2>/dev/null)
export IMAGE=$site/owner/binfmt MIRROR=$site/mirror/binfmt CHARTS=$site/charts INSECURE=1
export COSIGN_KEY=$work/cosign.key COSIGN_PASSWORD='' DOCKER_CONFIG=${DOCKER_CONFIG:-$HOME/.docker}

step 'published'
deploy/release/publish.sh sums "$out"
deploy/release/publish.sh images "$out"
deploy/release/publish.sh chart "$out"
step 'verified and pulled'
verify
step 'all that was made'
list
