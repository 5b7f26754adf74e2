//! Uninstalling: removing QEMU's entries by architecture, name or pattern, and nobody else's unless forced. The caller
//! has locked the table.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{self, Fault, Platform};

use crate::survey::takes;
use crate::table::{Table, TableError};
use crate::trial;
use crate::wording::shown;

/// What became of one item of the list, or of one entry that it stands for.
#[derive(Debug)]
pub struct Removal {
    /// The entry's name; QEMU's name of an architecture; or the item as it was written.
    pub label: OsString,
    /// What became of it.
    pub result: Result<Outcome, Refusal>,
}

impl Removal {
    /// Whether `entry` is gone by it.
    #[must_use]
    pub fn has_removed(&self, entry: &Entry) -> bool {
        match &self.result {
            Ok(Outcome::Removed(names)) | Err(Refusal::Kernel { removed: names, .. }) => {
                names.contains(&entry.name)
            }
            _ => false,
        }
    }
}

/// A removal that is in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These entries are gone.
    Removed(Vec<OsString>),
    /// There was nothing to remove.
    NotFound {
        /// An entry that is not QEMU's and takes that architecture's programs all the same.
        left_to: Option<OsString>,
        /// What may have been meant, where it is the name of no architecture.
        closest: Vec<&'static str>,
    },
}

/// Why an entry is still there.
#[derive(Debug)]
pub enum Refusal {
    /// It is not one of QEMU's.
    NotQemu,
    /// The kernel does not remove it.
    Kernel {
        /// What it says.
        error: TableError,
        /// Others that the same item of the list stands for, and that are gone.
        removed: Vec<OsString>,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotQemu => f.write_str("kept: not one of QEMU's; --force removes it"),
            Self::Kernel { error, removed } => {
                error.fmt(f)?;
                let mut removed = removed.iter();
                removed.try_for_each(|name| write!(f, "; {} is removed", shown(name)))
            }
        }
    }
}

/// Removes what `list` names: architectures, entry names, patterns (`qemu-*`), `all`, but not what it excludes
/// (`-riscv64`). Without `force` only QEMU's.
///
/// # Errors
/// When the table cannot be read.
pub fn uninstall(table: &Table, list: &str, force: bool) -> Result<Vec<Removal>> {
    let removals = remove_listed(table.entries()?, list, force, &|name| table.remove(name))?;
    trial::clear(table, &table.entries()?)?;
    Ok(removals)
}

/// What [`uninstall`] would come to in a table of these entries.
///
/// # Errors
/// When the list excludes what is not known.
pub fn dry_run(entries: Vec<Entry>, list: &str, force: bool) -> Result<Vec<Removal>> {
    remove_listed(entries, list, force, &|_| Ok(()))
}

/// Removes the entry of this name.
type Remove<'a> = dyn Fn(&OsStr) -> Result<(), TableError> + 'a;

fn remove_listed(
    mut entries: Vec<Entry>,
    list: &str,
    force: bool,
    remove: &Remove<'_>,
) -> Result<Vec<Removal>> {
    let (excluded, asked): (Vec<&str>, Vec<&str>) =
        platform::items(list).partition(|item| item.starts_with(['-', '!']));
    check_excluded(&excluded, &entries)?;
    let is_excluded = |entry: &Entry| excluded.iter().any(|item| is_meant(entry, &item[1..]));
    entries.retain(|entry| !is_excluded(entry));
    let mut removals = Vec::new();
    for item in asked {
        let removed = remove_item(remove, &entries, item, force);
        // what is gone is not found again by the next item
        entries.retain(|entry| !removed.iter().any(|removal| removal.has_removed(entry)));
        removals.extend(removed);
    }
    Ok(removals)
}

/// To go on without an exclusion that means nothing would remove what was to be kept.
fn check_excluded(excluded: &[&str], entries: &[Entry]) -> Result<()> {
    for item in excluded {
        let name = &item[1..];
        if platform::excludes_all(item) {
            bail!("the list asks for nothing: it has {item}");
        }
        if entries.iter().any(|entry| is_meant(entry, name)) {
            continue;
        }
        if let Err(unknown) = name.parse::<Platform>() {
            bail!("{unknown}; nothing was uninstalled");
        }
    }
    Ok(())
}

/// Removes QEMU's entries but those that `keep` says.
///
/// # Errors
/// When the table cannot be read.
pub fn uninstall_others(table: &Table, keep: impl Fn(&Entry) -> bool) -> Result<Vec<Removal>> {
    Ok(remove_others(&table.entries()?, keep, &|name| {
        table.remove(name)
    }))
}

/// What [`uninstall_others`] would come to in a table of these entries.
#[must_use]
pub fn dry_run_others(entries: &[Entry], keep: impl Fn(&Entry) -> bool) -> Vec<Removal> {
    remove_others(entries, keep, &|_| Ok(()))
}

fn remove_others(
    entries: &[Entry],
    keep: impl Fn(&Entry) -> bool,
    remove: &Remove<'_>,
) -> Vec<Removal> {
    let goes = |entry: &&Entry| entry.is_qemu() && !keep(entry);
    let others = entries.iter().filter(goes);
    others.map(|entry| remove_entry(remove, entry)).collect()
}

