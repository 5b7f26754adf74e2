//! The audit: is each entry what an install would make now?
//!
//! What an install would make is not told here a second time: it is asked of [`crate::policy::install`]'s own plan, and rehearsed
//! ([`crate::policy::rehearsal`]) where the table in effect must not be touched. Owns the comparison, and the one command that
//! repairs what differs. Reads and runs, changes nothing. Whether programs run at all is [`crate::policy::status`]'s question.

use std::ffi::{OsStr, OsString};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{Platform, Selection};

use crate::emulator::{EmulatorError, Unfit};
use crate::helper::probes::is_trial;
use crate::kernel::wording::quoted;
use crate::policy::install::{
    Credentials, Decision, InstallOutcome, InstallRefusal, Order, is_stand_in, plan,
};
use crate::policy::survey::{PlatformStatus, Survey, may_be_native, takes};

mod compare;
mod drift;
mod repair;

use compare::{ComparedEntry, compare, outer_remedy};
pub use drift::Drift;
pub use repair::{Repair, command};

/// One thing that is not as an install would make it.
#[derive(Debug)]
pub struct Finding {
    /// Whose programs it is about, if of one architecture.
    pub arch: Option<&'static Arch>,
    /// The entry, if there is one.
    pub entry: Option<OsString>,
    /// What is wrong.
    pub drift: Drift,
    /// What repairs it.
    pub repair: Repair,
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
    /// How it differs from what an install into an empty table makes, and why an install keeps it.
    pub kept: Option<String>,
}

/// What the audit came to.
#[derive(Debug, Default)]
pub struct Audit {
    /// What is in order.
    pub in_order: Vec<InOrder>,
    /// What is not.
    pub findings: Vec<Finding>,
    /// Why flag P was judged by QEMU's version: nothing could be rehearsed.
    pub unrehearsed: Option<String>,
}

