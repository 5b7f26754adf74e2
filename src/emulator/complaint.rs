//! What QEMU complains of when it cannot start a program, and what helps: a sysctl, a limit, or another emulator.
//!
//! Owns the words by which a complaint is known, each with the place in QEMU's source that says them (10.0.13 unless an
//! older release is named), and the remedies. Reads limits, changes none.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::kernel::process::sysctl;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The emulator does not get the address space, or the memory, that it reserves at its start.
    AddressSpace,
    /// It may not start a thread of its own: for lack of memory or of processes.
    Thread,
    /// It may not map a page as low as the program asks for.
    LowAddress,
    /// It does not know, or does wrong, what the program needs.
    Emulation,
    /// It is the emulator of another architecture.
    OtherArchitecture,
}

/// Words that QEMU says, and what is behind them.
#[rustfmt::skip]
const KNOWN: &[(&str, Cause)] = &[
    // linux-user/elfload.c: load_elf_image; EPERM below vm.mmap_min_addr, or by SELinux's mmap_zero. Before the others:
    // the words are the same
    ("Error mapping file: Operation not permitted", Cause::LowAddress),
    ("Error mapping bss: Operation not permitted", Cause::LowAddress),
    ("Error mapping file", Cause::AddressSpace),
    ("Error mapping bss", Cause::AddressSpace),
    // linux-user/elfload.c: pgb_dynamic
    ("Unable to find a guest_base", Cause::AddressSpace),
    // linux-user/elfload.c: pgb_reserved_va, until 8.1
    ("bytes of virtual address space at", Cause::AddressSpace),
    // util/qemu-thread-posix.c: qemu_thread_create
    ("qemu_thread_create: Resource temporarily unavailable", Cause::Thread),
    // tcg/region.c: alloc_code_gen_buffer_anon
    ("bytes for jit buffer", Cause::AddressSpace),
    // accel/tcg/translate-all.c: code_gen_alloc, until 5.2
    ("Could not allocate dynamic translator buffer", Cause::AddressSpace),
    // linux-user/elfload.c: load_elf_image
    ("Invalid ELF image for this architecture", Cause::OtherArchitecture),
    // linux-user/syscall.c: do_syscall1, only with QEMU_LOG=unimp since 4.0; linux-user/arm/cpu_loop.c
    ("Unsupported syscall", Cause::Emulation),
    ("Unsupported ARM syscall", Cause::Emulation),
    // linux-user/signal.c: dump_core_and_abort; die_from_signal
    ("uncaught target signal", Cause::Emulation),
    ("QEMU internal SIG", Cause::Emulation),
    // linux-user/*/cpu_loop.c: EXCP_DUMP
    ("unhandled CPU exception", Cause::Emulation),
];

fn known(line: &str) -> Option<Cause> {
    let row = KNOWN.iter().find(|(words, _)| line.contains(words));
    row.map(|(_, cause)| *cause)
}

/// What keeps address space from this process and its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `RLIMIT_AS` in bytes, if there is one.
    pub address_space: Option<u64>,
    /// `RLIMIT_DATA` in bytes, if there is one.
    pub data: Option<u64>,
    /// `vm.overcommit_memory` is 2: what is reserved counts as if it were used (`overcommit-accounting.rst`).
    pub strict_overcommit: bool,
    /// `vm.mmap_min_addr` in bytes, where it can be read.
    pub lowest_address: Option<u64>,
}

impl Limits {
    pub fn of_this_process() -> Self {
        let number = |name| sysctl(name)?.parse::<u64>().ok();
        let limit = |resource| {
            let soft = getrlimit(resource).map(|(soft, _)| soft);
            soft.ok().filter(|limit| *limit != RLIM_INFINITY)
        };
        Self {
            address_space: limit(Resource::RLIMIT_AS),
            data: limit(Resource::RLIMIT_DATA),
            strict_overcommit: number("vm.overcommit_memory") == Some(2),
            lowest_address: number("vm.mmap_min_addr"),
        }
    }

    /// Whether these limits may be too low for an emulator to start at all.
    pub fn are_tight(&self) -> bool {
        is_tight(self.address_space) || is_tight(self.data)
    }

    /// Whether a 32-bit program's whole address space is more than may be reserved. Then some emulators look for a
    /// place for it until their time is up (`pgb_find_fallback` in `linux-user/elfload.c`).
    pub fn deny_32_bit(&self) -> bool {
        self.address_space.is_some_and(|limit| limit < 1 << 32)
    }
}

/// Whether this limit may be too low for an emulator to start at all.
fn is_tight(limit: Option<u64>) -> bool {
    /// Some emulators reserve as much for the code that they make.
    const ENOUGH: u64 = 1 << 30;
    limit.is_some_and(|limit| limit < ENOUGH)
}

/// What an emulator said before it failed, and the limits that it ran under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    said: String,
    pub limits: Limits,
}

impl Complaint {
    /// Of an emulator that `said` this on stderr.
    pub fn new(said: &str, limits: Limits) -> Self {
        Self { said: said.to_owned(), limits }
    }

    /// What is behind the first line that is known.
    pub fn cause(&self) -> Option<Cause> {
        self.said.lines().find_map(known)
    }

