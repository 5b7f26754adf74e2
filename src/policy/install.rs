//! Installing: bringing the table to where every wanted platform runs, without a moment in which one that ran does not.
//!
//! Decides per architecture between native, already installed, left to another translator, and to be registered; then
//! registers. A handler that works is replaced only by one that has been tried out ([`crate::policy::trial`]), and goes only
//! once the newer one, which the kernel prefers, has run a program. So a kill at any instant leaves every platform
//! working, and what it leaves behind the next call clears away.
//!
//! Where the table is mounted and what keeps it there is [`crate::kernel::mount`]'s and [`crate::kernel::anchor`]'s.

use std::ffi::OsString;
use std::fs::File;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::{Flags, Rule};

use crate::emulator::{EmulatorError, Question, Source, Version, versions};
use crate::helper::probes::LIMIT;
use crate::kernel::table::Table;
use crate::kernel::wait;
use crate::policy::survey::{PlatformStatus, Survey, Verdict};
use crate::policy::trial;

mod decide;
mod dry_run;
mod failed;
mod round;

pub(crate) use decide::{Decision, InstallRefusal, Pending, Planned, is_stale, is_stand_in, plan};
pub use dry_run::dry_run;
pub use failed::{DoesNotRun, is_timeout};
use round::Round;
pub(crate) use round::ask;

/// What to install, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which architectures.
    pub selection: Selection,
    /// Where emulators are taken from.
    pub emulators: Source,
    /// What is put before file and entry names.
    pub prefix: String,
    /// The flags to register with; P only where the emulator turns out to know it.
    pub flags: Flags,
    /// Keep nothing that is not of this install.
    pub reset: bool,
    /// Take over from a translator that is not QEMU's and works.
    pub force: bool,
    /// What becomes of QEMU's handlers that work, and are made otherwise.
    pub working: Working,
    /// Whether flag C is to be set, where somebody has said so; [`flags`](Self::flags) have it by default.
    pub credentials: Option<bool>,
}

/// What an install does with QEMU's handlers that work, and are made otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Working {
    /// Leaves them as they are.
    Keep,
    /// Replaces them by what weakens nothing: no older QEMU, and no flag C where there was none.
    Upgrade,
    /// Replaces them.
    Replace,
}

/// What an install makes of flag C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// What was asked for, or what was there.
    AsAsked,
    /// Nobody has asked for it, and the handler that was there is without it: so is this one.
    LeftOut,
    /// Nobody has asked for it, and the handler that was there was without it: this one has it.
    Gained,
}

impl Order {
    /// What is registered for `arch`.
    #[must_use]
    pub fn rule_for(&self, arch: &Arch) -> Rule {
        self.emulators.rule_for(arch, &self.prefix, self.flags)
    }
}

/// How one platform came to be in place.
#[derive(Debug, PartialEq, Eq)]
pub enum InstallOutcome {
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
        /// Why the emulator that the kernel has pinned for it cannot be seen.
        unseen: Option<String>,
        /// What became of flag C.
        credentials: Credentials,
    },
    /// A translator that is not QEMU's runs it.
    LeftTo {
        /// Its entry.
        entry: OsString,
    },
    /// Registered, and a program has run.
    Installed {
        /// QEMU's version.
        version: Version,
        /// The emulator that was pinned before, if that was another one.
        former: Option<Former>,
        /// Processor time of one start, in microseconds; `None` where it was not registered, but would be.
        micros: Option<u64>,
        /// Entries that it took the place of.
        replaced: Vec<OsString>,
        /// What became of flag C.
        credentials: Credentials,
    },
}

impl InstallOutcome {
    /// Whether programs run through a handler.
    #[must_use]
    pub fn is_through_handler(&self) -> bool {
        !matches!(self, Self::Native { .. })
    }
}

/// The emulator that a handler had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Its version, if it said one.
    pub version: Option<Version>,
}

