//! Installing: bringing the table to where every wanted platform runs, without a moment in which one that ran does not.
//!
//! Decides per architecture between native, already installed, left to another translator, and to be registered; then
//! registers. A handler that works is replaced only by one that has been tried out ([`crate::trial`]), and goes only
//! once the newer one, which the kernel prefers, has run a program. So a kill at any instant leaves every platform
//! working, and what it leaves behind the next call clears away.
//!
//! Where the table is mounted and what keeps it there is [`crate::mount`]'s and [`crate::anchor`]'s.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Result, anyhow, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::{Flags, Rule};

use crate::emulator;
use crate::survey::{Survey, Verdict, native_among, takes};
use crate::table::{Table, shown};
use crate::trial;

/// What to install, and how.
#[derive(Debug)]
pub struct Order {
    /// Which architectures.
    pub selection: Selection,
    /// Directory of the emulators.
    pub emulators: PathBuf,
    /// What is put before file and entry names.
    pub prefix: String,
    /// Flag P, where the emulator turns out to know it.
    pub preserve_argv0: bool,
    /// Flag C: honour the setuid bits of foreign programs.
    pub credentials: bool,
    /// Take over from a translator that is not QEMU's and works.
    pub force: bool,
}

/// How one platform came to be in place.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel runs it by itself. `shadowed_by`: an entry that keeps it from doing so.
    Native {
        /// That entry.
        shadowed_by: Option<OsString>,
    },
    /// A handler was there, as wanted, and works.
    AlreadyInstalled {
        /// Its entry.
        entry: OsString,
        /// Why a handler that differs from the wanted one was kept.
        kept: Option<String>,
    },
    /// A translator that is not QEMU's runs it.
    LeftTo {
        /// Its entry.
        entry: OsString,
    },
    /// Registered, and a program has run.
    Installed {
        /// QEMU's version.
        version: String,
        /// Processor time of one start, in microseconds.
        micros: u64,
        /// Entries that it took the place of.
        replaced: Vec<OsString>,
    },
}

