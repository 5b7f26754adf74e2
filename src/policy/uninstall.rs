//! Uninstalling: removing QEMU's entries by architecture, name or pattern, and nobody else's unless forced. The caller
//! has locked the table.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{self, Platform, UnknownPart, UnknownPlatform};

use crate::kernel::table::{Table, TableError};
use crate::kernel::wording::shown;
use crate::policy::survey::{Recognised, takes};
use crate::policy::trial;

/// What became of one item of the list, or of one entry that it stands for.
#[derive(Debug)]
pub struct Removal {
    /// The item as it was written; or, of `all` and of a pattern, the entry's name.
    pub label: OsString,
    /// What became of it.
    pub result: Result<RemovalOutcome, NotRemoved>,
}

impl Removal {
    /// Whether `entry` is gone by it.
    #[must_use]
    pub fn has_removed(&self, entry: &Entry) -> bool {
        match &self.result {
            Ok(RemovalOutcome::Removed(names))
            | Err(NotRemoved::Kernel { removed: names, .. } | NotRemoved::Replaced(names)) => {
                names.contains(&entry.name)
            }
            _ => false,
        }
    }
}

/// A removal that is in order.
#[derive(Debug, PartialEq, Eq)]
pub enum RemovalOutcome {
    /// These entries are gone.
    Removed(Vec<OsString>),
    /// There was nothing to remove.
    NotFound {
        /// An entry that is not QEMU's and takes that architecture's programs all the same.
        left_to: Option<OsString>,
    },
}

/// Why an entry is still there.
#[derive(Debug)]
pub enum NotRemoved {
    /// It is not QEMU's.
    NotQemu,
    /// There is no such entry, and it is the name of no platform.
    Unknown(UnknownPlatform),
    /// Something else has registered another entry of this name meanwhile; these are gone.
    Replaced(Vec<OsString>),
    /// The kernel does not remove it.
    Kernel {
        /// What it says.
        error: TableError,
        /// Others that the same item of the list stands for, and that are gone.
        removed: Vec<OsString>,
    },
}

impl std::fmt::Display for NotRemoved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotQemu => f.write_str("kept: not one of QEMU's; --force removes it"),
            Self::Unknown(unknown) if unknown.part == UnknownPart::Name => {
                let closest = unknown.closest.join(", ");
                write!(f, "not found; did you mean {closest}?")
            }
            Self::Unknown(unknown) => write!(f, "not found: {unknown}"),
            Self::Replaced(removed) => {
                f.write_str("another entry of this name was registered meanwhile, and is kept")?;
                write_removed(f, removed)
            }
            Self::Kernel { error, removed } => {
                error.fmt(f)?;
                write_removed(f, removed)
            }
        }
    }
}

fn write_removed(f: &mut std::fmt::Formatter<'_>, removed: &[OsString]) -> std::fmt::Result {
    let mut removed = removed.iter();
    removed.try_for_each(|name| write!(f, "; {} is removed", shown(name)))
}

/// What is wrong with an item of the list that is the name of no entry. `None`: nothing; it may be the name of an entry that is
/// gone already.
#[must_use]
pub fn mistake(item: &str) -> Option<UnknownPlatform> {
    let unknown = item.parse::<Platform>().err()?;
    let may_be_an_entry = unknown.part == UnknownPart::Name && unknown.closest.is_empty();
    let may_be_an_entry = may_be_an_entry || is_pattern(item) || item.eq_ignore_ascii_case("all");
    (!may_be_an_entry).then_some(unknown)
}

/// Removes what `list` names: architectures, entry names, patterns (`qemu-*`), `all`, but not what it excludes
/// (`-riscv64`). Without `force` only QEMU's.
///
/// # Errors
/// When the table cannot be read.
pub fn uninstall(table: &Table, list: &str, force: bool) -> Result<Vec<Removal>> {
    let removals = remove_listed(table.entries()?, list, force, &remove_from(table))?;
    trial::clear(table, &table.entries()?)?;
    Ok(removals)
}

/// What [`uninstall`] would come to in a table of these entries.
///
/// # Errors
/// When the list excludes what is not known.
pub fn dry_run(entries: Vec<Entry>, list: &str, force: bool) -> Result<Vec<Removal>> {
    remove_listed(entries, list, force, &|_| Ok(true))
}

/// Removes this entry. False: another registration has its name by now.
type Remove<'a> = dyn Fn(&Entry) -> Result<bool, TableError> + 'a;

