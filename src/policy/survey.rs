//! What runs here, and through what: the table's entries and the probes' answers, put together per architecture.
//!
//! Reads and runs, changes nothing. Every policy module starts from a [`Survey`], and none trusts an entry that no probe has run
//! through.

use std::ffi::OsStr;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::probe::{self, Reading};

use crate::emulator::complaint::{Complaint, Limits};
use crate::emulator::{Qemu, qemu_of};
use crate::helper::probes::{self, Form, Job, LIMIT, ProbeOutcome, Ran, Run, is_trial, mark};
use crate::kernel::table::Table;

mod failure;

pub use failure::Failure;

/// What one architecture's probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Works {
        /// Micro-architecture level: 1 to 4 on amd64, else 1.
        level: u8,
        /// Whether a program sees the `argv[0]` that its caller chose (the effect of flag P).
        argv0: bool,
        /// Processor time of one start, in microseconds.
        micros: u64,
    },
    Fails(Failure),
}

/// One architecture on this host.
#[derive(Debug, Clone)]
pub struct PlatformStatus {
    pub arch: &'static Arch,
    /// The entry that takes its programs: the newest that matches and is switched on; if none is on, the newest that matches.
    pub handler: Option<Entry>,
    /// The file that the kernel ran: the handler's pinned interpreter, if there is a handler.
    pub ran: Ran,
    /// Whether the handler gives setuid programs their owner's privilege (the effect of flag C). `None`: not looked at, or not
    /// visible.
    pub setuid: Option<bool>,
    pub verdict: Verdict,
}

/// The table and the status of every architecture.
#[derive(Debug)]
pub struct Survey {
    /// The table's entries, the newest first. Empty if there is no table.
    pub entries: Vec<Entry>,
    /// Entries that trials of a killed call have left.
    pub trials: Vec<Entry>,
    /// Whether the table is switched on.
    pub enabled: bool,
    /// Every architecture, in the order of [`ARCHES`].
    pub statuses: Vec<PlatformStatus>,
    /// Which handlers are QEMU's by their files.
    pub recognised: Recognised,
}

/// How a survey looks at handlers.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// How long each probe may take.
    pub limit: Duration,
    /// What earlier surveys found. What works, or times out, is not started again, as long as it is that registration.
    pub known: &'a [PlatformStatus],
    /// Whether to find out what handlers do with setuid programs.
    pub setuid: bool,
}

impl Default for Look<'_> {
    fn default() -> Self {
        Self { limit: LIMIT, known: &[], setuid: false }
    }
}

impl Survey {
    /// [`Survey::look`] in the default way.
    pub fn take(table: Option<&Table>) -> Result<Self> {
        Self::look(table, Look::default())
    }

    /// Reads `table` and runs, at the same time, the probe of every architecture that has a handler, or that a kernel for this host
    /// may run natively. For any other, the kernel would look for a module (`request_module` in `search_binary_handler`). Without a
    /// table, the probes of all architectures are run.
    pub fn look(table: Option<&Table>, look: Look) -> Result<Self> {
        let entries = table.map(Table::entries).transpose()?.unwrap_or_default();
        let (trials, entries) = entries.into_iter().partition(|entry| is_trial(&entry.name));
        let enabled = table.map_or(Ok(true), Table::enabled)?;
        let mut survey = Self { entries, trials, enabled, statuses: Vec::new(), recognised: Recognised::default() };
        // the text of an entry in a newer kernel's syntax does not show which programs it takes
        let unclear = |entry: &Entry| entry.enabled && entry.matcher.is_none();
        let any = table.is_none() || survey.entries.iter().any(unclear);
        let known = |arch: &Arch| {
            let handler = survey.in_effect(arch);
            let mut known = look.known.iter().filter(|known| known.works() && !any || known.times_out());
            known.find(|known| known.arch == arch && known.handler.as_ref() == handler)
        };
        let can_run = |arch: &Arch| any || may_be_native(arch) || survey.in_effect(arch).is_some();
        let worth = |arch: &&Arch| can_run(arch) && known(arch).is_none();
        let arches: Vec<&'static Arch> = ARCHES.iter().filter(worth).collect();
        let job = |form| move |arch: &&'static Arch| Job { arch, form };
        let mut jobs: Vec<Job> = arches.iter().map(job(Form::Plain)).collect();
        if look.setuid {
            jobs.extend(survey.showing_setuid(&arches).map(job(Form::Setuid)));
        }
        let mut runs = probes::run_within(look.limit, &jobs)?;
        let setuid = Setuid::of(&jobs[arches.len()..], &runs.split_off(arches.len()));
        let mut runs = arches.iter().zip(runs).peekable();
        let statuses = ARCHES.iter().map(|arch| {
            let run = runs.next_if(|(ran, _)| **ran == arch);
            known(arch).cloned().unwrap_or_else(|| survey.status(arch, run.map(|(_, run)| run), &setuid, table))
        });
        survey.statuses = statuses.collect();
        let seen = survey.statuses.iter().map(|s| (s.handler.as_ref(), &s.ran));
        survey.recognised = Recognised::among(seen);
        find_hijacked(&mut survey.statuses, &survey.entries)?;
        Ok(survey)
    }

