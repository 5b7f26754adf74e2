//! Uninstalling: removes entries by architecture, name or pattern. Entries that are not QEMU's stay, unless the user forces it. The
//! caller has locked the table.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{self, Platform, UnknownPart, UnknownPlatform};

use crate::kernel::table::{Table, TableError};
use crate::kernel::wording::{quoted, shown};
use crate::policy::invocation::Invocation;
use crate::policy::survey::{Recognised, Survey, takes};
use crate::policy::trial;

/// The outcome for one item of the list, or for one entry that it stands for.
#[derive(Debug)]
pub struct Removal {
    /// The item as it was written; or, of `all` and of a pattern, the entry's name.
    pub label: OsString,
    /// The outcome.
    pub result: Result<RemovalOutcome, NotRemoved>,
}

impl Removal {
    /// Whether it has removed `entry`.
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

/// A removal without an error.
#[derive(Debug, PartialEq, Eq)]
pub enum RemovalOutcome {
    /// These entries were removed.
    Removed(Vec<OsString>),
    /// There was nothing to remove.
    NotFound {
        /// An entry that is not QEMU's and takes that architecture's programs.
        left_to: Option<OsString>,
    },
}

/// Why an entry was not removed.
#[derive(Debug)]
pub enum NotRemoved {
    /// It is not QEMU's.
    NotQemu,
    /// There is no such entry, and no platform has that name.
    Unknown(UnknownPlatform),
    /// Something else has registered another entry of this name meanwhile; these were removed.
    Replaced(Vec<OsString>),
    /// The kernel refuses.
    Kernel {
        /// The refusal.
        error: TableError,
        /// Other entries of the same item, which were removed.
        removed: Vec<OsString>,
    },
}

impl fmt::Display for NotRemoved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let removed = match self {
            Self::NotQemu => return f.write_str("kept: not one of QEMU's; --force removes it"),
            Self::Unknown(unknown) if unknown.part == UnknownPart::Name => {
                let closest = unknown.closest.join(", ");
                return write!(f, "not found; did you mean {closest}?");
            }
            Self::Unknown(unknown) => return write!(f, "not found: {unknown}"),
            Self::Replaced(removed) => {
                f.write_str("another entry of this name was registered meanwhile, and is kept")?;
                removed
            }
            Self::Kernel { error, removed } => {
                error.fmt(f)?;
                removed
            }
        };
        let mut removed = removed.iter();
        removed.try_for_each(|name| write!(f, "; {} is removed", shown(name)))
    }
}

/// What is wrong with an item of the list that names no entry. `None`: nothing; an entry of that name may have existed.
pub fn mistake(item: &str) -> Option<UnknownPlatform> {
    let unknown = item.parse::<Platform>().err()?;
    let may_be_an_entry = unknown.part == UnknownPart::Name && unknown.closest.is_empty();
    (!may_be_an_entry && !is_pattern(item) && !is_all(item)).then_some(unknown)
}

/// Removes what `list` names: architectures, entry names, patterns (`qemu-*`) and `all`, without what it excludes
/// (`-riscv64`). Only QEMU's entries, unless `force`. Fails when the list excludes an unknown name, or the table cannot
/// be read.
pub fn uninstall(table: &Table, list: &str, force: bool) -> Result<Vec<Removal>> {
    let removals = remove_listed(table.entries()?, list, force, &remove_from(table))?;
    trial::clear(table, &table.entries()?)?;
    Ok(removals)
}

/// What [`uninstall`] would do in a table of these entries.
pub fn dry_run(entries: Vec<Entry>, list: &str, force: bool) -> Result<Vec<Removal>> {
    remove_listed(entries, list, force, &|_| Ok(true))
}

/// Removes QEMU's entries except those that are to `stay`.
pub fn uninstall_others(table: &Table, stay: impl Fn(&Entry) -> bool) -> Result<Vec<Removal>> {
    Ok(remove_others(&table.entries()?, stay, &remove_from(table)))
}

/// What [`uninstall_others`] would do in a table of these entries.
pub fn dry_run_others(entries: &[Entry], stay: impl Fn(&Entry) -> bool) -> Vec<Removal> {
    remove_others(entries, stay, &|_| Ok(true))
}

/// Removes an entry. False: another registration has its name by now.
type Remove<'a> = dyn Fn(&Entry) -> Result<bool, TableError> + 'a;

fn remove_from(table: &Table) -> impl Fn(&Entry) -> Result<bool, TableError> + '_ {
    |entry| table.remove_if(&entry.name, Some(entry.registration))
}

