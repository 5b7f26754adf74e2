//! The audit: is each entry what an install would make now?
//!
//! What an install would make is not told here a second time: it is asked of [`crate::install`]'s own plan, and rehearsed
//! ([`crate::rehearsal`]) where the table in effect must not be touched. Owns the comparison, and the one command that
//! mends what differs. Reads and runs, changes nothing. Whether programs run at all is [`crate::status`]'s question.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{Platform, Selection};
use binfmt_magic::rule::{Flags, Matcher, Rule};

use crate::emulator::{self, Asked, EmulatorError, Unfit, Version};
use crate::install::{Decision, Order, Outcome, Pending, Refusal, ask, is_stand_in, plan};
use crate::rehearsal::{Rehearsed, rehearse};
use crate::runner::is_trial;
use crate::survey::{Failure, Standing, Survey, Verdict, may_be_native, takes};

mod drift;
mod mend;

pub use drift::Drift;
pub use mend::{Mend, Words, command};

/// One thing that is not as an install would make it.
#[derive(Debug)]
pub struct Finding {
    /// Whose programs it is about, if of one architecture.
    pub arch: Option<&'static Arch>,
    /// The entry, if there is one.
    pub entry: Option<OsString>,
    /// What is wrong.
    pub drift: Drift,
    /// What mends it.
    pub mend: Mend,
}

/// An architecture that is as an install would make it.
#[derive(Debug)]
pub struct InOrder {
    /// Which.
    pub arch: &'static Arch,
    /// Its entry; `None` for what the kernel runs by itself.
    pub entry: Option<OsString>,
    /// Whether that is another tool's, which an install leaves alone.
    pub left_to: bool,
}

/// What the audit came to.
#[derive(Debug, Default)]
pub struct Audit {
    /// What is in order.
    pub in_order: Vec<InOrder>,
    /// What is not.
    pub findings: Vec<Finding>,
}

/// Audits `asked`, or whatever has to do with QEMU's entries, against what `order` would make; its selection does not
/// count. `entries`: the whole table, what trials have left included.
///
/// # Errors
/// Those of an install that comes to nothing before it begins.
pub fn verify(
    survey: &Survey,
    entries: &[Entry],
    order: &Order,
    asked: Option<&[&'static Arch]>,
) -> Result<Audit> {
    let concerned = |arch: &&'static Arch| match asked {
        Some(asked) => asked.iter().any(|a| a.qemu == arch.qemu),
        None => concerns(survey, order, arch),
    };
    let arches: Vec<&'static Arch> = ARCHES.iter().filter(concerned).collect();
    let named = arches.iter().map(|arch| Platform {
        arch,
        variant: None,
    });
    let selection = Selection {
        named: named.collect(),
        ..Selection::default()
    };
    let order = Order {
        selection,
        ..order.clone()
    };

    let mut audit = Audit::default();
    let mut pending = Vec::new();
    for (arch, decision) in plan(&order, survey)? {
        match decision {
            Ok(Decision::Register(planned)) => pending.push(*planned),
            Ok(Decision::Leave(outcome)) => audit.leave(arch, outcome, &order),
            Ok(Decision::Skip) => {}
            Err(refusal) => audit.refuse(survey.of(arch), &refusal),
        }
    }
    audit.compare(survey, pending);
    for entry in entries {
        audit.look_at(entry, survey, &arches);
    }
    audit.outgrow(survey);
    Ok(audit)
}

/// Whether there is an entry that has to do with `arch` and with QEMU, or with what the kernel runs by itself.
fn concerns(survey: &Survey, order: &Order, arch: &Arch) -> bool {
    let name = arch.entry_name(&order.prefix);
    let stray = |entry: &Entry| entry.name == *name && is_idle(entry);
    let of_qemu = |entry: &&Entry| entry.is_qemu() && (takes(entry, arch) || stray(entry));
    let taken = survey.of(arch).handler.is_some() && may_be_native(arch);
    taken || survey.entries.iter().any(|entry| of_qemu(&entry))
}

fn is_idle(entry: &Entry) -> bool {
    !ARCHES.iter().any(|arch| takes(entry, arch))
}

