#!/usr/bin/env bash
# Publishes what build.sh has made for all hosts, and prove.sh has checked.
#
#   publish.sh sums [FOLDER]      SHA256SUMS of all files, and its signature
#   publish.sh images [FOLDER]    one index of the hosts' images, to both registries, signed, with the bills of materials
#   publish.sh chart [FOLDER]     the chart, as an OCI artefact
#
# FOLDER is build/release. It needs skopeo, docker's buildx, cosign and, for the chart, Helm. Whoever calls it has logged in to
# the registries. `images` and `chart` write the digest to the file GITHUB_OUTPUT, if there is one.
#
# From the environment:
#   IMAGE, MIRROR, CHARTS    where to (publisher.sh has the names)
#   COSIGN_KEY               a private key. Without it, cosign asks for a certificate of the workflow that runs this
#   INSECURE                 1: the registry speaks plain HTTP
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command=${1:-}
out=${2:-build/release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=binfmt-$version
image=${IMAGE:-$(deploy/release/publisher.sh image)}
mirror=${MIRROR:-$(deploy/release/publisher.sh mirror)}
charts=${CHARTS:-$(deploy/release/publisher.sh charts)}
export PATH=$PWD/build/cosign:$PWD/build/kubernetes:$PATH

fail() { # fail WHAT REMEDY
  printf 'publish.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

signing=(--yes)
# without a certificate, there is nothing for the public log
[[ -z ${COSIGN_KEY:-} ]] || signing+=(--key "$COSIGN_KEY" --tlog-upload=false)
source deploy/release/push.sh

put_out() { # put_out NAME VALUE: to the workflow, and to whoever looks
  printf '%s=%s\n' "$1" "$2"
  [[ -z ${GITHUB_OUTPUT:-} ]] || printf '%s=%s\n' "$1" "$2" >>"$GITHUB_OUTPUT"
}

tags() { # the version, its series, and latest; a version of tests (1.2.3-rc1) is itself alone
  echo "$version"
  [[ $version == *-* ]] || printf '%s\n' "${version%.*}" latest
}

sign() { # sign REGISTRY INDEX: the index with all that it names, and for each host its bill of materials
  local platform
  cosign sign "${signing[@]}" --recursive "$1@$2"
  for platform in "${!digests[@]}"; do
    cosign attest "${signing[@]}" --type spdxjson \
      --predicate "$out/$name-image-${platform/\//-}.spdx.json" "$1@${digests[$platform]}"
  done
}

images() {
  local platform tag index names=() tagged=()
  declare -gA digests=()
  while read -r platform; do
    digests[$platform]=$(push_image "$out/$name-image-${platform/\//-}.tar" "$image:$version-${platform#linux/}")
    names+=("$image@${digests[$platform]}")
  done < <(deploy/release/hosts.sh)
  while read -r tag; do tagged+=(--tag "$image:$tag"); done < <(tags)
  docker buildx imagetools create "${tagged[@]}" "${names[@]}"
  index=$(digest_of "$image:$version")
  while read -r tag; do
    skopeo copy --quiet --all --preserve-digests "${plain[@]}" "${plain[@]/--dest/--src}" \
      "docker://$image@$index" "docker://$mirror:$tag"
  done < <(tags)
  sign "$image" "$index"
  sign "$mirror" "$index"
  put_out image "$image"
  # by this name, attestations find Docker Hub
  put_out mirror "${mirror/#docker.io/index.docker.io}"
  put_out digest "$index"
}

chart() {
  local said digest plain=()
  [[ $insecure != 1 ]] || plain=(--plain-http)
  said=$(helm push "${plain[@]}" "$out/$name-chart.tgz" "oci://$charts" 2>&1) || fail "helm push fails: $said" 'log in'
  digest=$(sed -n 's/^Digest: //p' <<<"$said")
  cosign sign "${signing[@]}" "$charts/binfmt@$digest"
  put_out chart "$charts/binfmt"
  put_out digest "$digest"
}

sums() { # of what is published as a file: not the images, which registries have
  local file files=()
  for file in "$out"/*; do
    case ${file##*/} in SHA256SUMS* | *-image-*.tar) ;; *) files+=("${file##*/}") ;; esac
  done
  (cd "$out" && sha256sum -- "${files[@]}" >SHA256SUMS)
  cosign sign-blob "${signing[@]}" --new-bundle-format --bundle "$out/SHA256SUMS.sigstore.json" "$out/SHA256SUMS" >/dev/null
}

case $command in
  sums | images | chart) "$command" ;;
  *) fail "no such thing to publish: ${command:-nothing}" 'sums, images and chart are' ;;
esac
