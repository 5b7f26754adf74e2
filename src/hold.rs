//! Holding: what was installed is looked at, and put back where it is gone.
//!
//! Looking is cheap, since it only reads the entries and starts nothing. What differs is mended by installing
//! again, with what works left as it is, whoever registered it. So two that hold do not fight over what they would make
//! otherwise: each is content once every platform runs.
//!
//! When to look is [`Watch`]'s. What comes of it is returned as [`Event`]s.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;

use crate::anchor;
use crate::install::{Item, Order, install};
use crate::mount::{self, Lifetime, MountPoint, Mounted};
use crate::process;
use crate::survey::{Standing, Survey, takes};
use crate::table::{Lock, Table};
use crate::uninstall::{Removal, uninstall_others};

mod event;
mod picture;
mod settle;
mod watch;

pub use event::{Event, Reason};
use picture::Picture;
pub use settle::Failing;
pub use watch::{Watch, Woken};

/// How often a repair is begun anew within itself ...
const REPEATS: u32 = 3;
/// ... and for how long at most. What takes longer has an emulator that hangs.
const REPEATING: Duration = Duration::from_secs(5);

/// What is held, and what is wrong with it.
#[derive(Debug)]
pub struct Hold {
    order: Order,
    at: MountPoint,
    lifetime: Lifetime,
    /// All that is asked for; of `all`, every architecture.
    arches: Vec<&'static Arch>,
    watch: Watch,
    /// Held open. `None` where nothing is mounted, as long as nothing needs it.
    table: Option<Rc<Table>>,
    /// How the table was after the last time that something was done about it.
    settled: Picture,
    failing: Vec<Failing>,
    /// Whether that took so long to find out that whoever ends this is not to wait for it again.
    hangs: bool,
    /// What was waited for in vain, whoever registered it.
    hung: Vec<Standing>,
    /// Why nothing can be done at all, and how the table is meanwhile.
    refused: Option<(String, Option<Picture>)>,
    /// Why the handlers may end before the host does.
    caveats: Vec<String>,
    /// Whether there was an anchor when the table was last seen to.
    anchored: bool,
}

/// The install that holding begins with.
#[derive(Debug)]
pub struct Installed {
    /// What became of each.
    pub items: Vec<Item>,
    /// How the host stands afterwards.
    pub survey: Survey,
    /// How long it took.
    pub took: Duration,
    /// What is wrong with it and will stay so.
    pub caveats: Vec<String>,
}

impl Hold {
    /// Begins to hold what was installed at `at` by `order`, but for one thing: now, nothing that works is replaced.
    #[must_use]
    pub fn begin(
        order: Order,
        at: MountPoint,
        lifetime: Lifetime,
        watch: Watch,
        installed: Installed,
    ) -> Self {
        let Installed {
            items,
            survey,
            took,
            caveats,
        } = installed;
        let arches = order.selection.arches(&ARCHES);
        let mut hold = Self {
            order: Order {
                keep: true,
                ..order
            },
            at,
            lifetime,
            watch,
            table: None,
            settled: Picture::of(&survey, &arches),
            failing: Vec::new(),
            hangs: took > REPEATING,
            hung: survey.hung(),
            refused: None,
            caveats,
            anchored: anchor::is_set(),
            arches,
        };
        hold.failing = hold.failures(&items, &survey, |_| false, true);
        hold.keep_open();
        hold
    }

    /// What there is a handler for.
    pub fn held(&self) -> impl Iterator<Item = &'static Arch> {
        let arches = self.arches.iter().copied();
        arches.filter(|arch| self.settled.handler(arch).is_some())
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

