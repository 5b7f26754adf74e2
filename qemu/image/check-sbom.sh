#!/usr/bin/env bash
# Validates an SPDX document: check-sbom.sh FILE
#
# SPDX's own tools for Python judge it, in the version below, from the Python package index. They are in an environment
# of their own, build/spdx-tools, which stays for the next call. What is in order is passed in silence.
set -euo pipefail
version=0.8.5

fail() { # fail WHAT REMEDY
  printf 'check-sbom.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

install_tools() { # complete once they answer to the version's name, which comes last
  local log=$tools.log
  mkdir -p "$(dirname "$tools")"
  rm -rf "$tools"
  python3 -m venv "$tools" >"$log" 2>&1 ||
    fail "python3 makes no environment in $tools: $(tail -n 1 "$log")" 'install python3 and python3-venv'
  "$tools/bin/pip" --quiet --disable-pip-version-check install "spdx-tools==$version" >"$log" 2>&1 ||
    fail "cannot install spdx-tools $version: $(tail -n 1 "$log")" 'check the network'
  rm "$log"
  touch "$tools/$version"
}

(($# == 1)) || fail 'it takes one file' 'name the SPDX document'
[[ -f $1 ]] || fail "there is no file $1" 'make sbom writes build/sbom.spdx.json'
tools=$(cd "$(dirname "$0")/../.." && pwd)/build/spdx-tools
[[ -e $tools/$version ]] || install_tools
# by its module: the program beside it names the folder in which it was installed, and that may have moved
complaints=$("$tools/bin/python3" -m spdx_tools.spdx.clitools.pyspdxtools --infile "$1" 2>&1) || {
  printf '%s\n' "$complaints" >&2
  fail "$1 is not a valid SPDX document" 'see above, and sbom.py'
}
