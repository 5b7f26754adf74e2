//! One architecture alone, where the table may be out of sight.

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;

use super::Verdict;
use crate::emulator::complaint::Limits;
use crate::helper::probes::{self, Form, Job, Ran};

/// Runs the probe of `arch`, and only that, whatever would take it; also returns the file that the kernel ran for it.
///
/// # Errors
/// When probes cannot be run at all.
pub fn of_one(arch: &'static Arch) -> Result<(Verdict, Ran)> {
    one(arch, Form::Plain)
}

/// The same in this process's own root directory, where handlers may find files that containers do not.
///
/// # Errors
/// When probes cannot be run at all.
pub fn of_one_here(arch: &'static Arch) -> Result<Verdict> {
    one(arch, Form::Here).map(|(verdict, _)| verdict)
}

fn one(arch: &'static Arch, form: Form) -> Result<(Verdict, Ran)> {
    let run = probes::run(&[Job { arch, form }])?.pop();
    let run = run.context("there is no answer of a probe")?;
    let verdict = Verdict::of(arch, None, &run, Limits::of_this_process());
    Ok((verdict, run.ran))
}
