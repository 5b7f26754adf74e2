//! The steps of an install, each over all architectures at once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use super::decide::{Decision, Pending, is_stand_in, matches_rule, plan};
use super::{DoesNotRun, Former, InstallOutcome, Item, Order};
use crate::emulator::identity;
use crate::emulator::{EmulatorError, Question, Source, Version, versions};
use crate::helper::probes::LIMIT;
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::policy::survey::{Failure, PlatformStatus, Survey, Verdict, takes};
use crate::policy::trial;

/// One call's work. An architecture is either settled, in `done`, or still `pending`.
pub(super) struct Round<'a> {
    emulators: &'a Source,
    done: HashMap<&'static str, Result<InstallOutcome>>,
    pending: Vec<Pending>,
    /// Stand-ins that a killed call left beside the entry that they stood in for.
    leftovers: Vec<Entry>,
    /// Handlers that timed out, in this call or in one before.
    timed_out: Vec<PlatformStatus>,
    /// How long a new emulator may take.
    limit: Duration,
}

impl<'a> Round<'a> {
    pub(super) fn decide(
        order: &'a Order,
        survey: &Survey,
        timed_out: &[PlatformStatus],
        limit: Duration,
    ) -> Result<Self> {
        let mut round = Self {
            emulators: &order.emulators,
            done: HashMap::new(),
            pending: Vec::new(),
            leftovers: Vec::new(),
            timed_out: timed_out.to_vec(),
            limit,
        };
        for (arch, decision) in plan(order, survey)? {
            match decision {
                Ok(Decision::Leave(outcome)) => {
                    round.leftovers.extend(leftovers(survey, arch, &outcome));
                    round.settled(arch, Ok(outcome));
                }
                Ok(Decision::Register(pending)) => round.pending.push(*pending),
                Ok(Decision::Skip) => {}
                Err(refusal) => round.settled(arch, Err(refusal.into())),
            }
        }
        Ok(round)
    }

    fn settled(&mut self, arch: &Arch, result: Result<InstallOutcome>) {
        self.done.insert(arch.qemu, result);
    }

    /// Moves out of `pending` what `keep` gives a result for.
    fn sift(&mut self, mut keep: impl FnMut(&mut Pending) -> Option<Result<InstallOutcome>>) {
        for mut pending in std::mem::take(&mut self.pending) {
            match keep(&mut pending) {
                Some(result) => self.settled(pending.arch, result),
                None => self.pending.push(pending),
            }
        }
    }

    /// Looks at every emulator, so that a file that cannot be one is refused before the table is touched. The version of what
    /// it is to take the place of is found out too.
    pub(super) fn check_emulators(&mut self) {
        let mut asked = ask(&self.pending, self.emulators, self.limit).into_iter();
        self.sift(|pending| {
            let asked = asked.next()?;
            pending.former_version = asked.former;
            match asked.new {
                Ok((version, file)) => {
                    pending.version = version;
                    pending.judged = Some(file);
                    None
                }
                Err(error) => Some(Err(error.into())),
            }
        });
    }

    /// Tries out what is to replace a working handler.
    pub(super) fn try_out(&mut self, table: &Table) -> Result<()> {
        let candidates: Vec<_> = self
            .pending
            .iter()
            .filter(|p| p.works)
            .map(|p| (p.arch, &p.rule))
            .collect();
        let mut verdicts = trial::run(table, self.emulators, &candidates, self.limit)?;
        verdicts.reverse();
        self.sift(|pending| {
            if !pending.works {
                return None;
            }
            match verdicts.pop()? {
                Ok(Verdict::Works { argv0, .. }) => pending.rule.flags.preserve_argv0 &= argv0,
                Ok(Verdict::Fails(failure)) => {
                    let stays = "the handler that was there stays";
                    return Some(Err(does_not_run(pending, &failure, stays)));
                }
                Err(error) => return Some(Err(error)),
            }
            pending.as_it_is().map(Ok)
        });
        Ok(())
    }

