//! Holding: looks at what was installed, and installs again what is gone.
//!
//! A look only reads the entries and starts nothing. A repair is an install that keeps every QEMU handler that works, whoever has
//! registered it. So two processes that hold the same platforms do not undo each other's work.
//!
//! [`Watch`] decides when to look. A look returns [`Event`]s.

use std::ffi::OsString;
use std::fs::File;
use std::rc::Rc;

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use nix::time::{ClockId, clock_gettime};

use crate::kernel::anchor;
use crate::kernel::mount::{self, Lifetime, MountPoint};
use crate::kernel::process;
use crate::kernel::table::Table;
use crate::kernel::wait;
use crate::policy::install::{Item, Order, Working, install, is_timeout, later};
use crate::policy::survey::{PlatformStatus, Survey};
use crate::policy::uninstall::{Recognition, Removal, uninstall_others};

mod settle;
mod snapshot;
mod table;
mod watch;

pub use settle::Failing;
use snapshot::Snapshot;
pub use watch::{Watch, Woken};

/// How often a repair installs again what failed in it.
const REPEATS: u32 = 3;

/// A change since the last look. [`crate::output::text`] words it.
#[derive(Debug, Clone)]
pub enum Event {
    /// The table was not mounted, and now is.
    Mounted,
    /// The anchor was removed, and now is set.
    Anchored,
    /// The handlers may end before the host does; why, and what to do.
    MayEnd(String),
    /// These run again.
    Repaired(Vec<&'static Arch>, Reason),
    /// An entry of this name, which is not of this install, now runs its programs; `None`: the kernel does.
    Left(&'static Arch, Option<OsString>),
    /// Its programs do not run; why. The next try is when the interval is over.
    Fails(&'static Arch, String),
    /// Nothing can be done at present; why.
    Refused(String),
    /// Nothing could be done before, and now everything runs.
    Over,
}

/// Why something had to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No handler was in effect.
    Gone,
    /// Another handler took its programs, and did not run them.
    Hijacked,
    /// It failed before.
    Over,
}

/// What is held, and its state after the last repair.
#[derive(Debug)]
pub struct Hold {
    order: Order,
    /// The architectures of the order; of `all`, every one.
    arches: Vec<&'static Arch>,
    pub watch: Watch,
    at: MountPoint,
    lifetime: Lifetime,
    /// Kept open. `None` while none is mounted.
    table: Option<Rc<Table>>,
    /// By which other calls know that this one holds the table. `None` also where that is refused.
    mark: Option<File>,
    /// When it began, in seconds since 1970.
    began: i64,
    /// Whether there was an anchor after the last repair.
    anchored: bool,
    pub caveat: Option<String>,
    /// The handlers after the last repair.
    settled: Snapshot,
    /// The architectures that did not run after it, and why.
    pub failing: Vec<Failing>,
    /// The handlers that timed out, whoever registered them.
    timed_out: Vec<PlatformStatus>,
    /// Set while no repair is possible at all.
    pub refused: Option<Refused>,
}

/// A repair that could not even begin.
#[derive(Debug)]
pub struct Refused {
    pub why: String,
    /// The handlers at that time, if they could be read.
    snapshot: Option<Snapshot>,
}

impl Hold {
    /// Begins to hold the result of an install by `order` into the table at `at`; the install returned `caveat`. From now on, no
    /// handler that works is replaced.
    pub fn begin(
        order: Order,
        (at, lifetime): (MountPoint, Lifetime),
        watch: Watch,
        items: &[Item],
        survey: &Survey,
        caveat: Option<String>,
    ) -> Self {
        let arches = order.selection.arches(&ARCHES);
        let mut hold = Self {
            order: Order { working: Working::Keep, ..order },
            watch,
            at,
            lifetime,
            table: None,
            mark: None,
            began: clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |now| now.tv_sec()),
            anchored: anchor::is_set(),
            caveat,
            settled: Snapshot::of(survey, &arches),
            failing: Vec::new(),
            timed_out: survey.timed_out(),
            refused: None,
            arches,
        };
        hold.open();
        hold.failing = hold.failures(items, survey, |_| false, true);
        hold
    }

    /// Looks, and repairs what has changed. `due`: whether the interval is over, so that failed repairs are tried again.
    pub fn look(&mut self, due: bool) -> Vec<Event> {
        process::reap();
        let mut events = Vec::new();
        let snapshot = self.snapshot();
        let is_settled = self.is_as_left(due) && snapshot.as_ref() == Some(&self.settled);
        let acts = if is_settled {
            due && !self.failing.is_empty()
        } else {
            let tried = self.refused.as_ref().map(|refused| &refused.snapshot);
            due || tried != Some(&snapshot) || wait::is_told_to_end()
        };
        if acts {
            self.repair(due, &mut events);
        } else if is_settled && self.failing.is_empty() && self.refused.take().is_some() {
            events.push(Event::Over);
        }
        events
    }

    fn snapshot(&self) -> Option<Snapshot> {
        Snapshot::take(self.table.as_deref(), &self.arches).ok()
    }

    fn repair(&mut self, due: bool, events: &mut Vec<Event>) {
        if let Err(error) = self.try_to_repair(due, events) {
            let why = format!("{error:#}");
            // a process that is told to end reports the error at its end
            if self.refused.is_none() && !wait::is_told_to_end() {
                events.push(Event::Refused(why.clone()));
            }
            let snapshot = self.snapshot();
            self.refused = Some(Refused { why, snapshot });
        } else if self.refused.take().is_some() && events.is_empty() {
            if self.failing.is_empty() {
                events.push(Event::Over);
            }
            let failing = self.failing.iter();
            events.extend(failing.map(|(arch, why)| Event::Fails(arch, why.clone())));
        }
    }

    /// Repairs, and adds to `events` what was done. If the table cannot be mounted, the one that is held open is repaired.
    fn try_to_repair(&mut self, due: bool, events: &mut Vec<Event>) -> Result<()> {
        let locked = self.repair_table(events);
        let Some(table) = self.table.clone() else {
            return locked.map(drop);
        };
        let (_lock, mounted) = match locked {
            Ok(lock) => (lock, Ok(())),
            Err(refusal) => (table.lock()?, Err(refusal)),
        };
        let before = Snapshot::take(Some(&table), &self.arches)?;
        let retries = due && !self.failing.is_empty();
        // otherwise another call has repaired it meanwhile
        if retries || before != self.settled {
            let mut order = self.order.clone();
            if retries {
                self.timed_out.retain(|known| !order.selection.wants(known.arch));
            } else {
                let failing = self.failing.iter().map(|(arch, _)| *arch);
                order.selection = order.selection.without(failing);
            }
            let (items, survey) = self.install(&table, &order)?;
            self.settle(&before, &items, &survey, retries, events);
        }
        mounted
    }

    /// Installs. What fails and did not fail before is installed again, a few times, since another process may have removed it
    /// meanwhile; not what times out.
    fn install(&self, table: &Table, order: &Order) -> Result<(Vec<Item>, Survey)> {
        let (mut items, mut survey) = install(table, order, &self.timed_out, &mut |_| ())?;
        for _ in 0..REPEATS {
            let failing = items.iter().filter(|(_, result)| result.is_err());
            let times_out = |(_, result): &Item| result.as_ref().is_err_and(is_timeout);
            let (hopeless, fresh): (Vec<&Item>, Vec<&Item>) =
                failing.partition(|item| self.is_failing(item.0) || times_out(item));
            if fresh.is_empty() {
                break;
            }
            let hopeless = hopeless.into_iter().map(|(arch, _)| *arch);
            let order = Order { selection: order.selection.clone().without(hopeless), ..order.clone() };
            // an error now must not hide what was done before
            let Ok(again) = install(table, &order, &survey.timed_out(), &mut |_| ()) else {
                break;
            };
            items = later(items, again.0);
            survey = again.1;
        }
        Ok((items, survey))
    }

    /// Looks a last time, and makes the handlers last without this process: what kept them at the beginning may be gone.
    pub fn leave(&mut self) -> Vec<Event> {
        let mut events = self.look(false);
        let kept = self.repair_table(&mut events);
        if let (Err(error), None) = (kept, &self.refused) {
            let (why, snapshot) = (format!("{error:#}"), None);
            self.refused = Some(Refused { why, snapshot });
        }
        events
    }

    /// Ends. With `uninstall`, removes QEMU's entries for the architectures that are held. If no entry is left, also removes what
    /// keeps the table. `tell` is called with each removal. Fails when the table cannot be mounted, locked or read, and when the
    /// anchor or the mount, which keep it, cannot be removed.
    pub fn end(&self, uninstall: bool, tell: &mut dyn FnMut(&Removal)) -> Result<()> {
        let table = match &self.table {
            Some(table) => table.clone(),
            None => match mount::for_uninstalling(&self.at)? {
                Some(table) => Rc::new(table),
                None => return Ok(()),
            },
        };
        let is_held = |entry: &Entry| self.arches.iter().any(|arch| entry.matches(arch));
        // before the lock: other calls must not wait for a handler that hangs
        let recognition = if uninstall { Some(Recognition::of(&table.entries()?, is_held)) } else { None };
        let lock = table.lock()?;
        if let Some(recognition) = recognition {
            let removals = uninstall_others(Some(&table), &table.entries()?, &recognition, |entry| !is_held(entry));
            removals.iter().for_each(tell);
        }
        mount::tidy(&table, &lock, &self.at)?;
        Ok(())
    }
}
