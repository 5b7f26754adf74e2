//! What runs here, and through what: the table's entries and the probes' answers, put together per architecture.
//!
//! Reads and runs, changes nothing. Every policy module starts from a [`Survey`]; none of them trusts an entry that
//! no probe has gone through.

use std::ffi::OsStr;
use std::fs::File;
use std::time::Duration;

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::probe::{self, Reading};

use crate::emulator::complaint::{Complaint, Limits};
use crate::helper::probes::{self, Form, Job, LIMIT, ProbeOutcome, Ran, Run, is_trial, mark};
use crate::kernel::table::Table;

mod failure;
mod one;
mod recognised;
mod timed_out;

pub use failure::Failure;
pub use one::{of_one, of_one_here};
pub use recognised::{Recognised, qemu_in};

/// What one architecture's probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Programs run.
    Works {
        /// Micro-architecture level: 1 to 4 on amd64, else 1.
        level: u8,
        /// Whether a program sees the `argv[0]` that its caller chose (flag P at work).
        argv0: bool,
        /// Processor time of one start, in microseconds.
        micros: u64,
    },
    /// Programs do not run.
    Fails(Failure),
}

/// One architecture on this host.
#[derive(Debug, Clone)]
pub struct PlatformStatus {
    /// The architecture.
    pub arch: &'static Arch,
    /// The entry that takes its programs: of all that match and are switched on the newest; if none is, one that is off.
    pub handler: Option<Entry>,
    /// The file that the kernel ran: of a handler, its pinned interpreter.
    pub ran: Ran,
    /// Whether the handler gives setuid programs their owner's privilege (flag C at work), if that was looked at and
    /// can be seen.
    pub setuid: Option<bool>,
    /// What the probe showed.
    pub verdict: Verdict,
}

/// All of it.
#[derive(Debug)]
pub struct Survey {
    /// The table, the newest entry first. Empty if there is none.
    pub entries: Vec<Entry>,
    /// Entries that trials of a killed call have left.
    pub trials: Vec<Entry>,
    /// Whether the table is switched on.
    pub enabled: bool,
    /// Every architecture, in the order of [`ARCHES`].
    pub statuses: Vec<PlatformStatus>,
    /// Handlers whose file shows that they are QEMU's.
    pub recognised: Recognised,
}

impl Survey {
    /// Looks at `table` and runs, all at once, the probe of every architecture that has a handler, or that a kernel for
    /// this host may run natively. No other can run, and trying would make the kernel look for a module each time
    /// (`request_module` in `search_binary_handler`). Without a table to look at, all are tried.
    ///
    /// # Errors
    /// When the table cannot be read or probes cannot be run at all.
    pub fn take(table: Option<&Table>) -> Result<Self> {
        TableSnapshot::of(table, &[])?.survey(false)
    }

    /// The same, after surveys that found `timed_out` ([`Survey::timed_out`]): a handler that timed out is not waited for again,
    /// as long as it is that registration.
    ///
    /// # Errors
    /// Those of [`Survey::take`].
    pub fn take_after(table: &Table, timed_out: &[PlatformStatus]) -> Result<Self> {
        Self::take_within(LIMIT, table, timed_out)
    }

    /// The same, where each handler may take as long as `limit`.
    ///
    /// # Errors
    /// Those of [`Survey::take`].
    pub fn take_within(
        limit: Duration,
        table: &Table,
        timed_out: &[PlatformStatus],
    ) -> Result<Self> {
        let snapshot = TableSnapshot::of(Some(table), timed_out)?;
        TableSnapshot { limit, ..snapshot }.survey(false)
    }

    /// The same as [`Survey::take`], and starts each handler once more to see what it does with credentials.
    ///
    /// # Errors
    /// Those of [`Survey::take`].
    pub fn take_closely(table: Option<&Table>) -> Result<Self> {
        TableSnapshot::of(table, &[])?.survey(true)
    }

    /// What [`without_handlers`] tells, from what was seen already where no handler was in the way.
    ///
    /// # Errors
    /// When probes cannot be run at all.
    pub fn natively(&self) -> Result<Vec<(&'static Arch, Verdict)>> {
        let native = self.statuses.iter().filter(|s| may_be_native(s.arch));
        let seen: Option<Vec<_>> = native.map(PlatformStatus::without_handler).collect();
        seen.map_or_else(|| without_handlers(&self.entries), Ok)
    }

