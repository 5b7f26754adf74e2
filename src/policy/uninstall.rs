//! Uninstalling: removes entries by architecture, name or pattern. Entries that are not QEMU's stay, unless the user forces it.
//!
//! To tell whose an entry is, its handler may have to be started, and it may hang. So the caller makes a [`Recognition`] first, and
//! then locks the table and removes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use binfmt_magic::arch::ARCHES;
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::{self, Platform, Selection, UnknownPart};

use crate::helper::removal;
use crate::kernel::table::{Lock, Table};
use crate::kernel::wording::{printable, quoted, shown};
use crate::policy::install::{InstallOutcome, Item};
use crate::policy::invocation::Invocation;
use crate::policy::survey::{Recognised, Survey, handler_of};

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

/// Why an entry stays that was registered after the look.
const REPLACED: &str = "an entry of this name was registered meanwhile, and is kept; uninstall again";

/// What is wrong with an item of the list that names no entry. `None`: nothing; an entry of that name may have existed.
pub fn mistake(item: &str) -> Option<String> {
    let unknown = item.parse::<Platform>().err()?;
    let may_be_an_entry = unknown.part == UnknownPart::Name && unknown.closest.is_empty();
    (!may_be_an_entry && !is_pattern(item) && !is_all(item)).then(|| match unknown.part {
        UnknownPart::Name => format!("not found; did you mean {}?", unknown.closest.join(", ")),
        _ => format!("not found: {unknown}"),
    })
}

/// Which entries of a table are QEMU's, as the look before the lock has shown it.
#[derive(Debug)]
pub struct Recognition {
    recognised: Recognised,
    /// The entries that were in the table.
    looked_at: Vec<Entry>,
}

impl Recognition {
    /// Looks at those of `entries`, the whole table, that `matter`. Handlers whose text does not tell are started, all at once.
    pub fn of(entries: &[Entry], matters: impl Fn(&Entry) -> bool) -> Self {
        Self { recognised: Recognised::of(entries, matters), looked_at: entries.to_vec() }
    }

    fn is_qemu(&self, entry: &Entry) -> bool {
        !self.is_unknown(entry) && self.recognised.is_qemu(entry)
    }

    /// What a survey has seen of its own entries.
    fn by(survey: &Survey) -> Self {
        Self { recognised: survey.recognised.clone(), looked_at: survey.table() }
    }

    /// Whether `entry` was registered after the look, and may be QEMU's although its text does not say so.
    fn is_unknown(&self, entry: &Entry) -> bool {
        let replaces = |other: &Entry| other.name == entry.name && self.recognised.is_qemu(other);
        self.is_late(entry) && (may_be_qemu(entry) || self.looked_at.iter().any(replaces))
    }

    fn is_late(&self, entry: &Entry) -> bool {
        !entry.starts_qemu() && self.looked_at.iter().all(|other| other.registration != entry.registration)
    }

    /// Looks at those of `entries`, the whole table, that were registered after the look, that `matter`, and whose file can tell.
    /// Looks at `late` ones among `entries`, the whole table.
    fn look_again(&mut self, entries: &[Entry], late: Vec<Entry>) {
        self.recognised.extend(Recognised::of(entries, |entry| late.contains(entry)));
        self.looked_at.extend(late);
    }
}

/// Whether the file of an entry may be QEMU's, whatever its text says.
fn may_be_qemu(entry: &Entry) -> bool {
    entry.is_plain() && ARCHES.iter().any(|arch| entry.matches_some_of(arch))
}

/// What [`uninstall`] needs to know of `entries`, the whole table, to remove what `list` names; `None` with `force`, by which it
/// removes any entry.
pub fn recognise(entries: &[Entry], list: &str, force: bool) -> Option<Recognition> {
    (!force).then(|| Recognition::of(entries, asks_for(list)))
}

/// [`recognise`], by what a survey has seen.
pub fn recognised_by(survey: &Survey, force: bool) -> Option<Recognition> {
    (!force).then(|| Recognition::by(survey))
}

