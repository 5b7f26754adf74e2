//! Which entries would take a file, in the kernel's order, and a magic compared byte by byte. Pure.
//!
//! Rests on `search_binfmt_handler` in Linux's `fs/binfmt_misc.c`: of the entries that are on, the newest that matches.

use std::ffi::OsStr;
use std::path::Path;

use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Matcher;

/// The entries that match a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// The one that takes it.
    pub taker: Option<Entry>,
    /// Those that would, were there not the taker, newer than they.
    pub shadowed: Vec<Entry>,
    /// Those that would, were they on.
    pub disabled: Vec<Entry>,
}

impl Handlers {
    /// Looks through `entries`, the newest first. `enabled`: whether the table as a whole is on.
    #[must_use]
    pub fn of(entries: &[Entry], enabled: bool, path: &Path, head: &[u8]) -> Self {
        let name = path.file_name().unwrap_or_default();
        let matching = entries.iter().filter(|entry| matches(entry, name, head));
        let (on, off): (Vec<&Entry>, _) = matching.partition(|entry| entry.enabled && enabled);
        let mut on = on.into_iter().cloned();
        Self {
            taker: on.next(),
            shadowed: on.collect(),
            disabled: off.into_iter().cloned().collect(),
        }
    }
}

fn matches(entry: &Entry, name: &OsStr, head: &[u8]) -> bool {
    let matcher = entry.matcher.as_ref();
    matcher.is_some_and(|matcher| matcher.matches(head, name))
}

/// One byte of a magic beside the file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Where in the file.
    pub offset: usize,
    /// The file's byte; zero beyond its end.
    pub file: u8,
    /// Which of its bits count.
    pub mask: u8,
    /// What they must be.
    pub magic: u8,
}

impl Compared {
    /// Whether the kernel finds them equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        (self.file ^ self.magic) & self.mask == 0
    }
}

/// The bytes of `matcher`'s magic beside those of a file that begins with `head`. None for an extension.
#[must_use]
pub fn compare(matcher: &Matcher, head: &[u8]) -> Vec<Compared> {
    let Matcher::Magic {
        offset,
        magic,
        mask,
    } = matcher
    else {
        return Vec::new();
    };
    let mask = |at: usize| {
        mask.as_ref()
            .map_or(Some(0xff), |mask| mask.get(at).copied())
    };
    let bytes = magic.iter().enumerate().map(|(at, magic)| Compared {
        offset: offset + at,
        file: head.get(offset + at).copied().unwrap_or(0),
        mask: mask(at).unwrap_or(0xff),
        magic: *magic,
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, text: &str) -> Entry {
        Entry::parse(
            OsStr::new(name),
            format!("enabled\ninterpreter /i\nflags: \n{text}\n").as_bytes(),
        )
    }

    #[test]
    fn the_newest_that_is_on_takes_the_file() {
        let magic = "offset 1\nmagic 4141\nmask fff0";
        let mut off = entry("off", magic);
        off.enabled = false;
        let entries = [
            entry("other", "offset 0\nmagic 4242"),
            off,
            entry("jar", "extension .jar"),
            entry("magic", magic),
        ];
        let of = |name: &str, enabled| Handlers::of(&entries, enabled, Path::new(name), b"xAOx");
        let names = |entries: &[Entry]| -> Vec<_> {
            entries
                .iter()
                .map(|entry| entry.name.to_string_lossy().into_owned())
                .collect()
        };
        for (file, enabled, taker, shadowed, disabled) in [
            ("/a/b.jar", true, Some("jar"), &["magic"][..], &["off"][..]),
            ("/a/b", true, Some("magic"), &[], &["off"]),
            ("/a/b", false, None, &[], &["off", "magic"]),
        ] {
            let found = of(file, enabled);
            let name = found.taker.map(|entry| entry.name);
            assert_eq!(name.as_deref(), taker.map(OsStr::new), "{file}");
            assert_eq!(names(&found.shadowed), shadowed, "{file}");
            assert_eq!(names(&found.disabled), disabled, "{file}");
        }
    }

    #[test]
    fn bytes_are_compared_as_the_kernel_does() {
        let matcher = entry("a", "offset 1\nmagic 4142\nmask fff0")
            .matcher
            .unwrap();
        let bytes = compare(&matcher, b"xA");
        assert_eq!(
            (bytes[0].offset, bytes[0].file, bytes[1].file),
            (1, b'A', 0)
        );
        assert_eq!((bytes[0].is_equal(), bytes[1].is_equal()), (true, false));
        assert!(
            compare(&matcher, b"xAO")[1].is_equal(),
            "the low bits do not count"
        );
    }
}
