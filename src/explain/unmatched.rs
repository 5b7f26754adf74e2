//! A program whose header a magic does not match, although it is of the right architecture: which bytes are in the way, and
//! the command that makes a copy without them. Pure.
//!
//! Such bytes are ones that no loader reads: the rest of `e_ident`, and the version. Images of `AppImage` have
//! their mark there (its specification, "type 1" and "type 2"), and magics expect zeros.

use std::fmt;
use std::ops::RangeInclusive;

use super::handler::Compared;

/// What differs.
#[derive(Debug, Clone)]
pub struct Unmatched {
    /// The first and the last byte that differ.
    span: RangeInclusive<usize>,
    /// What the file has there.
    has: Vec<u8>,
    /// What it would have to have.
    wanted: Vec<u8>,
}

impl Unmatched {
    /// `compared`: a file that begins with `head` beside a magic. `None`: it matches.
    #[must_use]
    pub fn of(compared: &[Compared]) -> Option<Self> {
        let differs = |compared: &&Compared| !compared.is_equal();
        let first = compared.iter().position(|c| differs(&c))?;
        let last = compared.iter().rposition(|c| differs(&c))?;
        let part = &compared[first..=last];
        let wanted = |c: &Compared| c.file & !c.mask | c.magic & c.mask;
        Some(Self {
            span: part.first()?.offset..=part.last()?.offset,
            has: part.iter().map(|c| c.file).collect(),
            wanted: part.iter().map(wanted).collect(),
        })
    }

    /// The start of the file as it would be matched.
    #[must_use]
    pub fn repaired(&self, head: &[u8]) -> Vec<u8> {
        let mut head = head.to_vec();
        let at = *self.span.start();
        head.resize(head.len().max(at + self.wanted.len()), 0);
        head[at..at + self.wanted.len()].copy_from_slice(&self.wanted);
        head
    }

    /// A line for a shell that makes a copy which is matched. `file`: as a shell takes it.
    #[must_use]
    pub fn command(&self, file: &str) -> String {
        let octal = |byte: &u8| format!("\\{byte:03o}");
        let bytes: String = self.wanted.iter().map(octal).collect();
        format!(
            "cp {file} {file}.plain && printf '{bytes}' | dd of={file}.plain bs=1 seek={} conv=notrunc",
            self.span.start()
        )
    }

    fn is_appimage(&self) -> bool {
        *self.span.start() == 8 && matches!(self.has[..], [b'A', b'I', 1 | 2, ..])
    }
}

/// `bytes 8 to 10 of its header are 41 49 02 (the mark of an AppImage), not 00 00 00`
impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| -> Vec<String> {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let (first, last) = (self.span.start(), self.span.end());
        let (has, wanted) = (hex(&self.has).join(" "), hex(&self.wanted).join(" "));
        if first == last {
            write!(f, "byte {first} of its header is {has}")?;
        } else {
            write!(f, "bytes {first} to {last} of its header are {has}")?;
        }
        if self.is_appimage() {
            f.write_str(" (the mark of an AppImage)")?;
        }
        write!(f, ", not {wanted}")
    }
}
