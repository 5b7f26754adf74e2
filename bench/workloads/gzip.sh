#!/bin/sh
# Compresses, decompresses and compares.

set -e
gzip <"$1" >packed.gz
gzip -dc packed.gz | cmp - "$1"
wc -c <packed.gz