impl Audit {
    fn find(
        &mut self,
        arch: Option<&'static Arch>,
        entry: Option<&OsStr>,
        drift: Drift,
        mend: Mend,
    ) {
        let entry = entry.map(OsStr::to_owned);
        self.findings.push(Finding {
            arch,
            entry,
            drift,
            mend,
        });
    }

    /// What an install would leave as it is.
    fn leave(&mut self, arch: &'static Arch, outcome: Outcome, order: &Order) {
        let rule = Rule::for_arch(arch, &order.prefix, &order.emulators, order.flags);
        let (entry, left_to) = match outcome {
            Outcome::Native {
                shadowed_by: Some(entry),
            } => {
                return self.find(
                    Some(arch),
                    Some(&entry),
                    Drift::TakesNative,
                    Mend::Uninstall,
                );
            }
            Outcome::LeftTo { entry } => (Some(entry), true),
            Outcome::AlreadyInstalled { entry, .. } => match emulator::open(&rule.interpreter) {
                Ok(_) => (Some(entry), false),
                Err(error) => return self.unfit(arch, Some(&entry), error),
            },
            Outcome::Native { .. } | Outcome::Installed { .. } => (None, false),
        };
        self.in_order.push(InOrder {
            arch,
            entry,
            left_to,
        });
    }

    fn unfit(&mut self, arch: &'static Arch, entry: Option<&OsStr>, error: EmulatorError) {
        let path = error.path.to_string_lossy();
        let mend = match error.unfit {
            Unfit::NotExecutable => Mend::Shell(format!("chmod +x {}", mend::quoted(&path))),
            _ => Mend::Advice(error.to_string()),
        };
        self.find(Some(arch), entry, Drift::Unfit(error), mend);
    }

    /// What an install would not do without being told to.
    fn refuse(&mut self, standing: &Standing, refusal: &Refusal) {
        let arch = standing.arch;
        if let Refusal::Spoilt(entry) = refusal {
            return self.find(Some(arch), Some(entry), Drift::TakesNative, Mend::Uninstall);
        }
        let entry = standing
            .handler
            .as_ref()
            .map(|handler| handler.name.clone());
        let drift = Drift::NameTaken(refusal.to_string());
        let mend = Mend::Install { arch, force: true };
        self.find(Some(arch), entry.as_deref(), drift, mend);
    }

    /// What an install would make anew.
    fn compare(&mut self, survey: &Survey, mut pending: Vec<Pending>) {
        let asked: Vec<_> = pending.iter().map(ask).collect();
        let mut versions: HashMap<&str, (Option<Version>, Option<Version>)> = HashMap::new();
        let mut unfit: HashMap<&str, EmulatorError> = HashMap::new();
        for (pending, (new, former)) in pending.iter().zip(asked) {
            let former = former.and_then(|former| former.answer().ok());
            let new = new.and_then(Asked::answer);
            let new = new
                .map_err(|error| unfit.insert(pending.arch.qemu, error))
                .ok();
            versions.insert(pending.arch.qemu, (former, new));
        }
        let mut unready = self::rehearsed(&mut pending, &unfit, &versions);
        for pending in pending {
            let arch = pending.arch;
            let (former, new) = versions.remove(arch.qemu).unwrap_or_default();
            let drifts = differences(&pending, survey.of(arch), former, new);
            let entry = pending.current.as_ref().map(|entry| entry.name.as_os_str());
            let (unfit, unready) = (unfit.remove(arch.qemu), unready.remove(arch.qemu));
            let outer = match &survey.of(arch).verdict {
                Verdict::Fails(failure) => failure.outer_remedy(arch),
                Verdict::Works { .. } => None,
            };
            // where nothing runs for a reason of the host's, a rehearsal shows no more than that
            let unready = unready.filter(|_| outer.is_none());
            let mut mend = outer.map_or(Mend::Install { arch, force: false }, Mend::Advice);
            if let Some(why) = &unready {
                mend = Mend::Advice(format!(
                    "{} does not run programs: {why}; put another build there",
                    pending.rule.interpreter.display()
                ));
            }
            if let Some(error) = &unfit {
                mend = Mend::Advice(error.to_string());
            }
            if drifts.is_empty() {
                let (entry, left_to) = (entry.map(OsStr::to_owned), false);
                self.in_order.push(InOrder {
                    arch,
                    entry,
                    left_to,
                });
                continue;
            }
            for drift in drifts {
                self.find(Some(arch), entry, drift, mend.clone());
            }
            if let Some(error) = unfit {
                self.unfit(arch, entry, error);
            } else if let Some(why) = unready {
                self.find(Some(arch), entry, Drift::Unready(why), mend);
            }
        }
    }

