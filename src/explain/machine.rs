//! Which architecture's program a file comes to, without asking who would run it.

use std::path::Path;

use binfmt_magic::arch::Arch;

use super::Content;
use super::place::{Place, Purpose};
use super::walk::{REWRITES, content};

/// The architecture of the program `file`, or of the one that a script's `#!` lines come to. `None`: it comes to none that
/// is known, or cannot be read.
#[must_use]
pub fn machine_of(place: &Place, file: &Path) -> Option<&'static Arch> {
    let mut file = file.to_owned();
    for _ in 0..=REWRITES {
        let opened = place.open(&file, Purpose::Execute).ok()?;
        file = match content(&opened.head) {
            Content::Elf(ident) => return ident.arch().filter(|_| ident.is_program()),
            Content::Script(line) => line.ok()?.interpreter,
            Content::Other(_) => return None,
        };
    }
    None
}
