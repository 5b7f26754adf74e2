#!/usr/bin/env bash
# Runs commands and says at the end what their tests came to: summary.sh JOBS COMMAND... [-- COMMAND...]
#
# JOBS is how many commands run at a time; each COMMAND is one line of shell. What follows `--` runs alone, one command after
# the other: such tests need the machine for themselves. All are run, also after one has failed. What a
# command prints is shown when it has ended, under its name. The last line is the summary: tests that passed, failed and
# did not run, and the time. Before it stand the reasons why tests did not run, and the tests and commands that failed.
#
# It reads what Cargo's test programs print, and what the harness prints about a tier that cannot run.
set -uo pipefail

jobs=${1:?summary.sh JOBS COMMAND...}
shift
logs=$(mktemp -d)
# a line for each test that cannot run
export BINFMT_TEST_SUMMARY=1
# also where it is interrupted, no command goes on
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$logs"' EXIT

run() { # run NUMBER COMMAND: into its log, and its status beside that
  bash -c "$2" >"$logs/$1" 2>&1
  echo $? >"$logs/$1.status"
  printf '\n== %s\n' "$2"
  cat "$logs/$1"
}

number=0 commands=()
for command; do
  if [[ $command == -- ]]; then
    wait
    jobs=1
    continue
  fi
  commands+=("$command")
  ((number++ < jobs)) || wait -n
  run "$number" "$command" &
done
wait
set -- "${commands[@]}"

said() { # said EXPRESSION: the first group of each line that matches
  sed -nE "s/$1/\1/p" "$logs"/*[0-9]
}

sum() { # sum WORD: over all lines "test result: ok. 3 passed; 0 failed; 1 ignored; ..."
  said "^test result: .* ([0-9]+) $1.*" | awk '{ sum += $1 } END { print sum + 0 }'
}

list() { # list TITLE < LINES
  local lines
  lines=$(sed 's/^/  /')
  [[ -z $lines ]] || printf '\n%s:\n%s\n' "$1" "$lines"
}

failed_commands() {
  local number=0 command
  for command; do
    ((++number))
    [[ $(<"$logs/$number.status") == 0 ]] || echo "$command"
  done
}

said '^.*DID NOT RUN: (.*)' | sort | uniq -c | sed -E 's/^ *([0-9]+) /\1 × /' | list 'did not run'
{
  said '^test (.*) \.\.\. FAILED$'
  failed_commands "$@"
} | list 'failed'
not_run=$(said '^.*(DID NOT RUN: ).*' | wc -l)
# a test that could not run counts as passed for Cargo
printf '\n%d passed, %d failed, %d did not run, %d min %d s\n' \
  "$(($(sum passed) - not_run))" "$(sum failed)" "$not_run" "$((SECONDS / 60))" "$((SECONDS % 60))"
[[ -z $(failed_commands "$@") ]]
