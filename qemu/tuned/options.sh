# shellcheck shell=bash disable=SC2034,SC2054  # commas are the linker's; read by build.sh
# How the emulators are configured, compiled and linked, each choice with its reason. Sourced by build.sh; it owns the
# choices, and knows nothing of folders, architectures and targets.

# Of QEMU's configure. What is left out here is not in the emulators, neither as code nor as a library.
options=(
  --static                      # the kernel pins one file (flag F), and nothing else of it is in a foreign root directory
  --enable-linux-user           # a program per target ...
  --disable-system              # ... and no machines
  --disable-bsd-user
  --without-default-features    # every library that is looked for and used if found: none but the next is of use to a user
                                # emulator. capstone alone, a disassembler for -d in_asm, is 3 MB of each of Debian's
  --enable-attr                 # extended attributes: without it, guests' system calls for them are not there
  --without-default-devices
  --disable-tools               # qemu-img and the like
  --disable-guest-agent
  --disable-docs
  --disable-install-blobs       # firmware, which Debian's source does not have
  --disable-download            # what is not in Debian's source is not built
  --disable-plugins             # would export symbols for plugins that a static program cannot load, and test for them
                                # at each translated instruction
  --disable-debug-info
  --disable-stack-protector     # an emulator runs what its user gives it, in memory that is writable and executable, and as
                                # its user but for setuid programs (flag C), of which SECURITY.md says what that means
  --disable-pie                 # see `placed`
  --enable-lto                  # across files, within each program
)

# Of the compiler, after QEMU's own (-O2 among them).
compiled=(
  -fzero-call-used-regs=skip                # QEMU 10's hardening: clears registers at each return and variables at each
  -ftrivial-auto-var-init=uninitialized     # entry, 8 % of the instructions of arm64's /bin/true. As the stack protector
)

# Of the linker.
#
# A position-independent program adds where it is to its pointers at each start: 103546 of them, on 471 pages, in Debian's
# qemu-aarch64, which every process then has for itself. This one is at a fixed place, and not at the linker's, 0x400000,
# where programs of most architectures are, which would then be moved at the cost of a search. At 0x70000000 are neither
# programs of any architecture nor what sanitizers and Wine reserve.
placed=(-no-pie "-Wl,-Ttext-segment=0x70000000")

linked=(
  "${placed[@]}"
  -Wl,--eh-frame-hdr            # how threads are unwound, in place of what build.sh's `start_files` leave out
  -Wl,--gc-sections
)

# Of the compiler, where there is a profile.
profiled=(
  -fprofile-partial-training    # what was not run is not thereby rare: it is optimized as without a profile
  -fprofile-correction          # threads count without locks, so sums are off by some
  -Wno-missing-profile          # a file of which nothing was run
  -Wno-error=coverage-mismatch  # a function that differs from that of the sister that was trained (train.sh)
)
