#!/usr/bin/env bash
# The notes of a release, for its page: notes.sh SECTION
#
# The changelog's SECTION, which is the version's, or `Unreleased` before there is one; and how to verify what was published.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

name=${1:?name a section of the changelog}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
section=$(awk -v head="## [$name]" '/^## \[/ { here = index($0, head) == 1; next } here' CHANGELOG.md)
[[ $section ]] || {
  echo "notes.sh: CHANGELOG.md has no section [$name]; rename [Unreleased] to it" >&2
  exit 1
}
repository=$(deploy/release/publisher.sh repository)
image=$(deploy/release/publisher.sh image)
cat <<END
$section

## Verify

\`\`\`sh
identity=(--certificate-identity $repository/.github/workflows/release.yml@refs/tags/v$version
  --certificate-oidc-issuer https://token.actions.githubusercontent.com)
# the image, and the bill of materials of one host's image
cosign verify "\${identity[@]}" $image:$version
cosign verify-attestation "\${identity[@]}" --type spdxjson $image:$version-amd64
# files: the signature of the sums, then the sums
cosign verify-blob "\${identity[@]}" --new-bundle-format --bundle SHA256SUMS.sigstore.json SHA256SUMS
sha256sum --check --ignore-missing SHA256SUMS
# where and from what a file was built
gh attestation verify FILE --repo ${repository#https://*/}
\`\`\`
END
