//! Exporting: writes the handlers that work now as files that `systemd-binfmt` registers at every boot, and removes these files.
//!
//! Only handlers that a program has just run through are written, and only on the host itself, since the host does not find paths of
//! a container's file system. The first line of a file has the digest of the rest, which shows that the file is ours and unchanged.
//! See `binfmt.d(5)`.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::boot::{Boot, names};
use super::file::FileAt;
use super::owners::refuse;
use super::{FileOutcome, READABLE, for_any_kernel};
use crate::emulator::{Folder, identity};
use crate::kernel::namespace;
use crate::kernel::wording::{cause, shown};
use crate::policy::survey::Survey;
use anyhow::{Context, Result, anyhow, bail, ensure};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

/// The start of a file's first line, before the digest of the other lines.
const MARK: &str = "# written by binfmt --export; SHA-256 of what follows: ";
/// The largest file that is read, in bytes.
const LONGEST: u64 = 1 << 16;

/// A file, and its outcome.
pub type Item = (PathBuf, Result<FileOutcome>);

/// Writes one file per working QEMU handler into `dir`. Replaces files of earlier calls, and other files if `force`.
/// With `dry`, only finds out what would be written. Also returns why the host will not register a file's rules at boot,
/// and what to do. Fails in a container, or if this process cannot see whether it is in one.
pub fn export(survey: &Survey, dir: &Path, force: bool, dry: bool) -> Result<(Vec<Item>, Vec<String>)> {
    match namespace::shares_root_with_init() {
        Some(true) => {}
        Some(false) => bail!(
            "the emulators of this container are not the host's, so its systemd would not find them at boot; \
             run binfmt on the host, with emulators in its own file system"
        ),
        None => {
            bail!(
                "cannot see whether this is the host's own file system, /proc/1/root is out of reach; run it as root of the host, not of a user namespace"
            )
        }
    }
    let folder = enter(dir)?;
    let boot = Boot::of_rules(dir);
    let mut caveats = Vec::new();
    caveats.extend(boot.as_ref().and_then(|(boot, _)| boot.does_not_read()));
    let working = survey.statuses.iter().filter(|status| status.works());
    let ours = working.filter_map(|s| Some((s.arch, s.handler.as_ref()?))).filter(|(_, entry)| survey.is_qemu(entry));
    let items = ours.map(|(arch, entry)| {
        let mut name = entry.name.clone();
        name.push(".conf");
        let written = rule_of(entry).and_then(|rule| {
            ensure!(!is_hidden(&name), "systemd-binfmt reads no file whose name begins with a dot");
            if let Some((boot, rules)) = &boot {
                caveats.extend(boot.overrules(&rules.join(&name), &rule, arch));
            }
            refuse(folder.stranger_of(&name)?, dir.join(&name).display())?;
            write(&file_in(&folder, &name)?, &rule, force, dry)
        });
        (dir.join(&name), written)
    });
    let items = items.collect();
    Ok((items, caveats))
}

/// Removes the unchanged files that calls of [`export`] wrote into `dir`.
pub fn take_back(dir: &Path, dry: bool) -> Result<Vec<Item>> {
    let folder = enter(dir)?;
    let mut names = names(folder.as_fd())?;
    names.sort();
    let mut items = Vec::new();
    for name in names {
        let target = file_in(&folder, &name)?;
        let path = dir.join(&name);
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let removed = match read(&target).as_deref().and_then(is_unchanged) {
            None => continue,
            Some(false) => Ok(FileOutcome::Changed),
            Some(true) if dry => target.check_writable().map(|()| FileOutcome::Removed),
            Some(true) => target.remove().map(|()| FileOutcome::Removed),
        };
        let removed = removed.map_err(|e| anyhow!("it cannot be removed: {}", cause(&e.into())));
        items.push((path, removed));
    }
    Ok(items)
}

/// `binfmt.d(5)`: such a file is not read.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// The folder `dir`, if nobody else decides what is in it.
fn enter(dir: &Path) -> Result<Folder> {
    let folder = Folder::at(dir).map_err(|errno| {
        let (dir, cause) = (dir.display(), cause(&errno.into()));
        anyhow!("cannot open the directory {dir}: {cause}; name a directory that is there")
    })?;
    refuse(folder.stranger().cloned(), dir.display())?;
    Ok(folder)
}

fn file_in(folder: &Folder, name: &OsStr) -> Result<FileAt> {
    Ok(FileAt::new(folder.as_fd().try_clone_to_owned()?, name))
}

fn rule_of(entry: &Entry) -> Result<Rule> {
    let name = shown(&entry.name);
    let rule = entry.to_rule().with_context(|| format!("{name} cannot be written as a rule"))?;
    if !rule.interpreter.is_file() {
        let interpreter = rule.interpreter.display();
        bail!("{interpreter} is gone, though {name} still runs it; install {name} again, then export");
    }
    Ok(for_any_kernel(rule))
}

fn write(target: &FileAt, rule: &Rule, force: bool, dry: bool) -> Result<FileOutcome> {
    let line = line(rule)?;
    let digest = identity::digest(&line);
    let bytes = [MARK.as_bytes(), digest.as_bytes(), b"\n", &line].concat();
    let is_ours = |_: &str| read(target).as_deref().and_then(is_unchanged) == Some(true);
    let outcome = target.replaceable(&bytes, "--export", force, is_ours)?;
    if dry {
        target.check_writable().map_err(|errno| anyhow!("{}", cause(&errno.into())))?;
    } else if outcome == FileOutcome::Written {
        // another call may write there at the same time, so each uses its own name
        let ending = format!("binfmt-new-{}", std::process::id());
        target.replace(&bytes, READABLE, &ending)?;
    }
    Ok(outcome)
}

fn read(target: &FileAt) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    target.open().ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether a file of ours is unchanged. `None`: it is not ours.
fn is_unchanged(bytes: &[u8]) -> Option<bool> {
    let rest = bytes.strip_prefix(MARK.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (digest, rest) = (&rest[..end], &rest[end + 1..]);
    Some(digest == identity::digest(rest).as_bytes())
}

/// The line by which `systemd-binfmt` registers `rule`. Fails when it has a colon or control character, which that form
/// cannot express.
pub(super) fn line(rule: &Rule) -> Result<Vec<u8>> {
    let mut line = rule.encode()?;
    // another delimiter could begin a comment, and a control character end the name or the line: see binfmt.d(5)
    if !line.starts_with(b":") || line.iter().any(u8::is_ascii_control) {
        let name = shown(&rule.name);
        bail!(
            "{name} cannot be written in the form of binfmt.d: it has a colon or control character in its name or path"
        );
    }
    line.push(b'\n');
    Ok(line)
}
