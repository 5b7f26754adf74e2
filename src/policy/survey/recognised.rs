//! Which entries are QEMU's that do not say so: the kernel has one of QEMU's user emulators pinned for them.

use std::fs::File;

use binfmt_magic::arch::ARCHES;
use binfmt_magic::entry::Entry;

use crate::emulator::{Qemu, qemu_of};
use crate::helper::probes::{self, Form, Job, Ran};

/// The registrations that were recognised by their files. What others say of themselves counts besides.
#[derive(Debug, Clone, Default)]
pub struct Recognised(Vec<u64>);

impl Recognised {
    /// Of handlers, and of the files that the kernel has run for them.
    pub(super) fn among<'a>(seen: impl Iterator<Item = (Option<&'a Entry>, &'a Ran)>) -> Self {
        let of_file = |(entry, ran): (Option<&Entry>, &Ran)| {
            let entry = entry.filter(|entry| !entry.is_qemu())?;
            let is_qemu = matches!(ran, Ran::Interpreter(file) if qemu_in(file).is_some());
            is_qemu.then_some(entry.registration)
        };
        Self(seen.filter_map(of_file).collect())
    }

    /// Of the handlers among `entries`, the whole table. A program is started through each of which its text does not tell, and
    /// which `matters`; where none can be started, none is recognised.
    #[must_use]
    pub fn of(entries: &[Entry], matters: impl Fn(&Entry) -> bool) -> Self {
        let unclear = |entry: &&Entry| !entry.is_qemu() && matters(entry);
        let handlers = ARCHES.iter().filter_map(|arch| {
            let mut takers = entries.iter().filter(|e| e.enabled && e.matches(arch));
            let handler = takers.next().filter(unclear)?;
            let form = Form::Plain;
            Some((handler, Job { arch, form }))
        });
        let (handlers, jobs): (Vec<&Entry>, Vec<Job>) = handlers.unzip();
        let runs = probes::run(&jobs).unwrap_or_default();
        let seen = handlers.iter().zip(&runs);
        Self::among(seen.map(|(entry, run)| (Some(*entry), &run.ran)))
    }

    /// Whether `entry` is one of QEMU's user emulators.
    #[must_use]
    pub fn is_qemu(&self, entry: &Entry) -> bool {
        entry.is_qemu() || self.0.contains(&entry.registration)
    }
}

/// Which of QEMU's user emulators `file` is, by its own content; none, if it cannot be read.
#[must_use]
pub fn qemu_in(file: &File) -> Option<Qemu> {
    qemu_of(file).ok().flatten()
}
