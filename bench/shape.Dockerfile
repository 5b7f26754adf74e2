# Our tool in an image of the incumbent's shape: its settings, and the volume that its probes need. The rival where the
# incumbent's own image cannot be had; it says what the shape costs, and nothing about the incumbent's program.
ARG IMAGE
FROM ${IMAGE}
ENV QEMU_PRESERVE_ARGV0=1
VOLUME /tmp
