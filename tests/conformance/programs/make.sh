#!/bin/sh
# The compiler beyond one file: make, libraries static and shared, several levels of optimisation, its messages.
set -eu
cd "$(mktemp -d)"
cat >part.c <<'END'
int part(int x) { return x * 3 + 1; }
END
cat >main.c <<'END'
#include <stdio.h>
int part(int);
int main(void) { for (int i = 0; i < 5; i++) printf("%d ", part(i)); puts(""); return 0; }
END
printf '%s\n' 'all: static shared whole' 'static: main.o libpart.a ; gcc -o $@ main.o -L. -l:libpart.a' \
  'shared: main.o libpart.so ; gcc -o $@ main.o -L. -lpart -Wl,-rpath,.' 'whole: main.c part.c ; gcc -O3 -static -o $@ main.c part.c' \
  'libpart.a: part.o ; ar rcsD $@ $<' 'libpart.so: part.c ; gcc -O2 -shared -fPIC -o $@ $<' '%.o: %.c ; gcc -O1 -c $<' >Makefile
make -j4 --no-print-directory --silent
for program in static shared whole; do "./$program"; done
sha256sum static shared whole part.o
objdump -d part.o | sha256sum
nm part.o
for level in 0 3; do gcc "-O$level" -S -o - /conformance/c/work.c | sha256sum; done
echo 'int main(void) { undeclared(); return "x" + }' | gcc -x c -o /dev/null - 2>&1 || echo "status $?"
gcc main.o 2>&1 | sed 's|/tmp/[^:]*:|:|' || :
gcc -dumpmachine
