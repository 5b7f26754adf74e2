//! Which entries are QEMU's: by their text, or by the file that the kernel has pinned.

use std::fs::File;

use binfmt_magic::arch::ARCHES;
use binfmt_magic::entry::Entry;

use super::handler_of;
use crate::emulator::{Qemu, qemu_of};
use crate::helper::probes::{self, Form, Job, Ran};

/// The registrations whose text does not settle whether they are QEMU's, and whose file was seen: the one that the kernel has
/// pinned, or has run.
#[derive(Debug, Clone, Default)]
pub struct Recognised {
    /// Those whose file is QEMU by its bytes.
    qemu: Vec<u64>,
    /// Those whose file is something else.
    others: Vec<u64>,
}

impl Recognised {
    /// Those among handlers and the files that the kernel has run for them.
    pub(super) fn among<'a>(seen: impl Iterator<Item = (Option<&'a Entry>, &'a Ran)>) -> Self {
        let mut recognised = Self::default();
        for (entry, ran) in seen {
            let unclear = entry.filter(|entry| entry.is_plain() && !entry.starts_qemu());
            let (Some(entry), Ran::Interpreter(file)) = (unclear, ran) else {
                continue;
            };
            match qemu_of(file) {
                Ok(Some(_)) => recognised.qemu.push(entry.registration),
                Ok(None) => recognised.others.push(entry.registration),
                // it cannot be read
                Err(_) => {}
            }
        }
        recognised
    }

    /// Those among `entries`, the whole table. Starts a probe through each handler that `matters` and whose interpreter's name
    /// does not tell. If probes cannot be run, no file is seen.
    pub fn of(entries: &[Entry], matters: impl Fn(&Entry) -> bool) -> Self {
        let unclear = |entry: &&Entry| entry.is_plain() && !entry.starts_qemu() && matters(entry);
        let handlers = ARCHES.iter().filter_map(|arch| {
            let handler = handler_of(entries, arch).filter(unclear)?;
            let form = Form::Plain;
            Some((handler, Job { arch, form }))
        });
        let (handlers, jobs): (Vec<&Entry>, Vec<Job>) = handlers.unzip();
        let runs = probes::run(&jobs).unwrap_or_default();
        let seen = handlers.iter().zip(&runs);
        Self::among(seen.map(|(entry, run)| (Some(*entry), &run.ran)))
    }

    /// Adds what a later look has seen.
    pub fn extend(&mut self, later: Self) {
        self.qemu.extend(later.qemu);
        self.others.extend(later.others);
    }

    /// Whether `entry` is one of QEMU's user emulators: by the name of its interpreter, else by the file if that was seen, else
    /// by the entry's name.
    pub fn is_qemu(&self, entry: &Entry) -> bool {
        let registration = &entry.registration;
        self.qemu.contains(registration) || entry.is_qemu() && !self.others.contains(registration)
    }
}

/// Which of QEMU's user emulators `file` is, by its content; `None` also if it cannot be read.
pub fn qemu_in(file: &File) -> Option<Qemu> {
    qemu_of(file).ok().flatten()
}
