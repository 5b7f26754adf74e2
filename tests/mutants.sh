#!/usr/bin/env bash
# Which changes of magic/ its tests do not notice: what `make mutants` runs.
#
# cargo-mutants makes them, from the registry: an operator replaced, a function's result made up, a match arm taken away. What is
# the same program, or what no test of magic/ is to notice, is left out in mutants.toml, each with its reason; any other that
# survives fails this. Arguments go to cargo-mutants: `-f magic/src/rule.rs`, `--list`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=27.1.0
tools=build/tools
[[ -x $tools/bin/cargo-mutants && $("$tools/bin/cargo-mutants" mutants --version) == *" $version" ]] ||
  cargo install --locked --quiet --root "$tools" --version "$version" cargo-mutants
export PATH=$PWD/$tools/bin:$PATH
# each change is compiled and tested: fewer random inputs, or it takes all day
export PROPTEST_CASES=32
cargo mutants --package binfmt-magic --config tests/mutants.toml --output build/mutants --timeout 60 "$@" -- --locked --all-targets