/// What became of one architecture.
pub type Item = (&'static Arch, Result<Outcome>);

/// Installs into a table that the caller has locked, and returns what became of each architecture and how the host stands afterwards.
///
/// # Errors
/// When nothing could be done at all: the table is switched off, cannot be read, or probes cannot be run.
pub fn install(table: &Table, order: &Order) -> Result<(Vec<Item>, Survey)> {
    if !table.enabled()? {
        let status = table.path().join("status");
        bail!(
            "binfmt_misc is switched off, no handler has any effect; switch it on: echo 1 > {}",
            status.display()
        );
    }
    trial::clear(table, &table.entries()?)?;
    let survey = Survey::take(Some(table))?;
    let mut round = Round::decide(order, &survey);
    round.check_emulators();
    round.try_out(table)?;
    round.register(table);
    if round.pending.is_empty() {
        return Ok((round.items(order), survey));
    }
    let mut after = Survey::take(Some(table))?;
    if round.drop_argv0(table, &after) {
        after = Survey::take(Some(table))?;
    }
    if round.settle(table, &after) {
        after = Survey::take(Some(table))?;
        round.confirm(&after);
    }
    Ok((round.items(order), after))
}

/// An architecture that is to be registered.
struct Pending {
    arch: &'static Arch,
    rule: Rule,
    /// The handler that was found.
    current: Option<Entry>,
    /// Whether `current` works, so that it must not be disturbed.
    works: bool,
    /// Entries that go once this one works: QEMU's for the same programs, and whatever holds the name.
    obsolete: Vec<OsString>,
    version: String,
}

impl Pending {
    /// Its name while the entry that holds the real one is still needed.
    fn name(&self) -> OsString {
        let mut name = self.rule.name.clone();
        while self.obsolete.contains(&name) {
            name.push(".next");
        }
        name
    }
}

/// One call's work. An architecture is either settled, in `done`, or still `pending`.
struct Round {
    done: HashMap<&'static str, Result<Outcome>>,
    pending: Vec<Pending>,
}

impl Round {
    fn decide(order: &Order, survey: &Survey) -> Self {
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
    fn check_emulators(&mut self) {
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
    fn try_out(&mut self, table: &Table) -> Result<()> {
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

    fn register(&mut self, table: &Table) {
        self.sift(|pending| register(table, pending).err().map(Err));
    }

    /// Registers again, without P, what turned out to lose `argv[0]` over it. True if there was any.
    fn drop_argv0(&mut self, table: &Table, after: &Survey) -> bool {
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
    fn settle(&mut self, table: &Table, after: &Survey) -> bool {
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
    fn confirm(&mut self, last: &Survey) {
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
    fn items(mut self, order: &Order) -> Vec<Item> {
        let arches = order.selection.arches(&ARCHES);
        arches
            .into_iter()
            .filter_map(|arch| Some((arch, self.done.remove(arch.qemu)?)))
            .collect()
    }
}

enum Decision {
    Leave(Outcome),
    Register(Box<Pending>),
    /// One of `all` that there is nothing to say about.
    Skip,
}

fn decide(
    order: &Order,
    survey: &Survey,
    arch: &'static Arch,
    is_native: bool,
) -> Result<Decision> {
    let standing = survey.of(arch);
    let named = order.selection.by_name(arch).is_some();
    let is_host = Arch::of_host().is_some_and(|host| host.qemu == arch.qemu);
    let handler = standing.handler.as_ref();
    if is_host || is_native || standing.is_native() {
        let shadowed_by = handler.map(|entry| entry.name.clone());
        return Ok(if named {
            Decision::Leave(Outcome::Native { shadowed_by })
        } else {
            Decision::Skip
        });
    }
    let rule = Rule::for_arch(arch, &order.prefix, &order.emulators, flags(order));
    let present = rule.interpreter.exists();
    if let Some(entry) = handler.filter(|_| standing.works()) {
        let entry_name = entry.name.clone();
        if !entry.is_qemu() && !order.force {
            return Ok(Decision::Leave(Outcome::LeftTo { entry: entry_name }));
        }
        if is_it(entry, &rule) {
            return Ok(Decision::Leave(Outcome::AlreadyInstalled {
                entry: entry_name,
                kept: None,
            }));
        }
        if entry.is_qemu() && !present {
            let kept = Some(format!("{} does not exist", rule.interpreter.display()));
            return Ok(Decision::Leave(Outcome::AlreadyInstalled {
                entry: entry_name,
                kept,
            }));
        }
    }
    if !named && !present {
        return Ok(Decision::Skip);
    }
    let obsolete = obsolete(&survey.entries, arch, &rule.name);
    if let Some(other) = survey
        .entries
        .iter()
        .find(|e| e.name == rule.name && !e.is_qemu() && !order.force)
    {
        bail!(
            "the name {} is held by an entry that is not QEMU's; --force replaces it",
            shown(&other.name)
        );
    }
    let (current, works) = (handler.cloned(), standing.works());
    Ok(Decision::Register(Box::new(Pending {
        arch,
        rule,
        current,
        works,
        obsolete,
        version: String::new(),
    })))
}

fn flags(order: &Order) -> Flags {
    Flags {
        preserve_argv0: order.preserve_argv0,
        open_binary: order.credentials,
        credentials: order.credentials,
        fix_binary: true,
    }
}

fn is_it(entry: &Entry, rule: &Rule) -> bool {
    entry.name == rule.name && entry.is_made_by(rule)
}

/// QEMU's entries for the programs of `arch` and of no other architecture, and the holder of `name`.
fn obsolete(entries: &[Entry], arch: &Arch, name: &OsStr) -> Vec<OsString> {
    let only_this = |entry: &&Entry| {
        entry.is_qemu()
            && ARCHES
                .iter()
                .all(|other| takes(entry, other) == (other.qemu == arch.qemu))
    };
    let goes = |entry: &&Entry| entry.name == name || only_this(entry);
    entries
        .iter()
        .filter(goes)
        .map(|entry| entry.name.clone())
        .collect()
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
