//! The part of an entry's text that says which files it takes: `offset`, `magic`, `mask`, or `extension`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::rule::{Matcher, hex_byte};

/// The lines that say which files an entry takes. They make a matcher together or not at all: a magic without the
/// mask that was not understood would take other files than the kernel does.
#[derive(Default)]
pub(super) struct Draft {
    /// All of them, as they stand.
    pub(super) lines: Vec<String>,
    garbled: bool,
    offset: Option<usize>,
    magic: Option<Vec<u8>>,
    mask: Option<Vec<u8>>,
    extension: Option<OsString>,
}

impl Draft {
    /// Takes a line, if it is of that kind.
    pub(super) fn read(&mut self, line: &[u8]) -> bool {
        let value = |key: &[u8]| line.strip_prefix(key);
        let understood = if let Some(digits) = value(b"offset ") {
            let digits = std::str::from_utf8(digits).ok();
            set(&mut self.offset, digits.and_then(|digits| digits.parse().ok()))
        } else if let Some(digits) = value(b"magic ") {
            set(&mut self.magic, read_hex(digits))
        } else if let Some(digits) = value(b"mask ") {
            set(&mut self.mask, read_hex(digits))
        } else if let Some(text) = value(b"extension ") {
            let text = text.strip_prefix(b".").map(|text| OsString::from_vec(text.to_vec()));
            set(&mut self.extension, text)
        } else {
            return false;
        };
        self.garbled |= !understood;
        self.lines.push(String::from_utf8_lossy(line).into_owned());
        true
    }

    /// What they say, unless one of them is not what a kernel prints, or they do not belong together.
    pub(super) fn matcher(&mut self) -> Option<Matcher> {
        let (offset, magic, mask) = (self.offset.take(), self.magic.take(), self.mask.take());
        let matcher = match (offset, magic, mask, self.extension.take()) {
            (Some(offset), Some(magic), mask, None) => Matcher::Magic { offset, magic, mask },
            (None, None, None, Some(text)) => Matcher::Extension(text),
            _ => return None,
        };
        Some(matcher).filter(|matcher| !self.garbled && matcher.check().is_ok())
    }
}

/// Fills an empty slot. False if there is nothing to fill it with, or it was full.
fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let fits = slot.is_none() && value.is_some();
    if fits {
        *slot = value;
    }
    fits
}

fn read_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| match pair {
        [high, low] => hex_byte(*high, *low),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}
