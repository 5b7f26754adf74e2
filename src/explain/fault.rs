//! What can be wrong with a file, how its start then ends, and what to do.
//!
//! Rests on `execve(2)`; the errno of each fault was tried on Linux 6.18.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use binfmt_magic::arch::Arch;
use nix::errno::Errno;

use super::Context;
use crate::policy::survey::may_be_native;

/// What loads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedBy {
    /// The kernel itself.
    Kernel,
    /// QEMU's user emulator.
    Emulator,
}

/// How the start of a file with a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `execve(2)` fails so.
    Refused(Errno),
    /// `execve(2)` fails so, and the sentence names the errno already.
    RefusedAsSaid(Errno),
    /// It is started, and a signal ends it at once.
    Signal,
    /// Its emulator starts, and ends at once.
    Emulator,
    /// Its emulator starts, and waits for it.
    Waits,
    /// What was started says what is wrong.
    Told,
    /// That cannot be told from here.
    Unknown,
}

/// What is wrong with a file, whichever it is.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Completes "it …".
    pub what: String,
    pub(super) end: End,
    pub(super) remedy: Remedy,
}

#[derive(Debug, Clone)]
pub struct Remedy {
    pub(super) text: String,
    /// What that changes, where it can be foreseen.
    pub(super) fix: Option<Fix>,
}

#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The file at this path may be executed.
    Executable(PathBuf),
    /// It is copied to where files may be executed.
    Copied(PathBuf),
    /// It begins with these bytes.
    Start(PathBuf, Vec<u8>),
    /// This architecture has a handler of an install.
    Installed(&'static Arch),
    /// The table, or this entry of it, is on.
    On(Option<OsString>),
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, end: End, remedy: Remedy) -> Self {
        Self { what: what.into(), end, remedy }
    }

    /// The same of a file that is loaded by `by`.
    pub(super) fn by(self, by: LoadedBy) -> Self {
        match by {
            LoadedBy::Emulator if self.end != End::Unknown => Self { end: End::Emulator, ..self },
            _ => self,
        }
    }

    /// A file that `execve(2)` takes for no program.
    pub(super) fn unknown_format(what: impl Into<String>, remedy: Remedy) -> Self {
        Self::new(what, End::Refused(Errno::ENOEXEC), remedy)
    }
}

impl Remedy {
    /// One that changes nothing that can be foreseen.
    pub(super) fn advice(text: impl Into<String>) -> Self {
        Self { text: text.into(), fix: None }
    }

    pub(super) fn with(text: impl Into<String>, fix: Fix) -> Self {
        Self { text: text.into(), fix: Some(fix) }
    }

    pub(super) fn install(arch: &'static Arch, context: &Context) -> Self {
        Self::with(context.remedies.install(arch), Fix::Installed(arch))
    }

    /// To install a handler for the programs that this entry takes, if an install may.
    pub(super) fn replace(entry: &OsStr, context: &Context) -> Option<Self> {
        let survey = context.remedies.survey;
        let entry = survey.entries.iter().find(|e| e.name == entry)?;
        let arches = survey.statuses.iter().map(|status| status.arch);
        let mut foreign = arches.filter(|arch| !may_be_native(arch));
        let arch = foreign.find(|arch| entry.matches(arch))?;
        Some(Self::install(arch, context))
    }
}
