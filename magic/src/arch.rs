//! What an architecture is: [`Arch`], and everything that follows from one row of [`ARCHES`].
//!
//! Owns magic, mask, names of entry and interpreter, and the proof that no two rows match one header. The facts are
//! in `arch/table.rs`; parsing what people write is `platform.rs`'s, registration lines are `rule.rs`'s.
//!
//! Rests on QEMU 10.0's `scripts/qemu-binfmt-conf.sh`, from which magic and mask may differ only where a row says so.

mod kind;
mod pattern;
mod table;
mod writer;

pub use kind::Kind;
pub use pattern::Pattern;
pub use table::ARCHES;
pub(crate) use writer::Writer;

/// Width of an architecture's ELF files (`e_ident[EI_CLASS]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `ELFCLASS32`
    Elf32 = 1,
    /// `ELFCLASS64`
    Elf64 = 2,
}

/// Byte order of an architecture's ELF files (`e_ident[EI_DATA]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// `ELFDATA2LSB`
    Little = 1,
    /// `ELFDATA2MSB`
    Big = 2,
}

impl Endian {
    /// The bytes of a number in this order, from those in little-endian order.
    pub(crate) const fn order<const N: usize>(self, little: [u8; N]) -> [u8; N] {
        let (mut big, mut at) = (little, 0);
        while at < N {
            big[at] = little[N - 1 - at];
            at += 1;
        }
        if matches!(self, Self::Big) { big } else { little }
    }
}

/// One architecture that QEMU's user emulation can run.
#[derive(Debug, Clone)]
pub struct Arch {
    /// QEMU's target name: `qemu-<this>` is the entry's name.
    pub qemu: &'static str,
    /// Architecture in an OCI platform: `arm64` in `linux/arm64`. The GOARCH where Go has one, else QEMU's name.
    pub oci: &'static str,
    /// Other names that people write: Debian's, uname's, GNU triplets' first word. Lower case.
    pub aliases: &'static [&'static str],
    /// QEMU target whose emulator runs this row; differs from [`qemu`](Self::qemu) for `i486` only.
    pub interpreter: &'static str,
    /// ELF class.
    pub class: Class,
    /// ELF byte order.
    pub endian: Endian,
    /// ELF `e_machine`, as a number.
    pub machine: u16,
    /// ELF `e_flags` of an ordinary executable, as far as a kernel or QEMU looks at them.
    pub flags: u32,
    /// The bits of `e_flags` that tell this row from one of the same class, byte order and machine. Where there are
    /// any, magic and mask reach up to `e_flags`: 40 bytes instead of 20.
    pub distinct_flags: u32,
    /// Mask bytes, by offset, that QEMU has different from everybody else's.
    pub odd_mask: &'static [(usize, u8)],
    /// QEMU names of what this architecture's kernels may run natively besides itself; whether one does, the probe shows.
    pub compat: &'static [&'static str],
    /// How many micro-architecture levels the probe tells apart, see [`crate::probe::read`].
    pub levels: u8,
    /// Machine code of the probe: `exit_group(argv[0][0])`, see [`crate::probe`].
    pub code: &'static [u8],
    platforms: &'static [&'static str],
}

/// No two rows have the same name, so the name decides.
impl PartialEq for Arch {
    fn eq(&self, other: &Self) -> bool {
        self.qemu == other.qemu
    }
}

impl Eq for Arch {}

impl Arch {
    /// What the start of this architecture's executables looks like, where [`mask`](Self::mask) has bits.
    #[must_use]
    pub const fn magic(&self) -> Pattern {
        const ET_EXEC: u16 = 2;
        const EV_CURRENT: u8 = 1;
        let magic = self
            .pattern([0; Pattern::LONGEST])
            .with_byte(0, 0x7f)
            .with_byte(1, b'E')
            .with_byte(2, b'L')
            .with_byte(3, b'F')
            .with_byte(Pattern::CLASS, self.class as u8)
            .with_byte(Pattern::DATA, self.endian as u8)
            .with_byte(Pattern::IDENT_VERSION, EV_CURRENT)
            .with_half(Pattern::TYPE, ET_EXEC, self.endian)
            .with_half(Pattern::MACHINE, self.machine, self.endian);
        if self.distinct_flags == 0 {
            return magic;
        }
        magic.with_word(Pattern::VERSION, EV_CURRENT as u32, self.endian).with_word(
            Pattern::FLAGS,
            self.flags & self.distinct_flags,
            self.endian,
        )
    }

