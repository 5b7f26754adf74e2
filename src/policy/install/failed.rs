//! Why an emulator is not installed, where that has to be told apart from other reasons.

use std::fmt;
use std::path::PathBuf;

use anyhow::Error;
use binfmt_magic::arch::Arch;
use binfmt_magic::rule::Rule;

use crate::emulator::{EmulatorError, Unfit};
use crate::policy::survey::Failure;

/// An emulator that was tried and runs no programs.
#[derive(Debug)]
pub struct DoesNotRun {
    path: PathBuf,
    failure: Failure,
    /// Where what is to be done is neither to take another emulator nor to install it again.
    remedy: Option<String>,
    /// How things are now.
    now: Option<&'static str>,
}

impl DoesNotRun {
    pub(super) fn new(
        arch: &Arch,
        rule: &Rule,
        failure: Failure,
        now: Option<&'static str>,
    ) -> Self {
        Self {
            path: rule.interpreter.clone(),
            remedy: failure.outer_remedy(arch),
            failure,
            now,
        }
    }
}

impl fmt::Display for DoesNotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "{path} does not run programs: {}", self.failure)?;
        let more = self.remedy.as_deref().into_iter().chain(self.now);
        more.into_iter().try_for_each(|more| write!(f, "; {more}"))
    }
}

impl std::error::Error for DoesNotRun {}

/// Whether this error of an [`Item`](super::Item) means that an emulator timed out.
#[must_use]
pub fn is_timeout(error: &Error) -> bool {
    let tried = error.downcast_ref::<DoesNotRun>();
    let asked = error.downcast_ref::<EmulatorError>();
    tried.is_some_and(|tried| tried.failure.is_timeout())
        || asked.is_some_and(|asked| matches!(asked.unfit, Unfit::Hangs))
}
