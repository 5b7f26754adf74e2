# The image: the tool and QEMU's static user emulators, on nothing. `make image` builds it.
#
#   TARGETS        emulators, by QEMU's names; the host's own is left out. Each is 14 to 17 MB
#   DEBIAN         release that builds the tool
#   BASE           image of that release, where it is not Debian's own
#   QEMU_RELEASE   release that the emulators come from: trixie, trixie-backports, bookworm
#   QEMU_VERSION, VERSION, GIT_REVISION    for the labels
#
# Everything comes from Debian's packages and the Rust registry. All stages run on the machine that builds and produce
# files for the machine that will run them, so that no emulator is needed to build for another architecture.

ARG DEBIAN=trixie
ARG BASE=debian:${DEBIAN}-slim

FROM --platform=$BUILDPLATFORM ${BASE} AS base
ENV DEBIAN_FRONTEND=noninteractive

# --- the tool: static, its standard library built for size --------------------------------------------------------
FROM base AS tool
ARG TARGETARCH
COPY --chmod=755 qemu/image/toolchain.sh /
RUN /toolchain.sh install "$TARGETARCH"
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY magic magic
COPY bench bench
COPY src src
COPY LICENSE .
COPY --chmod=755 qemu/image/licences.sh /
# Other checkouts share the cache. Cargo goes by the age of files, and these are as old as in their checkout: made new,
# none of them passes for what another checkout's build has compiled.
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,id=binfmt-target,target=/src/target,sharing=locked \
    find Cargo.toml Cargo.lock magic bench src -type f -exec touch {} + && \
    /toolchain.sh build "$TARGETARCH" /out/usr/bin/binfmt && \
    /licences.sh "$TARGETARCH" /out/usr/share/doc/binfmt/linked

# --- the emulators, and what their licence asks for ----------------------------------------------------------------
FROM base AS emulators
ARG TARGETARCH
ARG QEMU_RELEASE=trixie
ARG TARGETS=x86_64,aarch64,arm,riscv64,ppc64,ppc64le,s390x,i386,mips64el,mips64,loongarch64
COPY --chmod=755 qemu/fetch.sh qemu/image/emulators.sh /
RUN /emulators.sh "$TARGETARCH" "$QEMU_RELEASE" "$TARGETS" /out

# --- the texts that those licences refer to ------------------------------------------------------------------------
FROM base AS documents
COPY --from=emulators /out/root/usr/share/doc /out/usr/share/doc
COPY --from=tool /out/usr/share/doc /out/usr/share/doc
COPY LICENSE /out/usr/share/doc/binfmt/
RUN grep -rohE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' /out/usr/share/doc | sort -u | \
    xargs cp --dereference --parents --target-directory=/out

# What `make image` reads to fill in QEMU_VERSION.
FROM scratch AS version
COPY --from=emulators /out/version /

FROM scratch
COPY --from=emulators /out/root/usr/bin /usr/bin
COPY --from=tool /out/usr/bin /usr/bin
COPY --from=documents /out /
ARG VERSION
ARG GIT_REVISION
ARG QEMU_VERSION
LABEL org.opencontainers.image.title="binfmt" \
      org.opencontainers.image.description="Teaches a Linux host to run programs of other CPU architectures" \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only AND LGPL-2.1-or-later" \
      org.opencontainers.image.revision="$GIT_REVISION" \
      org.opencontainers.image.version="$VERSION" \
      org.qemu.version="$QEMU_VERSION"
ENTRYPOINT ["/usr/bin/binfmt"]
