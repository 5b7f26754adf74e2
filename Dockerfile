# The image: the tool and QEMU's static user emulators, on nothing. `make image` builds it.
#
#   TARGETS        emulators, by QEMU's names; the host's own is left out
#   DEBIAN         release that builds the tool and the emulators
#   BASE           image of that release, where it is not Debian's own
#   QEMU_FROM      source: our build from Debian's source, 6 MB each (qemu/tuned/). package: Debian's own, 14 to 17 MB each
#   QEMU_RELEASE   release that the package is of: trixie, trixie-backports, bookworm. The source is trixie's
#   VERSION, GIT_REVISION    for the labels. build.sh adds org.qemu.version, which is known when the emulators are there
#
# Everything comes from Debian's packages and the Rust registry. All stages run on the machine that builds and produce
# files for the machine that will run them, so that no emulator is needed to build for another architecture.

ARG DEBIAN=trixie
ARG BASE=debian:${DEBIAN}-slim
ARG QEMU_FROM=source
ARG TARGETS=x86_64,aarch64,arm,riscv64,ppc64,ppc64le,s390x,i386,mips64el,mips64,loongarch64

FROM --platform=$BUILDPLATFORM ${BASE} AS base
ENV DEBIAN_FRONTEND=noninteractive

# --- the tool: static, its standard library built for size --------------------------------------------------------
FROM base AS tool
ARG TARGETARCH
COPY --chmod=755 qemu/host.sh qemu/image/toolchain.sh /
RUN /toolchain.sh install "$TARGETARCH"
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY magic magic
COPY bench bench
COPY deploy/package/Cargo.toml deploy/package/
COPY deploy/package/src deploy/package/src
COPY src src
COPY LICENSE .
COPY --chmod=755 qemu/image/licences.sh /
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,id=binfmt-target,target=/src/target,sharing=locked \
    /toolchain.sh build "$TARGETARCH" /out/usr/bin/binfmt && \
    /licences.sh "$TARGETARCH" /out/usr/share/doc/binfmt/linked --no-default-features

# its files as they are, for `make deb` and `make dist`
FROM scratch AS program
COPY --from=tool /out /

# --- the emulators, and what their licence asks for: from source... -------------------------------------------------
# What changes seldom comes first; then what all targets share, once; then the targets, side by side.
FROM base AS source
ARG TARGETARCH
COPY --chmod=755 qemu/host.sh /
COPY --chmod=755 qemu/tuned/build.sh qemu/tuned/options.sh /tuned/
RUN /tuned/build.sh install "$TARGETARCH"
COPY qemu/tuned/SHA256SUMS /tuned/
COPY qemu/tuned/patches /tuned/patches
RUN /tuned/build.sh source

# ...in a build that counts what it does, for train.sh to learn from: make profile
FROM source AS counting
ARG TARGETARCH
ARG TARGETS
RUN /tuned/build.sh instrument "$TARGETARCH" "$TARGETS"
FROM scratch AS instrumented
COPY --from=counting /qemu/out /

# ...in a build that checks each block that processes share: make checked
FROM source AS checking
ARG TARGETARCH
ARG TARGETS
RUN /tuned/build.sh check "$TARGETARCH" "$TARGETS"
FROM scratch AS checked
COPY --from=checking /qemu/out /

FROM source AS compiled
# A number that has not been here makes everything from here on anew: make reproduce
ARG ATTEMPT=1
COPY qemu/tuned/profile.tar.xz /tuned/
ARG TARGETARCH
RUN : "$ATTEMPT" && /tuned/build.sh share "$TARGETARCH"
ARG TARGETS
RUN /tuned/build.sh compile "$TARGETARCH" "$TARGETS"
# the files as they are, for `make tuned`
FROM scratch AS tuned
COPY --from=compiled /qemu/out /

FROM compiled AS emulators-source
ARG TARGETARCH
COPY --chmod=755 qemu/image/emulators.sh /
RUN /emulators.sh source "$TARGETARCH" /out

# ...or from Debian's package ----------------------------------------------------------------------------------------
FROM base AS emulators-package
ARG TARGETARCH
ARG QEMU_RELEASE=trixie
ARG TARGETS
COPY --chmod=755 qemu/host.sh qemu/fetch.sh qemu/apt.sh qemu/image/emulators.sh /
RUN /emulators.sh package "$TARGETARCH" /out "$QEMU_RELEASE" "$TARGETS"

FROM emulators-${QEMU_FROM} AS emulators

