//! Removing entries whose emulator may be on a file server that does not answer (NFS, FUSE). With an entry, the kernel closes its
//! emulator's file. That asks the server, and not even SIGKILL ends a process that waits for it. So another process removes them,
//! and is not waited for.
//!
//! The table is that process's standard input. Its answer is a line for each entry, as soon as the kernel has removed it.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write, stdin};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use binfmt_magic::entry::Entry;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::Verb;
use crate::kernel::table::{Table, TableError};
use crate::kernel::wait::{self, Wait};
use crate::kernel::wording::shown;

/// How long the kernel may take to remove an entry.
const LIMIT: Duration = Duration::from_secs(5);
/// How long it may take to close their files after that.
const UNTIL_CLOSED: Duration = Duration::from_secs(1);
/// What the process says of an entry in whose place another registration is. `removed`: the kernel has removed it.
const ANOTHER: &str = "another";
const REMOVED: &str = "removed";

/// Removes each of `entries` as [`Table::remove_if`] does; the results are in their order. One that the kernel takes too long for is
/// an error; the others are removed all the same.
pub fn remove(table: &Table, entries: &[&Entry]) -> Vec<Result<bool, TableError>> {
    let mut results = Vec::new();
    while let Some(rest) = entries.get(results.len()..).filter(|rest| !rest.is_empty()) {
        let Ok((mut child, mut answers)) = start(table, rest) else {
            // without a process of its own, perhaps because there is no /proc
            results.extend(rest.iter().map(|entry| table.remove_if(&entry.name, Some(entry.registration))));
            break;
        };
        let (lines, has_ended) = read(&mut answers, rest);
        let known = lines.iter().zip(rest).filter_map(|(line, entry)| parse(line, table, &entry.name));
        results.extend(known);
        match entries.get(results.len()) {
            // it did not come to this entry
            Some(entry) if has_ended => results.push(table.remove_if(&entry.name, Some(entry.registration))),
            Some(entry) => results.push(in_the_end(table, entry)),
            None => leave(&mut child, rest),
        }
    }
    results
}

fn start(table: &Table, entries: &[&Entry]) -> Result<(Child, ChildStdout)> {
    let mut command = Verb::RemoveEntries.command();
    for entry in entries {
        command.arg(&entry.name).arg(entry.registration.to_string());
    }
    command.stdin(table.as_fd().try_clone_to_owned()?).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let answers = child.stdout.take().context("a pipe that was asked for")?;
    fcntl(&answers, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((child, answers))
}

/// The lines of the answer, as far as they come in time; and whether no more can come.
fn read(answers: &mut ChildStdout, entries: &[&Entry]) -> (Vec<String>, bool) {
    let (mut bytes, mut has_ended) = (Vec::new(), true);
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    };
    let mut wait = Wait::at_most(LIMIT);
    while let Err(error) = answers.read_to_end(&mut bytes) {
        let next = entries.get(lines(&bytes).len()).map_or_else(String::new, |entry| shown(&entry.name));
        let what = || format!("the kernel to remove {next}, for {} s at most", LIMIT.as_secs());
        let goes_on = error.kind() == ErrorKind::WouldBlock && lines(&bytes).len() < entries.len();
        if !goes_on || !wait.goes_on(Some(answers.as_fd()), LIMIT, what).unwrap_or(false) {
            has_ended = false;
            break;
        }
    }
    (lines(&bytes), has_ended)
}

fn parse(line: &str, table: &Table, name: &OsStr) -> Option<Result<bool, TableError>> {
    match line {
        REMOVED => Some(Ok(true)),
        ANOTHER => Some(Ok(false)),
        _ => {
            let (verb, errno) = line.split_once(' ')?;
            let verb = ["open", "write"].into_iter().find(|known| *known == verb)?;
            Some(Err(table.error(verb, name, Errno::from_raw(errno.parse().ok()?))))
        }
    }
}

/// What has become of an entry of which no answer came.
fn in_the_end(table: &Table, entry: &Entry) -> Result<bool, TableError> {
    let is_there = table.entries()?.iter().any(|other| other.registration == entry.registration);
    if is_there { Err(table.error("remove", &entry.name, Errno::ETIMEDOUT)) } else { Ok(true) }
}

/// Waits for the process, which closes the files at its end, but not for long.
fn leave(child: &mut Child, entries: &[&Entry]) {
    let mut wait = Wait::at_most(UNTIL_CLOSED);
    while matches!(child.try_wait(), Ok(None)) {
        if !wait.goes_on(None, Duration::from_millis(1), String::new).unwrap_or(false) {
            let names: Vec<String> = entries.iter().map(|entry| shown(&entry.name)).collect();
            wait::say(&format!(
                "the kernel cannot close the emulator of {}, whose file system does not answer; a process waits until it does",
                names.join(" or ")
            ));
            break;
        }
    }
}

/// What the process of [`Verb::RemoveEntries`] does. Of each entry, its name and its registration follow the verb.
pub fn perform(words: &[OsString], mut answer: impl Write) -> Result<()> {
    let table = Table::new(Path::new("."), stdin().as_fd().try_clone_to_owned()?.into());
    let mut files = Vec::new();
    for entry in words.chunks_exact(2) {
        let registration = entry[1].to_str().and_then(|number| number.parse().ok()).context("not a registration")?;
        match table.unlink(&entry[0], Some(registration)) {
            Ok(Some(file)) => {
                files.push(file);
                writeln!(answer, "{REMOVED}")?;
            }
            Ok(None) => writeln!(answer, "{ANOTHER}")?,
            Err(error) if error.errno() == Errno::ENOENT => writeln!(answer, "{REMOVED}")?,
            Err(error) => writeln!(answer, "{} {}", error.verb(), error.errno() as i32)?,
        }
        answer.flush()?;
    }
    Ok(())
}
