//! The steps of an install, each over all architectures at once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use super::decide::{Decision, Pending, is_it, is_stand_in, plan};
use super::{DoesNotRun, Former, Item, Order, Outcome};
use crate::emulator::{Asked, EmulatorError, Source};
use crate::survey::{Failure, Standing, Survey, Verdict, takes};
use crate::table::Table;
use crate::trial;
use crate::wording::shown;

/// One call's work. An architecture is either settled, in `done`, or still `pending`.
pub(super) struct Round<'a> {
    emulators: &'a Source,
    done: HashMap<&'static str, Result<Outcome>>,
    pending: Vec<Pending>,
    /// Stand-ins that a killed call left beside the entry that they stood in for.
    leftovers: Vec<Entry>,
    /// What this call, or one before, has waited for in vain.
    hung: Vec<Standing>,
}

impl<'a> Round<'a> {
    pub(super) fn decide(order: &'a Order, survey: &Survey, hung: &[Standing]) -> Result<Self> {
        let mut round = Self {
            emulators: &order.emulators,
            done: HashMap::new(),
            pending: Vec::new(),
            leftovers: Vec::new(),
            hung: hung.to_vec(),
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

    fn settled(&mut self, arch: &Arch, result: Result<Outcome>) {
        self.done.insert(arch.qemu, result);
    }

    /// Moves out of `pending` what `keep` gives a result for.
    fn sift(&mut self, mut keep: impl FnMut(&mut Pending) -> Option<Result<Outcome>>) {
        for mut pending in std::mem::take(&mut self.pending) {
            match keep(&mut pending) {
                Some(result) => self.settled(pending.arch, result),
                None => self.pending.push(pending),
            }
        }
    }

    /// Looks at every emulator and starts it, all at once: a file that does not even print its version is refused
    /// before the table is touched. What it is to take the place of is asked too.
    pub(super) fn check_emulators(&mut self) {
        let mut asked: Vec<_> = self
            .pending
            .iter()
            .map(|p| ask(p, self.emulators))
            .collect();
        asked.reverse();
        self.sift(|pending| {
            let (new, former) = asked.pop()?;
            if let Some(former) = former {
                pending.former_version = former.answer().ok();
            }
            match new.and_then(Asked::answer) {
                Ok(version) => {
                    pending.version = version;
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
        let mut verdicts = trial::run(table, self.emulators, &candidates)?;
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
        self.confirm(&survey);
        Ok(survey)
    }

    fn survey_again(&mut self, table: &Table, before: &Survey) -> Result<Survey> {
        self.hung.extend(before.hung());
        Survey::take_after(table, &self.hung)
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
            let standing = after.of(pending.arch);
            let in_effect = standing.handler.as_ref().map(|entry| entry.registration);
            let result = match &standing.verdict {
                Verdict::Works { .. }
                    if pending.registered.is_none() || in_effect != pending.registered =>
                {
                    Err(anyhow!(
                        "something else changed the table meanwhile, and {} is not in effect; run it again",
                        shown(&pending.name())
                    ))
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

    /// Nothing is in place that the last look did not see run: what was found so at first may have been taken away meanwhile.
    fn confirm(&mut self, last: &Survey) {
        for standing in &last.standings {
            let result = self.done.get_mut(standing.arch.qemu);
            let (Verdict::Fails(failure), Some(result)) = (&standing.verdict, result) else {
                continue;
            };
            if result.as_ref().is_ok_and(Outcome::is_through_handler) {
                *result = Err(anyhow!(
                    "it has stopped working meanwhile: {failure}; run it again"
                ));
            }
        }
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
    fn as_it_is(&self) -> Option<Outcome> {
        let current = self.current.as_ref()?;
        let same = is_it(current, &self.rule) && self.former.is_none();
        same.then(|| Outcome::AlreadyInstalled {
            entry: current.name.clone(),
            kept: None,
            unseen: None,
            credentials: self.credentials,
        })
    }

    fn installed(&self, micros: Option<u64>, replaced: Vec<OsString>) -> Outcome {
        let version = self.former_version.clone();
        Outcome::Installed {
            version: self.version.clone(),
            former: self.former.as_ref().map(|_| Former { version }),
            micros,
            replaced,
            credentials: self.credentials,
        }
    }
}

fn does_not_run(pending: &Pending, failure: &Failure, now: &'static str) -> anyhow::Error {
    DoesNotRun::new(pending.arch, &pending.rule, failure.clone(), Some(now)).into()
}

/// The stand-ins beside the entry that is to stay.
fn leftovers(survey: &Survey, arch: &Arch, outcome: &Outcome) -> Vec<Entry> {
    let Outcome::AlreadyInstalled {
        entry, kept: None, ..
    } = outcome
    else {
        return Vec::new();
    };
    let stand_in = |other: &&Entry| is_stand_in(&other.name, entry) && takes(other, arch);
    let stand_ins = survey.entries.iter().filter(stand_in);
    stand_ins.cloned().collect()
}

/// Asks the new emulator for its version, and the one that is pinned now, if its bytes do not show it.
pub(crate) fn ask(
    pending: &Pending,
    emulators: &Source,
) -> (Result<Asked, EmulatorError>, Option<Asked>) {
    let path = &pending.rule.interpreter;
    let new = emulators
        .open(path)
        .and_then(|file| Asked::version(path, &file));
    let says = pending.current.as_ref().is_some_and(Entry::is_qemu);
    let former = pending.former.as_ref();
    let former = former.filter(|_| says && pending.former_version.is_none());
    (new, former.and_then(|file| Asked::version(path, file).ok()))
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