/// What became of one architecture.
pub type Item = (&'static Arch, Result<InstallOutcome>);

/// How long an emulator may take before the others are done, and it is waited for apart.
const QUICK: Duration = Duration::from_secs(2);

/// Installs into a table that the caller has locked, and returns what became of each architecture and how the host
/// stands afterwards. `timed_out`: what is known not to come to an end ([`Survey::timed_out`]). `done` is called with each item as soon as it
/// is one: what takes long is waited for after all others are done.
///
/// # Errors
/// When nothing could be done at all: the table is switched off, cannot be read, or probes cannot be run.
pub fn install(
    table: &Table,
    order: &Order,
    timed_out: &[PlatformStatus],
    done: &mut dyn FnMut(&Item),
) -> Result<(Vec<Item>, Survey)> {
    let first = attempt(table, order, timed_out, QUICK)?;
    let is_late = |(_, result): &Item| result.as_ref().is_err_and(is_timeout);
    let (late, mut items): (Vec<Item>, Vec<Item>) = first.items.into_iter().partition(is_late);
    items.iter().for_each(&mut *done);
    // one that was there already may only have been slow
    let is_known =
        |slow: &PlatformStatus| first.timed_out.iter().any(|known| known.arch == slow.arch);
    if late.is_empty() && first.survey.timed_out().iter().all(is_known) {
        return Ok((items, first.survey));
    }
    let names: Vec<&str> = late.iter().map(|(arch, _)| arch.oci).collect();
    if !names.is_empty() {
        let (names, limit) = (names.join(", "), LIMIT.as_secs());
        wait::say(&format!(
            "waiting for the emulators of {names}, for {limit} s at most"
        ));
    }
    let second = attempt(table, order, &first.timed_out, LIMIT)?;
    for item in &second.items {
        let told = items.iter().find(|(arch, _)| *arch == item.0);
        if told.is_none_or(|(_, result)| result.is_ok() && item.1.is_err()) {
            done(item);
        }
    }
    items.extend(late);
    Ok((later(items, second.items), second.survey))
}

/// What became of each in two installs, one right after the other, the second maybe of fewer.
pub(crate) fn later(first: Vec<Item>, mut second: Vec<Item>) -> Vec<Item> {
    let later = |(arch, result): Item| {
        let again = second.iter().position(|(of, _)| *of == arch);
        let result = match again.map(|at| second.swap_remove(at).1) {
            Some(Ok(_)) if matches!(result, Ok(InstallOutcome::Installed { .. })) => result,
            Some(again) => again,
            None => result,
        };
        (arch, result)
    };
    let mut items: Vec<Item> = first.into_iter().map(later).collect();
    items.extend(second);
    items
}

/// What an attempt has come to.
struct Attempt {
    items: Vec<Item>,
    survey: Survey,
    /// What is known not to come to an end, new emulators aside.
    timed_out: Vec<PlatformStatus>,
}

/// Installs, and gives each new emulator `limit` to run a program.
fn attempt(
    table: &Table,
    order: &Order,
    timed_out: &[PlatformStatus],
    limit: Duration,
) -> Result<Attempt> {
    prepare(table)?;
    let survey = Survey::take_after(table, timed_out)?;
    let timed_out = survey.timed_out();
    let mut round = Round::decide(order, &survey, &timed_out, limit)?;
    round.check_emulators();
    round.try_out(table)?;
    round.register(table);
    let finished = round.finish(table, survey);
    if finished.is_err() {
        round.take_back(table);
    }
    let survey = finished?;
    // what failed then would say so of each platform
    check_enabled(table, survey.enabled)?;
    Ok(Attempt {
        items: round.items(order),
        survey,
        timed_out,
    })
}

/// Tries out the emulators of `order` for `arches`, and registers none of them for anybody's programs. The errors are why one does
/// not do.
///
/// # Errors
/// Those of [`install`].
pub fn try_out(
    table: &Table,
    order: &Order,
    arches: &[&'static Arch],
) -> Result<Vec<(&'static Arch, Result<()>)>> {
    prepare(table)?;
    let rules = arches.iter().map(|arch| (*arch, order.rule_for(arch)));
    let rules: Vec<(&'static Arch, Rule)> = rules.collect();
    let emulators = &order.emulators;
    let opened: Vec<_> = rules
        .iter()
        .map(|(_, rule)| emulators.open(&rule.interpreter))
        .collect();
    let questions = rules.iter().zip(&opened).filter_map(|((_, rule), file)| {
        let (path, file) = (rule.interpreter.as_path(), file.as_ref().ok()?);
        Some(Question {
            path,
            file,
            may_start: true,
        })
    });
    let mut versions = versions(&questions.collect::<Vec<_>>(), LIMIT).into_iter();
    let answers: Vec<Result<Version, EmulatorError>> = opened
        .into_iter()
        .map(|opened: Result<File, _>| {
            opened.and_then(|_| versions.next().unwrap_or_else(|| Ok(Version::default())))
        })
        .collect();
    let answering = rules.iter().zip(&answers);
    let answering = answering.filter(|(_, answer)| answer.is_ok());
    let candidates: Vec<_> = answering.map(|((arch, rule), _)| (*arch, rule)).collect();
    let mut verdicts = trial::run(table, emulators, &candidates, LIMIT)?.into_iter();
    let mut judge = |arch, rule: &Rule, answer: Result<Version, EmulatorError>| {
        answer?;
        match verdicts.next() {
            Some(Ok(Verdict::Works { .. })) => Ok(()),
            Some(Ok(Verdict::Fails(failure))) => bail!(DoesNotRun::new(arch, rule, failure, None)),
            Some(Err(error)) => Err(error),
            None => bail!("it was not tried"),
        }
    };
    let tried = rules.iter().zip(answers);
    let tried = tried.map(|((arch, rule), answer)| (*arch, judge(arch, rule, answer)));
    Ok(tried.collect())
}

/// Nothing can be tried in a table that is switched off, nor where what another call has left takes the probes.
fn prepare(table: &Table) -> Result<()> {
    check_enabled(table, table.enabled()?)?;
    trial::clear(table, &table.entries()?)
}

fn check_enabled(table: &Table, enabled: bool) -> Result<()> {
    let status = table.path().join("status");
    ensure!(
        enabled,
        "binfmt_misc is switched off, no handler has any effect; switch it on: echo 1 > {}",
        status.display()
    );
    Ok(())
}