    /// The bits of a file's start that must be those of [`magic`](Self::magic).
    ///
    /// Open for everybody: the OS ABI, which toolchains for Linux set to 0, to 3 or to a number of their own; and the
    /// lowest bit of `e_type`, so that `ET_DYN` (3), a position-independent executable, passes for `ET_EXEC` (2).
    #[must_use]
    pub const fn mask(&self) -> Pattern {
        const EXEC_OR_DYN: u16 = 0xfffe;
        let mut mask = self.pattern([0xff; Pattern::LONGEST]).with_byte(Pattern::OS_ABI, 0).with_half(
            Pattern::TYPE,
            EXEC_OR_DYN,
            self.endian,
        );
        let mut odd = 0;
        while odd < self.odd_mask.len() {
            mask = mask.with_byte(self.odd_mask[odd].0, self.odd_mask[odd].1);
            odd += 1;
        }
        mask.with_word(Pattern::ENTRY, 0, self.endian)
            .with_word(Pattern::PROGRAM_HEADERS, 0, self.endian)
            .with_word(Pattern::SECTION_HEADERS, 0, self.endian)
            .with_word(Pattern::FLAGS, self.distinct_flags, self.endian)
    }

    const fn pattern(&self, bytes: [u8; Pattern::LONGEST]) -> Pattern {
        let len = if self.distinct_flags == 0 { Pattern::SHORT } else { Pattern::LONGEST };
        Pattern { bytes, len }
    }

    /// A full ELF file header (52 or 64 bytes) of an executable of this architecture.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut file = Writer::of(self);
        file.header();
        file.bytes
    }

    /// Would this row's magic and mask take a file that starts with `head`? Zeros stand for what is missing, as in
    /// the kernel's buffer.
    #[must_use]
    pub fn matches(&self, head: &[u8]) -> bool {
        let (magic, mask) = (self.magic(), self.mask());
        let padded = head.iter().chain(std::iter::repeat(&0));
        padded.zip(magic.as_slice()).zip(mask.as_slice()).all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
    }

    /// Name of the entry in `binfmt_misc`: `qemu-aarch64`, after the prefix.
    #[must_use]
    pub fn entry_name(&self, prefix: &str) -> String {
        format!("{prefix}qemu-{}", self.qemu)
    }

    /// File name of the emulator: `qemu-aarch64`, after the prefix.
    #[must_use]
    pub fn interpreter_name(&self, prefix: &str) -> String {
        format!("{prefix}qemu-{}", self.interpreter)
    }

    /// Its plain OCI platform: `linux/arm64`. Where OCI has no name for it, QEMU's.
    #[must_use]
    pub fn platform(&self) -> String {
        format!("linux/{}", self.oci)
    }

    /// The OCI platforms that run when this architecture does. amd64's further levels come from the probe.
    #[must_use]
    pub const fn platforms(&self) -> &'static [&'static str] {
        self.platforms
    }

    /// The row of this QEMU target.
    #[must_use]
    pub fn by_qemu(name: &str) -> Option<&'static Self> {
        ARCHES.iter().find(|arch| arch.qemu == name)
    }

    /// The row of the machine that this program was built for, if QEMU can emulate it at all.
    #[must_use]
    pub fn of_host() -> Option<&'static Self> {
        Self::by_qemu(qemu_name(std::env::consts::ARCH, cfg!(target_endian = "big")))
    }
}

/// QEMU's name for a value of [`std::env::consts::ARCH`], which leaves the byte order out.
fn qemu_name(rust: &str, big_endian: bool) -> &str {
    match (rust, big_endian) {
        ("x86", _) => "i386",
        ("aarch64", true) => "aarch64_be",
        ("arm", true) => "armeb",
        ("mips", false) => "mipsel",
        ("mips64", false) => "mips64el",
        ("powerpc", _) => "ppc",
        ("powerpc64", true) => "ppc64",
        ("powerpc64", false) => "ppc64le",
        (same, _) => same,
    }
}

/// Is there no header at all that both rows match? True if they ask for different values of one bit.
#[must_use]
pub const fn disjoint(one: &Arch, other: &Arch) -> bool {
    let (magics, masks) = ((one.magic(), other.magic()), (one.mask(), other.mask()));
    let mut at = 0;
    while at < one.magic().len && at < other.magic().len {
        let differ = magics.0.bytes[at] ^ magics.1.bytes[at];
        if differ & masks.0.bytes[at] & masks.1.bytes[at] != 0 {
            return true;
        }
        at += 1;
    }
    false
}

/// Is there no header at all that two of these rows match?
#[must_use]
pub const fn all_disjoint(rows: &[Arch]) -> bool {
    let mut one = 0;
    while one < rows.len() {
        let mut other = one + 1;
        while other < rows.len() {
            if !disjoint(&rows[one], &rows[other]) {
                return false;
            }
            other += 1;
        }
        one += 1;
    }
    true
}

