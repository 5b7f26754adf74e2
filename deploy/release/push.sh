# shellcheck shell=bash
# How images and their index get into a registry. Sourced by publish.sh and index.sh. It needs skopeo and docker's buildx.
#
# From the environment: INSECURE=1, the registry speaks plain HTTP.
insecure=${INSECURE:-0}
plain=()
[[ $insecure != 1 ]] || plain=(--dest-tls-verify=false)

push_image() { # push_image ARCHIVE REFERENCE: one host's image, as `docker save` wrote it; prints the manifest's digest
  local digest
  digest=$(mktemp)
  skopeo copy --quiet "${plain[@]}" --format oci --digestfile "$digest" "docker-archive:$1" "docker://$2" >&2
  cat "$digest"
  rm "$digest"
}

digest_of() { # digest_of REFERENCE: of an index
  docker buildx imagetools inspect --raw "$1" | sha256sum | sed 's/ .*//; s/^/sha256:/'
}
