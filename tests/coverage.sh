#!/usr/bin/env bash
# How much of the tool and of magic/ the tests reach, by lines: coverage.sh --test NAME... [-- ARGUMENTS OF TESTS], as `make coverage` calls it.
#
# cargo-llvm-cov does it, from the registry, with the LLVM of Debian's package that has the compiler's version. The tests of the
# tool run it in namespaces, without an environment and in root directories that go away; what those processes did is not
# counted, so the truth is higher. Where processes
# of users without privilege complain that they cannot write down what they did, tests fail; here nothing is judged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=build/tools
version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
qemu/need.sh "llvm-cov-$version"
[[ -x $tools/bin/cargo-llvm-cov ]] || cargo install --locked --quiet --root "$tools" cargo-llvm-cov
export PATH=$PWD/$tools/bin:$PATH LLVM_COV=llvm-cov-$version LLVM_PROFDATA=llvm-profdata-$version
# what was killed has left less than a whole profile
export CARGO_LLVM_PROFDATA_FLAGS=--failure-mode=all
cargo llvm-cov --locked --workspace --exclude binfmt-bench --lib --summary-only --ignore-run-fail "$@"
