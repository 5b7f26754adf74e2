#!/bin/sh
# Starts the engine of engine.Dockerfile. Its containers reach nothing: no test needs a network.
#
# runc refuses to grant what it does not have itself, and an engine grants privileged containers every capability that
# it knows. CAP_SYS_RESOURCE is one that some sandboxes keep back; where that is so, it is not asked for.
set -eu

if [ "${1:-}" = runc ]; then
  shift
  previous=
  for argument in "$@"; do
    if [ "$previous" = --bundle ]; then
      jq '.process.capabilities |= map_values(map(select(. != "CAP_SYS_RESOURCE")))' \
        "$argument/config.json" >"$argument/config.new"
      mv "$argument/config.new" "$argument/config.json"
    fi
    previous=$argument
  done
  exec runc "$@"
fi

bounding=$(sed -n 's/^CapBnd:\t*//p' /proc/self/status)
set --
if [ "$((0x$bounding >> 24 & 1))" = 0 ]; then
  printf '#!/bin/sh\nexec /engine.sh runc "$@"\n' >/usr/local/bin/frugal-runc
  chmod 755 /usr/local/bin/frugal-runc
  set -- --add-runtime frugal=/usr/local/bin/frugal-runc --default-runtime frugal
fi
exec dockerd --iptables=false "$@"
