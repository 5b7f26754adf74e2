//! The steps of an install, each over all architectures at once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use super::decide::{Decision, Pending, is_stand_in, matches_rule, plan};
use super::transparent::settle;
use super::versions::ask;
use super::{DoesNotRun, Former, InstallOutcome, Item, Order};
use crate::emulator::Source;
use crate::emulator::identity;
use crate::helper::probes::LIMIT;
use crate::helper::removal;
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::policy::rehearsal::{Seen, rehearse, runs};
use crate::policy::survey::{Failure, Look, PlatformStatus, Survey, Verdict};
use crate::policy::trial;

/// The work of one call. Each architecture is either in `done` or still `pending`.
pub(super) struct Batch<'a> {
    emulators: &'a Source,
    done: HashMap<&'static str, Result<InstallOutcome>>,
    pending: Vec<Pending>,
    /// Stand-ins that a killed call left beside the entries that they stood in for.
    leftovers: Vec<Entry>,
    /// What need not be started again ([`Look::known`]).
    known: Vec<PlatformStatus>,
    /// How long a new emulator may take.
    limit: Duration,
}

impl<'a> Batch<'a> {
    pub(super) fn decide(
        order: &'a Order,
        survey: &Survey,
        timed_out: &[PlatformStatus],
        limit: Duration,
    ) -> Result<Self> {
        let mut batch = Self {
            emulators: &order.emulators,
            done: HashMap::new(),
            pending: Vec::new(),
            leftovers: Vec::new(),
            known: timed_out.to_vec(),
            limit,
        };
        for (arch, decision) in plan(order, survey)? {
            let result = match decision {
                Decision::Leave(outcome) => {
                    batch.leftovers.extend(leftovers(survey, arch, &outcome));
                    Ok(outcome)
                }
                Decision::Register(pending) => {
                    batch.pending.push(*pending);
                    continue;
                }
                Decision::Hijacked(by) => Err(anyhow!(
                    "native, but {} takes its programs and does not run them; remove it: {}",
                    shown(&by.entry),
                    by.removal
                )),
                Decision::NameTaken(why) => Err(anyhow!(why)),
            };
            batch.done.insert(arch.qemu, result);
        }
        Ok(batch)
    }

    /// Calls `judge` with each pending architecture; those that it has a result for are done.
    fn sift(&mut self, mut judge: impl FnMut(&mut Pending) -> Option<Result<InstallOutcome>>) {
        for mut pending in std::mem::take(&mut self.pending) {
            match judge(&mut pending) {
                Some(result) => drop(self.done.insert(pending.arch.qemu, result)),
                None => self.pending.push(pending),
            }
        }
    }

    /// Looks at every emulator, so that an unfit file is refused before the table is touched, and finds out versions.
    pub(super) fn check_emulators(&mut self) {
        let mut fit = ask(&mut self.pending, self.emulators, self.limit).into_iter();
        self.sift(|_| fit.next()?.err().map(|error| Err(error.into())));
    }