fn remove_item(remove: &Remove<'_>, entries: &[Entry], item: &str, force: bool) -> Vec<Removal> {
    let meant = meant(entries, item, force);
    let fits = |entry: &Entry| fast_glob::glob_match(item.as_bytes(), entry.name.as_bytes());
    if item.eq_ignore_ascii_case("all") || is_pattern(item) && entries.iter().any(fits) {
        return meant
            .into_iter()
            .map(|entry| remove_entry(remove, entry))
            .collect();
    }
    let arch = item.parse::<Platform>().ok().map(|platform| platform.arch);
    let kept = |entry: &Entry| {
        let named = entry.name == item || arch.is_none() && is_named(&entry.name, item);
        named && !entry.is_qemu() && !force
    };
    if entries.iter().any(kept) {
        return vec![Removal {
            label: item.into(),
            result: Err(Refusal::NotQemu),
        }];
    }
    let label = OsString::from(arch.map_or(item, |arch| arch.qemu));
    let mut removal = remove_all(remove, label, meant.into_iter());
    if let Ok(Outcome::NotFound { left_to, closest }) = &mut removal.result {
        match item.parse::<Platform>() {
            Ok(Platform { arch, .. }) => {
                let takes_it = |entry: &&Entry| entry.takes(&arch.header(), OsStr::new(arch.qemu));
                let other = entries.iter().find(takes_it);
                *left_to = other.map(|entry| entry.name.clone());
            }
            Err(unknown) if unknown.fault == Fault::Name => *closest = unknown.closest,
            Err(_) => {}
        }
    }
    vec![removal]
}

/// The entries that an item of the list means: without `force` only QEMU's.
fn meant<'a>(entries: &'a [Entry], item: &str, force: bool) -> Vec<&'a Entry> {
    let fits = |entry: &&Entry| {
        if item.eq_ignore_ascii_case("all") {
            return true;
        }
        if is_pattern(item) {
            return fast_glob::glob_match(item.as_bytes(), entry.name.as_bytes());
        }
        is_meant(entry, item)
    };
    let ours = entries.iter().filter(|entry| entry.is_qemu() || force);
    ours.filter(fits).collect()
}

fn is_pattern(item: &str) -> bool {
    item.contains(['*', '?', '['])
}

/// An item of a list that means the entry of this name, and no other of `entries`.
///
/// A plain name may be another architecture's, or the end of another entry's name. Then it is made a pattern, which has
/// to fit a name as a whole; in it, what a list or a pattern would take for something else stands as `?`.
#[must_use]
pub fn item_for(entries: &[Entry], name: &OsStr) -> String {
    let plain = name.to_string_lossy().into_owned();
    let only = |item: &String| {
        let is_one = platform::items(item).eq([item.as_str()]) && !item.starts_with(['-', '!']);
        let meant = meant(entries, item, true);
        is_one && meant.iter().all(|entry| entry.name == name) && !meant.is_empty()
    };
    let mut chars = name.to_str().unwrap_or_default().chars();
    let first = chars.next().filter(char::is_ascii_alphanumeric);
    let first = first.map_or_else(|| "?".to_owned(), |c| format!("[{c}]"));
    let ordinary = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let rest = chars.map(|c| if ordinary(c) { c } else { '?' });
    let pattern = format!("{first}{}", rest.collect::<String>());
    [plain.clone(), pattern]
        .into_iter()
        .find(only)
        .unwrap_or(plain)
}

fn remove_entry(remove: &Remove<'_>, entry: &Entry) -> Removal {
    remove_all(remove, entry.name.clone(), std::iter::once(entry))
}

fn remove_all<'a>(
    remove: &Remove<'_>,
    label: OsString,
    entries: impl Iterator<Item = &'a Entry>,
) -> Removal {
    let (mut removed, mut refused) = (Vec::new(), None);
    for entry in entries {
        match remove(&entry.name) {
            Ok(()) => removed.push(entry.name.clone()),
            Err(error) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        let result = Err(Refusal::Kernel { error, removed });
        return Removal { label, result };
    }
    let outcome = if removed.is_empty() {
        Outcome::NotFound {
            left_to: None,
            closest: Vec::new(),
        }
    } else {
        Outcome::Removed(removed)
    };
    Removal {
        label,
        result: Ok(outcome),
    }
}

/// By the name of the entry, or of an architecture whose programs it takes.
fn is_meant(entry: &Entry, item: &str) -> bool {
    let arch = item.parse::<Platform>().map(|platform| platform.arch);
    is_named(&entry.name, item) || arch.is_ok_and(|arch| takes(entry, arch))
}

/// As the incumbent matches: the whole name, or what follows a dash.
fn is_named(name: &OsStr, item: &str) -> bool {
    let before = name.as_bytes().strip_suffix(item.as_bytes());
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"-"))
}

#[cfg(test)]
mod tests {
    use binfmt_magic::arch::Arch;

    use super::*;

    fn entry(name: &str, qemu: &str) -> Entry {
        let magic = Arch::by_qemu(qemu).unwrap().magic();
        let magic = magic
            .as_slice()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let text = format!("enabled\ninterpreter /qemu-x\nflags: F\noffset 0\nmagic {magic}\n");
        Entry::parse(OsStr::new(name), text.as_bytes())
    }

    #[test]
    fn an_item_means_one_entry() {
        let entries = [
            entry("qemu-arm", "aarch64"),
            entry("qemu-arm.next", "arm"),
            entry("old", "s390x"),
            entry("qemu-old", "s390x"),
            entry("a, b[c]", "riscv64"),
            entry("-minus", "riscv64"),
            entry("last", "riscv64"),
        ];
        for (name, item) in [
            ("qemu-arm", "[q]emu-arm"),
            ("qemu-arm.next", "qemu-arm.next"),
            ("old", "[o]ld"),
            ("qemu-old", "qemu-old"),
            ("a, b[c]", "[a]??b?c?"),
            ("-minus", "?minus"),
            ("last", "last"),
        ] {
            assert_eq!(item_for(&entries, OsStr::new(name)), item);
        }
    }
}
