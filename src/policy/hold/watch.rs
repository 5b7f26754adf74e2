//! When to look at a table, and when to end: when the kernel reports a change, and when the interval is over.
//!
//! One `ppoll(2)`, in [`crate::kernel::wait`]. Its timeout uses `CLOCK_MONOTONIC`, which does not change with the wall clock and
//! stands still while the machine is suspended.
//!
//! The inotify events of this file system, on Linux 6.18 with `IN_ALL_EVENTS` on its root directory:
//!
//! | what happens | events |
//! | --- | --- |
//! | a line is written to `register` | `IN_MODIFY`, `IN_CLOSE_WRITE` of `register`; none for the new entry |
//! | `-1` to an entry | `IN_DELETE` of it, then `IN_MODIFY` and `IN_CLOSE_WRITE` |
//! | `-1` to `status` | `IN_DELETE` of each entry, then those of writing `status` |
//! | `0` or `1` to an entry or to `status` | `IN_MODIFY` and `IN_CLOSE_WRITE` of it |
//! | the last mount ends | `IN_UNMOUNT`; an open table prevents it |
//! | one of several mounts ends | none |
//! | a program is started | none |
//!
//! `IN_DELETE` depends on how a kernel removes the entry's file. All file systems have the events of writing (`fsnotify_modify` in
//! `vfs_write`, `fsnotify_close` in `__fput`), so those are used. A watch is on an inode: it reports changes through any mount, also
//! in another container.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::kernel::process::path_of;
use crate::kernel::table::Table;
use crate::kernel::wait;

/// How long to wait for further changes after one, to look at them together: a table is emptied entry by entry.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for changes, for the interval and for the end.
#[derive(Debug)]
pub struct Watch {
    changes: Option<Inotify>,
    interval: Duration,
    due: Option<Instant>,
    /// When to look at the changes that the kernel has reported.
    heard: Option<Instant>,
}

/// Why [`Watch::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The table has changed, maybe by this process itself.
    Changed,
    /// The interval is over.
    Due,
    /// This process is told to end: SIGTERM, SIGINT or SIGHUP.
    Ended,
}

impl Watch {
    /// Wakes up each time that `interval` is over, and when this process is told to end.
    pub fn new(interval: Duration) -> Self {
        Self { changes: None, interval, due: None, heard: None }
    }

    /// From now on also wakes up at changes of `table`, unless the kernel refuses the watch.
    pub fn follow(&mut self, table: &Table) {
        self.changes = follow(table).ok();
    }

    pub fn follows(&self) -> bool {
        self.changes.is_some()
    }

    /// Sleeps until there is a reason to wake up. The interval begins with the first call after the last one ended. Fails when
    /// `ppoll(2)` does.
    pub fn wait(&mut self) -> io::Result<Woken> {
        while !wait::is_told_to_end() {
            let now = Instant::now();
            let due = *self.due.get_or_insert(now + self.interval);
            let until = self.heard.map_or(due, |heard| due.min(heard));
            let changes = self.changes.as_ref().filter(|_| self.heard.is_none()).map(AsFd::as_fd);
            wait::sleep(changes, until.saturating_duration_since(now))?;
            let now = Instant::now();
            if self.heard.is_none() && self.has_changed() {
                self.heard = Some(now + PAUSE);
            }
            if now >= due {
                self.due = None;
                return Ok(Woken::Due);
            }
            if self.heard.is_some_and(|heard| now >= heard) {
                self.heard = None;
                self.has_changed();
                return Ok(Woken::Changed);
            }
        }
        Ok(Woken::Ended)
    }

    /// Whether there were changes since the last call. Which ones does not matter: a look covers the whole table.
    fn has_changed(&self) -> bool {
        let read = || self.changes.as_ref()?.read_events().ok();
        std::iter::from_fn(read).count() > 0
    }
}

fn follow(table: &Table) -> nix::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // by its descriptor, since it may not be mounted anywhere
    let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
    changes.add_watch(&path_of(&table.as_fd()), events)?;
    Ok(changes)
}
