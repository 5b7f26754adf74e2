# An engine whose BuildKit has our emulators in its PATH.
ARG EMULATORS
ARG ENGINE
FROM ${EMULATORS} AS emulators
FROM ${ENGINE}
COPY --from=emulators /usr/bin/ /usr/bin/