    /// What there is besides the handlers in effect.
    fn look_at(&mut self, entry: &Entry, survey: &Survey, arches: &[&'static Arch]) {
        let name = entry.name.as_os_str();
        let mut handlers = survey.standings.iter().filter_map(|s| s.handler.as_ref());
        if handlers.any(|handler| handler.name == name) {
            return;
        }
        if is_trial(name) {
            return self.find(None, Some(name), Drift::Leftover, Mend::Uninstall);
        }
        let takers = ARCHES.iter().filter(|arch| takes(entry, arch));
        let takers: Vec<&'static Arch> = takers.collect();
        let named = || {
            arches
                .iter()
                .find(|arch| is_named_after(name, arch))
                .copied()
        };
        let Some(arch) = takers.first().copied().or_else(named) else {
            return;
        };
        if !entry.is_qemu() || !arches.iter().any(|a| a.qemu == arch.qemu) {
            return;
        }
        let Some(handler) = &survey.of(arch).handler else {
            return self.find(Some(arch), Some(name), Drift::Idle, self.removal(arch));
        };
        let by = handler.name.clone();
        match self.in_order.iter().find(|o| o.arch.qemu == arch.qemu) {
            Some(InOrder { left_to: true, .. }) => {
                self.find(Some(arch), Some(name), Drift::Preceded(by), Mend::Uninstall);
            }
            Some(_) if is_stand_in(name, &by) => {
                let mend = Mend::Install { arch, force: false };
                self.find(Some(arch), Some(name), Drift::Leftover, mend);
            }
            Some(_) => self.find(Some(arch), Some(name), Drift::Shadowed(by), Mend::Uninstall),
            None => self.find(
                Some(arch),
                Some(name),
                Drift::Shadowed(by),
                self.removal(arch),
            ),
        }
    }

    /// What removes an entry that has no effect: the install of its architecture, where there is one to be made.
    fn removal(&self, arch: &Arch) -> Mend {
        let of_arch = self
            .findings
            .iter()
            .filter(|f| f.arch.is_some_and(|a| a.qemu == arch.qemu));
        let mut installs = of_arch.filter(|f| matches!(f.mend, Mend::Install { .. }));
        installs
            .next()
            .map_or(Mend::Uninstall, |finding| finding.mend.clone())
    }

    /// What takes programs of several architectures has no effect any more once each has an entry of its own.
    fn outgrow(&mut self, survey: &Survey) {
        let is_installed = |standing: &&Standing| {
            let qemu = standing.arch.qemu;
            self.findings.iter().any(
                |finding| matches!(finding.mend, Mend::Install { arch, .. } if arch.qemu == qemu),
            )
        };
        let mut outgrown = Vec::new();
        for entry in survey.entries.iter().filter(|entry| entry.is_qemu()) {
            let uses = |s: &&Standing| s.handler.as_ref().is_some_and(|h| h.name == entry.name);
            let standings: Vec<&Standing> = survey.standings.iter().filter(uses).collect();
            let is_name = |s: &&Standing| is_named_after(&entry.name, s.arch);
            if standings.len() > 1
                && standings.iter().all(is_installed)
                && !standings.iter().any(is_name)
            {
                outgrown.push(entry.name.clone());
            }
        }
        for name in outgrown {
            self.find(None, Some(&name), Drift::Broad, Mend::Uninstall);
        }
    }
}

fn is_named_after(name: &OsStr, arch: &Arch) -> bool {
    let platform = name.to_str().and_then(|name| name.parse::<Platform>().ok());
    platform.is_some_and(|platform| platform.arch.qemu == arch.qemu)
}

/// Rehearses what is to be registered, decides flag P by what is seen, and returns what does not run.
fn rehearsed(
    pending: &mut [Pending],
    unfit: &HashMap<&str, EmulatorError>,
    versions: &HashMap<&str, (Option<Version>, Option<Version>)>,
) -> HashMap<&'static str, String> {
    let mut fit: Vec<&mut Pending> = pending
        .iter_mut()
        .filter(|pending| !unfit.contains_key(pending.arch.qemu))
        .collect();
    let candidates: Vec<_> = fit
        .iter()
        .map(|pending| (pending.arch, pending.rule.clone()))
        .collect();
    let mut unready = HashMap::new();
    let Some(answers) = rehearse(&candidates) else {
        for pending in fit {
            let new = versions
                .get(pending.arch.qemu)
                .and_then(|(_, new)| new.as_ref());
            pending.rule.flags.preserve_argv0 &= new.is_none_or(knows_argv0);
        }
        return unready;
    };
    for (pending, answer) in fit.iter_mut().zip(answers) {
        match answer {
            Rehearsed::Runs { argv0 } => pending.rule.flags.preserve_argv0 &= argv0,
            Rehearsed::Fails(why) => {
                unready.insert(pending.arch.qemu, why);
            }
        }
    }
    unready
}

