//! From findings to the one command that repairs them all.

use std::ffi::{OsStr, OsString};

use binfmt_magic::arch::Arch;

use super::Finding;
use crate::kernel::wording::quoted;
use crate::policy::invocation::Invocation;
use crate::policy::survey::Survey;
use crate::policy::uninstall;

/// What repairs one finding.
#[derive(Debug, Clone)]
pub enum Repair {
    /// To install this architecture. `force`: where the name is taken.
    Install {
        /// Which.
        arch: &'static Arch,
        /// Whether the name is taken.
        force: bool,
    },
    /// To remove the entry.
    Uninstall,
    /// To remove the entry, but not before everything is installed: until then programs run through it.
    UninstallLast,
    /// A line of shell, before anything else.
    Shell(String),
    /// No command that can be named; what to do.
    Advice(String),
}

/// The command, if a command repairs any of them.
#[must_use]
pub fn command(findings: &[Finding], survey: &Survey, invocation: &Invocation) -> Option<String> {
    let entries = survey.table();
    let mut steps: Vec<String> = Vec::new();
    let (mut removed, mut removed_last) = (Vec::<&OsStr>::new(), Vec::<&OsStr>::new());
    let mut installed = Vec::<&str>::new();
    let mut by_force = false;
    for finding in findings {
        match (&finding.repair, &finding.entry) {
            (Repair::Shell(line), _) if !steps.contains(line) => steps.push(line.clone()),
            (Repair::Install { arch, force }, _) => {
                by_force |= force;
                if !installed.contains(&arch.oci) {
                    installed.push(arch.oci);
                }
            }
            (Repair::Uninstall, Some(entry)) if !removed.contains(&entry.as_os_str()) => {
                by_force |= !is_qemu(survey, entry);
                removed.push(entry);
            }
            (Repair::UninstallLast, Some(entry)) => removed_last.push(entry),
            _ => {}
        }
    }
    let items = |names: &[&OsStr]| -> Vec<String> {
        let items = names.iter();
        items
            .map(|name| uninstall::item_for(&entries, name))
            .collect()
    };
    if !removed.is_empty() || !installed.is_empty() {
        steps.push(binfmt(&items(&removed), &installed, by_force, invocation));
    }
    if !removed_last.is_empty() {
        steps.push(binfmt(&items(&removed_last), &[], false, invocation));
    }
    (!steps.is_empty()).then(|| steps.join(" && "))
}

fn is_qemu(survey: &Survey, name: &OsString) -> bool {
    let mut entries = survey.entries.iter();
    let entry = entries.find(|entry| entry.name == *name);
    entry.is_none_or(|entry| survey.is_qemu(entry))
}

fn binfmt(removed: &[String], installed: &[&str], force: bool, invocation: &Invocation) -> String {
    let mut words = Vec::new();
    if !removed.is_empty() {
        words.push(format!("--uninstall {}", quoted(&removed.join(","))));
    }
    if !installed.is_empty() {
        words.push(format!("--install {}", installed.join(",")));
    }
    if force {
        words.push("--force".to_owned());
    }
    invocation.command(&words.join(" "))
}