    fn in_effect(&self, arch: &Arch) -> Option<&Entry> {
        handler_of(&self.entries, arch).filter(|_| self.enabled)
    }

    /// What [`without_handlers`] returns, from this survey where no handler was in the way.
    pub fn natively(&self) -> Result<Vec<(&'static Arch, Verdict)>> {
        let without_handler = |s: &PlatformStatus| {
            let none = s.handler.is_none() && matches!(s.ran, Ran::Itself);
            none.then(|| (s.arch, s.verdict.clone()))
        };
        let native = self.statuses.iter().filter(|s| may_be_native(s.arch));
        let seen: Option<Vec<_>> = native.map(without_handler).collect();
        seen.map_or_else(|| without_handlers(&self.entries), Ok)
    }

    /// Treats entries as removed. Nothing is looked at again.
    pub fn forget(&mut self, is_gone: impl Fn(&Entry) -> bool) {
        self.entries.retain(|entry| !is_gone(entry));
        for status in &mut self.statuses {
            if status.handler.as_ref().is_some_and(&is_gone) {
                status.handler = None;
                status.ran = Ran::Itself;
                status.verdict = Verdict::Fails(Failure::NoHandler);
            }
        }
    }

    /// The whole table, with the entries that trials have left.
    pub fn table(&self) -> Vec<Entry> {
        self.entries.iter().chain(&self.trials).cloned().collect()
    }

    /// Whether `entry` is one of QEMU's user emulators: by its text, or by the file that the kernel has pinned for it.
    pub fn is_qemu(&self, entry: &Entry) -> bool {
        self.recognised.is_qemu(entry)
    }

    /// The status of `arch`.
    ///
    /// # Panics
    /// Never: a survey covers every architecture.
    pub fn of(&self, arch: &Arch) -> &PlatformStatus {
        self.statuses.iter().find(|status| status.arch == arch).expect("a survey covers every architecture")
    }

    /// The handlers that timed out, for [`Look::known`]. Their emulators are not kept open.
    pub fn timed_out(&self) -> Vec<PlatformStatus> {
        let timed_out = self.statuses.iter().filter(|status| status.times_out());
        let unseen = || Ran::Unseen("it timed out, and is not started again".to_owned());
        timed_out.cloned().map(|status| PlatformStatus { ran: unseen(), ..status }).collect()
    }

    /// The architectures whose probes show what the kernel does with setuid programs: one that it runs natively, and one whose
    /// handler has flag C. The kernel does the same for all of these.
    fn showing_setuid<'b>(&self, arches: &'b [&'static Arch]) -> impl Iterator<Item = &'b &'static Arch> {
        let native = arches.iter().find(|arch| may_be_native(arch) && self.in_effect(arch).is_none());
        let with_flag = arches.iter().find(|arch| self.in_effect(arch).is_some_and(|h| h.flags.credentials));
        native.into_iter().chain(with_flag)
    }

