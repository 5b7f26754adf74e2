//! Which files are at some paths, within a limit. A path may lead to a file server that does not answer (NFS, FUSE), and a process
//! that asks such a server may not even end when it is killed. So another process looks, and is not waited for.
//!
//! The answer is a line for each path, as soon as it is known: its number, and the file's device and inode, or an errno.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::Verb;
use crate::kernel::wait::Wait;
use crate::kernel::wording::errno_of;

/// How long a file system may take to say what is at a path.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a process that was killed may take to end.
const UNTIL_KILLED: Duration = Duration::from_millis(200);

/// What is at paths, as far as it could be found out.
#[derive(Debug, Default)]
pub struct Files(HashMap<PathBuf, Found>);

/// Device and inode of a file, or why there is none.
type Found = Result<(u64, u64), Errno>;

impl Files {
    /// Looks at `paths`, at all of them at the same time. Links are followed.
    pub fn at(paths: &[&Path]) -> Self {
        let mut answers = Vec::new();
        if !paths.is_empty() {
            // what was not answered, for whatever reason, is not known
            let _ = ask(paths, &mut answers);
        }
        let text = String::from_utf8_lossy(&answers);
        // the last line may be incomplete
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        Self(lines.filter_map(|line| parse(line, paths)).collect())
    }

    /// What is at `path`. `None` if that is not known.
    pub fn get(&self, path: &Path) -> Option<Found> {
        self.0.get(path).copied()
    }
}

fn parse(line: &str, paths: &[&Path]) -> Option<(PathBuf, Found)> {
    let mut numbers = line.split(' ').map_while(|number| number.parse::<u64>().ok());
    let path = paths.get(usize::try_from(numbers.next()?).ok()?)?;
    let (first, inode) = (numbers.next()?, numbers.next());
    let found = inode.map(|inode| (first, inode));
    let errno = Errno::from_raw(i32::try_from(first).unwrap_or_default());
    Some(((*path).to_owned(), found.ok_or(errno)))
}

fn ask(paths: &[&Path], answers: &mut Vec<u8>) -> Result<()> {
    let mut command = Verb::LookAtFiles.command();
    let mut child = command.args(paths).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let all = read(&mut child, paths, answers);
    if matches!(all, Ok(true)) {
        // its output has an end only if none of its threads still asks
        child.wait()?;
        return Ok(());
    }
    let _ = child.kill();
    // one that does not end is left to itself
    let mut wait = Wait::at_most(UNTIL_KILLED);
    while child.try_wait()?.is_none() && wait.goes_on(None, Duration::from_millis(5), String::new)? {}
    all.map(drop)
}

/// Whether the answers came to their end.
fn read(child: &mut Child, paths: &[&Path], answers: &mut Vec<u8>) -> Result<bool> {
    let mut pipe = child.stdout.take().context("a pipe that was asked for")?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut wait = Wait::at_most(LIMIT);
    loop {
        match pipe.read_to_end(answers) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let awaited = || {
            let text = String::from_utf8_lossy(answers);
            let known: HashMap<_, _> = text.lines().filter_map(|line| parse(line, paths)).collect();
            let open = paths.iter().find(|path| !known.contains_key(**path));
            let open = open.map_or_else(String::new, |path| format!(" of {}", path.display()));
            format!("the file system{open}, for {} s at most", LIMIT.as_secs())
        };
        if !wait.goes_on(Some(pipe.as_fd()), LIMIT, awaited)? {
            return Ok(false);
        }
    }
}

/// What the process of [`Verb::LookAtFiles`] does; the paths follow the verb.
pub fn look(paths: &[OsString], mut answer: impl Write) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (sender, answers) = mpsc::channel();
    for (number, path) in paths.iter().cloned().enumerate() {
        let sender = sender.clone();
        let look = move || {
            let found = fs::metadata(path).map(|found| (found.dev(), found.ino()));
            // there is a receiver as long as this process lives
            let _ = sender.send((number, found));
        };
        thread::Builder::new().spawn(look)?;
    }
    drop(sender);
    for (number, found) in answers {
        match found {
            Ok((device, inode)) => writeln!(answer, "{number} {device} {inode}")?,
            Err(error) => writeln!(answer, "{number} {}", errno_of(&error) as i32)?,
        }
        answer.flush()?;
    }
    Ok(())
}
