#!/bin/bash
# The shell: expansion, arrays, here-documents, job control, traps, process substitution, coprocesses.
# shellcheck disable=SC2018,SC2019,SC2238  # awk is a file here
set -u
cd "$(mktemp -d)" || exit
sum=0
for i in {1..200}; do ((sum += i ** 2 % 97)); done
echo "$sum ${#PATH} $((16#ff << 3)) $((-7 / 2)) $((-7 % 3))"
declare -A map=([one]=1 [two]=2 ["three four"]=34)
for key in "${!map[@]}"; do echo "$key=${map[$key]}"; done | sort
text='the quick brown fox'
echo "${text^^} ${text/quick/slow} ${text#* } ${text: -3} ${text//o/0}"
[[ $text =~ q(.*)k\ (b[a-z]+) ]] && echo "${BASH_REMATCH[@]}"
cat <<END | tr a-z A-Z | rev
a here-document with $((6 * 7))
END
diff <(seq 1 20) <(seq 1 2 20) | head -5
coproc { while read -r line; do echo "<$line>"; done; }
echo question >&"${COPROC[1]}"
read -r answer <&"${COPROC[0]}"
echo "$answer"
trap 'echo trapped USR1' USR1
kill -USR1 $$
trap 'echo at exit' EXIT
(sleep 30 & kill -TERM $!; wait $!; echo "killed: $?")
for i in $(seq 20); do (exit "$i") & pids[i]=$!; done
for i in $(seq 20); do wait "${pids[i]}"; printf '%s ' $?; done
echo
set -o pipefail
false | true
echo "pipefail $? ${PIPESTATUS[*]}"
seq 100000 | sed -n '/7$/p' | awk '{ s += $1 } END { print s, NR }'
yes | head -n 100000 | md5sum
printf '%s\n' b a c | sort -r | paste -sd,
(ulimit -n 20; exec 30>&1) 2>&1 | sed 's/^.*: //'
# the shell's message tells a pid
(bash -c 'kill -SEGV $$'; echo "segv: $?") 2>/dev/null
/nonexistent/program; echo "status $?"
touch plain; ./plain; echo "status $?"
printf '#!/nonexistent\n' >broken; chmod +x broken; ./broken; echo "status $?"
printf '#!/usr/bin/awk -f\nBEGIN { print "awk script", ARGC }\n' >awk; chmod +x awk; ./awk a b
ln -s /bin/busybox tac; printf 'a\nb\n' | ./tac
bash -c 'exec -a another-name sh -c "echo \$0"'
cp /bin/true unreadable; chmod 111 unreadable; ./unreadable; echo "status $?"
exit 0