fn remove_listed(mut entries: Vec<Entry>, list: &str, force: bool, remove: &Remove<'_>) -> Result<Vec<Removal>> {
    let (excluded, asked): (Vec<&str>, Vec<&str>) =
        platform::items(list).partition(|item| item.starts_with(['-', '!']));
    check_excluded(&excluded, &entries)?;
    let is_excluded = |entry: &Entry| excluded.iter().any(|item| is_meant(entry, &item[1..]));
    entries.retain(|entry| !is_excluded(entry));
    let mut removals = Vec::new();
    for item in asked {
        let ours = Ours::of(&entries, force, |entry| fits(entry, item));
        let removed = remove_item(remove, &entries, item, &ours);
        // the next item does not find what was removed
        entries.retain(|entry| !removed.iter().any(|removal| removal.has_removed(entry)));
        removals.extend(removed);
    }
    Ok(removals)
}

/// An exclusion that names nothing is an error: it would remove what was to be kept.
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

fn remove_others(entries: &[Entry], stay: impl Fn(&Entry) -> bool, remove: &Remove<'_>) -> Vec<Removal> {
    let ours = Ours::of(entries, false, |entry| !stay(entry));
    let others = entries.iter().filter(|e| ours.has(e) && !stay(e));
    others.map(|entry| remove_entry(remove, entry)).collect()
}

/// The entries that may be removed: `None` for all, else QEMU's.
struct Ours(Option<Recognised>);

impl Ours {
    /// Of `entries`, the whole table. Probes are run through those that `matter` and whose text does not tell whose they are.
    fn of(entries: &[Entry], force: bool, matters: impl Fn(&Entry) -> bool) -> Self {
        Self((!force).then(|| Recognised::of(entries, matters)))
    }

    fn has(&self, entry: &Entry) -> bool {
        let recognised = self.0.as_ref();
        recognised.is_none_or(|recognised| recognised.is_qemu(entry))
    }
}

fn remove_item(remove: &Remove<'_>, entries: &[Entry], item: &str, ours: &Ours) -> Vec<Removal> {
    let meant = entries.iter().filter(|e| ours.has(e) && fits(e, item));
    let any = || entries.iter().any(|entry| fits(entry, item));
    if is_all(item) || is_pattern(item) && any() {
        return meant.map(|entry| remove_entry(remove, entry)).collect();
    }
    let arch = item.parse::<Platform>().ok().map(|platform| platform.arch);
    let kept = |entry: &Entry| {
        let named = entry.name == item || arch.is_none() && is_named(&entry.name, item);
        named && !ours.has(entry)
    };
    if entries.iter().any(kept) {
        return vec![Removal { label: item.into(), result: Err(NotRemoved::NotQemu) }];
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

fn remove_entry(remove: &Remove<'_>, entry: &Entry) -> Removal {
    remove_all(remove, entry.name.clone(), std::iter::once(entry))
}

fn remove_all<'a>(remove: &Remove<'_>, label: OsString, entries: impl Iterator<Item = &'a Entry>) -> Removal {
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

/// Whether an item of the list means this entry, whoever it belongs to.
fn fits(entry: &Entry, item: &str) -> bool {
    if is_pattern(item) {
        return fast_glob::glob_match(item.as_bytes(), entry.name.as_bytes());
    }
    is_all(item) || is_meant(entry, item)
}

fn is_all(item: &str) -> bool {
    item.eq_ignore_ascii_case("all")
}

fn is_pattern(item: &str) -> bool {
    item.contains(['*', '?', '['])
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

/// The command that removes the entry `name`, and no other, from the table that the caller of `invocation` has named.
pub fn command(survey: &Survey, name: &OsStr, invocation: &Invocation) -> String {
    let entry = survey.entries.iter().find(|entry| entry.name == name);
    let is_qemu = entry.is_none_or(|entry| survey.is_qemu(entry));
    let force = if is_qemu { "" } else { " --force" };
    let item = quoted(&item_for(&survey.entries, name));
    invocation.without_emulators(&format!("--uninstall {item}{force}"))
}

/// An item of a list that means the entry `name`, and no other of `entries`.
///
/// A plain name may be an architecture's, or the end of another entry's name. Then it is turned into a pattern, which has to match a
/// whole name: `[q]emu-arm`. In a pattern, `?` stands for each character that has a meaning in lists or patterns.
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
    let mut items = [plain.clone(), pattern].into_iter();
    items.find(only).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use binfmt_magic::arch::Arch;

    use super::*;

    fn entry(name: &str, qemu: &str) -> Entry {
        let magic = Arch::by_qemu(qemu).unwrap().magic();
        let magic = magic.as_slice().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
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
