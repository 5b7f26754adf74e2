//! The probe: the smallest executable of an architecture that proves that it runs.
//!
//! Its program is `exit_group(argv[0][0])`, machine code that stands in the architecture's row. Whoever runs it chooses
//! [`ARGV0`] as first argument: that byte back means that the program ran, saw its memory and kept its name; the first
//! byte of a path back means that it ran under a handler that replaces `argv[0]` (no flag `P`). Running it is not done here.
//!
//! Rests on the initial process stack of the psABIs (`argc`, `argv[0]`, …, one pointer wide each), and on the gABI
//! for the file: one header, one segment, the code.

use crate::arch::{Arch, Writer};

/// The first byte of the `argv[0]` to run a probe with. It and the levels above it are no start of a path.
pub const ARGV0: u8 = b'Q';

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
    let mut file = Writer::of(arch);
    file.header();
    file.segment(arch.code.len());
    file.bytes.extend(arch.code);
    file.bytes
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
            assert!(elf(arch).len() < limit, "{}: {}", arch.qemu, elf(arch).len());
        }
    }
}
