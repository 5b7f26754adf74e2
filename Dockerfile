# The image: the tool and QEMU's static user emulators, on nothing.
#
#   docker build -t binfmt .                                   Debian's emulators of every target
#   docker build --build-arg TARGETS=aarch64,arm -t binfmt .   some of them
#
# Everything comes from Debian's packages and the Rust registry. `make image` builds it.

ARG DEBIAN=trixie

FROM debian:${DEBIAN}-slim AS base
ENV DEBIAN_FRONTEND=noninteractive

# --- the tool, static, with a standard library built for size -------------------------------------------------------
FROM base AS tool
RUN apt-get update -qq \
 && apt-get install -qq --no-install-recommends ca-certificates cargo rustc rust-src musl-tools gcc libc6-dev binutils >/dev/null
WORKDIR /src

# Debian ships no standard library for musl, so it is built here; that needs an unstable flag and, in place of the
# unwinder that comes with the target, gcc's. gcc's asks for a function of glibc that finds an object's unwind tables:
# answering "none" is right for a program that aborts on panic.
RUN mkdir /unwind && cd /unwind \
 && printf 'int _dl_find_object(void *pc, void *result) { (void)pc; (void)result; return -1; }\n' >find.c \
 && gcc -Os -c find.c \
 && cp "$(gcc -print-file-name=libgcc_eh.a)" libunwind.a \
 && ar r libunwind.a find.o

COPY Cargo.toml Cargo.lock ./
COPY magic magic
COPY bench bench
COPY src src
ARG GIT_REVISION
RUN --mount=type=secret,id=ca-certificates,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    --mount=type=cache,target=/root/.cargo/registry \
    target=$(rustc -vV | sed -n 's/^host: \(.*\)-gnu$/\1-musl/p') \
 && export RUSTC_BOOTSTRAP=1 \
           RUSTFLAGS="-C linker=musl-gcc -C link-self-contained=no -C target-feature=+crt-static -C relocation-model=static -C panic=abort -L native=/unwind" \
 && cargo build --release --locked --bin binfmt --target "$target" \
      -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size \
 && install -D "target/$target/release/binfmt" /out/usr/bin/binfmt \
 && ! readelf -l /out/usr/bin/binfmt | grep INTERP