/// Audits `asked`, or whatever has to do with QEMU's entries, against what `order` would make; its selection does not
/// count.
///
/// # Errors
/// Those of an install that comes to nothing before it begins.
pub fn verify(survey: &Survey, order: &Order, asked: Option<&[&'static Arch]>) -> Result<Audit> {
    let concerned = |arch: &&'static Arch| match asked {
        Some(asked) => asked.contains(arch),
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
    let (compared, unrehearsed) = compare(survey, pending, &order.emulators);
    audit.unrehearsed = unrehearsed;
    for compared in compared {
        audit.differ(survey.of(compared.arch), compared);
    }
    for entry in survey.entries.iter().chain(&survey.trials) {
        audit.look_at(entry, survey, &arches);
    }
    audit.outgrow(survey);
    Ok(audit)
}

/// Whether there is an entry that has to do with `arch` and with QEMU, or with what the kernel runs by itself; or a handler, be it
/// another tool's, that does not run its programs.
fn concerns(survey: &Survey, order: &Order, arch: &Arch) -> bool {
    let name = arch.entry_name(&order.prefix);
    let stray = |entry: &Entry| entry.name == *name && is_idle(entry);
    let of_qemu = |entry: &&Entry| survey.is_qemu(entry) && (takes(entry, arch) || stray(entry));
    let status = survey.of(arch);
    let taken = status.handler.is_some() && (may_be_native(arch) || !status.works());
    taken || survey.entries.iter().any(|entry| of_qemu(&entry))
}

fn is_idle(entry: &Entry) -> bool {
    !ARCHES.iter().any(|arch| takes(entry, arch))
}

/// What to do where a probe cannot be held.
const UNSEEN: &str = "verify as root, outside of strace and of filters that forbid ptrace(2)";

impl Audit {
    fn find(
        &mut self,
        arch: Option<&'static Arch>,
        entry: Option<&OsStr>,
        drift: Drift,
        repair: Repair,
    ) {
        let entry = entry.map(OsStr::to_owned);
        self.findings.push(Finding {
            arch,
            entry,
            drift,
            repair,
        });
    }

    /// What an install would leave as it is.
    fn leave(&mut self, arch: &'static Arch, outcome: InstallOutcome, order: &Order) {
        let rule = order.rule_for(arch);
        let kept = match &outcome {
            InstallOutcome::AlreadyInstalled {
                kept: Some(why), ..
            } => Some(why.clone()),
            InstallOutcome::AlreadyInstalled {
                credentials: Credentials::LeftOut,
                ..
            } => Some("it is without flag C; --credentials yes sets it".to_owned()),
            _ => None,
        };
        let (entry, left_to) = match outcome {
            InstallOutcome::Native {
                shadowed_by: Some(entry),
            } => {
                return self.find(
                    Some(arch),
                    Some(&entry),
                    Drift::TakesNative,
                    Repair::Uninstall,
                );
            }
            InstallOutcome::LeftTo { entry } => (Some(entry), true),
            InstallOutcome::AlreadyInstalled {
                entry,
                unseen: Some(why),
                ..
            } => {
                let repair = Repair::Advice(UNSEEN.to_owned());
                return self.find(Some(arch), Some(&entry), Drift::Unseen(why), repair);
            }
            InstallOutcome::AlreadyInstalled { entry, .. } => {
                match order.emulators.open(&rule.interpreter) {
                    Ok(_) => (Some(entry), false),
                    Err(error) => {
                        let repair = unfit(&error);
                        return self.find(Some(arch), Some(&entry), Drift::Unfit(error), repair);
                    }
                }
            }
            InstallOutcome::Native { .. } | InstallOutcome::Installed { .. } => (None, false),
        };
        self.in_order.push(InOrder {
            arch,
            entry,
            left_to,
            kept,
        });
    }

    /// What an install would not do without being told to.
    fn refuse(&mut self, status: &PlatformStatus, refusal: &InstallRefusal) {
        let arch = status.arch;
        if let InstallRefusal::Hijacked(entry) = refusal {
            return self.find(
                Some(arch),
                Some(entry),
                Drift::TakesNative,
                Repair::Uninstall,
            );
        }
        let entry = status.handler.as_ref().map(|handler| handler.name.clone());
        let drift = Drift::NameTaken(refusal.to_string());
        let repair = Repair::Install { arch, force: true };
        self.find(Some(arch), entry.as_deref(), drift, repair);
    }

    /// What an install would make anew.
    fn differ(&mut self, status: &PlatformStatus, compared: ComparedEntry) {
        let ComparedEntry {
            arch,
            entry,
            drifts,
            obstacle,
        } = compared;
        if drifts.is_empty() {
            self.in_order.push(InOrder {
                arch,
                entry,
                left_to: false,
                kept: None,
            });
            return;
        }
        let first = obstacle
            .as_ref()
            .map(|obstacle| in_spite_of(arch, obstacle));
        let outer = || outer_remedy(status).map(Repair::Advice);
        let repair = match &first {
            // once that is done, an install does the rest
            None | Some(Repair::Shell(_)) => {
                outer().unwrap_or(Repair::Install { arch, force: false })
            }
            Some(advice) => advice.clone(),
        };
        for drift in drifts {
            self.find(Some(arch), entry.as_deref(), drift, repair.clone());
        }
        if let (Some(obstacle), Some(first)) = (obstacle, first) {
            self.find(Some(arch), entry.as_deref(), obstacle, first);
        }
    }

    /// What there is besides the handlers in effect.
    fn look_at(&mut self, entry: &Entry, survey: &Survey, arches: &[&'static Arch]) {
        let name = entry.name.as_os_str();
        let mut handlers = survey.statuses.iter().filter_map(|s| s.handler.as_ref());
        if handlers.any(|handler| handler.name == name) {
            return;
        }
        if is_trial(name) {
            return self.find(None, Some(name), Drift::Leftover, Repair::Uninstall);
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
        if !survey.is_qemu(entry) || !arches.contains(&arch) {
            return;
        }
        let Some(handler) = &survey.of(arch).handler else {
            return self.find(Some(arch), Some(name), Drift::Idle, self.removal(arch));
        };
        let by = handler.name.clone();
        match self.in_order.iter().find(|o| o.arch == arch) {
            Some(InOrder { left_to: true, .. }) => {
                self.find(
                    Some(arch),
                    Some(name),
                    Drift::Preceded(by),
                    Repair::Uninstall,
                );
            }
            Some(_) if is_stand_in(name, &by) => {
                let repair = Repair::Install { arch, force: false };
                self.find(Some(arch), Some(name), Drift::Leftover, repair);
            }
            Some(_) => self.find(
                Some(arch),
                Some(name),
                Drift::Shadowed(by),
                Repair::Uninstall,
            ),
            None => self.find(
                Some(arch),
                Some(name),
                Drift::Shadowed(by),
                self.removal(arch),
            ),
        }
    }

    /// What removes an entry that has no effect: the install of its architecture, where there is one to be made.
    fn removal(&self, arch: &Arch) -> Repair {
        let of_arch = self
            .findings
            .iter()
            .filter(|f| f.arch.is_some_and(|a| a == arch));
        let mut installs = of_arch.filter(|f| matches!(f.repair, Repair::Install { .. }));
        installs
            .next()
            .map_or(Repair::Uninstall, |finding| finding.repair.clone())
    }

    /// What takes programs of several architectures has no effect any more once each has an entry of its own.
    fn outgrow(&mut self, survey: &Survey) {
        let is_installed = |status: &&PlatformStatus| {
            self.findings.iter().any(
                |finding| matches!(finding.repair, Repair::Install { arch, .. } if arch == status.arch),
            )
        };
        let mut outgrown = Vec::new();
        for entry in survey.entries.iter().filter(|entry| survey.is_qemu(entry)) {
            let uses =
                |s: &&PlatformStatus| s.handler.as_ref().is_some_and(|h| h.name == entry.name);
            let statuses: Vec<&PlatformStatus> = survey.statuses.iter().filter(uses).collect();
            let is_name = |s: &&PlatformStatus| is_named_after(&entry.name, s.arch);
            if statuses.len() > 1
                && statuses.iter().all(is_installed)
                && !statuses.iter().any(is_name)
            {
                outgrown.push(entry.name.clone());
            }
        }
        for name in outgrown {
            self.find(None, Some(&name), Drift::Broad, Repair::UninstallLast);
        }
    }
}

/// What to do about what keeps an install from repairing.
fn in_spite_of(arch: &'static Arch, obstacle: &Drift) -> Repair {
    match obstacle {
        Drift::Unfit(error) => unfit(error),
        Drift::Unready(path, why) => Repair::Advice(format!(
            "{} does not run programs: {why}; put another build there",
            path.display()
        )),
        _ => Repair::Install { arch, force: false },
    }
}

fn unfit(error: &EmulatorError) -> Repair {
    let path = error.path.to_string_lossy();
    match &error.unfit {
        Unfit::NotExecutable => Repair::Shell(format!("chmod +x {}", quoted(&path))),
        Unfit::Replaceable(stranger) => match stranger.remedy() {
            Some(command) => Repair::Shell(command),
            None => Repair::Advice(error.to_string()),
        },
        _ => Repair::Advice(error.to_string()),
    }
}

fn is_named_after(name: &OsStr, arch: &Arch) -> bool {
    let platform = name.to_str().and_then(|name| name.parse::<Platform>().ok());
    platform.is_some_and(|platform| platform.arch == arch)
}
