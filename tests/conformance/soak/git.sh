#!/bin/sh
# git: 2,000 files in 20 commits, branches, a merge, garbage collection, a clone by its own protocol, and its check of itself.
set -eu
cd "$(mktemp -d)"
export GIT_AUTHOR_NAME=soak GIT_AUTHOR_EMAIL=soak@example.org GIT_COMMITTER_NAME=soak GIT_COMMITTER_EMAIL=soak@example.org
git init --quiet --initial-branch main first
cd first
for commit in $(seq 20); do
  mkdir "$commit"
  for file in $(seq 100); do
    echo "$commit $file $((commit * file))"
  done | tee "$commit/all" | while read -r line; do
    echo "$line" >"$commit/${line##* }-${line#* }"
  done
  git add .
  git commit --quiet --message "commit $commit"
done
[ "$(git ls-files | wc -l)" = 2020 ]
git checkout --quiet -b other HEAD~5
echo changed >1/all
git commit --quiet --all --message 'on a branch'
git checkout --quiet main
git merge --quiet --no-edit other
git gc --quiet --aggressive --prune=now
git fsck --strict --full
cd ..
git clone --quiet --no-local first second
[ "$(git -C second rev-parse HEAD)" = "$(git -C first rev-parse HEAD)" ]
git -C second diff --exit-code HEAD~1 --stat >/dev/null && exit 1
[ "$(git -C second log --oneline | wc -l)" = 22 ]
git -C second fsck --full
