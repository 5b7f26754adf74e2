//! What is wrong with a rule or a registration line, in one lower-case line each.
//!
//! Every case is an `EINVAL` of `create_entry` in Linux's `fs/binfmt_misc.c`, which names none of them. Exceptions are
//! names that are too long (`ENAMETOOLONG`) or always taken (`EEXIST`).

use std::error::Error;
use std::ffi::OsString;
use std::fmt;

use super::{LENGTH, WINDOW};

/// Why the kernel would refuse a rule or a registration line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleError {
    /// The line is too short or too long.
    Length(usize),
    /// The first byte is a flag, or a newline in a line that does not end in one.
    Delimiter(u8),
    /// The line ends, or has a NUL, before this field's delimiter.
    Unterminated(&'static str),
    /// Empty, `.`, `..`, longer than 255 bytes, with a slash or a NUL, or one of the two files that are always there.
    Name(OsString),
    /// Neither `M` nor `E`.
    Type(u8),
    /// Not a decimal number of at least zero.
    Offset(OsString),
    /// In this field, `\\x` without two hexadecimal digits.
    Escape(&'static str),
    /// There is no magic.
    Magic,
    /// The mask covers more or less than the magic.
    MaskLength {
        /// Bytes of magic.
        magic: usize,
        /// Bytes of mask.
        mask: usize,
    },
    /// The magic lies beyond what the kernel reads of a file.
    Window {
        /// Where it begins.
        offset: usize,
        /// How many bytes it has.
        magic: usize,
    },
    /// Empty, or with a slash or a NUL.
    Extension(OsString),
    /// Empty, or with a NUL.
    Interpreter(OsString),
    /// These letters are no flags.
    Flags(String),
    /// Flags `P` and `T` together.
    Opposed,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(bytes) => {
                let (least, most) = (LENGTH.start(), LENGTH.end());
                write!(f, "a registration line of {bytes} bytes: the kernel takes {least} to {most}")
            }
            Self::Delimiter(byte) => {
                write!(f, "delimiter {:?}: taken for a flag or a newline where the line ends", char::from(*byte))
            }
            Self::Unterminated(field) => write!(f, "the registration line ends in its {field}"),
            Self::Name(name) => write!(f, "entry name {name:?}: the kernel does not take it"),
            Self::Type(kind) => write!(f, "type {:?}: neither M nor E", char::from(*kind)),
            Self::Offset(text) => write!(f, "offset {text:?}: not a number"),
            Self::Escape(field) => write!(f, "the {field} has \\x without two hexadecimal digits"),
            Self::Magic => write!(f, "the magic is empty"),
            Self::MaskLength { magic, mask } => {
                write!(f, "a mask of {mask} bytes for a magic of {magic}")
            }
            Self::Window { offset, magic } => {
                write!(f, "a magic of {magic} bytes at offset {offset}: the kernel reads {WINDOW}")
            }
            Self::Extension(text) => {
                write!(f, "extension {text:?}: empty, or with a slash or a NUL")
            }
            Self::Interpreter(path) => write!(f, "interpreter {path:?}: empty, or with a NUL"),
            Self::Flags(letters) => write!(f, "flags {letters:?}: a rule has P, O, C, F and T"),
            Self::Opposed => write!(f, "flags P and T: the kernel refuses them together"),
        }
    }
}

impl Error for RuleError {}
