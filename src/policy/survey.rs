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
use nix::errno::Errno;

use crate::emulator::Privilege;
use crate::helper::probes::{self, Form, Job, LIMIT, Ran, Run, is_trial, mark};
use crate::kernel::table::Table;

mod failure;
mod kinds;
mod recognised;
mod verdict;

pub use failure::{ANOTHER_BUILD, Failure};
pub use kinds::KindStatus;
pub use recognised::{Recognised, qemu_in};
use verdict::Setuid;
pub use verdict::Verdict;
use verdict::find_missing;

/// One architecture on this host.
#[derive(Debug, Clone)]
pub struct PlatformStatus {
    pub arch: &'static Arch,
    /// The entry that takes its programs: the newest that matches and is switched on; if none is on, and its programs do not run,
    /// the newest that matches; else one that takes some kind of them.
    pub handler: Option<Entry>,
    /// The file that the kernel ran: the handler's pinned interpreter, if there is a handler.
    pub ran: Ran,
    /// Whether the handler gives setuid programs their owner's privilege (the effect of flag C). `None`: not looked at, or not
    /// visible.
    pub setuid: Option<bool>,
    /// Whether its interpreter is invisible (the effect of flag T): `ps` shows the program.
    pub transparent: bool,
    pub verdict: Verdict,
}

/// The table and the status of every architecture.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The table's entries, the newest first. Empty if there is no table.
    pub entries: Vec<Entry>,
    /// Entries that trials of a killed call have left.
    pub trials: Vec<Entry>,
    pub enabled: bool,
    /// Every architecture, in the order of [`ARCHES`].
    pub statuses: Vec<PlatformStatus>,
    /// Kinds of programs that another entry takes than the handler of their architecture, where that works or there is none.
    pub kinds: Vec<KindStatus>,
    /// Which handlers are QEMU's by their files.
    pub recognised: Recognised,
}

/// How a survey looks at handlers.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub limit: Duration,
    /// What earlier surveys found. What works, times out, or has no handler, is not started again, as long as it is that
    /// registration.
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
        let (trials, entries) = entries.into_iter().partition(is_trial);
        let enabled = table.map_or(Ok(true), Table::enabled)?;
        let mut survey = Self {
            entries,
            trials,
            enabled,
            statuses: Vec::new(),
            kinds: Vec::new(),
            recognised: Recognised::default(),
        };
        let any = table.is_none() || survey.entries.iter().any(is_unclear);
        let known = |arch: &Arch| {
            let handler = survey.in_effect(arch);
            let mut known = look.known.iter().filter(|known| known.is_settled() && !any || known.times_out());
            known.find(|known| known.arch == arch && known.handler.as_ref() == handler)
        };
        let can_run = |arch: &Arch| any || may_be_native(arch) || survey.in_effect(arch).is_some();
        let worth = |arch: &&Arch| can_run(arch) && known(arch).is_none();
        let arches: Vec<&'static Arch> = ARCHES.iter().filter(worth).collect();
        let job = |form| move |arch: &&'static Arch| Job { arch, form };
        let mut jobs: Vec<Job> = arches.iter().map(job(Form::Plain)).collect();
        if look.setuid {
            jobs.extend(survey.showing_setuid(can_run).iter().map(job(Form::Setuid)));
        }
        let mut runs = probes::run_within(look.limit, &jobs)?;
        let setuid = Setuid::of(&jobs[arches.len()..], &runs.split_off(arches.len()));
        let mut runs = arches.iter().zip(runs).peekable();
        let statuses = ARCHES.iter().map(|arch| {
            let run = runs.next_if(|(ran, _)| **ran == arch);
            let status = known(arch).cloned();
            let status = status.unwrap_or_else(|| survey.status(arch, run.map(|(_, run)| run), table));
            PlatformStatus { setuid: status.handler.as_ref().and_then(|entry| setuid.with(entry)), ..status }
        });
        survey.statuses = statuses.collect();
        find_missing(survey.statuses.iter_mut().map(|status| (status.handler.as_ref(), &mut status.verdict)));
        let seen = survey.statuses.iter().map(|s| (s.handler.as_ref(), &s.ran));
        survey.recognised = Recognised::among(seen);
        find_hijacked(&mut survey.statuses, &survey.entries)?;
        survey.kinds = kinds::look(&survey, look.limit)?;
        survey.statuses.iter_mut().for_each(|status| kinds::mark(status, &survey.kinds));
        Ok(survey)
    }

    fn in_effect(&self, arch: &Arch) -> Option<&Entry> {
        handler_of(&self.entries, arch).filter(|_| self.enabled)
    }

    /// What [`without_handlers`] returns, from this survey where no handler was in the way.
    pub fn natively(&self) -> Result<Vec<(&'static Arch, Verdict)>> {
        let without_handler = |s: &PlatformStatus| {
            let is_of_kind = matches!(s.failure(), Some(Failure::OfKind { .. }));
            let none = s.handler.is_none() && matches!(s.ran, Ran::Itself) && !is_of_kind;
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
                status.transparent = false;
                status.verdict = Verdict::Fails(Failure::NoHandler);
            }
        }
    }

    /// Treats an entry as registered, and as one through which programs of `arch` run. Nothing is looked at again.
    pub fn note(&mut self, arch: &Arch, entry: Entry, verdict: &Verdict) {
        for status in self.statuses.iter_mut().filter(|status| status.arch == arch) {
            status.handler = Some(entry.clone());
            status.verdict = verdict.clone();
        }
        self.entries.insert(0, entry);
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
    fn showing_setuid(&self, can_run: impl Fn(&Arch) -> bool) -> Vec<&'static Arch> {
        let arches = || ARCHES.iter().filter(|arch| can_run(arch));
        let native = arches().find(|arch| may_be_native(arch) && self.in_effect(arch).is_none());
        let with_flag = arches().find(|arch| self.in_effect(arch).is_some_and(|h| h.flags.credentials));
        native.into_iter().chain(with_flag).collect()
    }

    fn status(&self, arch: &'static Arch, run: Option<Run>, table: Option<&Table>) -> PlatformStatus {
        let handler = self.in_effect(arch);
        let pinned = handler.map(|entry| entry.flags.fix_binary);
        let no_handler = Verdict::Fails(Failure::NoHandler);
        let mut verdict = run.as_ref().map_or(no_handler, |run| Verdict::of(arch, pinned, run));
        if handler.is_some_and(Entry::is_loader) && verdict == Verdict::Fails(Failure::Refused(Errno::ENOEXEC)) {
            verdict = Verdict::Fails(Failure::NativeOnly);
        }
        let dormant = || self.entries.iter().find(|entry| takes_over(entry, arch) && entry.matches(arch));
        // the newest that may have decided; no text says which one has
        let unclear = || self.entries.iter().find(|entry| self.enabled && is_unclear(entry));
        let by_unclear = matches!(&run, Some(Run { ran: Ran::Interpreter(_), .. })) && !may_be_native(arch);
        // what runs without an entry in effect runs without the one that is off, too
        let runs = verdict.failure().is_none();
        let handler = handler.or_else(|| unclear().filter(|_| by_unclear)).or_else(|| dormant().filter(|_| !runs));
        if verdict == Verdict::Fails(Failure::NoHandler) && (handler.is_some() || !self.enabled) {
            let table = table.filter(|_| !self.enabled).map(|table| table.path().join("status"));
            verdict = Verdict::Fails(Failure::SwitchedOff { table });
        }
        PlatformStatus {
            arch,
            handler: handler.cloned(),
            transparent: run.as_ref().is_some_and(|run| run.transparent),
            ran: run.map_or(Ran::Itself, |run| run.ran),
            setuid: None,
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
        let (Some(handler), Some(failure)) = (&status.handler, status.failure()) else {
            continue;
        };
        if runs_natively(&seen, status.arch) {
            status.verdict =
                Verdict::Fails(Failure::Hijacked { entry: handler.name.clone(), failure: Box::new(failure.clone()) });
        }
    }
    Ok(())
}

