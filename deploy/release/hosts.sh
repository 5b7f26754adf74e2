#!/usr/bin/env bash
# What the file `hosts` says.
#
#   hosts.sh                      the platforms, one a line
#   hosts.sh json                 the rows as JSON, for a workflow's matrix
#   hosts.sh emulators PLATFORM   where that host's emulators come from
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

rows() { grep -vE '^(#|$)' hosts; }

case ${1:-} in
  '') rows | awk '{ print $1 }' ;;
  json)
    rows | awk '{ printf "%s{\"platform\":\"%s\",\"arch\":\"%s\",\"runner\":\"%s\"}", (NR > 1 ? "," : "["), $1, substr($1, 7), $3 }
                END { print "]" }'
    ;;
  emulators)
    found=$(rows | awk -v platform="${2:-}" '$1 == platform { print $2 }')
    [[ $found ]] || { echo "hosts.sh: no row of ${2:-a platform}; see deploy/release/hosts" >&2; exit 1; }
    echo "$found"
    ;;
  *) echo 'hosts.sh: no such question; json and emulators are' >&2; exit 1 ;;
esac
