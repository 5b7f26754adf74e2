# An image of a userland: as `docker import` would make it, but marked with its architecture.
FROM scratch
ARG ARCHIVE
ADD ${ARCHIVE} /
