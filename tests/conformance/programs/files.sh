#!/bin/sh
# Coreutils, find, grep, sed, tar and gzip on a few thousand files, and digests of what comes out.
# shellcheck disable=SC2003,SC2012  # ls and expr are what is run here
set -eu
cd "$(mktemp -d)"
seq 1 30000 >numbers
for sum in md5sum sha1sum sha256sum sha512sum b2sum cksum sum; do $sum numbers; done
gzip -9nkc numbers >numbers.gz
sha256sum <numbers.gz
gzip -dc numbers.gz | cmp - numbers
head -c 300000 /dev/zero | gzip | wc -c
sort -rn numbers | sha256sum
sort -k1.2 -S 1M numbers | tail -n 2
shuf --random-source=numbers numbers | head -n 3 | tr '\n' ' '
split -l 1000 numbers part.
ls | wc -l
mkdir tree
for i in $(seq 60); do mkdir "tree/$i"; echo "$i" >"tree/$i/file"; ln -s file "tree/$i/link"; done
find tree -type l | wc -l
find tree -name file -size -2 -newer numbers -printf '%f %s\n' | sort | uniq -c
grep -rc '^1' tree --include=file | grep -c ':1$'
grep -oE '[0-9]*(12|21)3[0-9]*' numbers | tail -n 3
sed -E 's/([0-9])([0-9])/\2\1/g; 5q' numbers
tar --sort=name --mtime=@0 --owner=0 --group=0 -czf tree.tar.gz tree
sha256sum tree.tar.gz
mkdir out
tar -xzf tree.tar.gz -C out
diff -r tree out/tree
cp -a tree copy
diff -r tree copy
du -s --inodes tree | cut -f 1
touch -d '2001-02-03 04:05:06.789 UTC' dated
stat -c '%s %A %a %U %G %y %F' dated numbers /dev/null / | cut -d ' ' -f 1-5
TZ=UTC0 stat -c %y dated
TZ=UTC0 date -d @1234567890 '+%F %T %A %j %V'
dd if=numbers of=copied bs=1000 skip=3 count=5 conv=notrunc status=none
od -A d -t x1z copied | head -n 3
truncate -s 5G sparse
stat -c '%s %b' sparse
df -T /proc | tail -n 1
factor 18446744073709551557 1234567890123456789
expr 12345678901234567890 '*' 98765432109876543210
numfmt --to=iec 123456789
printf '%.20f %e %a\n' 0.1 1e300 3.5
timeout 0.1 sleep 5 || echo "timed out: $?"
env -i A=1 env
nproc >/dev/null
id
uname -m
busybox sha512sum numbers
busybox awk 'BEGIN { for (i = 0; i < 5; i++) printf "%.6f ", i / 7; print "" }'
printf 'one two\n' | busybox tee teed | busybox wc
rm -rf tree copy out