/// Locks `table` and reads it, once nothing is in there that `list` asks for and that `recognition` does not know. Whoever registers
/// such entries all the time keeps some. Fails when the table cannot be locked or read.
pub fn lock(table: &Table, list: &str, recognition: &mut Option<Recognition>) -> Result<(Lock, Vec<Entry>)> {
    const TRIES: u32 = 3;
    for _ in 0..TRIES {
        let (lock, entries) = (table.lock()?, table.entries()?);
        let Some(known) = recognition else { return Ok((lock, entries)) };
        let is_late = |entry: &&Entry| known.is_late(entry) && may_be_qemu(entry) && asks_for(list)(entry);
        let late: Vec<Entry> = entries.iter().filter(is_late).cloned().collect();
        if late.is_empty() {
            return Ok((lock, entries));
        }
        // other calls must not wait for a handler that hangs
        drop(lock);
        known.look_again(&entries, late);
    }
    Ok((table.lock()?, table.entries()?))
}

/// Whether a list asks for an entry.
fn asks_for(list: &str) -> impl Fn(&Entry) -> bool {
    let (excluded, asked) = split(list);
    move |entry: &Entry| {
        asked.iter().any(|item| fits(entry, item)) && !excluded.iter().any(|item| is_meant(entry, &item[1..]))
    }
}

/// Removes what `list` names of `entries`, the whole table: architectures, entry names, patterns (`qemu-*`) and `all`,
/// without what it excludes (`-riscv64`). Only QEMU's entries, if there is a `recognition`. Without a `table`, it only returns
/// what it would do. Fails when the list excludes an unknown name.
pub fn uninstall(
    table: Option<&Table>,
    mut entries: Vec<Entry>,
    list: &str,
    recognition: Option<&Recognition>,
) -> Result<Vec<Removal>> {
    let (excluded, asked) = split(list);
    check_excluded(&excluded, &entries)?;
    let is_excluded = |entry: &Entry| excluded.iter().any(|item| is_meant(entry, &item[1..]));
    entries.retain(|entry| !is_excluded(entry));
    let (mut removals, before) = (Vec::new(), entries.clone());
    for item in asked {
        let removed = plan_item(&entries, item, recognition);
        // the next item does not find what was removed
        entries.retain(|entry| !removed.iter().any(|removal| removal.removed.contains(&entry.name)));
        removals.extend(removed);
    }
    carry_out(table, &before, &mut removals);
    Ok(removals)
}

/// The items that `list` excludes (`-riscv64`), and those that it asks for.
fn split(list: &str) -> (Vec<&str>, Vec<&str>) {
    platform::items(list).partition(|item| item.starts_with(['-', '!']))
}

/// Removes QEMU's entries among `entries`, the whole table, except those that are to `stay`. Without a `table`, it only
/// returns what it would do.
pub fn uninstall_others(
    table: Option<&Table>,
    entries: &[Entry],
    recognition: &Recognition,
    stay: impl Fn(&Entry) -> bool,
) -> Vec<Removal> {
    let others = entries.iter().filter(|entry| concerns(Some(recognition), entry) && !stay(entry));
    let mut removals: Vec<_> = others.map(|entry| plan(entry.name.clone(), [entry], Some(recognition))).collect();
    carry_out(table, entries, &mut removals);
    removals
}

/// Whether an uninstall has to do with `entry`: to remove it, or to say that it may be QEMU's and is kept.
fn concerns(recognition: Option<&Recognition>, entry: &Entry) -> bool {
    recognition.is_none_or(|known| known.is_qemu(entry) || known.is_unknown(entry))
}

/// Why an install of `selection` that came to `items` removes nothing else, if so: it would take what it does not replace.
pub fn refuses_reset(selection: &Selection, items: &[Item]) -> Option<String> {
    let unknown: Vec<&str> = selection.unknown.iter().map(|unknown| unknown.item.as_str()).collect();
    if !unknown.is_empty() {
        return Some(format!("not reset, since {} is unknown; correct the list", unknown.join(", ")));
    }
    let any = items.iter().any(|(_, result)| result.is_ok());
    (!any).then(|| "not reset, since nothing was installed; binfmt --uninstall all removes QEMU's handlers".to_owned())
}