    /// Settles all that is pending as it would be: by what `rehearse` shows of each, whether it sees its own `argv[0]` or why it
    /// does not run; by what is known of the emulators where nothing can be rehearsed.
    pub(super) fn rehearse(
        &mut self,
        rehearse: impl FnOnce(&[(&'static Arch, Rule)]) -> Option<Vec<Result<bool>>>,
    ) {
        let candidates = self.pending.iter().map(|p| (p.arch, p.rule.clone()));
        let candidates: Vec<_> = candidates.collect();
        let mut rehearsed = rehearse(&candidates).map(Vec::into_iter);
        self.sift(|pending| {
            match rehearsed.as_mut().and_then(Iterator::next) {
                Some(Ok(argv0)) => pending.rule.flags.preserve_argv0 &= argv0,
                Some(Err(why)) => return Some(Err(why)),
                None => {}
            }
            Some(Ok(pending.as_it_is().unwrap_or_else(|| {
                let obsolete = pending.obsolete.iter();
                let replaced = obsolete.map(|entry| entry.name.clone());
                pending.installed(None, replaced.collect())
            })))
        });
    }

    pub(super) fn register(&mut self, table: &Table) {
        let emulators = self.emulators;
        self.sift(|pending| register(table, emulators, pending).err().map(Err));
    }

    /// From registered to installed, or to taken back.
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
        self.timed_out.extend(before.timed_out());
        Survey::take_within(self.limit, table, &self.timed_out)
    }

    /// Removes what was registered and not seen to run. What was settled before is left alone, failures too: once the
    /// entries that it replaces are gone, even a stand-in is all that the platform has.
    pub(super) fn take_back(&mut self, table: &Table) {
        for pending in &self.pending {
            if !self.done.contains_key(pending.arch.qemu) {
                // the error that led here is the one to be told
                let _ = withdraw(table, pending);
            }
        }
    }

    /// Registers again, without P, what turned out to lose `argv[0]` over it. True if there was any.
    fn drop_argv0(&mut self, table: &Table, after: &Survey) -> bool {
        let (mut any, emulators) = (false, self.emulators);
        self.sift(|pending| {
            let lost = matches!(
                after.of(pending.arch).verdict,
                Verdict::Works { argv0: false, .. }
            );
            if !(lost && pending.rule.flags.preserve_argv0) {
                return None;
            }
            any = true;
            pending.rule.flags.preserve_argv0 = false;
            let again = withdraw(table, pending).and_then(|()| register(table, emulators, pending));
            again.err().map(Err)
        });
        any
    }

    /// Where a program ran: lets the obsolete entries go. Where none did: takes the new entry back. True if the table
    /// was changed.
    fn settle(&mut self, table: &Table, after: &Survey) -> bool {
        let mut changed = false;
        let mut settled = Vec::new();
        for pending in &self.pending {
            let status = after.of(pending.arch);
            let in_effect = status.handler.as_ref().map(|entry| entry.registration);
            let result = match &status.verdict {
                Verdict::Works { .. }
                    if pending.registered.is_none() || in_effect != pending.registered =>
                {
                    Err(anyhow!(
                        "something else changed the table meanwhile, and {} is not in effect; run it again",
                        shown(&pending.name())
                    ))
                }
                Verdict::Works { .. } if !is_judged(pending, status) => {
                    changed = true;
                    let back = withdraw(table, pending);
                    back.and(Err(swapped(&pending.rule.interpreter)))
                }
                Verdict::Works { micros, .. } => {
                    changed |= !pending.obsolete.is_empty();
                    let replaced = replace(table, self.emulators, pending);
                    replaced.map(|replaced| pending.installed(Some(*micros), replaced))
                }
                Verdict::Fails(failure) => {
                    changed = true;
                    let back = withdraw(table, pending);
                    back.and(Err(does_not_run(pending, failure, "not registered")))
                }
            };
            settled.push((pending.arch, result));
        }
        for (arch, result) in settled {
            self.settled(arch, result);
        }
        changed
    }

    /// Nothing is in place that the last look did not see run, and run through what was looked at: what was found so at first
    /// may have been taken away meanwhile. True if the table was changed.
    fn confirm(&mut self, table: &Table, last: &Survey) -> bool {
        let mut changed = false;
        for pending in &self.pending {
            let status = last.of(pending.arch);
            let name = &pending.rule.name;
            let is_ours = status
                .handler
                .as_ref()
                .is_some_and(|entry| entry.name == *name);
            let result = self.done.get_mut(pending.arch.qemu);
            let Some(result) = result.filter(|result| result.is_ok() && is_ours) else {
                continue;
            };
            if !is_judged(pending, status) {
                changed = true;
                let back = table.remove(name).map_err(anyhow::Error::from);
                *result = back.and(Err(swapped(&pending.rule.interpreter)));
            }
        }
        for status in &last.statuses {
            let result = self.done.get_mut(status.arch.qemu);
            let (Verdict::Fails(failure), Some(result)) = (&status.verdict, result) else {
                continue;
            };
            let may_be_late = failure.is_timeout() && self.limit < LIMIT;
            if result
                .as_ref()
                .is_ok_and(InstallOutcome::is_through_handler)
                && !may_be_late
            {
                *result = Err(anyhow!(
                    "it has stopped working meanwhile: {failure}; run it again"
                ));
            }
        }
        changed
    }

    /// The results: named architectures in the order they were named, those of `all` in the table's.
    pub(super) fn items(mut self, order: &Order) -> Vec<Item> {
        let arches = order.selection.arches(&ARCHES);
        arches
            .into_iter()
            .filter_map(|arch| Some((arch, self.done.remove(arch.qemu)?)))
            .collect()
    }
}

impl Pending {
    /// Where what turned out to be best is what is registered already.
    fn as_it_is(&self) -> Option<InstallOutcome> {
        let current = self.current.as_ref()?;
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

/// Whether the kernel has pinned the file that was looked at: it looks up the path for itself, and another may have taken its
/// place meanwhile. What cannot be seen is believed, since nobody else can replace it.
fn is_judged(pending: &Pending, status: &PlatformStatus) -> bool {
    match (&pending.judged, status.interpreter()) {
        (Some(judged), Some(pinned)) => identity::is_same(judged, pinned).unwrap_or(false),
        _ => true,
    }
}

fn swapped(path: &Path) -> anyhow::Error {
    let path = path.display();
    anyhow!(
        "another file has taken the place of {path} during this call; not registered; run it again"
    )
}

fn does_not_run(pending: &Pending, failure: &Failure, now: &'static str) -> anyhow::Error {
    DoesNotRun::new(pending.arch, &pending.rule, failure.clone(), Some(now)).into()
}

/// The stand-ins beside the entry that is to stay.
fn leftovers(survey: &Survey, arch: &Arch, outcome: &InstallOutcome) -> Vec<Entry> {
    let InstallOutcome::AlreadyInstalled {
        entry, kept: None, ..
    } = outcome
    else {
        return Vec::new();
    };
    let stand_in = |other: &&Entry| is_stand_in(&other.name, entry) && takes(other, arch);
    let stand_ins = survey.entries.iter().filter(stand_in);
    stand_ins.cloned().collect()
}

/// What is known of the emulators of something pending.
pub(crate) struct Asked {
    /// The one to be installed: its version, and the file that was looked at.
    pub(crate) new: Result<(Version, File), EmulatorError>,
    /// The version of the one that is pinned now.
    pub(crate) former: Option<Version>,
}

/// Opens the new emulators after a look at them, and finds out the versions of these and of the ones that are pinned now.
pub(crate) fn ask(pending: &[Pending], emulators: &Source, limit: Duration) -> Vec<Asked> {
    let opened = pending.iter().map(|p| emulators.open(&p.rule.interpreter));
    let opened: Vec<_> = opened.collect();
    let question = |path, file, may_start| Question {
        path,
        file,
        may_start,
    };
    let questions = pending.iter().zip(&opened).flat_map(|(pending, new)| {
        let path = pending.rule.interpreter.as_path();
        let new = new.as_ref().ok().map(|file| question(path, file, true));
        let former = to_be_asked(pending);
        new.into_iter()
            .chain(former.map(|file| question(path, file, true)))
    });
    let mut answers = versions(&questions.collect::<Vec<_>>(), limit).into_iter();
    let asked = pending.iter().zip(opened).map(|(pending, new)| {
        let new = new.and_then(|file| match answers.next() {
            Some(version) => Ok((version?, file)),
            None => Ok((Version::default(), file)),
        });
        let former = to_be_asked(pending).and_then(|_| answers.next()?.ok());
        Asked {
            new,
            former: former.or_else(|| pending.former_version.clone()),
        }
    });
    asked.collect()
}

/// The emulator that is pinned now, if its bytes do not show its version and its entry says that it is QEMU's.
fn to_be_asked(pending: &Pending) -> Option<&File> {
    let says = pending.current.as_ref().is_some_and(Entry::is_qemu);
    let former = pending.former.as_deref();
    former.filter(|_| says && pending.former_version.is_none())
}

fn register(table: &Table, emulators: &Source, pending: &mut Pending) -> Result<()> {
    let rule = Rule {
        name: pending.name(),
        ..pending.rule.clone()
    };
    emulators.register(table, &rule)?;
    pending.registered = table.metadata(&rule.name).ok().map(|entry| entry.ino());
    Ok(())
}

/// Removes what was registered for it, and nothing that has taken its name meanwhile.
fn withdraw(table: &Table, pending: &Pending) -> Result<()> {
    Ok(table
        .remove_if(&pending.name(), pending.registered)
        .map(drop)?)
}

/// Lets the obsolete entries go, and returns their names; what something else has registered under them meanwhile stays. Where one
/// of them held the name, the new entry gets it by being registered once more under it, newest of all, before its stand-in goes.
fn replace(table: &Table, emulators: &Source, pending: &Pending) -> Result<Vec<OsString>> {
    let mut replaced = Vec::new();
    for entry in &pending.obsolete {
        if table.remove_if(&entry.name, Some(entry.registration))? {
            replaced.push(entry.name.clone());
        }
    }
    let stand_in = pending.name();
    if stand_in != pending.rule.name {
        let works = || format!("{} works in its place", shown(&stand_in));
        let register = || emulators.register(table, &pending.rule);
        // tried twice, as removing is: a shortage may have passed, and what stands in has another name than anybody expects
        register().or_else(|_| register()).with_context(works)?;
        withdraw(table, pending)?;
    }
    Ok(replaced)
}
