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
cosign verify $image:$version \\
  --certificate-identity $repository/.github/workflows/release.yml@refs/tags/v$version \\
  --certificate-oidc-issuer https://token.actions.githubusercontent.com
gh attestation verify FILE --repo ${repository#https://*/}
sha256sum --check --ignore-missing SHA256SUMS
\`\`\`
END