    /// Tries which emulators honour flag T. Those that do have passed their trial.
    pub(super) fn try_transparency(&mut self, table: &Table) -> Result<()> {
        let (emulators, limit) = (self.emulators, self.limit);
        let mut failed = None;
        settle(&mut self.pending, |candidates| {
            let candidates: Vec<_> = candidates.iter().map(|(arch, rule)| (*arch, rule)).collect();
            let verdicts =
                trial::run(table, emulators, &candidates, limit).map_err(|error| failed.insert(error).to_string());
            let runs = |verdict| matches!(verdict, Ok(Verdict::Works { argv0: true, .. }));
            Ok(verdicts.map_err(Error::msg)?.into_iter().map(runs).collect())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        self.sift(|pending| pending.as_it_is().filter(|_| pending.works).map(Ok));
        Ok(())
    }

    /// Tries the emulators that are to replace working handlers.
    pub(super) fn try_out(&mut self, table: &Table) -> Result<()> {
        let is_tried = |pending: &Pending| !pending.works || pending.rule.flags.transparent;
        let candidates: Vec<_> = self.pending.iter().filter(|p| !is_tried(p)).map(|p| (p.arch, &p.rule)).collect();
        let mut verdicts = trial::run(table, self.emulators, &candidates, self.limit)?.into_iter();
        self.sift(|pending| {
            if is_tried(pending) {
                return None;
            }
            match verdicts.next()? {
                Ok(Verdict::Works { argv0, .. }) => pending.rule.flags.preserve_argv0 &= argv0,
                Ok(Verdict::Fails(failure)) => {
                    return Some(Err(does_not_run(pending, &failure, "the handler that was there stays")));
                }
                Err(error) => return Some(Err(error)),
            }
            pending.as_it_is().map(Ok)
        });
        Ok(())
    }

    /// Gives each pending architecture the outcome that it would have. Where nothing can be rehearsed, an emulator that
    /// states its version counts as one that works. `survey` is what it would leave.
    pub(super) fn rehearse(&mut self, survey: &mut Survey) {
        let emulators = self.emulators;
        settle(&mut self.pending, |candidates| Ok(runs(&rehearse(candidates, emulators)?)));
        let candidates: Vec<_> = self.pending.iter().map(|p| (p.arch, p.rule.clone())).collect();
        let mut rehearsed = rehearse(&candidates, self.emulators).unwrap_or_default().into_iter();
        self.sift(|pending| {
            let seen = match rehearsed.next() {
                Some(Ok(seen)) => seen,
                Some(Err(not_run)) => return Some(Err(anyhow!("{not_run}"))),
                None => Seen { argv0: true, level: u8::MAX },
            };
            pending.rule.flags.preserve_argv0 &= seen.argv0;
            Some(Ok(pending.as_it_is().unwrap_or_else(|| {
                let replaced: Vec<_> = pending.obsolete.iter().map(|entry| entry.name.clone()).collect();
                survey.forget(|entry| replaced.contains(&entry.name));
                let verdict = Verdict::Works { level: seen.level, argv0: seen.argv0, micros: 0 };
                survey.note(pending.arch, Entry::made_by(&pending.rule), &verdict);
                pending.installed(None, replaced)
            })))
        });
        let leftovers = std::mem::take(&mut self.leftovers);
        survey.forget(|entry| leftovers.contains(entry));
    }

    pub(super) fn register(&mut self, table: &Table) {
        let emulators = self.emulators;
        self.sift(|pending| register(table, emulators, pending).err().map(Err));
    }

    /// Finds out which registered handlers work; the others are taken back.
    pub(super) fn finish(&mut self, table: &Table, before: Survey) -> Result<Survey> {
        let mut survey = before;
        if !self.pending.is_empty() {
            survey = self.survey_again(table, &survey)?;
            if self.drop_argv0(table, &survey) {
                survey = self.survey_again(table, &survey)?;
            }
        }
        let cleared = !self.leftovers.is_empty();
        for entry in self.leftovers.drain(..) {
            table.remove_if(&entry.name, Some(entry.registration))?;
        }
        if self.settle(table, &survey) || cleared {
            survey = self.survey_again(table, &survey)?;
        }
        if self.confirm(table, &survey) {
            survey = self.survey_again(table, &survey)?;
        }
        Ok(survey)
    }

    fn survey_again(&mut self, table: &Table, before: &Survey) -> Result<Survey> {
        self.known.extend(before.statuses.iter().cloned());
        let look = Look { limit: self.limit, known: &self.known, ..Look::default() };
        Survey::look(Some(table), look)
    }

    /// Removes what was registered and was not seen to run. What is done stays, even if it failed: once the entries that it
    /// replaces are removed, a stand-in is all that the platform has.
    pub(super) fn take_back(&mut self, table: &Table) {
        for pending in &self.pending {
            if !self.done.contains_key(pending.arch.qemu) {
                // the first error is reported, not this one
                let _ = withdraw(table, pending);
            }
        }
    }

    /// Registers again without flag P where the programs lose `argv[0]` by it. Returns whether there was any.
    fn drop_argv0(&mut self, table: &Table, after: &Survey) -> bool {
        let (mut any, emulators) = (false, self.emulators);
        self.sift(|pending| {
            let verdict = &after.of(pending.arch).verdict;
            let lost = matches!(verdict, Verdict::Works { argv0: false, .. });
            if !(lost && pending.rule.flags.preserve_argv0) {
                return None;
            }
            any = true;
            pending.rule.flags.preserve_argv0 = false;
            withdraw(table, pending).and_then(|()| register(table, emulators, pending)).err().map(Err)
        });
        any
    }

    /// Where a program has run, removes the obsolete entries. Elsewhere, takes the new entry back. Returns whether the table has
    /// changed.
    fn settle(&mut self, table: &Table, after: &Survey) -> bool {
        let mut changed = false;
        for pending in &self.pending {
            let status = after.of(pending.arch);
            let in_effect = status.handler.as_ref().map(|entry| entry.registration);
            let is_ours = pending.registered.is_some() && in_effect == pending.registered;
            let result = match &status.verdict {
                Verdict::Works { .. } if !is_ours => {
                    changed = true;
                    withdraw(table, pending).and(Err(anyhow!(
                        "something else changed the table meanwhile, and {} was not in effect; run it again",
                        shown(&pending.name())
                    )))
                }
                Verdict::Works { .. } if !is_judged(pending, status).unwrap_or(false) => {
                    changed = true;
                    withdraw(table, pending).and(Err(swapped(&pending.rule.interpreter)))
                }
                Verdict::Works { micros, .. } => {
                    changed |= !pending.obsolete.is_empty();
                    let replaced = replace(table, self.emulators, pending);
                    replaced.map(|replaced| pending.installed(Some(*micros), replaced))
                }
                Verdict::Fails(failure) => {
                    changed = true;
                    withdraw(table, pending).and(Err(does_not_run(pending, failure, "not registered")))
                }
            };
            self.done.insert(pending.arch.qemu, result);
        }
        changed
    }

    /// Checks the outcomes against the last survey, since other processes may have changed something meanwhile. Returns whether the
    /// table has changed.
    fn confirm(&mut self, table: &Table, last: &Survey) -> bool {
        let mut changed = false;
        for pending in &self.pending {
            let status = last.of(pending.arch);
            let ours = status.handler.as_ref().filter(|entry| entry.name == pending.rule.name);
            let result = self.done.get_mut(pending.arch.qemu);
            let (Some(entry), Some(result)) = (ours, result.filter(|result| result.is_ok())) else {
                continue;
            };
            // an error is no reason to take the platform's only handler
            if !is_judged(pending, status).unwrap_or(true) {
                changed = true;
                let back = table.remove_if(&entry.name, Some(entry.registration)).map_err(anyhow::Error::from);
                *result = back.and(Err(swapped(&pending.rule.interpreter)));
            }
        }
        for status in &last.statuses {
            let result = self.done.get_mut(status.arch.qemu);
            let (Verdict::Fails(failure), Some(result)) = (&status.verdict, result) else {
                continue;
            };
            let may_be_late = failure.is_timeout() && self.limit < LIMIT;
            if result.as_ref().is_ok_and(InstallOutcome::is_through_handler) && !may_be_late {
                *result = Err(anyhow!("it has stopped working meanwhile: {failure}; run it again"));
            }
        }
        changed
    }

    /// The results: named architectures in the order they were named, those of `all` in the order of [`ARCHES`].
    pub(super) fn items(mut self, order: &Order) -> Vec<Item> {
        let arches = order.selection.arches(&ARCHES).into_iter();
        arches.filter_map(|arch| Some((arch, self.done.remove(arch.qemu)?))).collect()
    }
}

impl Pending {
    /// The outcome, if what is best turned out to be what is registered already.
    fn as_it_is(&self) -> Option<InstallOutcome> {
        let current = self.current.as_ref().filter(|_| self.works)?;
        let same = matches_rule(current, &self.rule) && self.former.is_none();
        same.then(|| InstallOutcome::AlreadyInstalled {
            entry: current.name.clone(),
            kept: None,
            unseen: None,
            credentials: self.credentials,
        })
    }

    fn installed(&self, micros: Option<u64>, replaced: Vec<OsString>) -> InstallOutcome {
        let version = self.former_version.clone();
        InstallOutcome::Installed {
            version: self.version.clone(),
            former: self.former.as_ref().map(|_| Former { version }),
            micros,
            replaced,
            credentials: self.credentials,
        }
    }
}

/// Whether the kernel has pinned the file that was looked at: it looks the path up itself, and another file may have taken the path
/// meanwhile. A file that cannot be seen is trusted, since nobody else can replace it.
fn is_judged(pending: &Pending, status: &PlatformStatus) -> io::Result<bool> {
    match (&pending.judged, status.interpreter()) {
        (Some(judged), Some(pinned)) => identity::is_same(judged, pinned),
        _ => Ok(true),
    }
}

fn swapped(path: &Path) -> anyhow::Error {
    let path = path.display();
    anyhow!("another file has taken the place of {path} during this call; not registered; run it again")
}

fn does_not_run(pending: &Pending, failure: &Failure, now: &'static str) -> anyhow::Error {
    DoesNotRun::new(pending.arch, &pending.rule, failure, Some(now)).into()
}

/// The stand-ins beside the entry that stays.
fn leftovers(survey: &Survey, arch: &Arch, outcome: &InstallOutcome) -> Vec<Entry> {
    let InstallOutcome::AlreadyInstalled { entry, kept: None, .. } = outcome else {
        return Vec::new();
    };
    let stand_in = |other: &&Entry| is_stand_in(&other.name, entry) && other.matches(arch);
    survey.entries.iter().filter(stand_in).cloned().collect()
}

fn register(table: &Table, emulators: &Source, pending: &mut Pending) -> Result<()> {
    let rule = Rule { name: pending.name(), ..pending.rule.clone() };
    emulators.register(table, &rule)?;
    let look = || table.metadata(&rule.name);
    // tried twice: a shortage of memory may pass
    match look().or_else(|_| look()) {
        Ok(entry) => pending.registered = Some(entry.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => pending.registered = None,
        Err(error) => {
            // nobody could tell it from another registration later
            table.remove(&rule.name)?;
            let path = table.path().join(&rule.name);
            return Err(error).with_context(|| format!("cannot look at {}", shown(path.as_os_str())));
        }
    }
    Ok(())
}

/// Removes what was registered for `pending`, unless another registration has the name by now.
fn withdraw(table: &Table, pending: &Pending) -> Result<()> {
    if pending.registered.is_some() {
        table.remove_if(&pending.name(), pending.registered)?;
    }
    Ok(())
}

/// Removes the obsolete entries and returns their names; another registration under such a name stays. If one of them held the name,
/// the rule is registered again under it, as the newest entry, before the stand-in is removed.
fn replace(table: &Table, emulators: &Source, pending: &Pending) -> Result<Vec<OsString>> {
    let mut replaced = Vec::new();
    let obsolete: Vec<&Entry> = pending.obsolete.iter().collect();
    for (entry, removed) in obsolete.iter().zip(removal::remove(table, &obsolete)) {
        if removed? {
            replaced.push(entry.name.clone());
        }
    }
    let stand_in = pending.name();
    if stand_in != pending.rule.name {
        let works = || format!("{} works in its place", shown(&stand_in));
        let register = || emulators.register(table, &pending.rule);
        // tried twice: a shortage of memory may pass, and nobody expects the stand-in's name
        register().or_else(|_| register()).with_context(works)?;
        withdraw(table, pending)?;
    }
    Ok(replaced)
}
