# The commands of the README and of docs/. What they need from the machine: qemu/need.sh; where emulators come from: qemu/fetch.sh.

export PATH := $(HOME)/.cargo/bin:$(PATH)
SHELL := bash
MAKEFLAGS += --no-print-directory
JOBS := $(shell nproc)
BINFMT := $(or $(CARGO_TARGET_DIR),target)/release/binfmt

FETCH := qemu/fetch.sh
BUSYBOX := $(FETCH) --package busybox-static --keep '*bin/busybox'
# Debian architectures whose static busybox the demonstration, and on top of that the tests, run.
DEMO := arm64 armhf riscv64 s390x ppc64el
TRIXIE := $(DEMO) armel i386 amd64
# What is fuzzed, and for how many seconds each: by hand, and among the tests.
PARSERS := $(basename $(notdir $(wildcard fuzz/targets/*.rs)))
SECONDS_LONG := 600
SECONDS_SHORT := 4
BOOKWORM := mips64el
# Debian's releases whose kernels boot in virtual machines.
KERNELS := bullseye bookworm trixie trixie-backports

# Tests that take minutes, of the tiers that test-image and coverage run: `make torture` does more of them with the same binary.
LONG_TESTS := --skip faults:: --skip load:: --skip single:: --skip killed
# Tests that need seconds of processor time each. `make check` leaves them to test-kernel, which runs them with real emulators.
HEAVY_TESTS := --skip changes_during_the_call --skip forks_all_the_time --skip leaves_the_former --skip limits_down \
  --skip never_miss --skip terabytes --skip wiped_out

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17 | sed 's/^/make /'

run: need-run ## build, fetch emulators, install five architectures, run a program of each, show the status
	@$(MAKE) -j$(JOBS) build emulators $(DEMO:%=build/programs/%)
	@qemu/demo.sh $(BINFMT) build/emulators build/programs

test: need-test ## everything: lints, unit tests, and all tiers; the last line is the summary
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs test-kernels
	cargo test --locked --workspace --no-run
	@tests/summary.sh $(JOBS) $(TIERS:%='$(MAKE) %') -- '$(MAKE) test-engine'

# What `make test` runs, as many at a time as there are processors. Each runs by itself, too, on a machine of its own. What `check`
# has besides, the kernel's tests with fake emulators, test-kernel runs with real ones.
# test-engine runs after them, alone: it uses the machine's own table, and the mount namespaces of the other tests would
# copy that table's mount, and so keep the table from ending.
TIERS := test-kernel lint test-units test-machines test-conformance

check: need-test lint ## the inner loop: format, lints, unit tests, the kernel's tests with fake emulators; fetches nothing
	@$(MAKE) test-units
	BINFMT_TEST_EMULATORS=fake cargo test --locked --no-fail-fast --quiet --test kernel -- \
	  --test-threads $$(($(JOBS) * 2)) $(LONG_TESTS) $(HEAVY_TESTS)
	BINFMT_TEST_EMULATORS=fake cargo test --locked --no-fail-fast --quiet --test documents readme:: -- --skip is_found

test-units: need-test
	cargo test --locked --workspace --lib --bins --quiet
	cargo test --locked --no-fail-fast --quiet --package binfmt-magic --test '*'

test-kernel: need-test ## the tool against the real kernel, in user namespaces, with real emulators
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs
	cargo test --locked --no-fail-fast --test kernel

test-engine: need-test ## the image, the units, the packages and the pages, with a Docker engine, on the machine's own table
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs
	cargo test --locked --no-fail-fast --test host --test engine --test documents

test-machines: need-test ## kernels from Linux 5.10 on, in virtual machines, and each parser fuzzed for some seconds
	@$(MAKE) -j$(JOBS) emulators test-material test-kernels
	cargo test --locked --no-fail-fast --test machines
	@for target in $(PARSERS); do fuzz/run.sh $$target $(SECONDS_SHORT) || exit; done

test-conformance: need-test ## our emulators beside Debian's, those that `make tuned` has built
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs test-kernels
	cargo test --locked --no-fail-fast --test conformance

fuzz: need-test ## look for bytes that upset a parser, for ten minutes each
	@for target in $(PARSERS); do fuzz/run.sh $$target $(SECONDS_LONG) || exit; done

style: need-test ## spelling, and phrases that are hard to read, in pages, help and comments
	tests/style.sh

lint: need-test ## formatting, clippy, rustdoc, style, shellcheck, workflows: all without a warning
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo clippy --locked --no-default-features --quiet -- -D warnings
	cargo clippy --manifest-path fuzz/Cargo.toml --locked --quiet --target-dir $(or $(CARGO_TARGET_DIR),target)/fuzz -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items --quiet
	tests/style.sh
	tests/workflows.sh
	shellcheck .ci/run $$(find . \( -path ./target -o -path ./build \) -prune -o -name '*.sh' -print)

# What measures, as many times as ROUNDS says, or as it thinks fit; and where plots go.
BENCH := cargo run --locked --release --quiet --package binfmt-bench --
ROUNDS :=
PLOTS := bench/plots

bench: build emulators ## time and memory beside another binary of the same command line: make bench RIVAL=path
	QEMU_BINARY_PATH=build/emulators $(BENCH) tool $(ROUNDS:%=--rounds %) $(BINFMT) $(RIVAL)

bench-image: need-run image ## the image's calls and parts beside another: make bench-image RIVAL_IMAGE=name
	@$(FETCH) --package busybox-static --keep '*bin/busybox' build/floor
	docker build --quiet --tag binfmt-bench-floor --file bench/floor.Dockerfile build/floor
	docker build --quiet --tag binfmt-bench-shape --file bench/shape.Dockerfile --build-arg IMAGE=$(or $(IMAGE),binfmt) bench
	$(BENCH) image $(ROUNDS:%=--rounds %) --floor binfmt-bench-floor \
	  $(or $(IMAGE),binfmt) $(or $(RIVAL_IMAGE),binfmt-bench-shape)

build: need-run ## the release binary, target/release/binfmt
	cargo build --locked --release

image: ## the container image `binfmt`, for Docker; qemu/image/build.sh has the choices
	@qemu/image/build.sh

# For another host, it is in a folder of its own, and does not run here.
SINGLE = build/single$(PLATFORM:linux/%=-%)
single: ## one file that carries the emulators, build/single/binfmt; TARGETS=aarch64,arm for some; PLATFORM=linux/arm64 for such a host
	@qemu/image/build.sh single $(SINGLE)
	@ls -l $(SINGLE)/binfmt
	@$(if $(PLATFORM),,$(SINGLE)/binfmt --version)

deb: need-run ## a Debian package, in build/package
	@deploy/package/build.sh deb

dist: need-run ## release archives and their checksums, in build/dist: the same to the byte for one commit
	@deploy/package/build.sh dist

sbom: image ## what the image is made of, as SPDX 2.3, in build/sbom.spdx.json
	@mkdir -p build
	@container=$$(docker create $(or $(IMAGE),binfmt)) && trap "docker rm $$container >/dev/null" EXIT && \
	  docker cp $$container:/usr/share/doc/binfmt/sbom.spdx.json build/ >/dev/null
	@qemu/image/check-sbom.sh build/sbom.spdx.json

# Where the index goes, a repository and a tag; and for which hosts, all without it.
INDEX :=
PLATFORMS :=
index: need-release ## images for several hosts, pushed as one index: make index INDEX=registry.example/owner/binfmt:test PLATFORMS=linux/amd64,linux/arm64
	@deploy/release/index.sh "$(INDEX)" $(subst $(comma), ,$(PLATFORMS))

release-dry-run: need-release ## all that a release has, for every host, signed, in a registry on this machine; QEMU_FROM=package is quicker
	deploy/release/dry-run.sh

# For another host, they are in a folder of their own.
OWN_EMULATORS = build/tuned$(PLATFORM:linux/%=-%)
tuned: ## our emulators from Debian's source, in build/tuned; TARGETS=aarch64,arm for some; PLATFORM=linux/arm64 for such a host
	@qemu/image/build.sh tuned $(OWN_EMULATORS)

conformance: need-test emulators test-material test-rootfs test-kernels ## our emulators beside Debian's: the same results of programs and of QEMU's own tests
	@qemu/tcg-tests.sh
	BINFMT_TEST_TUNED=$(OWN_EMULATORS) cargo test --locked --test conformance

# Parts of the names of the tests that `checked` runs. Without them, it runs all.
TESTS :=
checked: need-test ## conformance, with emulators that check each block that processes share, and a hostile process: TARGETS=s390x
	@qemu/image/build.sh checked build/checked
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs test-kernels
	QEMU_TB_CACHE=1 BINFMT_TEST_TUNED=build/checked BINFMT_TEST_TWICE=1 \
	  cargo test --locked --test conformance -- --include-ignored --skip debians_programs_do_the_same_under_flag_t \
	  --skip programs_of_others_pass $(TESTS)

# Scripts of tests/conformance/soak, by name. Without them, all.
PROGRAMS :=
soak: need-test emulators ## compilers, databases, servers and test suites of others, ours beside Debian's: make soak ARCH=arm64 PROGRAMS=git,go
	@qemu/rootfs.sh --with tests/conformance/soak/packages $(ARCH) build/soak/$(ARCH)
	BINFMT_TEST_TUNED=$(OWN_EMULATORS) BINFMT_TEST_SOAK=$(ARCH):$(PROGRAMS) \
	  cargo test --locked --test conformance -- --ignored --nocapture programs_of_others_pass

reproduce: ## compile emulators once more, and compare to the byte: make reproduce TARGETS=s390x
	@qemu/tuned/reproduce.sh $(or $(TARGETS),s390x)

profile: need-run ## learn anew what the emulators do, for the compiler; after a change of qemu/tuned/ or of the recorded source
	@qemu/image/build.sh instrumented build/instrumented
	@qemu/tuned/train.sh build/instrumented qemu/tuned/profile.tar.xz

# Of the architecture ARCH, in OCI's words.
ARCH := arm64
RIVALS :=
OPTIONS :=
bench-emulators: need-run emulators ## our emulators, sharing blocks and alone, beside Debian's: make bench-emulators ARCH=arm64 RIVALS=plain=folder
	@qemu/rootfs.sh $(ARCH) build/rootfs/$(ARCH)
	$(BENCH) emulators --arch $(ARCH) --rootfs build/rootfs/$(ARCH) \
	  $(ROUNDS:%=--rounds %) --svg $(PLOTS) $(OPTIONS) tuned=build/tuned,QEMU_TB_CACHE=1 \
	  debian=build/emulators alone=build/tuned,QEMU_TB_CACHE=0 $(RIVALS)

torture: need-test image ## faults at every system call, kernels old and new, load, hostile input, fuzzing: half an hour
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs test-kernels
	@$(MAKE) build/image/binfmt
	tests/torture.sh build/image/binfmt

coverage: need-test emulators test-material ## how many lines of the tool and of magic/ the tests reach
	@tests/coverage.sh --test kernel -- $(LONG_TESTS)

mutants: need-test ## which changes of magic/ its tests would not notice, and no reason is given for
	@tests/mutants.sh

test-image: export BINFMT_TEST_BINARY := $(CURDIR)/build/image/binfmt
test-image: need-test image ## the command-line tests once more, with the static binary of the image
	@$(MAKE) -j$(JOBS) emulators test-material test-rootfs
	@$(MAKE) build/image/binfmt
	cargo test --locked --no-fail-fast --test kernel --test host --test documents -- $(LONG_TESTS) --skip bench:: --skip pages::

test-host: need-run image ## the image of another host, on a kernel of that host in a virtual machine: make test-host PLATFORM=linux/riscv64
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
	  container=$$(docker create --platform "$(PLATFORM)" "$(or $(IMAGE),binfmt:$(PLATFORM:linux/%=%))" none) && \
	  docker export "$$container" | tar -x -C "$$work" --no-same-owner usr && docker rm "$$container" >/dev/null && \
	  tests/machines/host.sh "$(PLATFORM)" "$$work"

# The static binary, as the image has it.
build/image/binfmt: always
	@mkdir -p $(@D)
	@container=$$(docker create $(or $(IMAGE),binfmt)) && trap "docker rm $$container >/dev/null" EXIT && \
	  docker cp $$container:/usr/bin/binfmt $(@D)/ >/dev/null

emulators: ## Debian's static emulators in build/emulators; qemu/fetch.sh --help has the choices
	@$(FETCH) build/emulators

# Where things go, and which emulators, in the words that `image` takes too: TARGETS=aarch64,arm. Without it they are
# the incumbent's ten and ppc64, 160 MB; TARGETS=all, for `install` only, is all of Debian's, 455 MB. The default has
# another name, or make would hand it to build.sh in place of what the environment says.
PREFIX := /usr/local
DESTDIR :=
BINDIR := $(PREFIX)/bin
EMULATORS := $(PREFIX)/lib/binfmt
UNITDIR := $(PREFIX)/lib/systemd/system
UNITS := binfmt.service binfmt-hold.service binfmt-health.service binfmt-health.timer binfmt-repair.service \
  binfmt-metrics.service binfmt-metrics.timer
USUAL := aarch64,arm,riscv64,ppc64,ppc64le,s390x,i386,x86_64,mips64el,mips64,loongarch64
comma := ,
INSTALLED = $(if $(filter all,$(TARGETS)),$(wildcard build/emulators/qemu-*),\
  $(patsubst %,build/emulators/qemu-%,$(subst $(comma), ,$(or $(TARGETS),$(USUAL)))))

# Where man and the shells look for what belongs to a program of PREFIX.
SHARE := $(PREFIX)/share
MAN := $(SHARE)/man/man1/binfmt.1
BASH := $(SHARE)/bash-completion/completions/binfmt
ZSH := $(SHARE)/zsh/site-functions/_binfmt
FISH := $(SHARE)/fish/vendor_completions.d/binfmt.fish

install: build emulators ## the tool, emulators, systemd units, man page and completions below PREFIX, for packaging below DESTDIR
	@$(MAKE) install-program
	install -d $(DESTDIR)$(EMULATORS)
	install $(INSTALLED) $(DESTDIR)$(EMULATORS)
	install -m 644 build/emulators/copyright $(DESTDIR)$(EMULATORS)

install-program: ## the same without emulators, of what `cargo build --release` has made: for packages of distributions
	cargo run --locked --release --quiet --package binfmt-package -- build/share
	install -D $(BINFMT) $(DESTDIR)$(BINDIR)/binfmt
	install -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
	  sed 's|@BIN@|$(BINDIR)|; s|@EMULATORS@|$(EMULATORS)|' deploy/systemd/$$unit.in >$(DESTDIR)$(UNITDIR)/$$unit; done
	install -D -m 644 build/share/binfmt.1 $(DESTDIR)$(MAN)
	install -D -m 644 build/share/binfmt.bash $(DESTDIR)$(BASH)
	install -D -m 644 build/share/_binfmt $(DESTDIR)$(ZSH)
	install -D -m 644 build/share/binfmt.fish $(DESTDIR)$(FISH)

uninstall: ## what install put there
	rm -f $(DESTDIR)$(BINDIR)/binfmt $(UNITS:%=$(DESTDIR)$(UNITDIR)/%) \
	  $(addprefix $(DESTDIR),$(MAN) $(BASH) $(ZSH) $(FISH))
	rm -rf $(DESTDIR)$(EMULATORS)

clean: ## remove everything that was built or fetched
	rm -rf build target

# What the tests need besides emulators: foreign programs, an older QEMU to upgrade from, Debian's registrations, a script of
# OpenRC, Prometheus' tool, without the server that a package of it would start, and Helm, with what judges its work.
test-material: $(TRIXIE:%=build/programs/%) $(BOOKWORM:%=build/programs/%) build/emulators-7.2 build/binfmt.d \
  build/programs/arm64-dynamic build/programs/arm64-dynamic-libc build/openrc build/promtool build/kubernetes

$(TRIXIE:%=build/programs/%): always
	@$(BUSYBOX) --arch $(@F) $@

$(BOOKWORM:%=build/programs/%): always
	@$(BUSYBOX) --arch $(@F) --release bookworm $@

build/emulators-7.2: always
	@$(FETCH) --release bookworm --package qemu-user-static --targets aarch64,arm,riscv64,s390x $@

# A shell that needs a loader, and that loader.
build/programs/arm64-dynamic: always
	@$(FETCH) --package dash --arch arm64 --keep '*bin/dash' $@

build/programs/arm64-dynamic-libc: always
	@$(FETCH) --package libc6 --arch arm64 --keep '*/aarch64-linux-gnu/ld-linux-aarch64.so.1' \
	  --keep '*/aarch64-linux-gnu/libc.so.6' $@

# What its service `binfmt` runs at boot.
build/openrc: always
	@$(FETCH) --package openrc --keep '*/rc/sh/binfmt.sh' $@

build/promtool: always
	@$(FETCH) --release bookworm --package prometheus --keep usr/bin/promtool $@

build/kubernetes: always
	@tests/engine/kubernetes/tools.sh $@

# Userlands for the conformance of the emulators that are there.
ROOTFS := $(foreach pair,aarch64:arm64 arm:armhf arm:armel riscv64:riscv64 s390x:s390x ppc64le:ppc64el i386:i386 \
  x86_64:amd64 mips64el:mips64el,$(if $(wildcard build/tuned*/qemu-$(word 1,$(subst :, ,$(pair))) build/checked/qemu-$(word 1,$(subst :, ,$(pair)))),build/rootfs/$(word 2,$(subst :, ,$(pair)))))

# That of arm64 is for the tests of --run, too; the archives, made of such, are for the engine.
test-rootfs: $(sort build/rootfs/arm64 $(ROOTFS)) build/userland/arm64.tar build/userland/s390x.tar

build/userland/%.tar: build/rootfs/%
	@qemu/image/userland.sh $* $@

build/rootfs/%: always
	@qemu/rootfs.sh $* $@

# Kernels for the virtual machines of tests/harness/vm.rs, by Debian's releases, and tools for one of the tests in them.
test-kernels: $(KERNELS:%=build/kernels/%) build/machine-tools

build/machine-tools: always
	@tests/machines/tools.sh $@

build/kernels/%: always
	@tests/machines/fetch.sh $* $@

build/binfmt.d: always
	@$(FETCH) --keep 'usr/share/qemu/binfmt.d/*.conf' $@

need-run:
	@qemu/need.sh cargo unshare

need-release: need-run
	@qemu/need.sh skopeo venv curl

need-test:
	@qemu/need.sh cargo cargo-fmt cargo-clippy shellcheck unshare newuidmap c++ venv bindfs qemu-system-x86_64 zstd objcopy strace

.PHONY: help run check single deb dist index release-dry-run test test-engine $(TIERS) test-host torture coverage mutants fuzz lint style bench bench-emulators bench-image build image test-image sbom tuned conformance checked reproduce profile \
  emulators install install-program uninstall clean test-material test-rootfs test-kernels always need-run need-release need-test