/// [`uninstall_others`] after an install that came to `items`: those stay that are of it, or that it failed to replace.
pub fn reset(table: Option<&Table>, entries: &[Entry], items: &[Item], prefix: &str) -> Vec<Removal> {
    let stays = |entry: &Entry| {
        items.iter().any(|(arch, result)| match result {
            Ok(InstallOutcome::Installed { .. }) => entry.name == *arch.entry_name(prefix),
            Ok(InstallOutcome::AlreadyInstalled { entry: name, .. }) => entry.name == *name,
            Ok(_) => false,
            Err(_) => entry.matches_some_of(arch),
        })
    };
    uninstall_others(table, entries, &Recognition::of(entries, |entry| !stays(entry)), stays)
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

/// What is to be removed for an item of the list.
fn plan_item(entries: &[Entry], item: &str, recognition: Option<&Recognition>) -> Vec<Removal> {
    let ours = |entry: &Entry| concerns(recognition, entry);
    let meant = entries.iter().filter(|e| ours(e) && fits(e, item));
    let any = || entries.iter().any(|entry| fits(entry, item));
    if is_all(item) || is_pattern(item) && any() {
        return meant.map(|entry| plan(entry.name.clone(), [entry], recognition)).collect();
    }
    let arch = item.parse::<Platform>().ok().map(|platform| platform.arch);
    let kept = |entry: &Entry| {
        let named = entry.name == item || arch.is_none() && is_named(&entry.name, item);
        named && !ours(entry)
    };
    if let Some(entry) = entries.iter().find(|entry| kept(entry)) {
        let failure = Some(format!("kept: {}; --force removes it", why_kept(entry)));
        return vec![Removal { label: item.into(), failure, ..Removal::default() }];
    }
    let mut removal = plan(item.into(), meant, recognition);
    if removal.removed.is_empty() && removal.failure.is_none() {
        match arch {
            Some(arch) => removal.left_to = handler_of(entries, arch).map(|entry| entry.name.clone()),
            None => removal.failure = mistake(item),
        }
    }
    vec![removal]
}

/// Why an entry is not one of ours.
fn why_kept(entry: &Entry) -> String {
    match &entry.bpf {
        Some(handler) => format!("the BPF handler {} decides what it does, so it is not QEMU's", printable(handler)),
        None if entry.is_loader() => "it replaces the loader of native programs (flag L)".to_owned(),
        None if !entry.is_plain() => format!("it has flags that no install sets: {}", printable(&entry.unknown_flags)),
        None => "not one of QEMU's".to_owned(),
    }
}

fn plan<'a>(
    label: OsString,
    entries: impl IntoIterator<Item = &'a Entry>,
    recognition: Option<&Recognition>,
) -> Removal {
    let mut removal = Removal { label, ..Removal::default() };
    for entry in entries {
        if recognition.is_some_and(|known| known.is_unknown(entry)) {
            removal.failure.get_or_insert_with(|| REPLACED.to_owned());
            continue;
        }
        removal.removed.push(entry.name.clone());
    }
    removal
}

/// Removes from `table`, if there is one, what `removals` of `entries`, which it has, say; they are corrected by what comes of it.
fn carry_out(table: Option<&Table>, entries: &[Entry], removals: &mut [Removal]) {
    if let Some(table) = table {
        remove(table, entries, removals);
    }
    for removal in removals {
        let also = |why: String, name: &OsString| why + &format!("; {} is removed", shown(name));
        removal.failure = removal.failure.take().map(|why| removal.removed.iter().fold(why, also));
    }
}

fn remove(table: &Table, entries: &[Entry], removals: &mut [Removal]) {
    let find = |name: &OsString| entries.iter().find(|entry| entry.name == *name);
    let planned: Vec<&Entry> = removals.iter().flat_map(|removal| &removal.removed).filter_map(find).collect();
    let mut results = removal::remove(table, &planned).into_iter();
    for removal in removals {
        let failure = &mut removal.failure;
        removal.removed.retain(|_| match results.next() {
            Some(Ok(is_removed)) => {
                if !is_removed {
                    failure.get_or_insert_with(|| REPLACED.to_owned());
                }
                is_removed
            }
            Some(Err(error)) => {
                *failure = Some(error.to_string());
                false
            }
            None => false,
        });
    }
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
    is_named(&entry.name, item) || arch.is_ok_and(|arch| entry.matches_some_of(arch))
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
    let item = quoted(item_for(&survey.entries, name));
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
