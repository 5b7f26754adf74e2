#!/bin/sh
# Compiles a program of /conformance/c with the guest's own compiler: compile.sh NAME BINARY
set -eu
gcc -O2 -w -pthread -s -o "$2.part" "/conformance/c/$1.c" -lm
mv "$2.part" "$2"
