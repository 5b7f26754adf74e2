//! The table that is held: open, mounted, and anchored.

use std::rc::Rc;

use anyhow::Result;

use super::{Event, Hold};
use crate::kernel::anchor;
use crate::kernel::mount::{self, Mounted};
use crate::kernel::table::Lock;

impl Hold {
    /// Opens the table, if one is mounted, and follows its changes.
    pub(super) fn open(&mut self) {
        // the next look reports an error
        self.table = mount::for_holding(&self.at).ok().flatten().map(Rc::new);
        self.mark = self.table.as_ref().and_then(|table| table.hold(self.began).ok());
        if let Some(table) = &self.table {
            self.watch.follow(table);
        }
    }

    fn is_mounted(&self) -> bool {
        let table = self.table.as_deref();
        table.is_none_or(|table| mount::is_at(table, &self.at))
    }

    /// Whether the table is still mounted and, if `due`, still anchored: the kernel does not report the end of an anchor.
    pub(super) fn is_as_left(&self, due: bool) -> bool {
        let anchored = !(due && self.anchored) || anchor::is_set();
        anchored && self.is_mounted()
    }

    /// Mounts, anchors and opens the table as needed. Adds to `events` what was done.
    pub(super) fn repair_table(&mut self, events: &mut Vec<Event>) -> Result<Lock> {
        let was_mounted = self.is_mounted();
        let Mounted { lock, held_by, .. } = mount::for_installing(&self.at)?;
        if !was_mounted {
            events.push(Event::Mounted);
        }
        if self.table.is_none() || !self.is_mounted() {
            self.open();
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
