//! Exporting: the handlers that work now, as files that `systemd-binfmt` registers at every boot.
//!
//! Only what a program has just run through is written, and only where its interpreter will be found again: a path in
//! a container's file system means nothing to the host. See `binfmt.d(5)`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use crate::namespace;
use crate::survey::Survey;
use crate::wording::{cause, shown};

/// Writes a file per working QEMU handler into `dir`; returns their paths.
///
/// # Errors
/// In a container, and where that cannot be told; when an interpreter is gone from its path; when a file cannot be written. Files written before
/// that stay.
pub fn export(survey: &Survey, dir: &Path) -> Result<Vec<PathBuf>> {
    match namespace::shares_root_with_init() {
        Some(true) => {}
        Some(false) => bail!(
            "the emulators of this container are not the host's, so its systemd would not find them at boot; \
             run binfmt on the host, with emulators in its own file system"
        ),
        None => bail!(
            "cannot see whether this is the host's own file system, /proc/1/root is out of reach; run it as root"
        ),
    }
    let working = survey.standings.iter().filter(|standing| standing.works());
    let handlers = working.filter_map(|standing| standing.handler.as_ref());
    let ours = handlers.filter(|entry| entry.is_qemu());
    ours.map(|entry| write(dir, entry)).collect()
}

fn write(dir: &Path, entry: &Entry) -> Result<PathBuf> {
    let name = shown(&entry.name);
    let rule = entry
        .to_rule()
        .with_context(|| format!("{name} cannot be written as a rule"))?;
    if !rule.interpreter.exists() {
        let interpreter = rule.interpreter.display();
        bail!(
            "{interpreter} is gone, though {name} still runs it; install {name} again, then export"
        );
    }
    let rules = rules(&rule)?;
    let mut path = dir.join(&entry.name).into_os_string();
    path.push(".conf");
    let path = PathBuf::from(path);
    let unfinished = path.with_extension("conf.new");
    let written = fs::write(&unfinished, rules);
    let written = written.and_then(|()| fs::rename(&unfinished, &path));
    written.map_err(|error| anyhow!("cannot write {}: {}", path.display(), cause(&error)))?;
    Ok(path)
}

/// The file for `systemd-binfmt` that registers `rule` and nothing else.
///
/// # Errors
/// When that form has no way to write it: with a colon or control character in it.
pub(crate) fn rules(rule: &Rule) -> Result<Vec<u8>> {
    let line = rule.encode()?;
    // another delimiter could begin a comment, and a control character end the name or the line: see binfmt.d(5)
    if !line.starts_with(b":") || line.iter().any(u8::is_ascii_control) {
        let name = shown(&rule.name);
        bail!(
            "{name} cannot be written in the form of binfmt.d: it has a colon or control character in its name or path"
        );
    }
    let comment: &[u8] = b"# written by binfmt; systemd-binfmt registers it at boot\n";
    Ok([comment, &line, b"\n"].concat())
}
