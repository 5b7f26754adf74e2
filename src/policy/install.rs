//! Installing: every wanted platform runs afterwards, and a platform that ran before runs at every moment in between.
//!
//! Decides for each architecture between native, already installed, left to another translator, and to be registered; then
//! registers. A handler that works is replaced only by one that has passed a trial ([`crate::policy::trial`]), and is removed only
//! once the newer one, which the kernel prefers, has run a program. So a kill at any moment leaves every platform working, and the
//! next call removes what the killed one left.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use anyhow::{Error, Result, bail, ensure};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::{Flags, Rule};

use crate::emulator::{EmulatorError, Source, Unfit, Version};
use crate::helper::probes::LIMIT;
use crate::kernel::table::Table;
use crate::kernel::wait;
use crate::kernel::wording::quoted;
use crate::policy::invocation::Invocation;
use crate::policy::survey::{Failure, Look, PlatformStatus, Survey, Verdict};
use crate::policy::trial;

mod batch;
mod decide;
mod transparent;
mod versions;

use batch::Batch;
pub use decide::{Decision, FORCED, Pending, Planned, forced, is_stale, is_stand_in, plan};
pub use transparent::settle as settle_transparency;
pub use versions::ask_others;
use versions::open_and_ask;

/// What to install, and how.
#[derive(Debug, Clone)]
pub struct Order {
    pub selection: Selection,
    /// Where emulators are taken from.
    pub emulators: Source,
    /// The prefix of the names of emulators and entries.
    pub prefix: String,
    /// The flags to register with. P is left out where the emulator does not support it. T takes its place where kernel and
    /// emulator support that.
    pub flags: Flags,
    /// Whether to remove QEMU's entries that are not of this install.
    pub reset: bool,
    /// Whether to take over from a translator that is not QEMU and works.
    pub force: bool,
    /// What to do with QEMU's handlers that work and differ from what would be registered.
    pub working: Working,
    /// Whether flag C is to be set, if the user said so; [`flags`](Self::flags) have it by default.
    pub credentials: Option<bool>,
    /// How this call was made, for the commands that errors suggest.
    pub invocation: Invocation,
}

/// What an install does with QEMU's handlers that work and differ from what it would register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Working {
    /// Leaves them.
    Keep,
    /// Replaces them, except by an older QEMU, and without setting flag C where it was not set.
    Upgrade,
    /// Replaces them.
    Replace,
}

/// What an install did about flag C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// What was asked for, or what was there.
    AsAsked,
    /// Left it out, like the handler before, because the user did not ask for it.
    LeftOut,
    /// Set it, unlike the handler before, although the user did not ask for it.
    Gained,
}

impl Order {
    /// What is registered for `arch` where nothing is known of flag T.
    pub fn rule(&self, arch: &Arch) -> Rule {
        self.emulators.rule_for(arch, &self.prefix, self.visible())
    }

    /// The flags without T. Any kernel, and any emulator, gets on with these.
    pub fn visible(&self) -> Flags {
        Flags { transparent: false, ..self.flags }
    }

    pub fn has_emulators(&self) -> bool {
        self.emulators.has_any(&self.prefix)
    }

    /// That there are none, and what to do.
    pub fn no_emulators(&self) -> String {
        format!("no emulators in {}; {}", self.emulators.dir().display(), self.emulators.remedy())
    }
}

/// How one platform came to be in place.
#[derive(Debug, PartialEq, Eq)]
pub enum InstallOutcome {
    /// The kernel runs its programs without a handler.
    Native {
        /// An entry that takes its programs all the same, and runs them.
        shadowed_by: Option<Shadow>,
    },
    /// There was a handler that works.
    AlreadyInstalled {
        entry: OsString,
        /// Why a handler that differs from the wanted one was kept.
        kept: Option<String>,
        /// Why this process cannot see which emulator the kernel has pinned for it.
        unseen: Option<String>,
        credentials: Credentials,
    },
    /// A translator that is not QEMU runs its programs.
    LeftTo { entry: OsString },
    /// Registered, and a program has run.
    Installed {
        version: Version,
        /// The emulator that was pinned before, if it was a different one.
        former: Option<Former>,
        /// Processor time of one start, in microseconds; `None` in a dry run.
        micros: Option<u64>,
        replaced: Vec<OsString>,
        credentials: Credentials,
    },
}

impl InstallOutcome {
    /// Whether programs run through a handler.
    pub fn is_through_handler(&self) -> bool {
        !matches!(self, Self::Native { .. })
    }
}

/// An entry that takes programs that the kernel runs natively.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    pub entry: OsString,
    pub removal: String,
}

/// The emulator that a handler had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    pub version: Option<Version>,
}

