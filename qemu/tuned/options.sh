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
  --enable-stack-protector      # -strong: 0.5 % of the instructions of arm64's /bin/true, 0.1 % of the smallest program's;
                                # a shell of 30 commands takes 0.97 and 0.995 times the time: no cost that can be told from chance
  --enable-lto                  # across files, within each program
)

# Of the compiler, after QEMU's own (-O2 among them).
compiled=(
  -fzero-call-used-regs=skip                # QEMU 10's hardening: clears registers at each return and variables at each
  -ftrivial-auto-var-init=uninitialized     # entry, 8 % of the instructions of arm64's /bin/true
  -fPIE                                     # may be anywhere, which beyond 2 GB no other code can: see `placed`. 2.2 % of
                                            # those instructions, and the stack protector adds its 0.5 %
)

# Of the linker. QEMU's own options ask it for full RELRO, -z relro -z now: 0 % of the instructions of either program.
#
# A position-independent program (-static-pie, without --no-relax, with which it crashes at its start) costs nothing that
# can be told from chance: 1.01 of the smallest program's start, 0.98 of a dynamic one's, 0.99 of the shell storm, with 69
# page faults more (processor time, medians of nine rounds of `make bench-emulators ARCH=arm`, on a busy machine).
# Another number decides for the fixed place. The blocks that processes share (patch 31) contain addresses of the
# emulator's functions, so the emulator must be at the same place in each process; with these blocks, the storm takes
# 0.36 times the time.
# SECURITY.md says what the place leaves to a setuid program's caller.
#
# The place is beyond what any architecture's programs, their heaps, and what sanitizers and Wine reserve go for, where
# the kernel puts libraries of native programs: the low 4 GB are the guest's, and a guest of 47 bits that asks for this very
# place gets an error (patch 10).
fixed=(--disable-pie)           # configure's
placed=(                        # the linker's
  -no-pie "-Wl,-Ttext-segment=0x7f0000000000"
  -Wl,--no-relax                # the linker would turn what reaches anywhere into what reaches 2 GB
)

# Where blocks are not shared, which so far is everywhere but on amd64, the emulator may be anywhere. Kernels of arm64 differ
# in how much address space there is, from 2^39 bytes on, and no place is free on all of them.
anywhere=(--enable-pie)

linked=(
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
