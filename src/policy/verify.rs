//! The audit: is each entry what an install would make now?
//!
//! The plan of [`crate::policy::install`] says what an install would make, and [`crate::policy::rehearsal`] tries it without the
//! table in effect. Owns the comparison, and the one command that repairs what differs. Reads and runs, changes nothing. Whether
//! programs run at all is [`crate::policy::status`]'s question.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{Platform, Selection};
use serde::{Serialize, Serializer};

use crate::emulator::{EmulatorError, KnownDefect, Privilege, Unfit, known_defects};
use crate::helper::probes::is_trial;
use crate::kernel::anchor;
use crate::kernel::mount::{self, HeldBy, MountPoint};
use crate::kernel::process::{self, has_own_proc};
use crate::kernel::wording::{quoted, shown, text};
use crate::policy::install::{Credentials, Decision, InstallOutcome, Order, forced, is_stand_in, plan};
use crate::policy::remedy::{all_lacking, level_lacking};
use crate::policy::survey::{PlatformStatus, Survey, may_be_native, qemu_in};

mod compare;
mod repair;

use compare::{Drift, outer_remedy};
pub use repair::{Repair, command};

/// One difference from what an install would make. What each key means is in `json.schema.json`.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub platform: Option<String>,
    pub entry: Option<String>,
    /// Its kind: a word for machines.
    pub kind: &'static str,
    /// A sentence for people.
    pub text: String,
    #[serde(rename = "advice", serialize_with = "advice")]
    pub repair: Repair,
}

/// An architecture that is as an install would make it.
#[derive(Debug, Serialize)]
pub struct Checked {
    pub platform: String,
    /// Its entry; `None` if the kernel runs it natively.
    pub entry: Option<String>,
    /// Whether the entry is another tool's, which an install leaves alone.
    pub left_to_other: bool,
    /// How the entry differs from what an install into an empty table makes, and why an install keeps it.
    pub kept: Option<String>,
}

/// A known defect of the QEMU that programs of a platform run through. It is no finding: an install may well pin the same QEMU.
#[derive(Debug, Serialize)]
pub struct Meets {
    pub platform: String,
    /// QEMU's version.
    pub version: String,
    #[serde(flatten)]
    pub defect: KnownDefect,
}

#[derive(Debug, Default, Serialize)]
pub struct Audit {
    /// Whether nothing was found, and nothing unknown was asked for.
    pub in_order: bool,
    pub findings: Vec<Finding>,
    pub checked: Vec<Checked>,
    pub defects: Vec<Meets>,
    /// The command that repairs what a command can repair.
    pub repair: Option<String>,
    /// What was asked for and is no platform, in words.
    pub unknown: Vec<String>,
    /// Why nothing could be rehearsed, if so. Then QEMU's version decides about flag P.
    #[serde(skip)]
    pub unrehearsed: Option<String>,
}

fn advice<S: Serializer>(repair: &Repair, to: S) -> Result<S::Ok, S::Error> {
    repair.advice().serialize(to)
}

/// Audits `asked`, or everything that has to do with QEMU's entries, against what `order` would make, whatever its selection. Fails
/// when the plan of the install does. `table`: its path.
pub fn verify(table: &Path, survey: &Survey, order: &Order, asked: Option<&[&'static Arch]>) -> Result<Audit> {
    let mut audit = Audit::default();
    if !survey.enabled {
        let off = ("table_off", "binfmt_misc is switched off, no entry has any effect");
        let on = format!("echo 1 > {}", quoted(table.join("status")));
        audit.find(None, None, off, Repair::Shell(on));
        return Ok(audit);
    }
    let concerned = |arch: &&'static Arch| match asked {
        Some(asked) => asked.contains(arch),
        None => concerns(survey, order, arch),
    };
    let arches: Vec<&'static Arch> = ARCHES.iter().filter(concerned).collect();
    let order = Order { selection: Selection::of(&arches), ..order.clone() };
    let mut pending = Vec::new();
    for (arch, decision) in plan(&order, survey)? {
        match decision {
            Decision::Register(planned) => pending.push(*planned),
            Decision::Leave(outcome) => match (&outcome, &survey.of(arch).handler, survey.of(arch).gains()) {
                (InstallOutcome::LeftTo { .. }, Some(entry), Some(gained)) => {
                    audit.is_privileged(survey.of(arch), entry, gained);
                }
                _ => audit.leave(arch, outcome, &order),
            },
            Decision::Hijacked(by) => audit.takes_native(arch, &by.entry),
            Decision::NameTaken(why) => {
                let entry = survey.of(arch).handler.as_ref().map(|entry| entry.name.as_os_str());
                audit.find(
                    arch,
                    entry,
                    ("name_taken", why),
                    Repair::Install { arch, options: forced(&order, survey, survey.of(arch)) },
                );
            }
        }
    }
    audit.compare(survey, pending, &order.emulators);
    for entry in survey.entries.iter().chain(&survey.trials) {
        audit.look_at(entry, survey, &arches);
    }
    audit.outgrow(survey);
    audit.defects = arches.iter().flat_map(|arch| defects(survey.of(arch))).collect();
    Ok(audit)
}

