//! The lies that an ELF file can have in its headers, in words, and what they lead to.

use std::fmt;

use nix::errno::Errno;

/// Why a loader refuses a file whose first bytes are fine. Printed, it completes "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The file ends within its header.
    Header,
    /// The header states a wrong size for itself.
    HeaderSize(u16),
    /// The header states a wrong size for a program header.
    EntrySize(u16),
    /// It has no program headers, or more than are read.
    Count(u16),
    /// The program headers are not within the file.
    Headers,
    /// The path of its loader is shorter or longer than a path can be.
    PathLength(u64),
    /// The path of its loader is not within the file.
    PathBeyond,
    /// The path of its loader lies at an offset that no file has.
    PathOffset,
    /// The path of its loader does not end in a NUL.
    PathEnd,
    /// It asks for two loaders.
    Loaders,
}

impl Malformed {
    /// What `execve(2)` fails with, where the kernel loads the file.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::PathBeyond => Errno::EIO,
            Self::PathOffset => Errno::EINVAL,
            _ => Errno::ENOEXEC,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("is truncated: it ends within its ELF header"),
            Self::HeaderSize(size) => {
                write!(
                    f,
                    "has an ELF header that states a wrong size for itself: {size} bytes"
                )
            }
            Self::EntrySize(size) => {
                write!(
                    f,
                    "has an ELF header that states a wrong size for program headers: {size} bytes"
                )
            }
            Self::Count(count) => {
                write!(
                    f,
                    "has an ELF header that counts {count} program headers, which the kernel refuses"
                )
            }
            Self::Headers => f.write_str("is truncated: its program headers lie beyond its end"),
            Self::PathLength(length) => {
                write!(
                    f,
                    "names its loader (PT_INTERP) by a path of {length} bytes, where 2 to 4096 are allowed"
                )
            }
            Self::PathBeyond => {
                f.write_str("is truncated: the path of its loader (PT_INTERP) lies beyond its end")
            }
            Self::PathOffset => {
                f.write_str("has the path of its loader (PT_INTERP) at an impossible offset")
            }
            Self::PathEnd => {
                f.write_str("names its loader (PT_INTERP) by a path that does not end in a NUL")
            }
            Self::Loaders => f.write_str("names two loaders (PT_INTERP)"),
        }
    }
}

/// Why a program that is loaded ends before it does anything. Printed, it completes "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doomed {
    /// Nothing of it is to be mapped.
    NoSegment,
    /// Some of what is to be mapped lies in pages beyond the one that the file ends in.
    Truncated {
        /// How long the file must be.
        needs: u64,
        /// How long it is.
        has: u64,
    },
    /// A segment's offset and address do not fall on the same place of a page.
    Unaligned,
    /// A segment takes more of the file than of the memory.
    Overfull,
    /// It is a library, and says nowhere where to begin.
    NoEntry,
}

impl fmt::Display for Doomed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSegment => f.write_str("has no segment to load"),
            Self::Truncated { needs, has } => {
                write!(f, "is truncated: {has} of {needs} bytes are there")
            }
            Self::Unaligned => f.write_str(
                "has a segment whose offset in the file and address in memory differ within a page",
            ),
            Self::Overfull => {
                f.write_str("has a segment that is larger in the file than in memory")
            }
            Self::NoEntry => f.write_str("is a shared library without an entry point"),
        }
    }
}
