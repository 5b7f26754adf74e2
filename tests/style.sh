#!/usr/bin/env bash
# The language of pages, of --help and of the code's comments: what `make style` runs.
#
#   style.sh [FILE...]    all files of the repository, or these
#
# Spelling is judged by typos, from the Python package index, in the version below and by typos.toml. Phrases are those of
# tests/style/phrases.tsv: each rule must find its own example, and nothing else. Code blocks of pages are not read.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=1.52.0
tools=build/typos
rules=tests/style/phrases.tsv

fail() { # fail WHAT REMEDY
  printf 'style.sh: %s; %s\n' "$1" "$2" >&2
  exit 1
}

install_tools() { # complete once they answer to the version's name, which comes last
  mkdir -p "$(dirname "$tools")"
  rm -rf "$tools"
  python3 -m venv "$tools" >"$tools.log" 2>&1 ||
    fail "python3 makes no environment in $tools: $(tail -n 1 "$tools.log")" 'install python3 and python3-venv'
  "$tools/bin/pip" --quiet --disable-pip-version-check install "typos==$version" >"$tools.log" 2>&1 ||
    fail "cannot install typos $version: $(tail -n 1 "$tools.log")" 'check the network'
  rm "$tools.log"
  touch "$tools/$version"
}

prose() { # prose KIND FILE...: each line as FILE:LINE: TEXT, with the next line's first words, which may end a phrase
  local kind=$1
  shift
  (($# == 0)) || awk -v kind="$kind" '
    function flush(more) {
      if (text != "") print place text more
      text = ""
    }
    FNR == 1 { flush(""); fenced = 0 }
    kind == "pages" && /^[ ]*```/ { flush(""); fenced = !fenced; next }
    fenced { next }
    {
      line = $0
      if (kind != "pages") {
        if (line !~ /^[ \t]*\/\//) { flush(""); next }
        sub(/^[ \t]*\/\/[\/!]?[ ]?/, "", line)
      }
      count = split(line, words, " ")
      flush(count ? " " words[1] " " words[2] : "")
      place = FILENAME ":" FNR ": "
      text = line
    }
    END { flush("") }
  ' "$@"
}

if (($#)); then
  files=("$@")
else
  mapfile -t files < <(git ls-files --cached --others --exclude-standard)
fi
pages=() code=()
for file in "${files[@]}"; do
  case $file in
    *.md) pages+=("$file") ;;
    src/*.rs | magic/src/*.rs | bench/src/*.rs) code+=("$file") ;;
  esac
done
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT
prose pages ${pages[@]+"${pages[@]}"} >"$texts/pages"
{ cat "$texts/pages"; prose code ${code[@]+"${code[@]}"}; } >"$texts/all"
for where in pages all; do # the place before the text is no part of it
  sed 's/^[^ ]*: //' "$texts/$where" >"$texts/$where.bare"
done

wrong=0
while IFS=$'\t' read -r where phrase example instead; do
  [[ $where && $where != '#'* ]] || continue
  grep -qiP -- "$phrase" <<<"$example" || fail "the rule $phrase does not find its example" "repair $rules"
  while IFS=: read -r number _; do
    wrong=1
    printf '%s\n  write: %s\n' "$(sed -n "${number}p" "$texts/$where")" "$instead"
  done < <(grep -niP -- "$phrase" "$texts/$where.bare")
done <"$rules"

[[ -e $tools/$version ]] || install_tools
"$tools/bin/typos" --config typos.toml --force-exclude --format brief -- "${files[@]}" || wrong=1
((wrong == 0)) || fail 'the lines above are misspelt or hard to read' "write them otherwise, or change $rules or typos.toml"