    /// The whole table, what trials have left included.
    #[must_use]
    pub fn table(&self) -> Vec<Entry> {
        let entries = self.entries.iter().chain(&self.trials);
        entries.cloned().collect()
    }

    /// Whether `entry` is one of QEMU's user emulators: by its text, or by the file that the kernel has pinned for it.
    #[must_use]
    pub fn is_qemu(&self, entry: &Entry) -> bool {
        self.recognised.is_qemu(entry)
    }

    /// The status of `arch`.
    ///
    /// # Panics
    /// Never: a survey covers every row of the table.
    #[must_use]
    pub fn of(&self, arch: &Arch) -> &PlatformStatus {
        let found = self.statuses.iter().find(|s| s.arch == arch);
        found.expect("a survey covers every architecture")
    }
}

/// What the table shows before anything has run.
struct TableSnapshot<'a> {
    table: Option<&'a Table>,
    entries: Vec<Entry>,
    trials: Vec<Entry>,
    enabled: bool,
    limits: Limits,
    /// How long a probe may take.
    limit: Duration,
    /// Handlers that timed out in surveys before this one.
    timed_out: &'a [PlatformStatus],
}

impl<'a> TableSnapshot<'a> {
    fn of(table: Option<&'a Table>, timed_out: &'a [PlatformStatus]) -> Result<Self> {
        let entries = table.map(Table::entries).transpose()?.unwrap_or_default();
        let (trials, entries) = entries.into_iter().partition(|entry| is_trial(&entry.name));
        let enabled = table.map_or(Ok(true), Table::enabled)?;
        Ok(Self {
            table,
            entries,
            trials,
            enabled,
            limits: Limits::of_this_process(),
            limit: LIMIT,
            timed_out,
        })
    }

    fn handler_of(&self, arch: &Arch) -> Option<&Entry> {
        let header = arch.header();
        let mut entries = self.entries.iter().filter(|_| self.enabled);
        entries.find(|entry| entry.takes(&header, OsStr::new(arch.qemu)))
    }

    fn survey(self, closely: bool) -> Result<Survey> {
        // what a newer kernel's entry takes is not to be told from its text
        let unclear = |entry: &Entry| entry.enabled && entry.matcher.is_none();
        let any = self.table.is_none() || self.entries.iter().any(unclear);
        let can_run = |arch: &Arch| any || may_be_native(arch) || self.handler_of(arch).is_some();
        let worth = |arch: &&Arch| can_run(arch) && self.known_to_hang(arch).is_none();
        let arches: Vec<&'static Arch> = ARCHES.iter().filter(worth).collect();
        let job = |form| move |arch: &&'static Arch| Job { arch, form };
        let mut jobs: Vec<Job> = arches.iter().map(job(Form::Plain)).collect();
        if closely {
            jobs.extend(self.showing_credentials(&arches).map(job(Form::Setuid)));
        }
        let mut runs = probes::run_within(self.limit, &jobs)?;
        let honoured = Honoured::of(&jobs[arches.len()..], &runs.split_off(arches.len()));
        let mut runs = arches.iter().zip(runs).peekable();
        let statuses = ARCHES.iter().map(|arch| {
            let run = runs.next_if(|(ran, _)| **ran == arch);
            let known = self.known_to_hang(arch).cloned();
            known.unwrap_or_else(|| self.status(arch, run.map(|(_, run)| run), &honoured))
        });
        let mut statuses: Vec<PlatformStatus> = statuses.collect();
        let seen = statuses.iter().map(|s| (s.handler.as_ref(), &s.ran));
        let recognised = Recognised::among(seen);
        find_hijacked(&mut statuses, &self.entries)?;
        Ok(Survey {
            statuses,
            recognised,
            entries: self.entries,
            trials: self.trials,
            enabled: self.enabled,
        })
    }

