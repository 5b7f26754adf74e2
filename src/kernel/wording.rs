//! How the operating system's errors and names are worded: one line, the kernel's own word for the error in brackets.

use std::ffi::OsStr;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

/// `No space left on device (ENOSPC)`
pub fn cause(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EFBIG) => "larger than a file may be (EFBIG); raise that limit (ulimit -f)".to_owned(),
        Some(errno @ (Errno::EMFILE | Errno::ENFILE)) => {
            format!("{} ({errno:?}); raise the limit of open files (ulimit -n)", errno.desc())
        }
        Some(errno @ Errno::ENOSPC) => format!("{} ({errno:?}); make room there", errno.desc()),
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

/// Why a process of ours could not be started, and what to do.
pub fn not_started(error: &io::Error) -> String {
    let remedy = match errno_of(error) {
        Errno::ENOENT => "are /proc and /dev/null there?",
        Errno::EAGAIN => {
            "raise the limit of processes (ulimit -u, or pids.max of the container), or that of memory (ulimit -v, ulimit -d)"
        }
        Errno::ENOMEM => "raise the limit of memory (ulimit -v, or of the container)",
        _ => return cause(error),
    };
    format!("{}; {remedy}", cause(error))
}

/// The errno of an error of the operating system; `EIO` for one that the standard library made up.
pub fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// An entry's name as messages show it: the kernel accepts any bytes except a slash.
pub fn shown(name: &OsStr) -> String {
    printable(&name.to_string_lossy())
}

/// A name as text, with replacements for bytes that are no Unicode. JSON escapes what a terminal must not see.
pub fn text(name: impl AsRef<OsStr>) -> String {
    name.as_ref().to_string_lossy().into_owned()
}

/// What has no shape of its own, although Unicode counts it as a letter, a symbol or an accent (`Default_Ignorable_Code_Point`, and
/// the empty pattern of Braille).
const BLANK: [RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether it must not reach a terminal as it is: a control character, on which a terminal acts, or one that cannot be seen, or
/// that turns the direction of the text after it, by which a name looks like another. Rust's table for `{:?}` knows most.
pub fn is_control(c: char) -> bool {
    if c.is_ascii() {
        return c.is_control();
    }
    // after another letter, as an accent stands, which is no character of its own
    BLANK.iter().any(|range| range.contains(&c)) || format!("a{c}").escape_debug().nth(2).is_some()
}

/// `text` with its control characters escaped, so that it stays one line and does nothing to a terminal.
pub fn printable(text: &str) -> String {
    let escape = |c: char| {
        if is_control(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

/// `word` as a shell reads it as one word.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+%@=".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => in_octal(word.as_bytes()),
    }
}

/// `$'…'`, of POSIX since 2024: bytes that a terminal must not see, or that are no UTF-8, by their numbers.
fn in_octal(bytes: &[u8]) -> String {
    let text = bytes.iter().map(|byte| match byte {
        b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => char::from(*byte).to_string(),
        byte => format!("\\{byte:03o}"),
    });
    format!("$'{}'", text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invisible_is_escaped_and_other_letters_are_not() {
        for (text, expected) in [
            ("Größe 大小 😀 \u{301}", "Größe 大小 😀 \u{301}"),
            ("a\u{200b}b\u{feff}", r"a\u{200b}b\u{feff}"),
            ("\u{9b}31m\x7f\r", r"\u{9b}31m\u{7f}\r"),
            ("\u{202e}\u{e0041}\u{2028}", r"\u{202e}\u{e0041}\u{2028}"),
            ("a\u{3164}\u{2800}\u{a0}", r"a\u{3164}\u{2800}\u{a0}"),
            ("a\u{34f}b\u{fe0f}c\u{e0100}", r"a\u{34f}b\u{fe0f}c\u{e0100}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn a_shell_takes_it_for_one_word() {
        for (word, expected) in [
            ("qemu-arm,qemu-arm.next", "qemu-arm,qemu-arm.next"),
            ("[q]emu-arm", "'[q]emu-arm'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("a\nb\u{1b}", r"$'a\012b\033'"),
            ("'\\\u{202e}", r"$'\047\134\342\200\256'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff")), r"$'a\377'");
    }
}
