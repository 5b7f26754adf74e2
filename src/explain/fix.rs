//! What remedies change: things as they would be once some have been applied. Pure.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;

use super::place::Purpose;

/// What a remedy changes.
#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The file at this path may be executed.
    Executable(PathBuf),
    /// It is copied to where files may be executed.
    Copied(PathBuf),
    /// It begins so.
    Start(PathBuf, Vec<u8>),
    /// This architecture has a handler of an install.
    Installed(&'static Arch),
    /// The table, or this entry of it, is on.
    On(Option<OsString>),
}

/// What to do about a problem.
pub(super) struct Remedy {
    /// In words.
    pub(super) text: String,
    /// What that changes, where it can be foreseen.
    pub(super) fix: Option<Fix>,
}

/// Several of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixes<'a>(pub(super) &'a [Fix]);

impl<'a> Fixes<'a> {
    /// Whether this entry is switched on, or, without a name, the table.
    pub(super) fn switch_on(self, wanted: Option<&OsStr>) -> bool {
        let mut fixes = self.0.iter();
        fixes.any(|fix| matches!(fix, Fix::On(name) if name.as_deref() == wanted))
    }

    /// What a file is opened for that is to be executed.
    pub(super) fn purpose(self, file: &Path) -> Purpose {
        let purpose = |fix: &Fix| match fix {
            Fix::Executable(path) if path == file => Some(Purpose::Read),
            Fix::Copied(path) if path == file => Some(Purpose::ExecuteElsewhere),
            _ => None,
        };
        let found = self.0.iter().rev().find_map(purpose);
        found.unwrap_or(Purpose::Execute)
    }

    /// How a file begins, if that is changed.
    pub(super) fn start(self, file: &Path) -> Option<&'a [u8]> {
        self.0.iter().rev().find_map(|fix| match fix {
            Fix::Start(path, start) if path == file => Some(&start[..]),
            _ => None,
        })
    }

    /// The architecture whose handler of an install takes a file that begins so.
    pub(super) fn installed(self, head: &[u8]) -> Option<&'static Arch> {
        self.0.iter().find_map(|fix| match fix {
            Fix::Installed(arch) if arch.matches(head) => Some(*arch),
            _ => None,
        })
    }
}
