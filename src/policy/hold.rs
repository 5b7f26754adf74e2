//! Holding: what was installed is looked at, and put back where it is gone.
//!
//! Looking is cheap, since it only reads the entries and starts nothing. What differs is repaired by installing again, with
//! what works left as it is, whoever registered it. So two that hold do not fight over what they would make otherwise: each
//! is content once every platform runs.
//!
//! When to look is [`Watch`]'s, and the table's own state [`HeldTable`]'s. What comes of a look is returned as [`Event`]s.

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;

use crate::kernel::process;
use crate::kernel::table::Table;
use crate::kernel::wait;
use crate::policy::install::{Item, Order, Working, install, is_timeout, later};
use crate::policy::survey::{PlatformStatus, Survey, takes};
use crate::policy::uninstall::{Removal, uninstall_others};

mod event;
mod held_table;
mod settle;
mod snapshot;
mod watch;

pub use event::{Event, Reason};
pub use held_table::HeldTable;
pub use settle::Failing;
use snapshot::Snapshot;
pub use watch::{Watch, Woken};

/// How often a repair is begun anew within itself.
const REPEATS: u32 = 3;

/// What is held, and what is wrong with it.
#[derive(Debug)]
pub struct Hold {
    order: Order,
    /// All that is asked for; of `all`, every architecture.
    arches: Vec<&'static Arch>,
    watch: Watch,
    table: HeldTable,
    /// How the table was after the last time that something was done about it.
    settled: Snapshot,
    /// What is asked for and does not run, and why.
    failing: Vec<Failing>,
    /// What has timed out, whoever registered it.
    timed_out: Vec<PlatformStatus>,
    /// Why nothing can be done at all, and how the table is meanwhile.
    refused: Option<(String, Option<Snapshot>)>,
}

impl Hold {
    /// Begins to hold what an install by `order` has come to, with one difference: from now on, nothing that works is replaced.
    #[must_use]
    pub fn begin(
        order: Order,
        table: HeldTable,
        mut watch: Watch,
        items: &[Item],
        survey: &Survey,
    ) -> Self {
        if let Some(table) = table.table() {
            watch.follow(table);
        }
        let order = Order {
            working: Working::Keep,
            ..order
        };
        let arches = order.selection.arches(&ARCHES);
        let mut hold = Self {
            order,
            watch,
            table,
            settled: Snapshot::of(survey, &arches),
            failing: Vec::new(),
            timed_out: survey.timed_out(),
            refused: None,
            arches,
        };
        hold.failing = hold.failures(items, survey, |_| false, true);
        hold
    }

    /// What is asked for and does not run, and why.
    #[must_use]
    pub fn failing(&self) -> &[Failing] {
        &self.failing
    }

