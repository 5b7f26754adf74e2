# A Debian with what makes packages of other distributions, as far as Debian has it, and Rust as old as Cargo.toml permits. The
# base is the image's builders'.
ARG BASE
FROM ${BASE}
RUN apt-get -qq update && \
    apt-get -qq install --no-install-recommends \
      busybox cargo fakeroot gcc libc6-dev libarchive-tools make makepkg nix-bin pacman-package-manager rpm systemd-dev </dev/null && \
    rm -rf /var/lib/apt/lists/*
RUN useradd --create-home user