    /// The line that tells most: the first that is known, else the last.
    pub fn telling(&self) -> Option<&str> {
        let mut lines = self.said.lines();
        let complaint = lines.find(|line| known(line).is_some());
        complaint.or_else(|| self.said.lines().next_back())
    }
}

impl Cause {
    /// What is wrong, and what to do about it on a host with these limits. `None`: install the handler again.
    pub fn remedy(self, limits: &Limits) -> Option<String> {
        /// What Debian and the kernel's documentation advise as the lowest address.
        const USUAL: u64 = 65536;
        Some(match self {
            Self::OtherArchitecture => return None,
            Self::Emulation => "a bug or gap of this emulator; use a newer QEMU".to_owned(),
            Self::LowAddress => {
                "pages that low are forbidden; allow them: sysctl -w vm.mmap_min_addr=4096 (or SELinux's mmap_zero)"
                    .to_owned()
            }
            Self::AddressSpace | Self::Thread => match *limits {
                Limits { data: Some(limit), address_space, .. }
                    if is_tight(Some(limit)) && !is_tight(address_space) =>
                {
                    format!("memory is limited to {} kB; lift the limit: ulimit -d unlimited", limit / 1024)
                }
                Limits { address_space: Some(limit), .. } if self == Self::AddressSpace || is_tight(Some(limit)) => {
                    format!("address space is limited to {} kB; lift the limit: ulimit -v unlimited", limit / 1024)
                }
                _ if self == Self::Thread => {
                    "it may start no thread; raise the limit of processes (ulimit -u, or pids.max of the container)"
                        .to_owned()
                }
                Limits { strict_overcommit: true, .. } => "address space is counted as memory; allow to reserve it: \
                     sysctl -w vm.overcommit_memory=0"
                    .to_owned(),
                Limits { lowest_address: Some(lowest), .. } if lowest > USUAL => {
                    format!("addresses below {lowest} are forbidden; allow them: sysctl -w vm.mmap_min_addr={USUAL}")
                }
                _ => {
                    "it gets no address space; check ulimit -v, vm.overcommit_memory, vm.mmap_min_addr, and the memory \
                     limit of the container"
                        .to_owned()
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was said by QEMU 10.0.13 or 7.2.22, under `ulimit -v`, except the last four.
    #[rustfmt::skip]
    const SAID: &[(&str, Cause, &str)] = &[
        ("qemu-arm: allocate 134217728 bytes for jit buffer: Cannot allocate memory", Cause::AddressSpace, "jit buffer"),
        ("qemu-arm: /busybox: Unable to find a guest_base to satisfy all guest address mapping requirements\n  00000000-ffffffff",
         Cause::AddressSpace, "guest_base"),
        ("qemu-arm: Unable to reserve 0xfffff000 bytes of virtual address space at 0x1000 (Cannot allocate memory) for use as guest \
          address space (check your virtual memory ulimit setting, min_mmap_addr or reserve less using -R option)",
         Cause::AddressSpace, "Unable to reserve"),
        ("qemu-aarch64: /busybox: Error mapping file: Cannot allocate memory", Cause::AddressSpace, "Error mapping"),
        ("qemu-arm: /a.out: Error mapping file: Operation not permitted", Cause::LowAddress, "Error mapping"),
        ("qemu-s390x: /a.out: Invalid ELF image for this architecture", Cause::OtherArchitecture, "Invalid ELF"),
        ("qemu: uncaught target signal 11 (Segmentation fault) - core dumped", Cause::Emulation, "signal 11"),
        ("Unsupported syscall: 435\nand another line", Cause::Emulation, "435"),
    ];

    #[test]
    fn complaints_are_known() {
        for (said, cause, words) in SAID {
            let complaint = Complaint::new(said, Limits::default());
            assert_eq!(complaint.cause(), Some(*cause), "{said}");
            assert!(complaint.telling().unwrap().contains(words), "{said}");
        }
        let unknown = Complaint::new("one\ntwo", Limits::default());
        assert_eq!((unknown.cause(), unknown.telling()), (None, Some("two")));
        assert_eq!(Complaint::new("", Limits::default()).telling(), None);
    }

    #[test]
    fn the_limit_that_is_there_is_named() {
        let none = Limits::default();
        let limit = Some(1 << 20);
        let limited = Limits { address_space: limit, ..none };
        let strict = Limits { strict_overcommit: true, ..none };
        let high = Limits { lowest_address: limit, ..none };
        #[rustfmt::skip]
        let rows = [
            (Cause::AddressSpace, limited, "1024 kB; lift the limit: ulimit -v unlimited"),
            (Cause::AddressSpace, strict, "sysctl -w vm.overcommit_memory=0"),
            (Cause::AddressSpace, high, "sysctl -w vm.mmap_min_addr=65536"),
            (Cause::AddressSpace, none, "check ulimit -v"),
            (Cause::LowAddress, none, "sysctl -w vm.mmap_min_addr=4096"),
            (Cause::Emulation, limited, "newer QEMU"),
        ];
        for (cause, limits, words) in rows {
            let remedy = cause.remedy(&limits).unwrap();
            assert!(remedy.contains(words), "{cause:?} {limits:?}: {remedy}");
        }
        assert_eq!(Cause::OtherArchitecture.remedy(&limited), None);
        assert!(limited.deny_32_bit() && !none.deny_32_bit());
    }
}