/// Where nothing can be rehearsed: since 6.0 QEMU looks at `AT_FLAGS_PRESERVE_ARGV0` (`main` in `linux-user/main.c`).
fn knows_argv0(version: &Version) -> bool {
    version.order() >= vec![6]
}

/// How the handler that is there differs from the one to be registered.
fn differences(
    pending: &Pending,
    standing: &Standing,
    former: Option<Version>,
    new: Option<Version>,
) -> Vec<Drift> {
    let Some(current) = &pending.current else {
        return vec![Drift::Missing];
    };
    let failure = match &standing.verdict {
        Verdict::Fails(failure) => Some(failure.clone()),
        Verdict::Works { .. } => None,
    };
    if !current.is_qemu() {
        return failure.map(Drift::Broken).into_iter().collect();
    }
    let mut drifts = shape(current, &pending.rule, pending.arch);
    if pending.former.is_some() {
        drifts.push(Drift::Emulator(former, new));
    }
    let unpinned = !current.flags.fix_binary;
    match failure {
        Some(Failure::SwitchedOff { .. }) => drifts.push(Drift::SwitchedOff),
        Some(Failure::NotPinned) if unpinned => {}
        Some(failure) => drifts.push(Drift::Broken(failure)),
        None => {}
    }
    drifts
}

/// How the entry as the kernel prints it differs from `rule`.
fn shape(entry: &Entry, rule: &Rule, arch: &Arch) -> Vec<Drift> {
    let mut drifts = Vec::new();
    if entry.name != rule.name {
        let other = ARCHES
            .iter()
            .find(|other| entry.name == *other.entry_name(""));
        let other = other.filter(|other| other.qemu != arch.qemu && !takes(entry, other));
        drifts.push(Drift::Name(rule.name.clone(), other.map(|other| other.oci)));
    }
    match (&entry.matcher, &rule.matcher) {
        (have, want) if have.as_ref() == Some(want) => {}
        (
            Some(Matcher::Magic {
                offset: 0,
                magic: have,
                ..
            }),
            Matcher::Magic { magic: want, .. },
        ) if have == want => drifts.push(Drift::Mask),
        (have, _) => drifts.push(Drift::Magic(have.clone())),
    }
    let (have, want) = (entry.flags, rule.flags.as_kept());
    if have != want {
        drifts.push(Drift::Flags(without(want, have), without(have, want)));
    }
    if !entry.unknown_flags.is_empty() {
        drifts.push(Drift::UnknownFlags(entry.unknown_flags.clone()));
    }
    if entry.interpreter.as_ref() != Some(&rule.interpreter) {
        drifts.push(Drift::Path(rule.interpreter.clone()));
    }
    drifts
}

/// The flags of the one that the other does not have.
fn without(one: Flags, other: Flags) -> Flags {
    Flags {
        preserve_argv0: one.preserve_argv0 && !other.preserve_argv0,
        open_binary: one.open_binary && !other.open_binary,
        credentials: one.credentials && !other.credentials,
        fix_binary: one.fix_binary && !other.fix_binary,
    }
}
