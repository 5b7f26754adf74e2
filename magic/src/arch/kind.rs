//! The kinds of programs of one architecture, by what differs in their headers (gABI, figures 4-3 to 4-5).

use super::Arch;

/// Where `EI_OSABI` and `e_type` are.
const OSABI: usize = 7;
const TYPE: std::ops::Range<usize> = 16..18;

/// A kind of programs. Those of none have `ET_EXEC` and `ELFOSABI_NONE`, as [`Arch::header`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ET_DYN`: position-independent programs, as almost all of a distribution are.
    Pie,
    /// `ELFOSABI_GNU`: static programs that choose functions at their start (`STT_GNU_IFUNC`).
    Gnu,
    /// Both.
    GnuPie,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Pie, Self::Gnu, Self::GnuPie];

    /// The kind of a program of `arch` that begins with `head`, if it is one of those.
    #[must_use]
    pub fn of(head: &[u8], arch: &Arch) -> Option<Self> {
        let head = head.get(..TYPE.end)?;
        Self::ALL.into_iter().find(|kind| {
            let header = kind.header(arch);
            header[OSABI] == head[OSABI] && header[TYPE] == head[TYPE]
        })
    }

    /// The ELF header of a program of this kind.
    #[must_use]
    pub fn header(self, arch: &Arch) -> Vec<u8> {
        let mut header = arch.header();
        self.apply(&mut header, arch);
        header
    }

    /// Makes `file`, which begins with the header of a program of `arch`, one of this kind.
    ///
    /// # Panics
    /// When `file` is shorter than 18 bytes.
    pub fn apply(self, file: &mut [u8], arch: &Arch) {
        const ELFOSABI_GNU: u8 = 3;
        const ET_DYN: u16 = 3;
        if self != Self::Pie {
            file[OSABI] = ELFOSABI_GNU;
        }
        if self != Self::Gnu {
            file[TYPE].copy_from_slice(&arch.endian.order(ET_DYN.to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ARCHES;

    #[test]
    fn the_magic_of_an_architecture_takes_every_kind_of_its_programs() {
        for arch in &ARCHES {
            for kind in Kind::ALL {
                assert!(arch.matches(&kind.header(arch)), "{}", arch.qemu);
                let same = kind.header(arch) == arch.header();
                assert!(same || Kind::of(&kind.header(arch), arch).is_some(), "{}", arch.qemu);
            }
            assert_eq!(Kind::of(&arch.header()[..10], arch), None);
        }
    }
}
