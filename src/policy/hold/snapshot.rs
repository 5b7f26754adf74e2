//! The handlers in effect, as far as the table shows without starting a program. An entry with the same registration and text is the
//! one that a program has run through.

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use crate::helper::probes::is_trial;
use crate::kernel::table::{Table, TableError};
use crate::policy::survey::{Survey, handler_of};

/// Which entry takes the programs of each architecture, by the entries' text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    enabled: bool,
    handlers: Vec<(&'static Arch, Option<Entry>)>,
}

impl Snapshot {
    /// The handlers in the table now; without a table, none.
    pub(super) fn take(table: Option<&Table>, arches: &[&'static Arch]) -> Result<Self, TableError> {
        let Some(table) = table else {
            return Ok(Self::new(true, &[], arches));
        };
        let mut entries = table.entries()?;
        entries.retain(|entry| !is_trial(entry));
        Ok(Self::new(table.enabled()?, &entries, arches))
    }

    /// The handlers that a survey has found.
    pub(super) fn of(survey: &Survey, arches: &[&'static Arch]) -> Self {
        Self::new(survey.enabled, &survey.entries, arches)
    }

    fn new(enabled: bool, entries: &[Entry], arches: &[&'static Arch]) -> Self {
        let handlers = arches.iter().map(|arch| (*arch, handler_of(entries, arch).cloned()));
        Self { enabled, handlers: handlers.collect() }
    }

    /// The entry that takes the programs of `arch`.
    pub(super) fn handler(&self, arch: &Arch) -> Option<&Entry> {
        self.handlers.iter().find(|(of, _)| *of == arch).and_then(|(_, entry)| entry.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn entry(name: &str, qemu: &str, state: &str) -> Entry {
        let magic = Arch::by_qemu(qemu).unwrap().magic();
        let magic = magic.as_slice().iter();
        let magic = magic.fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let text = format!("{state}\ninterpreter /qemu-x\nflags: F\noffset 0\nmagic {magic}\n");
        Entry::parse(OsStr::new(name), text.as_bytes())
    }

    #[test]
    fn what_counts_is_the_newest_entry_that_is_on() {
        let arches = ["aarch64", "s390x"].map(|qemu| Arch::by_qemu(qemu).unwrap());
        let [arm64, s390x] = arches;
        let (off, on) = (entry("off", "aarch64", "disabled"), entry("on", "aarch64", "enabled"));
        let older = entry("older", "aarch64", "enabled");
        let whole = Snapshot::new(true, &[off.clone(), on.clone(), older.clone()], &arches);
        assert_eq!(whole.handler(arm64), Some(&on));
        assert_eq!(whole.handler(s390x), None);
        // an entry without effect makes no difference
        assert_eq!(whole, Snapshot::new(true, std::slice::from_ref(&on), &arches));
        let others = [(true, &[off, older.clone()][..]), (true, &[older, on.clone()]), (true, &[]), (false, &[on])];
        for (enabled, entries) in others {
            assert_ne!(whole, Snapshot::new(enabled, entries, &arches));
        }
    }
}
