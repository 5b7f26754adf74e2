#!/bin/sh
# Nothing but fork, exec and wait: where the time of a build goes that is made of small commands.

i=0
while [ "$i" -lt 300 ]; do
	/bin/true || exit
	i=$((i + 1))
done
echo "$i"
