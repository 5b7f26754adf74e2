#!/usr/bin/env bash
# Everything that is meant to break the tool, at full length, with the binary that the image has: what `make torture` runs.
#
#   torture.sh BINARY
#
# It owns how long and how much; what is done is in tests/kernel, tests/host, tests/machines, tests/conformance and fuzz/, which
# `make test` runs too, in a shorter cut. At the end it prints how much of each was tried. What fails, fails it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 1)) || { echo 'usage: tests/torture.sh BINARY' >&2; exit 2; }
BINFMT_TEST_BINARY=$(realpath "$1")
BINFMT_TEST_TALLY=$(mktemp)
trap 'rm -f "$BINFMT_TEST_TALLY"' EXIT
# what cannot run here fails, rather than being passed over
export BINFMT_TEST_BINARY BINFMT_TEST_TALLY CI=1
# every system call, every kernel, a load for this many seconds, and this many times that the table is emptied under --hold
export BINFMT_TEST_FAULTS=all BINFMT_TEST_MACHINES=all BINFMT_TEST_LOAD=60 BINFMT_TEST_WIPES=1000
fuzzing_seconds=30

# all at once: the longest of them is half of all, and none keeps a processor busy by itself
cargo test --locked --test kernel faults:: -- --test-threads 8
cargo test --locked --test kernel -- load:: hold:: hostile:: concurrency::
cargo test --locked --test machines
cargo test --locked --test conformance under_flag_t
cargo test --locked --test host faults::
# each takes one processor
basename --multiple --suffix .rs fuzz/targets/*.rs | xargs -P "$(nproc)" -I {} fuzz/run.sh {} "$fuzzing_seconds"

# A single loss would have ended this before.
printf '\nnothing lost in:\n'
awk -F '\t' '{ sum[$2] += $1 } END { for (what in sum) printf "%10d  %s\n", sum[what], what }' "$BINFMT_TEST_TALLY" | sort -k 2
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s"