/// Where the emulator of `entry` is. One of type `B` does not say so; `ran`, the file that the kernel has run, does.
fn path_of_emulator(entry: &Entry, ran: Option<&File>) -> Option<PathBuf> {
    entry.interpreter.clone().or_else(|| fs::read_link(process::path_of(ran?)).ok())
}

/// The known defects that programs of this architecture meet; none if their emulator is not seen, or does not state its version.
fn defects(status: &PlatformStatus) -> Vec<Meets> {
    let Some(qemu) = status.interpreter().and_then(qemu_in) else {
        return Vec::new();
    };
    let (platform, version) = (status.arch.platform(), qemu.version.to_string());
    let meets = |defect| Meets { platform: platform.clone(), version: version.clone(), defect };
    known_defects(&qemu.version, status.arch).into_iter().map(meets).collect()
}

/// Whether an entry has to do with `arch` and with QEMU, or takes its native programs, or is another tool's and does not run its
/// programs.
fn concerns(survey: &Survey, order: &Order, arch: &Arch) -> bool {
    let name = arch.entry_name(&order.prefix);
    let is_idle = |entry: &Entry| !ARCHES.iter().any(|arch| entry.matches(arch));
    let stray = |entry: &Entry| entry.name == *name && is_idle(entry);
    let of_qemu = |entry: &Entry| survey.is_qemu(entry) && (entry.matches_some_of(arch) || stray(entry));
    let status = survey.of(arch);
    let taken = status.handler.is_some() && (may_be_native(arch) || !status.works());
    taken || survey.entries.iter().any(of_qemu)
}

/// What to do if probes cannot be traced.
fn trace_again() -> &'static str {
    if has_own_proc() {
        "verify as root, outside of strace and of filters that forbid ptrace(2)"
    } else {
        "mount the /proc of this PID namespace, and verify again: mount -t proc proc /proc"
    }
}

