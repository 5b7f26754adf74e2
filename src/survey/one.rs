//! One architecture alone, where the table may be out of sight.

use anyhow::Result;
use binfmt_magic::arch::Arch;

use super::Verdict;
use crate::complaint::Limits;
use crate::runner::{self, Form, Job};

/// Runs the probe of `arch`, and only that, whatever would take it.
///
/// # Errors
/// When probes cannot be run at all.
pub fn of_one(arch: &'static Arch) -> Result<Verdict> {
    one(arch, Form::Plain)
}

/// The same in this process's own root directory, where handlers may find files that containers do not.
///
/// # Errors
/// When probes cannot be run at all.
pub fn of_one_here(arch: &'static Arch) -> Result<Verdict> {
    one(arch, Form::Here)
}

fn one(arch: &'static Arch, form: Form) -> Result<Verdict> {
    let runs = runner::run(&[Job { arch, form }])?;
    let verdict = |run| Verdict::of(arch, None, run, Limits::of_this_process());
    Ok(runs
        .first()
        .map_or(Verdict::Fails(super::Failure::NoHandler), verdict))
}