    fn status(&self, arch: &'static Arch, run: Option<Run>, setuid: &Setuid, table: Option<&Table>) -> PlatformStatus {
        let handler = self.in_effect(arch);
        let pinned = handler.map(|entry| entry.flags.fix_binary);
        let no_handler = Verdict::Fails(Failure::NoHandler);
        let mut verdict = run.as_ref().map_or(no_handler, |run| Verdict::of(arch, pinned, run));
        let dormant = || self.entries.iter().find(|entry| entry.matches(arch));
        let handler = handler.or_else(dormant);
        if verdict == Verdict::Fails(Failure::NoHandler) && (handler.is_some() || !self.enabled) {
            let table = table.filter(|_| !self.enabled).map(|table| table.path().join("status"));
            verdict = Verdict::Fails(Failure::SwitchedOff { table });
        }
        PlatformStatus {
            arch,
            handler: handler.cloned(),
            ran: run.map_or(Ran::Itself, |run| run.ran),
            setuid: handler.and_then(|entry| setuid.with(entry)),
            verdict,
        }
    }
}

/// Marks handlers that do not run programs that the kernel would run natively.
fn find_hijacked(statuses: &mut [PlatformStatus], entries: &[Entry]) -> Result<()> {
    let is_suspect = |s: &PlatformStatus| {
        let is_known = |f| matches!(f, &Failure::SwitchedOff { .. } | &Failure::Hijacked { .. });
        s.handler.is_some() && may_be_native(s.arch) && s.failure().is_some_and(|f| !is_known(f))
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
            status.verdict =
                Verdict::Fails(Failure::Hijacked { entry: handler.name.clone(), failure: Box::new(failure.clone()) });
        }
    }
    Ok(())
}

/// What the kernel does with setuid programs.
#[derive(Debug, Default)]
struct Setuid {
    /// Whether native ones get their owner's privilege. If not, nothing can be said: a traced process gets no privilege if its
    /// tracer has none, and neither does one with `no_new_privs`.
    natively: bool,
    /// Whether those of a handler with flag C get it, if one was seen.
    by_flag: Option<bool>,
}

impl Setuid {
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

    /// Whether setuid programs get their owner's privilege through `handler`.
    fn with(&self, handler: &Entry) -> Option<bool> {
        let by_flag = if handler.flags.credentials { self.by_flag } else { Some(false) };
        by_flag.filter(|_| self.natively)
    }
}

impl PlatformStatus {
    /// Whether programs of this architecture run.
    pub fn works(&self) -> bool {
        matches!(self.verdict, Verdict::Works { .. })
    }

    /// Why programs do not run, if they do not.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.verdict {
            Verdict::Fails(failure) => Some(failure),
            Verdict::Works { .. } => None,
        }
    }

    fn times_out(&self) -> bool {
        self.handler.is_some() && self.failure().is_some_and(Failure::is_timeout)
    }

    /// Whether programs run, or there is a handler that does not run them.
    pub fn is_known(&self) -> bool {
        self.works() || self.handler.is_some()
    }

    /// Whether the kernel runs programs without a handler.
    pub fn is_native(&self) -> bool {
        let no_interpreter = self.interpreter().is_none();
        self.works() && self.handler.is_none() && no_interpreter && may_be_native(self.arch)
    }

    /// The file that programs run through, if one was seen.
    pub fn interpreter(&self) -> Option<&File> {
        match &self.ran {
            Ran::Interpreter(file) => Some(file),
            _ => None,
        }
    }
}

/// Runs the probe of `arch` alone in this form, without looking at a table; also returns the file that the kernel ran for it.
pub fn of_one(arch: &'static Arch, form: Form) -> Result<(Verdict, Ran)> {
    let run = probes::run(&[Job { arch, form }])?.pop().context("there is no answer of a probe")?;
    Ok((Verdict::of(arch, None, &run), run.ran))
}

/// The handler of `arch` among `entries`: the newest that is on and takes its programs.
pub fn handler_of<'a>(entries: &'a [Entry], arch: &Arch) -> Option<&'a Entry> {
    let head = arch.header();
    entries.iter().find(|entry| entry.takes(&head, OsStr::new(arch.qemu)))
}

/// Whether a kernel for this host may run `arch` natively.
pub fn may_be_native(arch: &Arch) -> bool {
    Arch::of_host().is_none_or(|host| host == arch || host.compat.contains(&arch.qemu))
}