    /// Of `arches`, those that show what the kernel does with setuid programs: one that it runs itself, and one of a handler
    /// with flag C. It does the same for all of these.
    fn showing_credentials<'b>(
        &self,
        arches: &'b [&'static Arch],
    ) -> impl Iterator<Item = &'b &'static Arch> {
        let handler = |arch: &&&'static Arch| self.handler_of(arch);
        let native = |arch: &&&'static Arch| may_be_native(arch) && handler(arch).is_none();
        let with_flag = |arch: &&&'static Arch| handler(arch).is_some_and(|h| h.flags.credentials);
        let (native, with_flag) = (arches.iter().find(native), arches.iter().find(with_flag));
        native.into_iter().chain(with_flag)
    }

    fn status(&self, arch: &'static Arch, run: Option<Run>, honoured: &Honoured) -> PlatformStatus {
        let handler = self.handler_of(arch);
        let pinned = handler.map(|entry| entry.flags.fix_binary);
        let no_handler = Verdict::Fails(Failure::NoHandler);
        let verdict = run.as_ref().map_or(no_handler, |run| {
            Verdict::of(arch, pinned, run, self.limits)
        });
        let dormant = || self.entries.iter().find(|entry| takes(entry, arch));
        let (handler, verdict) = match (handler.or_else(dormant), verdict) {
            (handler, Verdict::Fails(Failure::NoHandler)) if handler.is_some() || !self.enabled => {
                let table = self.table.filter(|_| !self.enabled);
                let table = table.map(|table| table.path().join("status"));
                (handler, Verdict::Fails(Failure::SwitchedOff { table }))
            }
            (_, verdict) => (handler, verdict),
        };
        PlatformStatus {
            arch,
            handler: handler.cloned(),
            ran: run.map_or(Ran::Itself, |run| run.ran),
            setuid: handler.and_then(|entry| honoured.by(entry)),
            verdict,
        }
    }
}

/// Tells what the kernel would run by itself, were there not a handler that does not.
fn find_hijacked(statuses: &mut [PlatformStatus], entries: &[Entry]) -> Result<()> {
    let is_suspect = |s: &PlatformStatus| {
        let known = [Failure::is_switched_off, Failure::is_hijacked];
        let is_known = |failure: &Failure| known.iter().any(|is| is(failure));
        let failure = s.failure();
        s.handler.is_some() && may_be_native(s.arch) && failure.is_some_and(|f| !is_known(f))
    };
    if !statuses.iter().any(is_suspect) {
        return Ok(());
    }
    let seen = without_handlers(entries)?;
    for status in statuses.iter_mut().filter(|s| is_suspect(s)) {
        let (Some(handler), Verdict::Fails(failure)) = (&status.handler, &status.verdict) else {
            continue;
        };
        if runs_natively(&seen, status.arch) {
            status.verdict = Verdict::Fails(Failure::Hijacked {
                entry: handler.name.clone(),
                failure: Box::new(failure.clone()),
            });
        }
    }
    Ok(())
}

/// What the kernel does with setuid programs.
#[derive(Debug, Default)]
struct Honoured {
    /// Whether its own have their owner's privilege. Where they do not, nothing can be said: a process that is held by one
    /// without privilege has none, nor has one that may get no new one.
    natively: bool,
    /// Whether those of a handler with flag C have, if one was seen.
    by_flag: Option<bool>,
}

impl Honoured {
    fn of(jobs: &[Job], runs: &[Run]) -> Self {
        let mut seen = Self::default();
        for (job, run) in jobs.iter().zip(runs) {
            match run.outcome {
                ProbeOutcome::Setuid(Some(privileged)) if may_be_native(job.arch) => {
                    seen.natively |= privileged;
                }
                ProbeOutcome::Setuid(privileged) => seen.by_flag = privileged,
                _ => {}
            }
        }
        seen
    }

    /// Whether `handler` gives them that privilege.
    fn by(&self, handler: &Entry) -> Option<bool> {
        let by_flag = if handler.flags.credentials {
            self.by_flag
        } else {
            Some(false)
        };
        by_flag.filter(|_| self.natively)
    }
}

