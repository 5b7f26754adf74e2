#!/bin/sh
# What a configure script does: gcc compiles ten small programs, four of which it links, and the last one runs.
# Every answer is printed, so that a wrong one is seen.

set -e
mkdir -p configure
cd configure

# program LINE... : these lines are conftest.c
program() {
	printf '%s\n' "$@" >conftest.c
}

# answer OPTION... : does gcc compile it?
answer() {
	if gcc -O2 "$@" conftest.c 2>conftest.log; then echo yes; else echo no; fi
}

has_header() {
	program "#include <$1>" 'int main(void) { return 0; }'
	printf 'header %s: ' "$1"
	answer -c -o conftest.o
}

has_function() {
	program "char $1(void);" "int main(void) { return $1(); }"
	printf 'function %s: ' "$1"
	answer -fno-builtin -o conftest
}

has_header stdlib.h
has_header unistd.h
has_header sys/mman.h
has_header pthread.h
has_header no/such.h
has_function strlcpy
has_function pthread_create
has_function no_such_function

program '#include <stddef.h>' 'struct s { char c; max_align_t m; };' \
	'_Static_assert(offsetof(struct s, m) >= sizeof(long), "alignment");'
printf 'alignment: '
answer -c -o conftest.o

program '#include <stdio.h>' \
	'int main(void) { union { int i; char c; } u = { 1 }; puts(u.c ? "little" : "big"); return 0; }'
printf 'byte order: '
gcc -O2 conftest.c -o conftest
./conftest
