//! The steps of an install, each over all architectures at once.

use std::collections::HashMap;
use std::path::Path;
use std::thread;

use anyhow::{Result, anyhow};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::rule::Rule;

use super::decide::{Decision, Pending, decide, is_it};
use super::{Item, Order, Outcome};
use crate::emulator;
use crate::survey::{Survey, Verdict, native_among};
use crate::table::Table;
use crate::trial;
use crate::wording::shown;

/// One call's work. An architecture is either settled, in `done`, or still `pending`.
pub(super) struct Round {
    done: HashMap<&'static str, Result<Outcome>>,
    pub(super) pending: Vec<Pending>,
}

impl Round {
    pub(super) fn decide(order: &Order, survey: &Survey) -> Self {
        let mut round = Self {
            done: HashMap::new(),
            pending: Vec::new(),
        };
        let selection = &order.selection;
        let taken = |arch: &&Arch| selection.wants(arch) && survey.of(arch).handler.is_some();
        let native = native_among(&ARCHES.iter().filter(taken).collect::<Vec<_>>());
        for arch in ARCHES.iter().filter(|arch| selection.wants(arch)) {
            let is_native = native.iter().any(|n| n.qemu == arch.qemu);
            match decide(order, survey, arch, is_native) {
                Ok(Decision::Leave(outcome)) => round.settled(arch, Ok(outcome)),
                Ok(Decision::Register(pending)) => round.pending.push(*pending),
                Ok(Decision::Skip) => {}
                Err(error) => round.settled(arch, Err(error)),
            }
        }
        round
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
    /// before the table is touched.
    pub(super) fn check_emulators(&mut self) {
        let check = |path: &Path| emulator::inspect(path).and_then(|()| emulator::version(path));
        let mut versions: Vec<_> = thread::scope(|scope| {
            let checks: Vec<_> = self
                .pending
                .iter()
                .map(|p| scope.spawn(move || check(&p.rule.interpreter)))
                .collect();
            checks.into_iter().map(|check| check.join().ok()).collect()
        });
        versions.reverse();
        self.sift(|pending| match versions.pop().flatten() {
            Some(Ok(version)) => {
                pending.version = version;
                None
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => Some(Err(anyhow!(
                "checking {} failed",
                pending.rule.interpreter.display()
            ))),
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
        let mut verdicts = trial::run(table, &candidates)?;
        verdicts.reverse();
        self.sift(|pending| {
            if !pending.works {
                return None;
            }
            match verdicts.pop()? {
                Ok(Verdict::Works { argv0, .. }) => pending.rule.flags.preserve_argv0 &= argv0,
                Ok(Verdict::Fails(failure)) => {
                    let path = pending.rule.interpreter.display();
                    return Some(Err(anyhow!(
                        "{path} does not run programs: {failure}; the handler that was there stays"
                    )));
                }
                Err(error) => return Some(Err(error)),
            }
            let current = pending.current.as_ref()?;
            is_it(current, &pending.rule).then(|| {
                Ok(Outcome::AlreadyInstalled {
                    entry: current.name.clone(),
                    kept: None,
                })
            })
        });
        Ok(())
    }

    pub(super) fn register(&mut self, table: &Table) {
        self.sift(|pending| register(table, pending).err().map(Err));
    }

    /// Registers again, without P, what turned out to lose `argv[0]` over it. True if there was any.
    pub(super) fn drop_argv0(&mut self, table: &Table, after: &Survey) -> bool {
        let mut any = false;
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
            let again = table
                .remove(&pending.name())
                .map_err(Into::into)
                .and_then(|()| register(table, pending));
            again.err().map(Err)
        });
        any
    }

    /// Where a program ran: lets the obsolete entries go. Where none did: takes the new entry back. True if the table
    /// was changed.
    pub(super) fn settle(&mut self, table: &Table, after: &Survey) -> bool {
        let mut changed = false;
        let mut settled = Vec::new();
        for pending in &self.pending {
            let result = match &after.of(pending.arch).verdict {
                Verdict::Works { micros, .. } => {
                    changed |= !pending.obsolete.is_empty();
                    replace(table, pending).map(|()| Outcome::Installed {
                        version: pending.version.clone(),
                        micros: *micros,
                        replaced: pending.obsolete.clone(),
                    })
                }
                Verdict::Fails(failure) => {
                    changed = true;
                    let back = table.remove(&pending.name()).map_err(anyhow::Error::from);
                    let path = pending.rule.interpreter.display();
                    back.and(Err(anyhow!(
                        "{path} does not run programs: {failure}; not registered"
                    )))
                }
            };
            settled.push((pending.arch, result));
        }
        for (arch, result) in settled {
            self.settled(arch, result);
        }
        changed
    }

    /// After the last change: what is not seen to run is not installed.
    pub(super) fn confirm(&mut self, last: &Survey) {
        for pending in &self.pending {
            if let (Some(Ok(_)), Verdict::Fails(failure)) = (
                self.done.get(pending.arch.qemu),
                &last.of(pending.arch).verdict,
            ) {
                let error = anyhow!("{} stopped working: {failure}", shown(&pending.rule.name));
                self.done.insert(pending.arch.qemu, Err(error));
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

fn register(table: &Table, pending: &Pending) -> Result<()> {
    let rule = Rule {
        name: pending.name(),
        ..pending.rule.clone()
    };
    Ok(table.register(&rule)?)
}

/// Lets the obsolete entries go. Where one of them held the name, the new entry gets it by being registered once more
/// under it, newest of all, before its stand-in goes.
fn replace(table: &Table, pending: &Pending) -> Result<()> {
    for name in &pending.obsolete {
        table.remove(name)?;
    }
    let stand_in = pending.name();
    if stand_in != pending.rule.name {
        table.register(&pending.rule)?;
        table.remove(&stand_in)?;
    }
    Ok(())
}
