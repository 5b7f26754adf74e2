//! The forms of output, where they go, and what a reader that has gone away means.

use std::io::{self, Write};

use anyhow::bail;

use crate::kernel::wording::{cause, printable};

pub mod json;
pub mod prometheus;
pub mod text;

/// Where output goes.
#[expect(missing_debug_implementations, reason = "its writers have none")]
pub struct Streams<'a> {
    /// The JSON or the table.
    pub out: &'a mut dyn Write,
    /// Progress and errors.
    pub err: &'a mut dyn Write,
    /// Whether `out` shows colours.
    pub colour: bool,
    /// How many columns `out` shows, if it is a terminal.
    pub width: Option<usize>,
}

impl Streams<'_> {
    /// Writes one line to stderr, with control characters escaped. Without a reader there, the exit status still tells.
    pub fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", printable(line));
    }

    /// Ends the output that was `written`. A reader that has gone away is not an error.
    pub fn finish(&mut self, written: io::Result<()>) -> anyhow::Result<()> {
        match written.and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                bail!("cannot write the output: {}", cause(&error))
            }
            _ => Ok(()),
        }
    }
}
