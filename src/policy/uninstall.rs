//! Uninstalling: removes entries by architecture, name or pattern. Entries that are not QEMU's stay, unless the user forces it. The
//! caller has locked the table.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{self, Platform, UnknownPart};

use crate::kernel::table::Table;
use crate::kernel::wording::{quoted, shown};
use crate::policy::install::{InstallOutcome, Item};
use crate::policy::invocation::Invocation;
use crate::policy::survey::{Recognised, Survey, handler_of};
use crate::policy::trial;

/// The outcome for one item of the list, or for one entry that it stands for.
#[derive(Debug, Default)]
pub struct Removal {
    /// The item as it was written; or, of `all` and of a pattern, the entry's name.
    pub label: OsString,
    pub removed: Vec<OsString>,
    /// If there was none: an entry that is not QEMU's and takes that architecture's programs.
    pub left_to: Option<OsString>,
    /// Why not all were removed.
    pub failure: Option<String>,
}

/// What is wrong with an item of the list that names no entry. `None`: nothing; an entry of that name may have existed.
pub fn mistake(item: &str) -> Option<String> {
    let unknown = item.parse::<Platform>().err()?;
    let may_be_an_entry = unknown.part == UnknownPart::Name && unknown.closest.is_empty();
    (!may_be_an_entry && !is_pattern(item) && !is_all(item)).then(|| match unknown.part {
        UnknownPart::Name => format!("not found; did you mean {}?", unknown.closest.join(", ")),
        _ => format!("not found: {unknown}"),
    })
}

/// Removes what `list` names of `entries`, the whole table: architectures, entry names, patterns (`qemu-*`) and `all`,
/// without what it excludes (`-riscv64`). Only QEMU's entries, unless `force`. Without a `table`, it only returns what it
/// would do. Fails when the list excludes an unknown name.
pub fn uninstall(table: Option<&Table>, mut entries: Vec<Entry>, list: &str, force: bool) -> Result<Vec<Removal>> {
    let (excluded, asked): (Vec<&str>, Vec<&str>) =
        platform::items(list).partition(|item| item.starts_with(['-', '!']));
    check_excluded(&excluded, &entries)?;
    let is_excluded = |entry: &Entry| excluded.iter().any(|item| is_meant(entry, &item[1..]));
    entries.retain(|entry| !is_excluded(entry));
    let mut removals = Vec::new();
    for item in asked {
        let recognised = (!force).then(|| Recognised::of(&entries, |entry| fits(entry, item)));
        let ours = |entry: &Entry| recognised.as_ref().is_none_or(|recognised| recognised.is_qemu(entry));
        let removed = remove_item(table, &entries, item, ours);
        // the next item does not find what was removed
        entries.retain(|entry| !removed.iter().any(|removal| removal.removed.contains(&entry.name)));
        removals.extend(removed);
    }
    if let Some(table) = table {
        trial::clear(table, &table.entries()?)?;
    }
    Ok(removals)
}

/// Removes QEMU's entries among `entries`, the whole table, except those that are to `stay`. Without a `table`, it only
/// returns what it would do.
pub fn uninstall_others(table: Option<&Table>, entries: &[Entry], stay: impl Fn(&Entry) -> bool) -> Vec<Removal> {
    let recognised = Recognised::of(entries, |entry| !stay(entry));
    let others = entries.iter().filter(|entry| recognised.is_qemu(entry) && !stay(entry));
    others.map(|entry| remove_all(table, entry.name.clone(), [entry])).collect()
}

/// [`uninstall_others`] after an install that came to `items`: those stay that are of it, or that it failed to replace.
pub fn reset(table: Option<&Table>, entries: &[Entry], items: &[Item], prefix: &str) -> Vec<Removal> {
    uninstall_others(table, entries, |entry| {
        items.iter().any(|(arch, result)| match result {
            Ok(InstallOutcome::Installed { .. }) => entry.name == *arch.entry_name(prefix),
            Ok(InstallOutcome::AlreadyInstalled { entry: name, .. }) => entry.name == *name,
            Ok(_) => false,
            Err(_) => entry.matches(arch),
        })
    })
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

/// `ours`: whether an entry may be removed.
fn remove_item(table: Option<&Table>, entries: &[Entry], item: &str, ours: impl Fn(&Entry) -> bool) -> Vec<Removal> {
    let meant = entries.iter().filter(|e| ours(e) && fits(e, item));
    let any = || entries.iter().any(|entry| fits(entry, item));
    if is_all(item) || is_pattern(item) && any() {
        return meant.map(|entry| remove_all(table, entry.name.clone(), [entry])).collect();
    }
    let arch = item.parse::<Platform>().ok().map(|platform| platform.arch);
    let kept = |entry: &Entry| {
        let named = entry.name == item || arch.is_none() && is_named(&entry.name, item);
        named && !ours(entry)
    };
    if entries.iter().any(kept) {
        let failure = Some("kept: not one of QEMU's; --force removes it".to_owned());
        return vec![Removal { label: item.into(), failure, ..Removal::default() }];
    }
    let mut removal = remove_all(table, item.into(), meant);
    if removal.removed.is_empty() && removal.failure.is_none() {
        match arch {
            Some(arch) => removal.left_to = handler_of(entries, arch).map(|entry| entry.name.clone()),
            None => removal.failure = mistake(item),
        }
    }
    vec![removal]
}

fn remove_all<'a>(table: Option<&Table>, label: OsString, entries: impl IntoIterator<Item = &'a Entry>) -> Removal {
    let mut removal = Removal { label, ..Removal::default() };
    for entry in entries {
        match table.map_or(Ok(true), |table| table.remove_if(&entry.name, Some(entry.registration))) {
            Ok(true) => removal.removed.push(entry.name.clone()),
            Ok(false) => {
                let replaced = || "another entry of this name was registered meanwhile, and is kept".to_owned();
                removal.failure.get_or_insert_with(replaced);
            }
            Err(error) => removal.failure = Some(error.to_string()),
        }
    }
    let also = |why: String, name: &OsString| why + &format!("; {} is removed", shown(name));
    removal.failure = removal.failure.map(|why| removal.removed.iter().fold(why, also));
    removal
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
    is_named(&entry.name, item) || arch.is_ok_and(|arch| entry.matches(arch))
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
    let first = chars.next().filter(char::is_ascii_alphanumeric).map_or_else(|| "?".to_owned(), |c| format!("[{c}]"));
    let ordinary = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let rest = chars.map(|c| if ordinary(c) { c } else { '?' });
    let pattern = format!("{first}{}", rest.collect::<String>());
    [plain.clone(), pattern].into_iter().find(only).unwrap_or(plain)
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