    /// Why the handlers may end before the host does.
    #[must_use]
    pub fn caveats(&self) -> &[String] {
        &self.caveats
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

    fn keep_open(&mut self) {
        // what keeps it from being opened is seen at the next look
        let table = mount::for_holding(&self.at).ok().flatten();
        self.table = table.map(Rc::new);
        if let Some(table) = &self.table {
            self.watch.follow(table);
        }
    }

    /// Looks, and mends what differs; what fails is tried again only when `due`.
    pub fn look(&mut self, due: bool) -> Vec<Event> {
        process::reap();
        let picture = self.picture();
        // nothing tells of an anchor's end
        let anchored = !(due && self.anchored) || anchor::is_set();
        let whole = anchored && picture.as_ref() == Some(&self.settled) && self.is_mounted();
        let mut events = Vec::new();
        if whole && self.refused.take().is_some() {
            events.push(Event::Over);
        }
        let waits = if whole {
            self.failing.is_empty() || !due
        } else {
            let tried = self.refused.as_ref().map(|(_, before)| before);
            tried == Some(&picture) && !due
        };
        if !waits {
            self.mend(due, &mut events);
        }
        events
    }

    fn picture(&self) -> Option<Picture> {
        Picture::take(self.table.as_deref(), &self.arches).ok()
    }

    fn is_mounted(&self) -> bool {
        let table = self.table.as_deref();
        table.is_none_or(|table| mount::is_at(table, &self.at))
    }

    fn mend(&mut self, due: bool, events: &mut Vec<Event>) {
        let told = events.len();
        match self.try_to_mend(due, events) {
            Ok(()) if self.refused.take().is_some() && events.len() == told => {
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
        let locked = self.open_again(events);
        let Some(table) = self.table.clone() else {
            return locked.map(drop);
        };
        let (_lock, opened) = match locked {
            Ok(lock) => (lock, Ok(())),
            Err(refusal) => (table.lock()?, Err(refusal)),
        };
        let before = Picture::take(Some(&table), &self.arches)?;
        // unless another call has mended it meanwhile
        if before != self.settled {
            self.install_again(&table, &before, events)?;
        }
        // apart from the others, since an emulator that hangs is waited for
        if due && !self.failing.is_empty() {
            let before = Picture::take(Some(&table), &self.arches)?;
            let others = |known: &Standing| !self.order.selection.wants(known.arch);
            self.hung.retain(others);
            let begin = Instant::now();
            let (items, survey) = install(&table, &self.order, &self.hung)?;
            self.hangs = begin.elapsed() > REPEATING;
            self.settle(&before, &items, &survey, true, events);
        }
        opened
    }

    /// Installs all but what is known to fail, and does so again, some times, while more fails: what was wiped out meanwhile
    /// did not run.
    fn install_again(
        &mut self,
        table: &Table,
        before: &Picture,
        events: &mut Vec<Event>,
    ) -> Result<()> {
        let failing = self.failing.iter().map(|(arch, _)| *arch);
        let order = Order {
            selection: self.order.selection.clone().without(failing),
            ..self.order.clone()
        };
        let begin = Instant::now();
        let (mut items, mut survey) = install(table, &order, &self.hung)?;
        // an emulator that hangs is not waited for again and again
        for _ in 0..REPEATS {
            if !self.fails_anew(&items) || begin.elapsed() > REPEATING {
                break;
            }
            let again = install(table, &order, &survey.hung())?;
            items = settle::later(items, again.0);
            survey = again.1;
        }
        self.hangs |= begin.elapsed() > REPEATING;
        self.settle(before, &items, &survey, false, events);
        Ok(())
    }

    /// Sees to it that the table is mounted, kept and held.
    fn open_again(&mut self, events: &mut Vec<Event>) -> Result<Lock> {
        let was_mounted = self.is_mounted();
        let Mounted { lock, keeper, .. } = mount::for_installing(&self.at)?;
        if !was_mounted {
            events.push(Event::Mounted);
        }
        if self.table.is_none() || !self.is_mounted() {
            self.keep_open();
        }
        let lost = self.anchored && !anchor::is_set();
        let caveat = mount::keep(&self.at, keeper, self.lifetime);
        self.anchored = anchor::is_set();
        if lost && self.anchored {
            events.push(Event::Anchored);
        }
        if let Some(caveat) = caveat.map(|caveat| format!("{caveat:#}")) {
            if !self.caveats.contains(&caveat) {
                events.push(Event::MayEnd(caveat.clone()));
                self.caveats.push(caveat);
            }
        }
        Ok(lock)
    }

    /// Looks a last time, and sees to it that what keeps the handlers from now on is not this process: what did at the
    /// beginning may be gone.
    pub fn leave(&mut self) -> Vec<Event> {
        let mut events = self.look(!self.hangs);
        if let (Err(error), None) = (self.open_again(&mut events), &self.refused) {
            self.refused = Some((format!("{error:#}"), self.picture()));
        }
        events
    }

    /// Lets go of the table: of what keeps it, where no entry is left, and with `uninstall`, of QEMU's entries that take programs
    /// of what is held.
    ///
    /// # Errors
    /// When the table cannot be read or locked, or the kernel refuses.
    pub fn end(&self, uninstall: bool) -> Result<Vec<Removal>> {
        let table = match self.table.clone() {
            Some(table) => table,
            None => match mount::for_uninstalling(&self.at)? {
                Some(table) => Rc::new(table),
                None => return Ok(Vec::new()),
            },
        };
        let lock = table.lock()?;
        let is_held = |entry: &Entry| self.arches.iter().any(|arch| takes(entry, arch));
        let removals = if uninstall {
            uninstall_others(&table, |entry| !is_held(entry))?
        } else {
            Vec::new()
        };
        mount::tidy(&table, &lock, &self.at)?;
        Ok(removals)
    }
}