    /// Why nothing can be done at all, if that is so.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|(why, _)| why.as_str())
    }

    /// Why the handlers may end before the host does, if so, and what to do.
    #[must_use]
    pub fn caveat(&self) -> Option<&str> {
        self.table.caveat()
    }

    /// Whether changes are heard of, or only seen when the interval is over.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.watch.follows()
    }

    /// Waits for a reason to look, or to end.
    ///
    /// # Errors
    /// Those of [`Watch::wait`].
    pub fn wait(&mut self) -> std::io::Result<Woken> {
        self.watch.wait()
    }

    /// Looks, and repairs what differs; what fails is tried again only when `due`.
    pub fn look(&mut self, due: bool) -> Vec<Event> {
        process::reap();
        let mut events = Vec::new();
        let snapshot = self.snapshot();
        let whole = self.table.is_as_left(due) && snapshot.as_ref() == Some(&self.settled);
        let waits = if whole {
            self.failing.is_empty() || !due
        } else {
            let tried = self.refused.as_ref().map(|(_, before)| before);
            tried == Some(&snapshot) && !due && !wait::is_told_to_end()
        };
        if !waits {
            self.repair(due, &mut events);
        } else if whole && self.failing.is_empty() && self.refused.take().is_some() {
            // where something fails, the next try tells
            events.push(Event::Over);
        }
        events
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let table = self.table.table();
        Snapshot::take(table.map(AsRef::as_ref), &self.arches).ok()
    }

    fn repair(&mut self, due: bool, events: &mut Vec<Event>) {
        if let Err(error) = self.try_to_repair(due, events) {
            let error = format!("{error:#}");
            // whoever is told to end tells it at the end
            if self.refused.is_none() && !wait::is_told_to_end() {
                events.push(Event::Refused(error.clone()));
            }
            self.refused = Some((error, self.snapshot()));
        } else if self.refused.take().is_some() && events.is_empty() {
            if self.failing.is_empty() {
                events.push(Event::Over);
            }
            let failing = self.failing.iter();
            events.extend(failing.map(|(arch, why)| Event::Fails(arch, why.clone())));
        }
    }

    /// Adds to `events` what was done. Where the table cannot be mounted, the one that is held is repaired all the same.
    fn try_to_repair(&mut self, due: bool, events: &mut Vec<Event>) -> Result<()> {
        let locked = self.table.repair(&mut self.watch, events);
        let Some(table) = self.table.table().cloned() else {
            return locked.map(drop);
        };
        let (_lock, mounted) = match locked {
            Ok(lock) => (lock, Ok(())),
            Err(refusal) => (table.lock()?, Err(refusal)),
        };
        let before = Snapshot::take(Some(&table), &self.arches)?;
        let retries = due && !self.failing.is_empty();
        // else another call has repaired it meanwhile
        if retries || before != self.settled {
            let mut order = self.order.clone();
            if retries {
                self.timed_out
                    .retain(|known| !order.selection.wants(known.arch));
            } else {
                let failing = self.failing.iter().map(|(arch, _)| *arch);
                order.selection = order.selection.without(failing);
            }
            let (items, survey) = self.install(&table, &order)?;
            self.settle(&before, &items, &survey, retries, events);
        }
        mounted
    }

    /// Installs, and does so again, some times, with what fails and did not before: what was wiped out meanwhile did not run.
    /// Not with what hangs, which is not waited for again and again.
    fn install(&self, table: &Table, order: &Order) -> Result<(Vec<Item>, Survey)> {
        let (mut items, mut survey) = install(table, order, &self.timed_out, &mut |_| ())?;
        for _ in 0..REPEATS {
            let failing = items.iter().filter(|(_, result)| result.is_err());
            let (hopeless, fresh): (Vec<&Item>, Vec<&Item>) =
                failing.partition(|item| self.is_known_to_fail(item.0) || hangs(item));
            if fresh.is_empty() {
                break;
            }
            let hopeless = hopeless.into_iter().map(|(arch, _)| *arch);
            let order = Order {
                selection: order.selection.clone().without(hopeless),
                ..order.clone()
            };
            // what was done before is not to be forgotten over an error now
            let Ok(again) = install(table, &order, &survey.timed_out(), &mut |_| ()) else {
                break;
            };
            items = later(items, again.0);
            survey = again.1;
        }
        Ok((items, survey))
    }

    /// Looks a last time, and sees to it that what keeps the handlers from now on is not this process: what did at the
    /// beginning may be gone.
    pub fn leave(&mut self) -> Vec<Event> {
        let mut events = self.look(false);
        let kept = self.table.repair(&mut self.watch, &mut events);
        if let (Err(error), None) = (kept, &self.refused) {
            self.refused = Some((format!("{error:#}"), None));
        }
        events
    }

    /// Lets go of the table: of what keeps it, where no entry is left, and with `uninstall`, of QEMU's entries that take programs
    /// of what is held.
    ///
    /// # Errors
    /// When the table cannot be read or locked, or the kernel refuses.
    pub fn end(&self, uninstall: bool) -> Result<Vec<Removal>> {
        let Some(table) = self.table.to_end()? else {
            return Ok(Vec::new());
        };
        let lock = table.lock()?;
        let is_held = |entry: &Entry| self.arches.iter().any(|arch| takes(entry, arch));
        let removals = if uninstall {
            uninstall_others(&table, |entry| !is_held(entry))?
        } else {
            Vec::new()
        };
        self.table.tidy(&table, &lock)?;
        Ok(removals)
    }
}

fn hangs((_, result): &Item) -> bool {
    result.as_ref().is_err_and(is_timeout)
}
