//! How the operating system's errors and names are worded: one line, the kernel's own word for the error in brackets.

use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;

/// `No space left on device (ENOSPC)`
pub fn cause(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EFBIG) => "larger than a file may be (EFBIG); raise that limit (ulimit -f)".to_owned(),
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

/// Why a process of ours could not be started, and what to do.
pub fn not_started(error: &io::Error) -> String {
    let remedy = match errno_of(error) {
        Errno::ENOENT => "are /proc and /dev/null there?",
        Errno::EAGAIN => "raise the limit of processes (ulimit -u, or pids.max of the container)",
        Errno::EMFILE => "raise the limit of open files (ulimit -n)",
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

/// Whether a terminal acts on it: control characters, and those that change the direction of the text after them
/// (Unicode's `Bidi_Control`), so that a name looks like another.
pub fn is_control(c: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c.is_control() || turns
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