# --- the tool with the emulators inside: make single ----------------------------------------------------------------
FROM tool AS carrying
ARG TARGETARCH
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends zstd >/dev/null
COPY --chmod=755 qemu/carry.sh /
COPY --from=emulators /out/root/usr/bin /emulators
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,id=binfmt-target,target=/src/target,sharing=locked \
    /toolchain.sh carry "$TARGETARCH" /single/binfmt /emulators && \
    /licences.sh "$TARGETARCH" /single/doc/binfmt/linked

# --- what it is all made of ----------------------------------------------------------------------------------------
FROM base AS staged-emulators
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends python3 >/dev/null
COPY --from=emulators /out/root /image
COPY --chmod=755 qemu/image/sbom.py /

FROM staged-emulators AS staged
COPY --from=tool /out /image

FROM staged AS sbom
ARG TARGETARCH
ARG VERSION
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p /out/usr/share/doc/binfmt && \
    /sbom.py --root /image --name binfmt --version "${VERSION:-unknown}" --arch "$TARGETARCH" \
      --created "$SOURCE_DATE_EPOCH" >/out/usr/share/doc/binfmt/sbom.spdx.json

# Of the single file: its tool has more linked in.
FROM staged AS single-sbom
ARG TARGETARCH
ARG VERSION
ARG SOURCE_DATE_EPOCH=0
COPY --from=carrying /single/binfmt /image/usr/bin/binfmt
COPY --from=carrying /single/doc/binfmt/linked /image/usr/share/doc/binfmt/linked
RUN mkdir -p /single/doc/binfmt && \
    /sbom.py --root /image --name binfmt-single-file --version "${VERSION:-unknown}" --arch "$TARGETARCH" \
      --created "$SOURCE_DATE_EPOCH" >/single/doc/binfmt/sbom.spdx.json

# --- the texts that those licences refer to ------------------------------------------------------------------------
FROM base AS documents
COPY --from=emulators /out/root/usr/share/doc /out/usr/share/doc
COPY --from=tool /out/usr/share/doc /out/usr/share/doc
COPY LICENSE /out/usr/share/doc/binfmt/
RUN grep -rohE '/usr/share/common-licenses/[A-Za-z0-9.-]*[A-Za-z0-9]' /out/usr/share/doc | sort -u | \
    xargs cp --dereference --parents --target-directory=/out
COPY --from=sbom /out /out

# --- our emulators alone, as BuildKit looks for them: make image VARIANT=buildkit -----------------------------------
FROM staged-emulators AS buildkit-staged
ARG TARGETARCH
ARG VERSION
ARG SOURCE_DATE_EPOCH=0
COPY --chmod=755 qemu/image/buildkit.sh /
RUN /buildkit.sh /image && mkdir -p /image/usr/share/doc/binfmt && \
    /sbom.py --root /image --name binfmt-buildkit --version "${VERSION:-unknown}" --arch "$TARGETARCH" \
      --created "$SOURCE_DATE_EPOCH" >/image/usr/share/doc/binfmt/sbom.spdx.json

FROM scratch AS buildkit
COPY --from=buildkit-staged /image/usr/bin /usr/bin
COPY --from=buildkit-staged /image/usr/share /usr/share
ARG VERSION
ARG GIT_REVISION
LABEL org.opencontainers.image.title="binfmt-buildkit" \
      org.opencontainers.image.description="Emulators for BuildKit that need no handler" \
      org.opencontainers.image.licenses="GPL-2.0-only AND LGPL-2.1-or-later" \
      org.opencontainers.image.revision="$GIT_REVISION" \
      org.opencontainers.image.version="$VERSION"

# The single file, with the licences of all that is in it and what the emulators' asks for.
FROM scratch AS single
COPY --from=documents /out/usr/share /
COPY --from=carrying /single /
COPY --from=single-sbom /single /

FROM scratch
COPY --from=emulators /out/root/usr/bin /usr/bin
COPY --from=tool /out/usr/bin /usr/bin
COPY --from=documents /out /
ARG VERSION
ARG GIT_REVISION
LABEL org.opencontainers.image.title="binfmt" \
      org.opencontainers.image.description="Teaches a Linux host to run programs of other CPU architectures" \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only AND LGPL-2.1-or-later" \
      org.opencontainers.image.revision="$GIT_REVISION" \
      org.opencontainers.image.version="$VERSION"
# what the program says of an emulator that is missing: to build the image with it
ENV BINFMT_IMAGE=1
ENTRYPOINT ["/usr/bin/binfmt"]
