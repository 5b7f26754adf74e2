//! How the operating system's errors and names are worded: one line, the kernel's own word for the error in brackets.

use std::ffi::OsStr;
use std::io;
use std::ops::RangeInclusive;

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

/// What Unicode 16 calls a format character (`Cf`) or a separator of lines (`Zl`, `Zp`): they are invisible, turn the direction
/// of the text after them, or end the line.
const FORMAT: [RangeInclusive<char>; 21] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{2064}',
    '\u{2066}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Whether it must not reach a terminal as it is: control characters, on which a terminal acts, and format characters, by which
/// a name looks like another.
pub fn is_control(c: char) -> bool {
    c.is_control() || FORMAT.iter().any(|range| range.contains(&c))
}

/// `text` with its control characters escaped, so that it stays one line and does nothing to a terminal.
pub fn printable(text: &str) -> String {
    let escape = |c: char| {
        if is_control(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

/// `word` as a shell reads it as one word.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+%@=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
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
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
