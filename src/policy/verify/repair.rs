//! The one command that repairs all findings.

use std::ffi::OsStr;

use binfmt_magic::arch::Arch;

use super::Finding;
use crate::kernel::wording::quoted;
use crate::policy::invocation::Invocation;
use crate::policy::survey::Survey;
use crate::policy::uninstall::item_for;

/// What repairs one finding.
#[derive(Debug, Clone)]
pub enum Repair {
    Install {
        arch: &'static Arch,
        /// Whether it needs `--force`, because another entry has the name.
        force: bool,
    },
    Uninstall,
    /// The removal of the entry after all installs: until then programs run through it.
    UninstallLast,
    /// A shell command, before anything else.
    Shell(String),
    /// No command; what to do by hand.
    Advice(String),
}

impl Repair {
    /// What to do by hand, if no command repairs it.
    pub fn advice(&self) -> Option<&str> {
        match self {
            Self::Advice(advice) => Some(advice),
            _ => None,
        }
    }
}

/// The command that repairs all findings that a command can repair, if there are any.
pub fn command(findings: &[Finding], survey: &Survey, invocation: &Invocation) -> Option<String> {
    let mut steps: Vec<String> = Vec::new();
    let (mut removed, mut removed_last) = (Vec::<&str>::new(), Vec::<&str>::new());
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
            (Repair::Uninstall, Some(name)) if !removed.contains(&name.as_str()) => {
                let entry = survey.entries.iter().find(|entry| entry.name == **name);
                by_force |= entry.is_some_and(|entry| !survey.is_qemu(entry));
                removed.push(name);
            }
            (Repair::UninstallLast, Some(entry)) => removed_last.push(entry),
            _ => {}
        }
    }
    let entries = survey.table();
    let step = |removed: &[&str], installed: &[&str], force: bool| {
        let mut words = Vec::new();
        if !removed.is_empty() {
            let list = removed.iter().map(|name| item_for(&entries, OsStr::new(name))).collect::<Vec<_>>().join(",");
            words.push(format!("--uninstall {}", quoted(&list)));
        }
        if !installed.is_empty() {
            words.push(format!("--install {}", installed.join(",")));
        }
        words.extend(force.then(|| "--force".to_owned()));
        let words = words.join(" ");
        // a removal alone takes no option that says how to install, such as --keep
        if installed.is_empty() { invocation.without_emulators(&words) } else { invocation.command(&words) }
    };
    if !removed.is_empty() || !installed.is_empty() {
        steps.push(step(&removed, &installed, by_force));
    }
    if !removed_last.is_empty() {
        steps.push(step(&removed_last, &[], false));
    }
    (!steps.is_empty()).then(|| steps.join(" && "))
}