/// Which of the architectures that a kernel for this host may run natively it does run natively. [`mark`]ed programs show that: they
/// are ordinary programs to a kernel, and handlers do not take them. Architectures whose marked programs an entry of `entries`
/// takes are left out.
pub fn without_handlers(entries: &[Entry]) -> Result<Vec<(&'static Arch, Verdict)>> {
    let taken = |arch: &Arch| {
        let mut header = arch.header();
        mark(&mut header);
        entries.iter().any(|entry| entry.takes(&header, OsStr::new(arch.qemu)))
    };
    let arches = ARCHES.iter().filter(|a| may_be_native(a) && !taken(a));
    let form = Form::Marked;
    let jobs: Vec<Job> = arches.map(|arch| Job { arch, form }).collect();
    let runs = probes::run(&jobs)?;
    let verdict = |(job, run): (&Job, &Run)| (job.arch, Verdict::of(job.arch, None, run));
    Ok(jobs.iter().zip(&runs).map(verdict).collect())
}

/// Whether the kernel was seen to run `arch` natively: `seen` is what [`without_handlers`] returns.
pub fn runs_natively(seen: &[(&'static Arch, Verdict)], arch: &Arch) -> bool {
    seen.iter().find(|(of, _)| *of == arch).is_some_and(|(_, verdict)| matches!(verdict, Verdict::Works { .. }))
}

impl Verdict {
    /// What `run` of the probe of `arch` shows. `pinned`: whether its handler has flag F, if it has a handler.
    pub fn of(arch: &Arch, pinned: Option<bool>, run: &Run) -> Self {
        let reading = match run.outcome {
            ProbeOutcome::Exited(status) => probe::read(arch, status),
            _ => Reading::Wrong,
        };
        let (level, argv0) = match reading {
            Reading::Wrong => {
                let complaint = Complaint::new(&run.complaint, Limits::of_this_process());
                return Self::Fails(Failure::of(run.outcome, pinned, complaint));
            }
            // it was not run in an empty root directory: programs in containers do not find the interpreter
            _ if pinned == Some(false) => return Self::Fails(Failure::NotPinned),
            Reading::Kept { level } => (level, true),
            Reading::Replaced { level } => (level, false),
        };
        Self::Works { level, argv0, micros: run.micros }
    }
}

/// The registrations whose text does not settle whether they are QEMU's, and whose file was seen: the one that the kernel has
/// pinned, or has run.
#[derive(Debug, Clone, Default)]
pub struct Recognised {
    /// Those whose file is QEMU by its bytes.
    qemu: Vec<u64>,
    /// Those whose file is something else.
    others: Vec<u64>,
}

impl Recognised {
    /// Those among handlers and the files that the kernel has run for them.
    fn among<'a>(seen: impl Iterator<Item = (Option<&'a Entry>, &'a Ran)>) -> Self {
        let mut recognised = Self::default();
        for (entry, ran) in seen {
            let (Some(entry), Ran::Interpreter(file)) = (entry.filter(|entry| !entry.starts_qemu()), ran) else {
                continue;
            };
            match qemu_of(file) {
                Ok(Some(_)) => recognised.qemu.push(entry.registration),
                Ok(None) => recognised.others.push(entry.registration),
                // it cannot be read
                Err(_) => {}
            }
        }
        recognised
    }

    /// Those among `entries`, the whole table. Starts a probe through each handler that `matters` and whose interpreter's name
    /// does not tell. If probes cannot be run, no file is seen.
    pub fn of(entries: &[Entry], matters: impl Fn(&Entry) -> bool) -> Self {
        let unclear = |entry: &&Entry| !entry.starts_qemu() && matters(entry);
        let handlers = ARCHES.iter().filter_map(|arch| {
            let handler = handler_of(entries, arch).filter(unclear)?;
            let form = Form::Plain;
            Some((handler, Job { arch, form }))
        });
        let (handlers, jobs): (Vec<&Entry>, Vec<Job>) = handlers.unzip();
        let runs = probes::run(&jobs).unwrap_or_default();
        let seen = handlers.iter().zip(&runs);
        Self::among(seen.map(|(entry, run)| (Some(*entry), &run.ran)))
    }

    /// Whether `entry` is one of QEMU's user emulators: by the name of its interpreter, else by the file if that was seen, else
    /// by the entry's name.
    pub fn is_qemu(&self, entry: &Entry) -> bool {
        let registration = &entry.registration;
        self.qemu.contains(registration) || entry.is_qemu() && !self.others.contains(registration)
    }
}

/// Which of QEMU's user emulators `file` is, by its content; `None` also if it cannot be read.
pub fn qemu_in(file: &File) -> Option<Qemu> {
    qemu_of(file).ok().flatten()
}
