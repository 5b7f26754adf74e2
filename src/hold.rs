//! Holding: what was installed is looked at, and put back where it is gone.
//!
//! Looking is cheap, since it only reads the entries and starts nothing. What differs is mended by installing again, with
//! what works left as it is, whoever registered it. So two that hold do not fight over what they would make otherwise: each
//! is content once every platform runs.
//!
//! When to look is [`Watch`]'s, and the table's own state [`Kept`]'s. What comes of a look is returned as [`Event`]s.

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;

use crate::install::{Item, Order, install, is_hanging};
use crate::process;
use crate::survey::{Standing, Survey, takes};
use crate::table::Table;
use crate::uninstall::{Removal, uninstall_others};

mod event;
mod kept;
mod picture;
mod settle;
mod watch;

pub use event::{Event, Reason};
pub use kept::Kept;
use picture::Picture;
pub use settle::Failing;
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
    kept: Kept,
    /// How the table was after the last time that something was done about it.
    settled: Picture,
    /// What is asked for and does not run, and why.
    failing: Vec<Failing>,
    /// Whether one of those hangs, and whoever ends this is not to wait for it again.
    hangs: bool,
    /// What was waited for in vain, whoever registered it.
    hung: Vec<Standing>,
    /// Why nothing can be done at all, and how the table is meanwhile.
    refused: Option<(String, Option<Picture>)>,
}

impl Hold {
    /// Begins to hold what an install by `order` has come to, but for one thing: from now on, nothing that works is replaced.
    #[must_use]
    pub fn begin(
        order: Order,
        kept: Kept,
        mut watch: Watch,
        items: &[Item],
        survey: &Survey,
    ) -> Self {
        if let Some(table) = kept.table() {
            watch.follow(table);
        }
        let order = Order {
            keep: true,
            ..order
        };
        let arches = order.selection.arches(&ARCHES);
        let mut hold = Self {
            order,
            watch,
            kept,
            settled: Picture::of(survey, &arches),
            failing: Vec::new(),
            hangs: any_hangs(items),
            hung: survey.hung(),
            refused: None,
            arches,
        };
        hold.failing = hold.failures(items, survey, |_| false, true);
        hold
    }

    /// What runs through a handler.
    pub fn held(&self) -> impl Iterator<Item = &'static Arch> {
        let fails = |arch: &Arch| self.failing.iter().any(|(of, _)| of.qemu == arch.qemu);
        let held = move |arch: &&Arch| self.settled.handler(arch).is_some() && !fails(arch);
        self.arches.iter().copied().filter(held)
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
        self.kept.caveat()
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

    /// Looks, and mends what differs; what fails is tried again only when `due`.
    pub fn look(&mut self, due: bool) -> Vec<Event> {
        process::reap();
        let mut events = Vec::new();
        let picture = self.picture();
        let whole = self.kept.is_as_left(due) && picture.as_ref() == Some(&self.settled);
        let waits = if whole {
            self.failing.is_empty() || !due
        } else {
            let tried = self.refused.as_ref().map(|(_, before)| before);
            tried == Some(&picture) && !due
        };
        if !waits {
            self.mend(due, &mut events);
        } else if whole && self.failing.is_empty() && self.refused.take().is_some() {
            // where something fails, the next try tells
            events.push(Event::Over);
        }
        events
    }

    fn picture(&self) -> Option<Picture> {
        let table = self.kept.table();
        Picture::take(table.map(AsRef::as_ref), &self.arches).ok()
    }

    fn mend(&mut self, due: bool, events: &mut Vec<Event>) {
        match self.try_to_mend(due, events) {
            Ok(()) if self.refused.take().is_some() && events.is_empty() => {
                events.push(Event::Over);
            }
            Ok(()) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if self.refused.is_none() {
                    events.push(Event::Refused(error.clone()));
                }
                self.refused = Some((error, self.picture()));
            }
        }
    }

    /// Adds to `events` what was done. Where the table cannot be mounted, the one that is held is mended all the same.
    fn try_to_mend(&mut self, due: bool, events: &mut Vec<Event>) -> Result<()> {
        let locked = self.kept.mend(&mut self.watch, events);
        let Some(table) = self.kept.table().cloned() else {
            return locked.map(drop);
        };
        let (_lock, opened) = match locked {
            Ok(lock) => (lock, Ok(())),
            Err(refusal) => (table.lock()?, Err(refusal)),
        };
        let before = Picture::take(Some(&table), &self.arches)?;
        // unless another call has mended it meanwhile
        if before != self.settled {
            let failing = self.failing.iter().map(|(arch, _)| *arch);
            let order = Order {
                selection: self.order.selection.clone().without(failing),
                ..self.order.clone()
            };
            let (items, survey) = self.install(&table, &order)?;
            self.hangs |= any_hangs(&items);
            self.settle(&before, &items, &survey, false, events);
        }
        // apart from the others, since an emulator that hangs is waited for
        if due && !self.failing.is_empty() {
            let before = Picture::take(Some(&table), &self.arches)?;
            let others = |known: &Standing| !self.order.selection.wants(known.arch);
            self.hung.retain(others);
            let (items, survey) = self.install(&table, &self.order)?;
            self.hangs = any_hangs(&items);
            self.settle(&before, &items, &survey, true, events);
        }
        opened
    }

    /// Installs, and does so again, some times, with what fails and did not before: what was wiped out meanwhile did not run.
    /// Not with what hangs, which is not waited for again and again.
    fn install(&self, table: &Table, order: &Order) -> Result<(Vec<Item>, Survey)> {
        let (mut items, mut survey) = install(table, order, &self.hung)?;
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
            let Ok(again) = install(table, &order, &survey.hung()) else {
                break;
            };
            items = settle::later(items, again.0);
            survey = again.1;
        }
        Ok((items, survey))
    }

    /// Looks a last time, and sees to it that what keeps the handlers from now on is not this process: what did at the
    /// beginning may be gone.
    pub fn leave(&mut self) -> Vec<Event> {
        let mut events = self.look(!self.hangs);
        let kept = self.kept.mend(&mut self.watch, &mut events).map(drop);
        match (kept, &self.refused) {
            (Err(error), None) => self.refused = Some((format!("{error:#}"), self.picture())),
            // what was not tried again, for it hangs, is told for itself
            (Ok(()), Some(_)) if self.hangs && !self.failing.is_empty() => self.refused = None,
            _ => {}
        }
        events
    }

    /// Lets go of the table: of what keeps it, where no entry is left, and with `uninstall`, of QEMU's entries that take programs
    /// of what is held.
    ///
    /// # Errors
    /// When the table cannot be read or locked, or the kernel refuses.
    pub fn end(&self, uninstall: bool) -> Result<Vec<Removal>> {
        let Some(table) = self.kept.to_end()? else {
            return Ok(Vec::new());
        };
        let lock = table.lock()?;
        let is_held = |entry: &Entry| self.arches.iter().any(|arch| takes(entry, arch));
        let removals = if uninstall {
            uninstall_others(&table, |entry| !is_held(entry))?
        } else {
            Vec::new()
        };
        self.kept.tidy(&table, &lock)?;
        Ok(removals)
    }
}

fn hangs((_, result): &Item) -> bool {
    result.as_ref().is_err_and(is_hanging)
}

fn any_hangs(items: &[Item]) -> bool {
    items.iter().any(hangs)
}
