#!/bin/sh
# Compiles a program of /conformance with the guest's own compiler: compile.sh FOLDER/NAME BINARY
#
# What a source's first line says after `flags:` goes to the compiler too. Several may compile the same at once.
set -eu
flags=$(sed -n '1s|^/\* flags: ||p' "/conformance/$1.c")
# shellcheck disable=SC2086  # they are words
gcc -O2 -w -pthread -s $flags -o "$2.$$" "/conformance/$1.c" -lm
mv "$2.$$" "$2"