/// The outcome for one architecture.
pub type Item = (&'static Arch, Result<InstallOutcome>);

/// An emulator that was tried and runs no programs.
#[derive(Debug)]
pub struct DoesNotRun {
    text: String,
    is_timeout: bool,
}

impl DoesNotRun {
    /// `now`: the state of the table.
    fn new(arch: &Arch, rule: &Rule, failure: &Failure, now: Option<&str>) -> Self {
        let text = format!("{} does not run programs: {failure}", rule.interpreter.display());
        let now = now.map(|now| format!("; {now}")).unwrap_or_default();
        let text = format!("{text}{now}; {}", failure.remedy_of_emulator(arch));
        Self { text, is_timeout: failure.is_timeout() }
    }
}

impl fmt::Display for DoesNotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DoesNotRun {}

/// Whether this error of an [`Item`] means that an emulator, or its file system, timed out.
pub fn is_timeout(error: &Error) -> bool {
    let tried = error.downcast_ref::<DoesNotRun>();
    let asked = error.downcast_ref::<EmulatorError>();
    let asked_in_vain = asked.is_some_and(|asked| matches!(asked.unfit, Unfit::TimedOut | Unfit::Stuck));
    asked_in_vain || tried.is_some_and(|tried| tried.is_timeout)
}

/// How long each emulator may take in the first attempt. Those that take longer get a second attempt, once the others are done.
const QUICK: Duration = Duration::from_secs(2);

/// Installs into a table that the caller has locked. Returns the outcome for each architecture, and a survey of the
/// host afterwards. `timed_out`: what is known to time out ([`Survey::timed_out`]). `done` is called with each item as
/// soon as it is known. Fails when nothing can be done at all: the table is switched off, cannot be read, or probes
/// cannot be run.
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
    // a handler that was there already may only have been slow
    let known = &first.timed_out;
    let is_known = |slow: &PlatformStatus| known.iter().any(|known| known.arch == slow.arch);
    if late.is_empty() && first.survey.timed_out().iter().all(is_known) {
        return Ok((items, first.survey));
    }
    if !late.is_empty() {
        let names: Vec<&str> = late.iter().map(|(arch, _)| arch.oci).collect();
        let (names, limit) = (names.join(", "), LIMIT.as_secs());
        wait::say(&format!("waiting for the emulators of {names}, for {limit} s at most"));
    }
    let working = first.survey.statuses.iter().filter(|status| status.works()).cloned();
    let known: Vec<_> = first.timed_out.iter().cloned().chain(working).collect();
    let second = attempt(table, order, &known, LIMIT)?;
    for item in &second.items {
        if result_of(&items, item.0).is_none_or(|told| told.is_ok() && item.1.is_err()) {
            done(item);
        }
    }
    items.extend(late);
    Ok((later(items, second.items), second.survey))
}

pub fn result_of<'a>(items: &'a [Item], arch: &Arch) -> Option<&'a Result<InstallOutcome>> {
    items.iter().find(|(of, _)| *of == arch).map(|(_, result)| result)
}

/// The outcomes of two installs, one right after the other; the second may be of fewer architectures.
pub fn later(first: Vec<Item>, mut second: Vec<Item>) -> Vec<Item> {
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

struct Attempt {
    items: Vec<Item>,
    survey: Survey,
    /// The handlers that timed out before this attempt registered any.
    timed_out: Vec<PlatformStatus>,
}

/// Installs, and gives each new emulator `limit` to run a program. `known`: what need not be started again ([`Look::known`]).
fn attempt(table: &Table, order: &Order, known: &[PlatformStatus], limit: Duration) -> Result<Attempt> {
    prepare(table)?;
    let look = Look { known, ..Look::default() };
    let survey = Survey::look(Some(table), look)?;
    let timed_out = survey.timed_out();
    let mut batch = Batch::decide(order, &survey, &timed_out, limit)?;
    batch.check_emulators();
    batch.try_transparency(table)?;
    batch.try_out(table)?;
    batch.register(table);
    let finished = batch.finish(table, survey);
    if finished.is_err() {
        batch.take_back(table);
    }
    let survey = finished?;
    // if it was switched off meanwhile, every platform would fail for that reason
    check_enabled(table, survey.enabled)?;
    Ok(Attempt { items: batch.items(order), survey, timed_out })
}

/// What [`install`] would do on a host with this `survey` and `table`, without a write to the table. Where nothing can be rehearsed,
/// an emulator that states its version counts as one that works. Returns, and fails, as [`install`] does.
pub fn dry_run(table: Option<&Table>, order: &Order, survey: &Survey) -> Result<(Vec<Item>, Survey)> {
    if let Some(table) = table {
        check_enabled(table, table.enabled()?)?;
    }
    let mut batch = Batch::decide(order, survey, &[], LIMIT)?;
    batch.check_emulators();
    let mut after = survey.clone();
    batch.rehearse(&mut after);
    Ok((batch.items(order), after))
}

/// Tries these of `emulators`, and registers no handlers. The errors, in their order, say why one does not work. Without a `table`,
/// which a dry run does not change, none is tried.
pub fn try_out(table: Option<&Table>, emulators: &Source, rules: &[(&'static Arch, Rule)]) -> Result<Vec<Result<()>>> {
    let Some(table) = table else {
        return Ok(rules.iter().map(|_| Ok(())).collect());
    };
    prepare(table)?;
    let paths = rules.iter().map(|(_, rule)| rule.interpreter.as_path());
    let fit = open_and_ask(emulators, &paths.collect::<Vec<_>>(), LIMIT);
    let candidates = rules.iter().zip(&fit).filter(|(_, fit)| fit.is_ok());
    let candidates: Vec<_> = candidates.map(|((arch, rule), _)| (*arch, rule)).collect();
    let mut verdicts = trial::run(table, emulators, &candidates, LIMIT)?.into_iter();
    let tried = rules.iter().zip(fit).map(|((arch, rule), fit)| {
        fit?;
        match verdicts.next() {
            Some(Ok(Verdict::Works { .. })) => Ok(()),
            Some(Ok(Verdict::Fails(failure))) => bail!(DoesNotRun::new(arch, rule, &failure, None)),
            Some(Err(error)) => Err(error),
            None => bail!("it was not tried"),
        }
    });
    Ok(tried.collect())
}

/// Removes the trials that a killed call has left, which would take the probes of this one. Nothing can be tried in a table that is
/// switched off.
fn prepare(table: &Table) -> Result<()> {
    check_enabled(table, table.enabled()?)?;
    trial::clear(table, &table.entries()?)
}

fn check_enabled(table: &Table, enabled: bool) -> Result<()> {
    let status = table.path().join("status");
    ensure!(
        enabled,
        "binfmt_misc is switched off, no handler has any effect; switch it on: echo 1 > {}",
        quoted(&status)
    );
    Ok(())
}
