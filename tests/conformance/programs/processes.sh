#!/bin/sh
# Many short processes, as a configure script starts them: by each way in which one program starts another.
# shellcheck disable=SC2016,SC2018,SC2019  # text of other programs; no accents
set -eu
cd "$(mktemp -d)"
export LC_ALL=C
for name in one two three; do
  upper=$(echo "$name" | tr a-z A-Z | sed 's/^/_/;s/E/3/g')
  eval "value$upper=\$(expr \"\$upper\" : '.*')"
  eval "echo $name $upper \$value$upper"
done
printf '#! /bin/sh -e\nfor word; do echo "$0: $word"; done | awk "{ print NR, \\$0 }"\nexit 3\n' >script
printf '#!/usr/bin/env -S sh -u\necho "by env: $*"\n' >by-env
printf '#!/usr/bin/awk -f\nBEGIN { "date +%%s" | getline now; print "awk", ARGC, (now > 0), system("exit 5") }\n' >in-awk
printf '#!/usr/bin/perl -w\nprint "perl: ", `echo $0 @ARGV`, system("sh", "-c", "exit 4") >> 8, "\\n";\n' >in-perl
printf '#!%s/script two\n' "$PWD" >nested
chmod +x script by-env in-awk in-perl nested
./script a 'b c' || echo "status $?"
"$PWD/script" | cat && ./by-env x y
PATH=$PATH:. by-env by its name alone
./in-awk a b && ./in-perl 'c d'
./nested last 2>&1 | sed "s|$PWD||g"
echo 'echo "no first line: $0 $*"' >bare && chmod +x bare && ./bare x
for i in 1 2 3 4 5 6 7 8; do (sleep "0.0$i"; echo "$i" >"out.$i") & done
wait
cat out.* | sort -n | paste -sd+ | sed 's/.*/echo $((&))/' | sh
find . -name 'out.*' -exec basename {} \; | sort | xargs -n 3 echo
seq 12 | xargs -P 4 -I {} sh -c 'exit $(({} % 2))' || echo "xargs $?"
/bin/bash -c 'exec -a -login sh -c "echo \$0"'
env -i PATH="$PATH" A=B env | sort
timeout 60 nice nohup sh -c 'exit 7' || echo "status $?"
timeout -s KILL 0.3 sleep 20 || echo "status $?"
sh -c 'kill -TERM $$' || echo "status $?"
: >empty && chmod +x empty && ./empty && echo "empty: $?"
printf '#!/nonexistent/interpreter\n' >missing && chmod +x missing
./missing 2>/dev/null || echo "missing: $?"
./nothing 2>/dev/null || echo "nothing: $?"
: >plain && ./plain 2>/dev/null || echo "plain: $?"
echo 'exec 3>&-; ls /proc/self/fd | wc -l' | sh
while read -r line; do echo "<$line>"; done <<END
$(cat /proc/self/comm; sh -c 'cat /proc/$$/comm'; tr '\0' ' ' </proc/self/cmdline)
END
readlink /proc/self/exe
