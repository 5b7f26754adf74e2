//! The part of a session that holds: install, then look, mend and tell until it is told to end.
//!
//! Mending is installing again, with what works left as it is, whoever registered it. So two that hold do not fight over
//! what they would make otherwise: each is content once every platform runs.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;

use super::Session;
use crate::anchor;
use crate::cli::OnExit;
use crate::hold::{Picture, Watch, Woken};
use crate::install::{Order, install};
use crate::mount::{self, Mounted};
use crate::process;
use crate::streams::Streams;
use crate::survey::{Survey, takes};
use crate::table::{Lock, Table};
use crate::text;
use crate::uninstall::uninstall_others;

mod settle;

use settle::Failing;

/// The end of what kept anything from being done.
const OVER: &str = "mending: OK (all is as it was)";

/// How often a repair is begun anew within itself ...
const REPEATS: u32 = 3;
/// ... and for how long at most.
const REPEATING: Duration = Duration::from_secs(5);

/// What is held, and what is wrong with it.
struct Hold {
    order: Order,
    /// All that is asked for; of `all`, every architecture.
    arches: Vec<&'static Arch>,
    /// How often it is looked at, as it was written.
    interval: String,
    watch: Watch,
    /// Held open. `None` where nothing is mounted, as long as nothing needs it.
    table: Option<Rc<Table>>,
    /// How the table was after the last time that something was done about it.
    settled: Picture,
    /// What is asked for and does not run, and why.
    failing: Vec<Failing>,
    /// Whether that took so long to find out that whoever ends this is not to wait for it again.
    hangs: bool,
    /// Why nothing can be done at all, and how the table is meanwhile.
    refused: Option<(String, Option<Picture>)>,
    /// What is wrong and will stay so.
    lasting: Vec<String>,
    /// Whether there was an anchor when the table was last seen to.
    anchored: bool,
}

impl Session<'_> {
    /// Installs and stays. What cannot be installed at first is tried again, if there is anything else to hold.
    pub(super) fn hold(
        mut self,
        selection: Selection,
        streams: &mut Streams,
    ) -> Result<Option<String>> {
        let watch = Watch::start(self.cli.interval)?;
        let order = Order {
            keep: true,
            ..self.order(selection.clone())
        };
        let begin = Instant::now();
        let (items, survey) = self.install(selection, streams)?;
        let hangs = begin.elapsed() > REPEATING;
        if let Err(error) = self.show_once(&survey, streams) {
            self.missing.push(format!("{error:#}"));
        }
        if !items.iter().any(|(_, result)| result.is_ok()) {
            return Ok(self.last_line(streams));
        }
        let lasting = std::mem::take(&mut self.missing);
        self.told.clear();
        for missing in &lasting {
            streams.say(&format!("binfmt: {missing}"));
        }
        let arches = order.selection.arches(&ARCHES);
        let mut hold = Hold {
            settled: Picture::of(&survey, &arches),
            failing: Vec::new(),
            hangs,
            interval: text::interval(self.cli.interval),
            refused: None,
            lasting,
            anchored: anchor::is_set(),
            table: None,
            order,
            arches,
            watch,
        };
        hold.failing = hold.failures(&items, &survey, |_| false, true);
        hold.keep_open(&self);
        streams.say(&hold.describe());
        // what has changed before there was a watch
        hold.look(&self, false, streams);
        loop {
            match hold.watch.wait()? {
                Woken::Ended => break,
                woken => hold.look(&self, woken == Woken::Due, streams),
            }
        }
        if self.cli.on_exit == OnExit::Keep {
            hold.look(&self, !hold.hangs, streams);
            hold.leave_kept(&self, streams);
            self.told.extend(hold.complaints());
        }
        self.let_go(&hold, streams)?;
        self.told.extend(hold.lasting);
        Ok(self.last_line(streams))
    }

    /// What an install shows.
    fn show_once(&mut self, installed: &Survey, streams: &mut Streams) -> Result<()> {
        let closer = if self.shows_health() {
            Some(self.survey()?)
        } else {
            None
        };
        let shown = self.show(closer.as_ref().unwrap_or(installed), streams);
        streams.finish(shown)
    }

    /// Unless they are to be kept, removes QEMU's entries that take programs of what is held.
    fn let_go(&mut self, hold: &Hold, streams: &mut Streams) -> Result<()> {
        let table = match hold.table.clone() {
            Some(table) => table,
            None => match mount::for_uninstalling(&self.at)? {
                Some(table) => Rc::new(table),
                None => return Ok(()),
            },
        };
        let table = table.as_ref();
        let lock = table.lock()?;
        if self.cli.on_exit == OnExit::Uninstall {
            let is_held = |entry: &Entry| hold.arches.iter().any(|arch| takes(entry, arch));
            let removals = uninstall_others(table, |entry| !is_held(entry))?;
            self.report_removals(&removals, streams);
        }
        mount::tidy(table, &lock, &self.at)?;
        Ok(())
    }
}

impl Hold {
    /// `holding: arm64, arm; looking at each change and every 30s`
    fn describe(&self) -> String {
        let held = self.arches.iter().copied();
        let held = names(held.filter(|arch| self.settled.handler(arch).is_some()));
        let held = if held.is_empty() { "nothing" } else { &held };
        let often = if self.watch.follows() {
            "at each change and "
        } else {
            ""
        };
        let failing = names(self.failing.iter().map(|(arch, _)| *arch));
        let failing = if failing.is_empty() {
            failing
        } else {
            format!("; trying again: {failing}")
        };
        format!(
            "holding: {held}{failing}; looking {often}every {}",
            self.interval
        )
    }