const _: () = assert!(all_disjoint(&ARCHES), "two rows match one header");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_one_row_is_of_no_row_that_is_disjoint_from_it() {
        for one in &ARCHES {
            assert!(!disjoint(one, one), "{}", one.qemu);
            for other in ARCHES.iter().filter(|other| other.qemu != one.qemu) {
                assert!(disjoint(one, other), "{} {}", one.qemu, other.qemu);
            }
        }
    }

    #[test]
    fn two_rows_that_match_one_header_are_seen_wherever_they_are() {
        let rows: Vec<_> = ARCHES.iter().take(4).cloned().collect();
        assert!(all_disjoint(&[]) && all_disjoint(&rows[..1]) && all_disjoint(&rows));
        for one in 0..rows.len() {
            for other in (0..rows.len()).filter(|other| *other != one) {
                let mut altered = rows.clone();
                altered[other] = rows[one].clone();
                assert!(!all_disjoint(&altered), "{one} {other}");
            }
        }
    }

    /// What is beyond the shorter of two magics tells nothing apart.
    #[test]
    fn only_bits_that_both_ask_for_tell_rows_apart() {
        let row = |name| Arch::by_qemu(name).unwrap().clone();
        let (o32, mut other) = (row("mipsel"), row("mipsel"));
        other.distinct_flags = 0;
        assert_ne!(o32.magic().len, other.magic().len);
        assert!(!disjoint(&o32, &other) && !disjoint(&other, &o32));
    }

    #[test]
    fn a_name_means_one_row() {
        let mut seen = std::collections::HashMap::new();
        for arch in &ARCHES {
            let mut names = vec![arch.qemu];
            names.extend((arch.oci != arch.qemu).then_some(arch.oci));
            names.extend(arch.aliases);
            for name in names {
                assert_eq!(name, name.to_lowercase(), "{}", arch.qemu);
                let other = seen.insert(name, arch.qemu);
                assert_eq!(other, None, "{name} is a name of {} too", arch.qemu);
            }
        }
    }

    #[test]
    fn platforms_are_of_the_rows_architecture() {
        for arch in &ARCHES {
            assert_eq!(arch.platforms().is_empty(), arch.qemu == "i486", "{}", arch.qemu);
            for platform in arch.platforms() {
                let name = platform.split('/').nth(1);
                assert_eq!(name, Some(arch.oci), "{}", arch.qemu);
            }
        }
    }

    #[test]
    fn what_a_kernel_may_run_besides_is_a_row_too() {
        for arch in &ARCHES {
            for other in arch.compat {
                let row = Arch::by_qemu(other);
                let (class, order) = row.map(|row| (row.class, row.endian)).unzip();
                assert_eq!((class, order), (Some(Class::Elf32), Some(arch.endian)), "{}: {other}", arch.qemu);
            }
        }
    }

    #[test]
    fn an_emulator_is_a_row_of_its_own() {
        for arch in &ARCHES {
            let emulator = Arch::by_qemu(arch.interpreter).unwrap();
            assert_eq!(emulator.interpreter, emulator.qemu, "{}", arch.qemu);
        }
    }

    #[test]
    fn a_header_is_matched_by_its_own_row_only() {
        for arch in &ARCHES {
            let header = arch.header();
            let takers: Vec<_> = ARCHES.iter().filter(|row| row.matches(&header)).collect();
            assert_eq!(takers.len(), 1, "{}: {takers:?}", arch.qemu);
            assert_eq!(takers[0].qemu, arch.qemu);
        }
    }

    #[test]
    fn position_independent_executables_match_and_object_files_do_not() {
        for arch in &ARCHES {
            let low_byte = Pattern::TYPE + usize::from(arch.endian == Endian::Big);
            for (e_type, expected) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
                let mut header = arch.header();
                header[low_byte] = e_type;
                assert_eq!(arch.matches(&header), expected, "{}: e_type {e_type}", arch.qemu);
            }
        }
    }

    #[test]
    fn what_is_missing_counts_as_zeros() {
        let o32 = Arch::by_qemu("mips").unwrap();
        assert!(o32.matches(&o32.header()[..24]), "e_flags 0 is o32");
        let n32 = Arch::by_qemu("mipsn32").unwrap();
        assert!(!n32.matches(&n32.header()[..24]), "e_flags 0 is not n32");
        assert!(!o32.matches(b""));
    }

    #[test]
    fn the_host_is_known() {
        let host = Arch::of_host().unwrap();
        let this_program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(host.matches(&this_program), "{}", host.qemu);
    }

    #[test]
    fn rust_names_of_hosts_are_rows() {
        for (rust, big_endian, qemu) in [
            ("x86_64", false, "x86_64"),
            ("x86", false, "i386"),
            ("aarch64", false, "aarch64"),
            ("arm", false, "arm"),
            ("powerpc64", true, "ppc64"),
            ("powerpc64", false, "ppc64le"),
            ("mips64", false, "mips64el"),
            ("riscv64", false, "riscv64"),
            ("s390x", true, "s390x"),
            ("loongarch64", false, "loongarch64"),
        ] {
            let row = Arch::by_qemu(qemu_name(rust, big_endian)).unwrap();
            assert_eq!(row.qemu, qemu, "{rust}");
        }
    }
}
