//! The `#!` line, read as the kernel reads it. Pure.
//!
//! Rests on `load_script` in Linux's `fs/binfmt_script.c`. Each odd line was tried on Linux 6.18.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::WINDOW;

/// What a `#!` line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shebang {
    /// The interpreter, as it stands there.
    pub interpreter: PathBuf,
    /// All that follows it, as one argument.
    pub argument: Option<OsString>,
}

impl Shebang {
    pub(super) fn is_env(&self) -> bool {
        self.interpreter.ends_with("env")
    }

    pub(super) fn argument(&self) -> &[u8] {
        self.argument.as_deref().unwrap_or_default().as_encoded_bytes()
    }
}

/// Why the kernel cannot use a `#!` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing but blanks stand on it: `ENOEXEC`.
    Blank,
    /// The file ends right after it, and the kernel takes the current directory for the interpreter: `EACCES`.
    Nameless,
    /// The interpreter's name does not end within what the kernel reads: `ENOEXEC`.
    Cut,
}

/// Reads the line at the start of a file that begins with `head`. `None`: there is no `#!`.
pub fn read(head: &[u8]) -> Option<Result<Shebang, Unusable>> {
    let mut buffer = [0; WINDOW];
    let length = head.len().min(WINDOW);
    buffer[..length].copy_from_slice(&head[..length]);
    buffer.starts_with(b"#!").then(|| parse(&buffer))
}

fn parse(buffer: &[u8; WINDOW]) -> Result<Shebang, Unusable> {
    let end = end_of_line(buffer).ok_or(Unusable::Cut)?;
    // the byte at `end` is looked at too, as in next_non_spacetab and next_terminator
    let mut name = 2..=end;
    let start = name.find(|at| !is_blank(buffer[*at]));
    let start = start.filter(|start| *start != end).ok_or(Unusable::Blank)?;
    let stop = (start..=end).find(|at| is_blank(buffer[*at]) || buffer[*at] == 0);
    let argument = stop.filter(|stop| buffer[*stop] != 0).and_then(|stop| {
        let start = (stop..=end).find(|at| !is_blank(buffer[*at]))?;
        Some(OsString::from_vec(text(&buffer[start..end])))
    });
    let interpreter = text(&buffer[start..stop.unwrap_or(end)]);
    if interpreter.is_empty() {
        return Err(Unusable::Nameless);
    }
    Ok(Shebang { interpreter: OsString::from_vec(interpreter).into(), argument })
}

/// Where the line ends, without the blanks at its end. An argument may be cut, an interpreter's name may not.
fn end_of_line(buffer: &[u8; WINDOW]) -> Option<usize> {
    let stop = buffer.iter().position(|byte| matches!(byte, b'\n' | 0));
    let mut end = if let Some(newline) = stop.filter(|at| buffer[*at] == b'\n') {
        newline
    } else {
        let start = (2..WINDOW).find(|at| !is_blank(buffer[*at]))?;
        (start..WINDOW).find(|at| is_blank(buffer[*at]) || buffer[*at] == 0)?;
        WINDOW - 1
    };
    while is_blank(buffer[end - 1]) {
        end -= 1;
    }
    Some(end)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Up to the first NUL, where C's strings end.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
