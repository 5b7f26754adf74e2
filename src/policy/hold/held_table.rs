//! The table that is held: open, mounted, and anchored.

use std::rc::Rc;

use anyhow::Result;

use super::{Event, Watch};
use crate::kernel::anchor;
use crate::kernel::mount::{self, Lifetime, MountPoint, Mounted};
use crate::kernel::table::{Lock, Table};

/// A table, and what makes it last.
#[derive(Debug)]
pub struct HeldTable {
    pub(super) at: MountPoint,
    lifetime: Lifetime,
    /// Kept open. `None` while none is mounted.
    pub(super) table: Option<Rc<Table>>,
    /// Whether there was an anchor after the last repair.
    anchored: bool,
    /// Why the handlers may end before the host does.
    pub caveat: Option<String>,
}

impl HeldTable {
    /// The table at `at` after an install that returned `caveat`.
    pub fn new(at: MountPoint, lifetime: Lifetime, caveat: Option<String>) -> Self {
        let mut held = Self { at, lifetime, table: None, anchored: anchor::is_set(), caveat };
        held.open();
        held
    }

    fn open(&mut self) {
        // the next look reports an error
        let table = mount::for_holding(&self.at).ok().flatten();
        self.table = table.map(Rc::new);
    }

    fn is_mounted(&self) -> bool {
        let table = self.table.as_deref();
        table.is_none_or(|table| mount::is_at(table, &self.at))
    }

    /// Whether it is still mounted and, if `due`, still anchored: the kernel does not report the end of an anchor.
    pub(super) fn is_as_left(&self, due: bool) -> bool {
        let anchored = !(due && self.anchored) || anchor::is_set();
        anchored && self.is_mounted()
    }

    /// Mounts, anchors and opens the table as needed, and makes `watch` follow it. Adds to `events` what was done.
    pub(super) fn repair(&mut self, watch: &mut Watch, events: &mut Vec<Event>) -> Result<Lock> {
        let was_mounted = self.is_mounted();
        let Mounted { lock, held_by, .. } = mount::for_installing(&self.at)?;
        if !was_mounted {
            events.push(Event::Mounted);
        }
        if self.table.is_none() || !self.is_mounted() {
            self.open();
            if let Some(table) = &self.table {
                watch.follow(table);
            }
        }
        let lost = self.anchored && !anchor::is_set();
        let caveat = mount::ensure_lifetime(&self.at, held_by, self.lifetime);
        self.anchored = anchor::is_set();
        if lost && self.anchored {
            events.push(Event::Anchored);
        }
        let caveat = caveat.map(|caveat| format!("{caveat:#}"));
        let fresh = caveat.as_ref().filter(|_| caveat != self.caveat);
        events.extend(fresh.cloned().map(Event::MayEnd));
        self.caveat = caveat;
        Ok(lock)
    }
}
