//! Which entries would take a file, in the kernel's order, a magic compared byte by byte, and what to do about bytes
//! that differ. Pure.
//!
//! Rests on `search_binfmt_handler` in Linux's `fs/binfmt_misc.c`: of the entries that are on, the newest that matches; and, for
//! flag L, on "Loader substitution" in `Documentation/admin-guide/binfmt-misc.rst` of Linux 7.3.

use std::fmt;
use std::path::Path;

use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Matcher;
use serde::Serialize;

/// The entries that match a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// The one that takes it.
    pub taker: Option<Entry>,
    /// If an entry with flag L is the newest that matches: it. The file is then left to the kernel, which asks no other entry, and
    /// uses this one's interpreter as the loader of a native program.
    pub loader: Option<Entry>,
    /// Those that would if the taker, which is newer, were not there.
    pub shadowed: Vec<Entry>,
    /// Those that would if they were on.
    pub disabled: Vec<Entry>,
}

impl Handlers {
    /// Looks through `entries`, the newest first. `enabled`: whether the table as a whole is on.
    pub fn of(entries: &[Entry], enabled: bool, path: &Path, head: &[u8]) -> Self {
        let name = path.file_name().unwrap_or_default();
        let matches = |entry: &&Entry| {
            let matcher = entry.matcher.as_ref();
            matcher.is_some_and(|matcher| matcher.matches(head, name))
        };
        let matching = entries.iter().filter(matches);
        let (on, off): (Vec<&Entry>, _) = matching.partition(|entry| entry.enabled && enabled);
        let mut on = on.into_iter().cloned();
        let (loader, taker) = match on.next() {
            Some(entry) if entry.is_loader() => (Some(entry), None),
            newest => (None, newest),
        };
        Self { taker, loader, shadowed: on.collect(), disabled: off.into_iter().cloned().collect() }
    }
}

/// One byte of a magic beside the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Byte {
    /// Where in the file.
    pub offset: usize,
    /// The file's byte; zero beyond its end.
    pub file: u8,
    /// Which of its bits count.
    pub mask: u8,
    /// What they must be.
    pub magic: u8,
    /// Whether the kernel finds them equal.
    pub equal: bool,
}

/// The bytes of `matcher`'s magic beside those of a file that begins with `head`. None for an extension.
pub fn compare(matcher: &Matcher, head: &[u8]) -> Vec<Byte> {
    let Matcher::Magic { offset, magic, mask } = matcher else {
        return Vec::new();
    };
    let bytes = magic.iter().enumerate().map(|(at, &magic)| {
        let mask = mask.as_ref().and_then(|mask| mask.get(at).copied());
        let (offset, mask) = (offset + at, mask.unwrap_or(0xff));
        let file = head.get(offset).copied().unwrap_or(0);
        Byte { offset, file, mask, magic, equal: (file ^ magic) & mask == 0 }
    });
    bytes.collect()
}

/// The bytes by which a magic does not match a file of the right architecture. No loader reads such bytes: they are the
/// rest of `e_ident`, and the version. `AppImage`s have their mark there (its specification, "type 1" and "type 2"),
/// and magics expect zeros.
#[derive(Debug)]
pub struct Unmatched<'a>(&'a [Byte]);

impl<'a> Unmatched<'a> {
    /// `None`: the magic matches.
    pub fn of(compared: &'a [Byte]) -> Option<Self> {
        let first = compared.iter().position(|byte| !byte.equal)?;
        let last = compared.iter().rposition(|byte| !byte.equal)?;
        Some(Self(&compared[first..=last]))
    }

    fn wanted(&self) -> impl Iterator<Item = u8> {
        let bytes = self.0.iter();
        bytes.map(|byte| byte.file & !byte.mask | byte.magic & byte.mask)
    }

    /// The start of the file as it would be matched.
    pub fn repaired(&self, head: &[u8]) -> Vec<u8> {
        let mut head = head.to_vec();
        let (start, length) = (self.0[0].offset, self.0.len());
        head.resize(head.len().max(start + length), 0);
        head.splice(start..start + length, self.wanted());
        head
    }

    /// A line for a shell that makes a copy which is matched. `file`: as a shell takes it.
    pub fn command(&self, file: &str) -> String {
        let bytes: Vec<String> = self.wanted().map(|byte| format!("\\{byte:03o}")).collect();
        let bytes = bytes.concat();
        let start = self.0[0].offset;
        format!("cp {file} {file}.plain && printf '{bytes}' | dd of={file}.plain bs=1 seek={start} conv=notrunc")
    }
}

/// `bytes 8 to 10 of its header are 41 49 02 (the mark of an AppImage), not 00 00 00`
impl fmt::Display for Unmatched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |byte: u8| format!("{byte:02x}");
        let has: Vec<String> = self.0.iter().map(|byte| hex(byte.file)).collect();
        let wanted: Vec<String> = self.wanted().map(hex).collect();
        let first = self.0[0].offset;
        let last = first + self.0.len() - 1;
        if first == last {
            write!(f, "byte {first} of its header is {}", has[0])?;
        } else {
            write!(f, "bytes {first} to {last} of its header are {}", has.join(" "))?;
        }
        let file = |at: usize| self.0.get(at).map(|byte| byte.file);
        if first == 8 && matches!((file(0), file(1), file(2)), (Some(b'A'), Some(b'I'), Some(1 | 2))) {
            f.write_str(" (the mark of an AppImage)")?;
        }
        write!(f, ", not {}", wanted.join(" "))
    }
}
