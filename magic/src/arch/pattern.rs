//! The bytes of a magic or of a mask, and where the fields of an ELF file header are in them.
//!
//! Owns the layout only; which bytes an architecture has is decided in `arch.rs`. Rests on the generic ELF ABI
//! (gABI, "ELF Header").

use super::Endian;

/// The bytes of a magic or of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    pub(super) bytes: [u8; Pattern::LONGEST],
    pub(super) len: usize,
}

impl Pattern {
    // Offsets up to e_version are the same for both classes; what follows is ELFCLASS32's, the only class in which
    // e_flags tells rows apart
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const IDENT_VERSION: usize = 6;
    pub(super) const OS_ABI: usize = 7;
    pub(super) const TYPE: usize = 16;
    pub(super) const MACHINE: usize = 18;
    pub(super) const VERSION: usize = 20;
    pub(super) const ENTRY: usize = 24;
    pub(super) const PROGRAM_HEADERS: usize = 28;
    pub(super) const SECTION_HEADERS: usize = 32;
    pub(super) const FLAGS: usize = 36;

    pub(super) const SHORT: usize = Self::VERSION;
    pub(super) const LONGEST: usize = Self::FLAGS + 4;

    /// The bytes themselves: 20 of them, or 40 where `e_flags` counts.
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }

    pub(super) const fn with_byte(mut self, at: usize, value: u8) -> Self {
        self.bytes[at] = value;
        self
    }

    pub(super) const fn with_half(self, at: usize, value: u16, endian: Endian) -> Self {
        let [first, second] = endian.order(value.to_le_bytes());
        self.with_byte(at, first).with_byte(at + 1, second)
    }

    pub(super) const fn with_word(self, at: usize, value: u32, endian: Endian) -> Self {
        let [a, b, c, d] = endian.order(value.to_le_bytes());
        self.with_byte(at, a).with_byte(at + 1, b).with_byte(at + 2, c).with_byte(at + 3, d)
    }
}