fn remove_from(table: &Table) -> impl Fn(&Entry) -> Result<bool, TableError> + '_ {
    |entry| table.remove_if(&entry.name, Some(entry.registration))
}

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
        let ours = Ours::of(&entries, force, |entry| fits(entry, item));
        let removed = remove_item(remove, &entries, item, &ours);
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
    Ok(remove_others(&table.entries()?, keep, &remove_from(table)))
}

/// What [`uninstall_others`] would come to in a table of these entries.
#[must_use]
pub fn dry_run_others(entries: &[Entry], keep: impl Fn(&Entry) -> bool) -> Vec<Removal> {
    remove_others(entries, keep, &|_| Ok(true))
}

fn remove_others(
    entries: &[Entry],
    keep: impl Fn(&Entry) -> bool,
    remove: &Remove<'_>,
) -> Vec<Removal> {
    let ours = Ours::of(entries, false, |entry| !keep(entry));
    let goes = |entry: &&Entry| ours.has(entry) && !keep(entry);
    let others = entries.iter().filter(goes);
    others.map(|entry| remove_entry(remove, entry)).collect()
}

/// What may be removed: QEMU's entries, or all.
enum Ours {
    All,
    Qemus(Recognised),
}

impl Ours {
    /// Of `entries`, the whole table, those that `matter` are looked at more closely, where their text says nothing of QEMU.
    fn of(entries: &[Entry], force: bool, matters: impl Fn(&Entry) -> bool) -> Self {
        if force {
            return Self::All;
        }
        Self::Qemus(Recognised::of(entries, matters))
    }

    fn has(&self, entry: &Entry) -> bool {
        match self {
            Self::All => true,
            Self::Qemus(recognised) => recognised.is_qemu(entry),
        }
    }
}

fn remove_item(remove: &Remove<'_>, entries: &[Entry], item: &str, ours: &Ours) -> Vec<Removal> {
    let meant = entries
        .iter()
        .filter(|entry| ours.has(entry) && fits(entry, item));
    let any = || entries.iter().any(|entry| fits(entry, item));
    if item.eq_ignore_ascii_case("all") || is_pattern(item) && any() {
        return meant.map(|entry| remove_entry(remove, entry)).collect();
    }
    let arch = item.parse::<Platform>().ok().map(|platform| platform.arch);
    let kept = |entry: &Entry| {
        let named = entry.name == item || arch.is_none() && is_named(&entry.name, item);
        named && !ours.has(entry)
    };
    if entries.iter().any(kept) {
        return vec![Removal {
            label: item.into(),
            result: Err(NotRemoved::NotQemu),
        }];
    }
    let mut removal = remove_all(remove, item.into(), meant);
    if let Ok(RemovalOutcome::NotFound { left_to }) = &mut removal.result {
        if let Some(arch) = arch {
            let takes_it = |entry: &&Entry| entry.takes(&arch.header(), OsStr::new(arch.qemu));
            let other = entries.iter().find(takes_it);
            *left_to = other.map(|entry| entry.name.clone());
        } else if let Some(unknown) = mistake(item) {
            removal.result = Err(NotRemoved::Unknown(unknown));
        }
    }
    vec![removal]
}

/// Whether an item of the list means this entry, whoever it belongs to.
fn fits(entry: &Entry, item: &str) -> bool {
    if item.eq_ignore_ascii_case("all") {
        return true;
    }
    if is_pattern(item) {
        return fast_glob::glob_match(item.as_bytes(), entry.name.as_bytes());
    }
    is_meant(entry, item)
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
        let mut meant = entries.iter().filter(|entry| fits(entry, item)).peekable();
        is_one && meant.peek().is_some() && meant.all(|entry| entry.name == name)
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
    let (mut removed, mut replaced, mut refused) = (Vec::new(), false, None);
    for entry in entries {
        match remove(entry) {
            Ok(true) => removed.push(entry.name.clone()),
            Ok(false) => replaced = true,
            Err(error) => refused = Some(error),
        }
    }
    let result = match refused {
        Some(error) => Err(NotRemoved::Kernel { error, removed }),
        None if replaced => Err(NotRemoved::Replaced(removed)),
        None if removed.is_empty() => Ok(RemovalOutcome::NotFound { left_to: None }),
        None => Ok(RemovalOutcome::Removed(removed)),
    };
    Removal { label, result }
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
