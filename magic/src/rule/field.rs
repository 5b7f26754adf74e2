//! The fields of a line, read one after the other as the kernel reads them.
//!
//! Source: `create_entry` and `scanarg` in Linux's `fs/binfmt_misc.c`, `string_unescape` in `lib/string_helpers.c`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Matcher, RuleError, hex_byte};

/// What is left of a line that is being read.
pub(super) struct Fields<'a> {
    /// What ends each field.
    pub(super) delimiter: u8,
    /// From the next field on.
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A field without escapes. The kernel looks for its end with `strchr`, which a NUL stops.
    pub(super) fn plain(&mut self, field: &'static str) -> Result<&'a [u8], RuleError> {
        let end = self.rest.iter().position(|byte| [0, self.delimiter].contains(byte));
        let end = end.filter(|end| self.rest[*end] == self.delimiter).ok_or(RuleError::Unterminated(field))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// The type. One byte whatever it is, even the delimiter.
    pub(super) fn kind(&mut self) -> Result<u8, RuleError> {
        match self.rest {
            [kind, delimiter, rest @ ..] if *delimiter == self.delimiter => {
                self.rest = rest;
                Ok(*kind)
            }
            _ => Err(RuleError::Unterminated("type")),
        }
    }

    /// The fields `offset`, `magic`, `mask` of a rule of type `E`, which uses the second alone.
    pub(super) fn extension(&mut self) -> Result<Matcher, RuleError> {
        self.plain("offset")?;
        let text = self.plain("extension")?;
        self.plain("mask")?;
        Ok(Matcher::Extension(owned(text)))
    }

    /// The same fields of a rule of type `M`.
    pub(super) fn magic(&mut self) -> Result<Matcher, RuleError> {
        let offset = read_offset(self.plain("offset")?)?;
        let magic = self.escaped("magic")?;
        let mask = Some(self.escaped("mask")?).filter(|mask| !mask.is_empty());
        Ok(Matcher::Magic { offset, magic, mask })
    }

    /// A field in which `\xHH` stands for a byte, even where `x` or a digit is the delimiter.
    fn escaped(&mut self, field: &'static str) -> Result<Vec<u8>, RuleError> {
        let mut at = 0;
        loop {
            match self.rest.get(at..).unwrap_or_default() {
                [] => return Err(RuleError::Unterminated(field)),
                [byte, ..] if *byte == self.delimiter => break,
                [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    at += 4;
                }
                [b'\\', b'x', ..] => return Err(RuleError::Escape(field)),
                _ => at += 1,
            }
        }
        let text = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Ok(unescape(text))
    }
}

pub(super) fn owned(text: &[u8]) -> OsString {
    OsString::from_vec(text.to_vec())
}

/// The bytes that the kernel makes of an escaped field: it stops at a NUL, and keeps a backslash that escapes nothing.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut rest = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut bytes = Vec::with_capacity(rest.len());
    loop {
        let used = match rest {
            [] => return bytes,
            [b'\\', b'x', high, low, ..] => {
                bytes.extend(hex_byte(*high, *low));
                4
            }
            // Both bytes as they are: a backslash in second place does not begin an escape.
            [b'\\', second, ..] => {
                bytes.extend([b'\\', *second]);
                2
            }
            [byte, ..] => {
                bytes.push(*byte);
                1
            }
        };
        rest = &rest[used..];
    }
}

/// `kstrtoint`, base ten: a sign and one newline at the end pass; nothing at all is zero.
fn read_offset(text: &[u8]) -> Result<usize, RuleError> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(text.strip_suffix(b"\n").unwrap_or(text));
    let offset = digits.ok().and_then(|digits| digits.parse::<i32>().ok());
    offset.and_then(|offset| offset.try_into().ok()).ok_or_else(|| RuleError::Offset(owned(text)))
}
