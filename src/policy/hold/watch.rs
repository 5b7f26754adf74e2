//! When to look at a table: at a change that the kernel tells of, when the interval is over, and when to end.
//!
//! One `ppoll(2)`, of [`crate::kernel::wait`]. Its timeout is of `CLOCK_MONOTONIC`, so that setting the clock does nothing to it, and time in which
//! the machine was suspended does not count.
//!
//! What inotify tells of this file system, seen on Linux 6.18 with `IN_ALL_EVENTS` on its root directory:
//!
//! | what happens | events |
//! | --- | --- |
//! | a line is written to `register` | `IN_MODIFY`, `IN_CLOSE_WRITE` of `register`; none of the new entry |
//! | `-1` to an entry | `IN_DELETE` of it, then `IN_MODIFY` and `IN_CLOSE_WRITE` |
//! | `-1` to `status` | `IN_DELETE` of each entry, then those of writing `status` |
//! | `0` or `1` to an entry or to `status` | `IN_MODIFY` and `IN_CLOSE_WRITE` of it |
//! | the last mount goes | `IN_UNMOUNT`; but who holds the table open prevents it |
//! | one of several mounts goes | none |
//! | a program is started | none |
//!
//! `IN_DELETE` depends on how a kernel takes the entry's file away. The events of writing are those of every file system
//! (`fsnotify_modify` in `vfs_write`, `fsnotify_close` in `__fput`), so they are what counts. Watches are of inodes: a change
//! that is made through any mount counts, also in another container.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::kernel::table::Table;
use crate::kernel::wait;

/// How long a change waits for others to follow, which are then looked at together: who empties the table does so entry by
/// entry.
const PAUSE: Duration = Duration::from_millis(20);

/// What to wait for.
#[derive(Debug)]
pub struct Watch {
    changes: Option<Inotify>,
    interval: Duration,
    due: Option<Instant>,
    /// When to look at changes that were heard of.
    heard: Option<Instant>,
}

/// Why to wake up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The table has changed, maybe by this process itself.
    Changed,
    /// The interval is over.
    Due,
    /// SIGTERM or SIGINT.
    Ended,
}

impl Watch {
    /// Wakes up when this process is told to end, and each time that `interval` is over.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            changes: None,
            interval,
            due: None,
            heard: None,
        }
    }

    /// Also wakes up at changes of `table`, and of no other. Where the kernel has no watch to give, it does not.
    pub fn follow(&mut self, table: &Table) {
        self.changes = follow(table).ok();
    }

    /// Whether it wakes up at changes.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.changes.is_some()
    }

    /// Sleeps until there is a reason not to. The interval begins when the last one's work is done: with the first call
    /// after it.
    ///
    /// # Errors
    /// When the kernel does not let it wait.
    pub fn wait(&mut self) -> io::Result<Woken> {
        while !wait::is_told_to_end() {
            let now = Instant::now();
            let due = *self.due.get_or_insert(now + self.interval);
            let until = self.heard.map_or(due, |heard| due.min(heard));
            let changes = self.changes.as_ref().filter(|_| self.heard.is_none());
            let changes = changes.map(AsFd::as_fd);
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

    /// Whether there were changes since the last call. Which ones does not matter: the table is looked at as a whole, afterwards.
    fn has_changed(&self) -> bool {
        let read = || self.changes.as_ref()?.read_events().ok();
        std::iter::from_fn(read).count() > 0
    }
}

fn follow(table: &Table) -> nix::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    // by number, since it need not be mounted anywhere
    let directory = format!("/proc/self/fd/{}", table.as_fd().as_raw_fd());
    let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE;
    changes.add_watch(directory.as_str(), events)?;
    Ok(changes)
}
