//! An emulator's file, before it is registered: is it a static ELF program for this host that really starts, and
//! which QEMU is it?
//!
//! A wrong file is refused here, by name, because the kernel would take it and every program of that architecture
//! would fail later. Registered emulators, and what the kernel pinned of them, are not this module's.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::complaint::{Cause, Limits, recognise};
use crate::runner::{NotStarted, Other};
use crate::wording::errno_of;

#[cfg(feature = "carried")]
mod carried;
#[cfg(not(feature = "carried"))]
#[path = "emulator/carries_none.rs"]
mod carried;
mod file;
mod missing;
mod qemu;
mod source;
mod unfit;

// public for fuzz/, as are the parsers below
#[cfg(feature = "carried")]
pub use carried::places;
pub(crate) use file::read_up_to;
pub use file::{HEAD, check_head, segments};
pub use qemu::{Qemu, Version, qemu_of};
pub use source::{DIR, Source};
pub use unfit::{EmulatorError, Unfit};

/// How long an emulator may take to print its version.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the emulator of `source` at `path` and returns QEMU's version.
///
/// # Errors
/// When it cannot be opened, and those of [`Asked::version`] and [`Asked::answer`].
pub fn version(path: &Path, source: &Source) -> Result<Version, EmulatorError> {
    Asked::version(path, &source.open(path)?)?.answer()
}

fn refused(path: &Path, error: io::Error) -> EmulatorError {
    EmulatorError {
        path: path.to_owned(),
        unfit: Unfit::Refused(error),
    }
}

/// Whether a mount that nobody else sees was refused for want of privilege, by a filter, or by a kernel that knows no such mounts.
fn cannot_mount(error: &io::Error) -> bool {
    [Errno::EPERM, Errno::EACCES, Errno::ENOSYS].contains(&errno_of(error))
}

/// An emulator that was started to print its version. Several can be under way at once.
#[derive(Debug)]
pub struct Asked {
    path: PathBuf,
    child: Child,
    deadline: Instant,
}

impl Asked {
    /// Starts `file` with `--version`; `path` is how messages call it.
    ///
    /// # Errors
    /// [`Unfit::Refused`] when no process can be started.
    pub fn version(path: &Path, file: &File) -> Result<Self, EmulatorError> {
        let start = || {
            let mut command = Other::Stdin("--version").command();
            command.stdin(file.try_clone()?);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let child = start().map_err(|error| refused(path, error))?;
        let (path, deadline) = (path.to_owned(), Instant::now() + LIMIT);
        Ok(Self {
            path,
            child,
            deadline,
        })
    }

    /// Waits for what it prints.
    ///
    /// # Errors
    /// [`Unfit::Broken`] when it does not end by itself and well, or says nothing of a version.
    pub fn answer(mut self) -> Result<Version, EmulatorError> {
        let text = self.text();
        let version = text.and_then(|text| {
            let version = Version::parse(&text);
            version.ok_or_else(|| Unfit::Broken("it prints no version".to_owned()))
        });
        version.map_err(|unfit| EmulatorError {
            path: self.path.clone(),
            unfit,
        })
    }

    fn text(&mut self) -> Result<String, Unfit> {
        let pipes = (self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(Unfit::Broken("it was asked before".to_owned()));
        };
        let text = read_until(stdout, self.deadline).map_err(Unfit::Refused)?;
        let complaint = read_until(stderr, self.deadline).map_err(Unfit::Refused)?;
        loop {
            match self.child.try_wait().map_err(Unfit::Refused)? {
                Some(status) if status.success() => return Ok(text),
                Some(status) => return Err(why_not(&complaint, status)),
                None if Instant::now() >= self.deadline => {
                    return Err(Unfit::Hangs);
                }
                None => thread::sleep(Duration::from_micros(100)),
            }
        }
    }
}

/// It does not outlive its use.
impl Drop for Asked {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What kept it from printing its version: it could not be started, or it failed.
fn why_not(complaint: &str, status: ExitStatus) -> Unfit {
    if let Some(errno) = NotStarted::read(complaint) {
        return Unfit::Refused(errno.into());
    }
    if status.signal() == Some(Signal::SIGKILL as i32) {
        return Unfit::Killed;
    }
    let what = match complaint.lines().next_back() {
        Some(last) => format!("--version ends with {status}, saying: {last}"),
        None => format!("--version ends with {status}"),
    };
    let limits = Limits::of_this_process();
    let starved = limits.are_tight().then_some(Cause::AddressSpace);
    let cause = recognise(complaint).or(starved);
    match cause.and_then(|cause| cause.remedy(&limits)) {
        Some(remedy) => Unfit::Starved(what, remedy),
        None => Unfit::Broken(what),
    }
}

/// Reads to the end, or to the deadline, or as much as a version can be.
pub(crate) fn read_until(mut pipe: impl Read + AsFd, deadline: Instant) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    while text.len() < 4 * chunk.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], left)? == 0 {
            break;
        }
        match pipe.read(&mut chunk)? {
            0 => break,
            length => text.extend(&chunk[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