impl PlatformStatus {
    /// Whether programs of this architecture run.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(self.verdict, Verdict::Works { .. })
    }

    /// Why it does not run, if so.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.verdict {
            Verdict::Fails(failure) => Some(failure),
            Verdict::Works { .. } => None,
        }
    }

    /// Whether there is anything to say: it runs, or has a handler that does not do its work.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.works() || self.handler.is_some()
    }

    /// Whether the kernel runs them without a handler, in sight or not.
    #[must_use]
    pub fn is_native(&self) -> bool {
        let through_nothing = !matches!(self.ran, Ran::Interpreter(_));
        self.works() && self.handler.is_none() && through_nothing && may_be_native(self.arch)
    }

    /// What the kernel did with its programs where no handler takes them.
    fn without_handler(&self) -> Option<(&'static Arch, Verdict)> {
        let none = self.handler.is_none() && matches!(self.ran, Ran::Itself);
        none.then(|| (self.arch, self.verdict.clone()))
    }

    /// The file that its programs run through, if one was seen.
    #[must_use]
    pub fn interpreter(&self) -> Option<&File> {
        match &self.ran {
            Ran::Interpreter(file) => Some(file),
            _ => None,
        }
    }
}

/// Whether `entry`, were it switched on, would take programs of `arch`.
#[must_use]
pub fn takes(entry: &Entry, arch: &Arch) -> bool {
    entry.matches(arch)
}

/// Whether a kernel for this host may run `arch` natively.
pub(crate) fn may_be_native(arch: &Arch) -> bool {
    Arch::of_host().is_none_or(|host| host == arch || host.compat.contains(&arch.qemu))
}

/// Whether the kernel runs natively what a kernel for this host may, whatever handlers lie over it: [`mark`]ed programs
/// are ordinary ones to a kernel, and no handler takes them. Where one of `entries` does, nobody knows, and nothing is
/// said.
///
/// # Errors
/// When probes cannot be run at all.
pub fn without_handlers(entries: &[Entry]) -> Result<Vec<(&'static Arch, Verdict)>> {
    let taken = |arch: &&Arch| {
        let mut header = arch.header();
        mark(&mut header);
        entries
            .iter()
            .any(|entry| entry.takes(&header, OsStr::new(arch.qemu)))
    };
    let arches = ARCHES
        .iter()
        .filter(|arch| may_be_native(arch) && !taken(arch));
    let form = Form::Marked;
    let jobs: Vec<Job> = arches.map(|arch| Job { arch, form }).collect();
    let runs = probes::run(&jobs)?;
    let limits = Limits::of_this_process();
    let verdicts = jobs
        .iter()
        .zip(&runs)
        .map(|(job, run)| (job.arch, Verdict::of(job.arch, None, run, limits)));
    Ok(verdicts.collect())
}

/// Whether the kernel was seen to run `arch` by itself: `seen` is what [`without_handlers`] returns.
#[must_use]
pub fn runs_natively(seen: &[(&'static Arch, Verdict)], arch: &Arch) -> bool {
    let of = seen.iter().find(|(of, _)| *of == arch);
    of.is_some_and(|(_, verdict)| matches!(verdict, Verdict::Works { .. }))
}

impl Verdict {
    /// What `run` of the probe of `arch` shows. `pinned`: whether its handler has flag F, if it has a handler;
    /// `limits`: those that it ran under.
    #[must_use]
    pub fn of(arch: &Arch, pinned: Option<bool>, run: &Run, limits: Limits) -> Self {
        let reading = match run.outcome {
            ProbeOutcome::Exited(status) => probe::read(arch, status),
            _ => Reading::Wrong,
        };
        let (level, argv0) = match (reading, run.outcome) {
            // outside an empty root it may run all the same, but not in a container
            (Reading::Kept { .. } | Reading::Replaced { .. }, _) if pinned == Some(false) => {
                return Self::Fails(Failure::NotPinned);
            }
            (Reading::Kept { level }, _) => (level, true),
            (Reading::Replaced { level }, _) => (level, false),
            (Reading::Wrong, outcome) => {
                let complaint = Complaint::new(&run.complaint, limits);
                return Self::Fails(Failure::of(outcome, pinned, complaint));
            }
        };
        Self::Works {
            level,
            argv0,
            micros: run.micros,
        }
    }
}
