//! Flag T of Linux 7.3, by which `ps` shows the program instead of its emulator: whether an install wants it, and what becomes of a
//! plan once it was tried.
//!
//! The kernel leaves the argument vector untouched, and tells an emulator by a bit of `AT_FLAGS` that it must take the program from
//! `AT_EXECFD`. An emulator that does not look at that bit takes an argument of the program for the program's name. No version tells
//! which emulators look: each is tried, through an entry that only a probe of this call can meet.
//!
//! Rests on "Transparent interpreters" in `Documentation/admin-guide/binfmt-misc.rst` of Linux 7.3.

use std::sync::LazyLock;

use anyhow::Result;
use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use super::{Order, Pending};
use crate::kernel::process::Mapped;
use crate::kernel::table;

/// Whether an install by `order` tries flag T, where `handler` is the handler now. Not where programs are to lose their `argv[0]`,
/// which T keeps; nor where this process could not see which emulator is behind such a handler, unless it has the flag already.
pub(super) fn is_wanted(order: &Order, handler: Option<&Entry>) -> bool {
    static CAN_SEE: LazyLock<bool> = LazyLock::new(Mapped::can_be_opened);
    let has = handler.is_some_and(|entry| entry.flags.transparent);
    order.flags.transparent && order.flags.preserve_argv0 && table::may_be_transparent() && (has || *CAN_SEE)
}

/// Takes flag T out of those plans where it was tried and no program ran. `attempt` tries rules: whether each ran a program. If it
/// fails, nothing could be tried, and what the handler has now decides.
pub fn settle(pending: &mut [Pending], attempt: impl FnOnce(&[(&'static Arch, Rule)]) -> Result<Vec<bool>>) {
    let wanting: Vec<&mut Pending> = pending.iter_mut().filter(|pending| pending.visible.is_some()).collect();
    if wanting.is_empty() {
        return;
    }
    let candidates: Vec<_> = wanting.iter().map(|pending| (pending.arch, pending.rule.clone())).collect();
    let tried = attempt(&candidates).ok();
    let mut tried = tried.map(Vec::into_iter);
    for pending in wanting {
        let has = pending.works && pending.current.as_ref().is_some_and(|entry| entry.flags.transparent);
        let runs = tried.as_mut().map_or(has, |tried| tried.next().unwrap_or(false));
        if let Some(visible) = pending.visible.take().filter(|_| !runs) {
            pending.rule.flags = visible;
        }
    }
}
