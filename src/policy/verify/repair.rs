//! The one command that repairs all findings.

use std::ffi::OsStr;

use binfmt_magic::arch::Arch;

use super::Finding;
use crate::kernel::wording::quoted;
use crate::policy::install::FORCED;
use crate::policy::invocation::Invocation;
use crate::policy::survey::Survey;
use crate::policy::uninstall::item_for;

/// What repairs one finding.
#[derive(Debug, Clone)]
pub enum Repair {
    Install {
        arch: &'static Arch,
        /// The options that it needs: none, or [`forced`](crate::policy::install::forced)'s, because another entry has the name.
        options: &'static str,
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
    let (mut removed, mut removed_last) = (Vec::<(&str, &str)>::new(), Vec::<String>::new());
    let mut installed = Vec::<(&str, &str)>::new();
    for finding in findings {
        match (&finding.repair, &finding.entry) {
            (Repair::Shell(line), _) if !steps.contains(line) => steps.push(line.clone()),
            (Repair::Install { arch, options }, _) => {
                // all of an architecture's are alike, except that a leftover needs no option
                match installed.iter_mut().find(|(of, _)| *of == arch.oci) {
                    Some((_, known)) => *known = (*known).max(options),
                    None => installed.push((arch.oci, options)),
                }
            }
            (Repair::Uninstall, Some(name)) if !removed.iter().any(|(of, _)| of == name) => {
                let entry = survey.entries.iter().find(|entry| entry.name == **name);
                let is_other = entry.is_some_and(|entry| !survey.is_qemu(entry));
                removed.push((name, if is_other { FORCED[0] } else { "" }));
            }
            (Repair::UninstallLast, Some(entry)) => removed_last.push(entry.clone()),
            _ => {}
        }
    }
    let entries = survey.table();
    let step = |removed: &[String], installed: &[String], options: &str| {
        let mut words = Vec::new();
        if !removed.is_empty() {
            let list = removed.iter().map(|name| item_for(&entries, OsStr::new(name))).collect::<Vec<_>>().join(",");
            words.push(format!("--uninstall {}", quoted(&list)));
        }
        if !installed.is_empty() {
            words.push(format!("--install {}", installed.join(",")));
        }
        words.extend((!options.is_empty()).then(|| options.to_owned()));
        let words = words.join(" ");
        // a removal alone takes no option that says how to install, such as --keep
        if installed.is_empty() { invocation.without_emulators(&words) } else { invocation.command(&words) }
    };
    // --force also changes what needs none, such as flag C
    for options in FORCED.into_iter().chain([""]) {
        let with = |all: &[(&str, &str)]| -> Vec<String> {
            all.iter().filter(|(_, needed)| *needed == options).map(|(name, _)| (*name).to_owned()).collect()
        };
        let (removed, installed) = (with(&removed), with(&installed));
        if !removed.is_empty() || !installed.is_empty() {
            steps.push(step(&removed, &installed, options));
        }
    }
    if !removed_last.is_empty() {
        steps.push(step(&removed_last, &[], ""));
    }
    (!steps.is_empty()).then(|| steps.join(" && "))
}
