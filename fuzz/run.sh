#!/usr/bin/env bash
# Fuzzes a target of fuzz/targets: run.sh TARGET SECONDS.
#
# The compiler's own coverage instrumentation, by flags that stable Rust has, and libFuzzer beside it: no nightly
# toolchain and no cargo-fuzz are needed. There is no sanitizer, since there is no unsafe code to watch; what is looked
# for are panics, overflows, hangs and hunger for memory. Found inputs go to build/fuzz, where the next run starts from
# them; those that are worth keeping belong into fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?run.sh TARGET SECONDS}
seconds=${2:?run.sh TARGET SECONDS}
host=$(rustc -vV | sed -n 's/^host: //p')
flags=(--cfg fuzzing -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done

# with --target the flags are for the program alone, not for what builds it
RUSTFLAGS="${flags[*]}" cargo build --quiet --locked --release --manifest-path fuzz/Cargo.toml --target "$host" \
  --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" --bin "$target"
mkdir -p "build/fuzz/$target"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${CARGO_TARGET_DIR:-target}/fuzz/$host/release/$target" -max_total_time="$seconds" -max_len=8192 -timeout=5 \
  -rss_limit_mb=512 -artifact_prefix="build/fuzz/$target-" -print_final_stats=1 -verbosity=0 -print_funcs=0 \
  "build/fuzz/$target" "fuzz/corpus/$target" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
printf '%s: %s inputs in %s s, nothing found\n' "$target" "$inputs" "$seconds"
# for the table of `make torture`
[[ -z ${BINFMT_TEST_TALLY:-} ]] || printf '%s\tinputs fuzzed: %s\n' "$inputs" "$target" >>"$BINFMT_TEST_TALLY"
