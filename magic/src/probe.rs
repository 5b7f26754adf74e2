//! The probe: the smallest executable of an architecture that proves that it runs.
//!
//! Its program is `exit_group(argv[0][0])`, machine code that stands in the architecture's row. Whoever runs it chooses
//! [`ARGV0`] as first argument: that byte back means that the program ran, saw its memory and kept its name; the first
//! byte of a path back means that it ran under a handler that replaces `argv[0]` (no flag `P`). Running it is not done here.
//!
//! Rests on the initial process stack of the psABIs (`argc`, `argv[0]`, …, one pointer wide each), and on the gABI
//! for the file: one header, one segment, the code.

use crate::arch::{Arch, Class, Endian};

/// The first byte of the `argv[0]` to run a probe with. It and the levels above it are no start of a path.
pub const ARGV0: u8 = b'Q';

/// Where the file is mapped: above every `vm.mmap_min_addr`, and where every architecture has programs.
const LOAD_ADDRESS: u32 = 0x0040_0000;

/// The largest page of any Linux: the segment must start on one.
const ALIGNMENT: u32 = 0x1_0000;

/// What a probe's exit status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It ran and saw the `argv[0]` that was chosen.
    Kept {
        /// Micro-architecture level, 1 to 4 on amd64 (x86-64-v1 to v4), 1 elsewhere.
        level: u8,
    },
    /// It ran, and its `argv[0]` was the path of the file instead.
    Replaced {
        /// As in [`Kept`](Self::Kept).
        level: u8,
    },
    /// No run of this program ends so.
    Wrong,
}

/// What this exit status of `arch`'s probe, started by an absolute path and with [`ARGV0`], says.
#[must_use]
pub fn read(arch: &Arch, exit_status: i32) -> Reading {
    let level_above = |first: u8| {
        let above = u8::try_from(exit_status).ok()?.checked_sub(first)?;
        (above < arch.levels).then_some(above + 1)
    };
    match (level_above(ARGV0), level_above(b'/')) {
        (Some(level), _) => Reading::Kept { level },
        (None, Some(level)) => Reading::Replaced { level },
        (None, None) => Reading::Wrong,
    }
}

/// The whole executable file: ELF header, program header, code.
#[must_use]
pub fn elf(arch: &Arch) -> Vec<u8> {
    let (header_size, segment_size) = match arch.class {
        Class::Elf32 => (52, 32),
        Class::Elf64 => (64, 56),
    };
    let before_code = header_size + segment_size;
    let mut file = Writer {
        arch,
        bytes: Vec::new(),
    };
    file.header(header_size, segment_size);
    file.segment(usize::from(before_code) + arch.code.len());
    file.bytes.extend(arch.code);
    file.bytes
}

/// Writes ELF's integers in an architecture's width and byte order.
struct Writer<'a> {
    arch: &'a Arch,
    bytes: Vec<u8>,
}

impl Writer<'_> {
    fn header(&mut self, header_size: u16, segment_size: u16) {
        const EV_CURRENT: u32 = 1;
        // e_ident, e_type and e_machine are those of the magic
        self.bytes.extend(&self.arch.magic().as_slice()[..20]);
        self.word(EV_CURRENT);
        self.address(LOAD_ADDRESS + u32::from(header_size + segment_size)); // e_entry
        self.address(u32::from(header_size)); // e_phoff
        self.address(0); // e_shoff
        self.word(self.arch.flags);
        for half in [header_size, segment_size, 1, 0, 0, 0] {
            self.half(half); // e_ehsize, e_phentsize, e_phnum; no sections
        }
    }

    fn segment(&mut self, file_size: usize) {
        const PT_LOAD: u32 = 1;
        const READ_EXECUTE: u32 = 5;
        let size = u32::try_from(file_size).unwrap_or(u32::MAX);
        self.word(PT_LOAD);
        // The only difference between the classes but width: where p_flags is
        if self.arch.class == Class::Elf64 {
            self.word(READ_EXECUTE);
        }
        for address in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size] {
            self.address(address); // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz
        }
        if self.arch.class == Class::Elf32 {
            self.word(READ_EXECUTE);
        }
        self.address(ALIGNMENT);
    }

    fn half(&mut self, value: u16) {
        self.bytes.extend(match self.arch.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(match self.arch.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }

    fn address(&mut self, value: u32) {
        match (self.arch.class, self.arch.endian) {
            (Class::Elf32, _) => self.word(value),
            (Class::Elf64, Endian::Little) => self.bytes.extend(u64::from(value).to_le_bytes()),
            (Class::Elf64, Endian::Big) => self.bytes.extend(u64::from(value).to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ARCHES;

    #[test]
    fn a_status_reads_as_what_happened() {
        let arm64 = Arch::by_qemu("aarch64").unwrap();
        let amd64 = Arch::by_qemu("x86_64").unwrap();
        let chosen = i32::from(ARGV0);
        for (arch, status, expected) in [
            (arm64, chosen, Reading::Kept { level: 1 }),
            (arm64, i32::from(b'/'), Reading::Replaced { level: 1 }),
            (arm64, chosen + 1, Reading::Wrong),
            (arm64, 0, Reading::Wrong),
            (arm64, -1, Reading::Wrong),
            (arm64, chosen + 256, Reading::Wrong),
            (amd64, chosen, Reading::Kept { level: 1 }),
            (amd64, chosen + 3, Reading::Kept { level: 4 }),
            (amd64, chosen + 4, Reading::Wrong),
            (amd64, i32::from(b'/') + 1, Reading::Replaced { level: 2 }),
            (amd64, i32::from(b'/') - 1, Reading::Wrong),
        ] {
            assert_eq!(read(arch, status), expected, "{} {status}", arch.qemu);
        }
    }

    #[test]
    fn a_path_is_never_taken_for_the_chosen_name() {
        for arch in &ARCHES {
            assert!(b'/' + arch.levels <= ARGV0, "{}", arch.qemu);
        }
    }

    #[test]
    fn every_row_has_a_program_in_a_small_file() {
        for arch in &ARCHES {
            assert!(!arch.code.is_empty(), "{}", arch.qemu);
            let limit = if arch.levels == 1 { 200 } else { 400 };
            assert!(
                elf(arch).len() < limit,
                "{}: {}",
                arch.qemu,
                elf(arch).len()
            );
        }
    }
}
