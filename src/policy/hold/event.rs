//! What holding has to tell of. The words are [`crate::output::text`]'s.

use std::ffi::OsString;

use binfmt_magic::arch::Arch;

/// Something that was not as it was left, or is not any more.
#[derive(Debug, Clone)]
pub enum Event {
    /// The table was not mounted, and is.
    Mounted,
    /// The anchor was removed, and is set.
    Anchored,
    /// The handlers may end before the host does; why, and what to do.
    MayEnd(String),
    /// These run again.
    Repaired(Vec<&'static Arch>, Reason),
    /// Something else has registered this entry, which runs it now; without one, the kernel does.
    Left(&'static Arch, Option<OsString>),
    /// It does not run; why. It is tried again when the interval is over.
    Fails(&'static Arch, String),
    /// Nothing can be done, at present; why.
    Refused(String),
    /// Nothing could be done, and nothing needs to be any more: everything runs.
    Over,
}

/// Why something had to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No handler was in effect.
    Gone,
    /// Another handler took its programs, and did not run them.
    Hijacked,
    /// It failed before.
    Over,
}

impl Reason {
    /// In the order in which they are told.
    pub(super) const ALL: [Self; 3] = [Self::Gone, Self::Hijacked, Self::Over];
}