impl PlatformStatus {
    pub fn works(&self) -> bool {
        self.failure().is_none()
    }

    pub fn failure(&self) -> Option<&Failure> {
        self.verdict.failure()
    }

    /// Whether it works, or the kernel was seen to know no way to run it.
    fn is_settled(&self) -> bool {
        let is_unknown = self.failure() == Some(&Failure::NoHandler) && matches!(self.ran, Ran::Itself);
        self.works() || is_unknown && self.handler.is_none()
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

    /// What programs gain that run through its handler, although they ask for nothing: its interpreter's privileges. With flag C
    /// the kernel goes by the program instead.
    pub fn gains(&self) -> Option<Privilege> {
        self.handler.as_ref().filter(|entry| !entry.flags.credentials)?;
        Privilege::of(self.interpreter()?).ok().flatten()
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

/// The handler of `arch` among `entries`: the newest that is on and takes its programs. `None` also if that one only replaces the
/// loader of programs that run natively: the kernel asks no older entry then.
pub fn handler_of<'a>(entries: &'a [Entry], arch: &Arch) -> Option<&'a Entry> {
    taker(entries, arch, &arch.header())
}

/// The same of a program of `arch` that begins with `head`.
fn taker<'a>(entries: &'a [Entry], arch: &Arch, head: &[u8]) -> Option<&'a Entry> {
    let newest = entries.iter().find(|entry| entry.takes(head, OsStr::new(arch.qemu)));
    newest.filter(|entry| takes_over(entry, arch))
}

/// Whether `entry` keeps the kernel from running programs of `arch` natively, if it takes them.
fn takes_over(entry: &Entry, arch: &Arch) -> bool {
    !(entry.is_loader() && may_be_native(arch))
}

/// Whether its text does not show which programs it takes: one of type `B`, or in a newer kernel's syntax.
pub fn is_unclear(entry: &Entry) -> bool {
    entry.enabled && entry.matcher.is_none()
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
    seen.iter().find(|(of, _)| *of == arch).is_some_and(|(_, verdict)| verdict.failure().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_flag_l_takes_what_the_kernel_would_refuse_and_nothing_else() {
        let host = Arch::of_host().expect("a row for this host");
        let foreign = ARCHES.iter().find(|arch| !may_be_native(arch)).expect("a foreign row");
        let entry = |arch: &Arch, name: &str, flags: &str| {
            let magic = arch.magic().as_slice().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            let text = format!("enabled\ninterpreter /i\nflags: {flags}\noffset 0\nmagic {magic}\n");
            Entry::parse(OsStr::new(name), text.as_bytes())
        };
        for (arch, flags, taker) in [
            (host, "FL", None),
            (host, "F", Some("newer")),
            (foreign, "FL", Some("newer")),
            (foreign, "F", Some("newer")),
        ] {
            let entries = [entry(arch, "newer", flags), entry(arch, "older", "F")];
            let found = handler_of(&entries, arch).and_then(|entry| entry.name.to_str());
            assert_eq!(found, taker, "{} {flags}", arch.qemu);
        }
    }
}