    fn keep_open(&mut self, session: &Session) {
        // what keeps it from being opened is seen at the next look
        let table = mount::for_holding(&session.at).ok().flatten();
        self.table = table.map(Rc::new);
        if let Some(table) = &self.table {
            self.watch.follow(table);
        }
    }

    /// Looks, and mends what differs; what fails is tried again only when `due`.
    fn look(&mut self, session: &Session, due: bool, streams: &mut Streams) {
        process::reap();
        let picture = self.picture();
        // nothing tells of an anchor's end
        let anchored = !(due && self.anchored) || anchor::is_set();
        let whole = anchored && picture.as_ref() == Some(&self.settled) && self.is_mounted(session);
        if whole && self.refused.take().is_some() {
            streams.say(OVER);
        }
        let waits = if whole {
            self.failing.is_empty() || !due
        } else {
            let tried = self.refused.as_ref().map(|(_, before)| before);
            tried == Some(&picture) && !due
        };
        if !waits {
            self.mend(session, due, streams);
        }
    }

    fn picture(&self) -> Option<Picture> {
        Picture::take(self.table.as_deref(), &self.arches).ok()
    }

    fn is_mounted(&self, session: &Session) -> bool {
        let table = self.table.as_deref();
        table.is_none_or(|table| mount::is_at(table, &session.at))
    }

    fn mend(&mut self, session: &Session, due: bool, streams: &mut Streams) {
        let mut lines = Vec::new();
        match self.try_to_mend(session, due, &mut lines) {
            Ok(()) if self.refused.take().is_some() && lines.is_empty() => lines.push(OVER.into()),
            Ok(()) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if self.refused.is_none() {
                    lines.push(format!("mending: not yet: {error}; {}", self.again()));
                }
                self.refused = Some((error, self.picture()));
            }
        }
        for line in &lines {
            streams.say(line);
        }
    }

    fn again(&self) -> String {
        format!("tried again every {}", self.interval)
    }

    /// Adds to `lines` what was done. Where the table cannot be mounted, the one that is held is mended all the same.
    fn try_to_mend(&mut self, session: &Session, due: bool, lines: &mut Vec<String>) -> Result<()> {
        let locked = self.open_again(session, lines);
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
            self.install_again(&table, &before, lines)?;
        }
        // apart from the others, since an emulator that hangs is waited for
        if due && !self.failing.is_empty() {
            let before = Picture::take(Some(&table), &self.arches)?;
            let begin = Instant::now();
            let (items, survey) = install(&table, &self.order)?;
            self.hangs = begin.elapsed() > REPEATING;
            lines.extend(self.settle(&before, &items, &survey, true));
        }
        opened
    }

    /// Installs all but what is known to fail, and does so again, some times, while more fails: what was wiped out meanwhile
    /// did not run.
    fn install_again(
        &mut self,
        table: &Table,
        before: &Picture,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let failing = self.failing.iter().map(|(arch, _)| *arch);
        let order = Order {
            selection: self.order.selection.clone().without(failing),
            ..self.order.clone()
        };
        let begin = Instant::now();
        let (mut items, mut survey) = install(table, &order)?;
        // an emulator that hangs is not waited for again and again
        for _ in 0..REPEATS {
            if !self.fails_anew(&items) || begin.elapsed() > REPEATING {
                break;
            }
            let again = install(table, &order)?;
            items = settle::later(items, again.0);
            survey = again.1;
        }
        self.hangs |= begin.elapsed() > REPEATING;
        lines.extend(self.settle(before, &items, &survey, false));
        Ok(())
    }

    /// Sees to it that the table is mounted, kept and held.
    fn open_again(&mut self, session: &Session, lines: &mut Vec<String>) -> Result<Lock> {
        let was_mounted = self.is_mounted(session);
        let Mounted { lock, keeper, .. } = mount::for_installing(&session.at)?;
        if !was_mounted {
            let dir = session.at.dir.display();
            lines.push(format!("mending: {dir} OK (it was not mounted)"));
        }
        if self.table.is_none() || !self.is_mounted(session) {
            self.keep_open(session);
        }
        let lost = self.anchored && !anchor::is_set();
        let caveat = session.keep(keeper);
        self.anchored = anchor::is_set();
        if lost && self.anchored {
            lines.push("mending: the anchor OK (it was removed)".to_owned());
        }
        if let Some(caveat) = caveat.map(|caveat| format!("{caveat:#}")) {
            if !self.lasting.contains(&caveat) {
                lines.push(format!("binfmt: {caveat}"));
                self.lasting.push(caveat);
            }
        }
        Ok(lock)
    }

    /// Sees to it that what keeps the handlers from now on is not this process: what did at the beginning may be gone.
    fn leave_kept(&mut self, session: &Session, streams: &mut Streams) {
        let mut lines = Vec::new();
        let kept = self.open_again(session, &mut lines).map(drop);
        for line in &lines {
            streams.say(line);
        }
        if let (Err(error), None) = (kept, &self.refused) {
            self.refused = Some((format!("{error:#}"), self.picture()));
        }
    }

    /// What is not as asked for.
    fn complaints(&self) -> Vec<String> {
        let complain =
            |(arch, reason): &Failing| format!("{} is not installed: {reason}", arch.oci);
        let failing = self.failing.iter().map(complain);
        let refused = self.refused.iter().map(|(error, _)| error.clone());
        failing.chain(refused).collect()
    }
}

fn names(arches: impl Iterator<Item = &'static Arch>) -> String {
    let names: Vec<&str> = arches.map(|arch| arch.oci).collect();
    names.join(", ")
}
