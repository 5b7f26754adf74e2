//! From findings to the one command that mends them all.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use super::Finding;
use crate::uninstall;

/// What mends one finding.
#[derive(Debug, Clone)]
pub enum Mend {
    /// To install this architecture. `force`: where the name is taken.
    Install {
        /// Which.
        arch: &'static Arch,
        /// See there.
        force: bool,
    },
    /// To remove the entry.
    Uninstall,
    /// A line of shell, before anything else.
    Shell(String),
    /// No command that can be named; what to do.
    Advice(String),
}

/// How the command line was, so far as a command that mends must repeat it.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Assignments of the environment: `QEMU_BINARY_PATH=/opt/qemu`.
    pub environment: Vec<(&'static str, String)>,
    /// Options: `--credentials no`.
    pub options: Vec<String>,
    /// The mount point, where it was named.
    pub mount: Option<PathBuf>,
}

/// The command, if a command mends any of them.
#[must_use]
pub fn command(findings: &[Finding], entries: &[Entry], words: &Words) -> Option<String> {
    let mut steps: Vec<String> = Vec::new();
    let (mut removed, mut installed) = (Vec::<&OsStr>::new(), Vec::<&str>::new());
    let mut by_force = false;
    for finding in findings {
        match (&finding.mend, &finding.entry) {
            (Mend::Shell(line), _) if !steps.contains(line) => steps.push(line.clone()),
            (Mend::Install { arch, force }, _) => {
                by_force |= force;
                if !installed.contains(&arch.oci) {
                    installed.push(arch.oci);
                }
            }
            (Mend::Uninstall, Some(entry)) if !removed.contains(&entry.as_os_str()) => {
                by_force |= !is_qemu(entries, entry);
                removed.push(entry);
            }
            _ => {}
        }
    }
    if !removed.is_empty() || !installed.is_empty() {
        let removed = removed
            .iter()
            .map(|name| uninstall::item_for(entries, name));
        let removed: Vec<String> = removed.collect();
        steps.push(binfmt(&removed, &installed, by_force, words));
    }
    (!steps.is_empty()).then(|| steps.join(" && "))
}

fn is_qemu(entries: &[Entry], name: &OsString) -> bool {
    let entry = entries.iter().find(|entry| entry.name == *name);
    entry.is_none_or(Entry::is_qemu)
}

fn binfmt(removed: &[String], installed: &[&str], force: bool, words: &Words) -> String {
    let assignments = words.environment.iter();
    let mut line: Vec<String> = assignments
        .map(|(name, value)| format!("{name}={}", quoted(value)))
        .collect();
    line.push("binfmt".to_owned());
    if !removed.is_empty() {
        line.push(format!("--uninstall {}", quoted(&removed.join(","))));
    }
    if !installed.is_empty() {
        line.push(format!("--install {}", installed.join(",")));
    }
    if force {
        line.push("--force".to_owned());
    }
    line.extend(words.options.iter().cloned());
    if let Some(dir) = &words.mount {
        line.push(format!("--mount {}", quoted(&dir.to_string_lossy())));
    }
    line.join(" ")
}

/// As a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+%@=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_it_for_one_word() {
        for (word, expected) in [
            ("qemu-arm,qemu-arm.next", "qemu-arm,qemu-arm.next"),
            ("[q]emu-arm", "'[q]emu-arm'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