impl Audit {
    fn find(
        &mut self,
        arch: impl Into<Option<&'static Arch>>,
        entry: Option<&OsStr>,
        (kind, words): (&'static str, impl Into<String>),
        repair: Repair,
    ) {
        let (platform, entry) = (arch.into().map(Arch::platform), entry.map(text));
        self.findings.push(Finding { platform, entry, kind, text: words.into(), repair });
    }

    /// An install leaves this entry, which is another tool's, although its emulator gives privileges.
    fn is_privileged(&mut self, status: &PlatformStatus, entry: &Entry, gained: Privilege) {
        let drift = ("privileged", format!("its emulator {gained}"));
        let path = path_of_emulator(entry, status.interpreter());
        let removal = path.map_or_else(|| format!("find its file: it {gained}"), |path| gained.removal(&path));
        self.find(status.arch, Some(&entry.name), drift, Repair::Advice(removal));
    }

    fn is_in_order(&mut self, arch: &Arch, entry: Option<&OsStr>, left_to_other: bool, kept: Option<String>) {
        self.checked.push(Checked { platform: arch.platform(), entry: entry.map(text), left_to_other, kept });
    }

    fn takes_native(&mut self, arch: &'static Arch, by: &OsStr) {
        let drift = ("takes_native", "the kernel runs these programs natively");
        self.find(arch, Some(by), drift, Repair::Uninstall);
    }

    /// What was asked for, and is not what any entry shows: an `all` that means nothing, a level that is not reached.
    pub fn check_list(&mut self, list: &Selection, survey: &Survey, order: &Order) {
        if let Some((why, remedy)) = all_lacking(list, survey, order) {
            self.find(None, None, ("all_unknown", why), Repair::Advice(remedy));
        }
        for platform in &list.named {
            if let Some((why, remedy)) = level_lacking(*platform, &survey.of(platform.arch).verdict) {
                self.find(platform.arch, None, ("level", why), Repair::Advice(remedy));
            }
        }
    }

    /// The handlers may end with this container, where that can be told from here. `at`: where the table is mounted.
    pub fn check_lifetime(&mut self, at: &MountPoint, survey: &Survey) {
        if mount::holder(at) != Some(HeldBy::NobodyElse) || anchor::seen() != Some(false) {
            return;
        }
        let is_installed = |s: &&PlatformStatus| s.works() && s.handler.as_ref().is_some_and(|h| survey.is_qemu(h));
        if let Some(PlatformStatus { arch, .. }) = survey.statuses.iter().find(is_installed) {
            let text =
                "nothing is seen to hold the table beyond this container or mount namespace, and there is no anchor";
            self.find(None, None, ("may_end", text), Repair::Install { arch, options: "" });
        }
    }

    /// What an install would leave as it is.
    fn leave(&mut self, arch: &'static Arch, outcome: InstallOutcome, order: &Order) {
        match outcome {
            InstallOutcome::Native { shadowed_by: Some(by) } => {
                self.takes_native(arch, &by.entry);
            }
            InstallOutcome::Native { .. } | InstallOutcome::Installed { .. } => {
                self.is_in_order(arch, None, false, None);
            }
            InstallOutcome::LeftTo { entry } => self.is_in_order(arch, Some(&entry), true, None),
            InstallOutcome::AlreadyInstalled { entry, unseen: Some(why), .. } => {
                let drift = ("unseen", format!("which emulator is pinned cannot be seen: {why}"));
                self.find(arch, Some(&entry), drift, Repair::Advice(trace_again().to_owned()));
            }
            InstallOutcome::AlreadyInstalled { entry, kept, credentials, .. } => {
                let without = credentials == Credentials::LeftOut;
                let without = without.then(|| "it is without flag C; --credentials yes sets it".to_owned());
                match order.emulators.open(&order.rule(arch).interpreter) {
                    Ok(_) => self.is_in_order(arch, Some(&entry), false, kept.or(without)),
                    Err(error) => {
                        self.find(arch, Some(&entry), ("unfit", error.to_string()), unfit(&error));
                    }
                }
            }
        }
    }

    /// What an install would register anew.
    fn differ(
        &mut self,
        status: &PlatformStatus,
        entry: Option<&OsStr>,
        drifts: Vec<Drift>,
        obstacle: Option<(Drift, Repair)>,
    ) {
        let arch = status.arch;
        if drifts.is_empty() {
            return self.is_in_order(arch, entry, false, None);
        }
        let repair = match obstacle.as_ref().map(|(_, first)| first) {
            // once that is done, an install does the rest
            None | Some(Repair::Shell(_)) => {
                outer_remedy(status).map_or(Repair::Install { arch, options: "" }, Repair::Advice)
            }
            Some(advice) => advice.clone(),
        };
        for drift in drifts {
            self.find(arch, entry, drift, repair.clone());
        }
        if let Some((obstacle, first)) = obstacle {
            self.find(arch, entry, obstacle, first);
        }
    }

    /// An entry that may not be a handler in effect.
    fn look_at(&mut self, entry: &Entry, survey: &Survey, arches: &[&'static Arch]) {
        let name = entry.name.as_os_str();
        if survey.statuses.iter().filter_map(|s| s.handler.as_ref()).any(|handler| handler.name == name) {
            return;
        }
        let leftover = ("leftover", "left by an install that was killed".to_owned());
        if is_trial(entry) {
            return self.find(None, Some(name), leftover, Repair::Uninstall);
        }
        let taken = ARCHES.iter().find(|arch| entry.matches(arch));
        let mut named = arches.iter().filter(|arch| is_named_after(name, arch));
        let Some(arch) = taken.or_else(|| named.next().copied()) else {
            return;
        };
        if !survey.is_qemu(entry) || !arches.contains(&arch) {
            return;
        }
        let Some(handler) = &survey.of(arch).handler else {
            let drift = if entry.matches(arch) {
                ("takes_native", "is switched off, and would take programs that run without it")
            } else {
                ("idle", "takes programs of no architecture that QEMU runs")
            };
            return self.find(arch, Some(name), drift, self.removal(arch));
        };
        let by = shown(&handler.name);
        let partly = survey.takes_some_of(entry, arch);
        let share = if partly { "a part of its programs" } else { "its programs" };
        let shadowed = || ("shadowed", format!("{by} is newer and takes {share}"));
        let (drift, repair) = match self.checked.iter().find(|checked| checked.platform == arch.platform()) {
            Some(Checked { left_to_other: true, .. }) => {
                let runs = "is not QEMU's and runs its programs; to take over from it: --force";
                (("preceded", format!("has no effect: {by} {runs}")), Repair::Uninstall)
            }
            Some(_) if is_stand_in(name, &handler.name) => (leftover, Repair::Install { arch, options: "" }),
            // each runs what it takes
            Some(_) if partly => return,
            Some(_) => (shadowed(), Repair::Uninstall),
            None => match self.removal(arch) {
                // the other one does not run its programs, and this one may
                Repair::Uninstall => {
                    let name = quoted(&handler.name);
                    let advice = format!("remove {by}, and verify again: binfmt --force --uninstall {name}");
                    (shadowed(), Repair::Advice(advice))
                }
                install => (shadowed(), install),
            },
        };
        self.find(arch, Some(name), drift, repair);
    }

    /// What removes an entry that has no effect: the install of its architecture, if one is needed anyway.
    fn removal(&self, arch: &Arch) -> Repair {
        let mut of_arch = self.findings.iter().filter(|finding| finding.platform == Some(arch.platform()));
        let install = of_arch.find(|f| matches!(f.repair, Repair::Install { .. }));
        install.map_or(Repair::Uninstall, |finding| finding.repair.clone())
    }

    /// An entry that takes programs of several architectures is not needed once those that use it have entries of their own.
    fn outgrow(&mut self, survey: &Survey) {
        let installed = |finding: &Finding| match finding.repair {
            Repair::Install { arch, .. } => Some(arch),
            _ => None,
        };
        let installed: Vec<&Arch> = self.findings.iter().filter_map(installed).collect();
        let mut outgrown = Vec::new();
        for entry in survey.entries.iter().filter(|entry| survey.is_qemu(entry)) {
            let uses = |s: &&PlatformStatus| s.handler.as_ref().is_some_and(|h| h.name == entry.name);
            let mut statuses = survey.statuses.iter().filter(uses).peekable();
            let is_used = statuses.peek().is_some();
            let is_broad = ARCHES.iter().filter(|arch| entry.matches(arch)).count() > 1;
            // an install removes the entry that has the name
            let goes = installed.iter().any(|arch| is_named_after(&entry.name, arch));
            if is_used && is_broad && !goes && statuses.all(|status| installed.contains(&status.arch)) {
                outgrown.push(entry.name.clone());
            }
        }
        for name in outgrown {
            let drift = ("broad", "takes programs of several architectures");
            self.find(None, Some(&name), drift, Repair::UninstallLast);
        }
    }
}

fn unfit(error: &EmulatorError) -> Repair {
    let command = match &error.unfit {
        Unfit::NotExecutable => Some(format!("chmod +x {}", quoted(&error.path))),
        Unfit::Replaceable(stranger) => stranger.remedy(),
        Unfit::Privileged(privilege) => Some(privilege.removal(&error.path)),
        _ => None,
    };
    command.map_or_else(|| Repair::Advice(error.to_string()), Repair::Shell)
}

fn is_named_after(name: &OsStr, arch: &Arch) -> bool {
    let platform = name.to_str().and_then(|name| name.parse::<Platform>().ok());
    platform.is_some_and(|platform| platform.arch == arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only Linux 7.3 has such entries.
    #[test]
    fn an_emulator_that_its_entry_does_not_name_is_named_by_its_file() {
        let program = std::env::current_exe().unwrap();
        let file = File::open(&program).unwrap();
        let entry = |text: &[u8]| Entry::parse(OsStr::new("qemu-aarch64"), text);
        let (unnamed, named) = (entry(b"enabled\nbpf handler\n"), entry(b"enabled\ninterpreter /named\n"));
        assert_eq!(path_of_emulator(&unnamed, Some(&file)), Some(program));
        assert_eq!(path_of_emulator(&named, Some(&file)), Some("/named".into()));
        assert_eq!(path_of_emulator(&unnamed, None), None);
    }
}
