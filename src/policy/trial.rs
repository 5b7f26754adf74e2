//! Trying an emulator out through the kernel before any program meets it.
//!
//! A trial entry is registered like the real one, but its magic also asks for the mark that only a trial's probe
//! carries in the padding of its ELF header. Flags, pin and `argv[0]` are proven for real; no other program is touched,
//! whatever the outcome, and whatever instant this process is killed at.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Matcher, Rule};

use crate::emulator::Source;
use crate::helper::probes::{self, Form, Job, TRIAL, is_trial, mark};
use crate::kernel::table::Table;
use crate::policy::survey::Verdict;

/// Tries every rule at once, each for up to `limit`; the verdicts are in their order. A rule that the kernel refuses gives that
/// error. Fails when probes cannot be run, or a trial entry cannot be removed.
pub fn run(
    table: &Table,
    emulators: &Source,
    candidates: &[(&'static Arch, &Rule)],
    limit: Duration,
) -> Result<Vec<Result<Verdict>>> {
    let trials: Vec<Rule> = candidates.iter().map(|(arch, rule)| trial_of(arch, rule)).collect();
    let registered: Vec<_> = trials.iter().map(|trial| emulators.register(table, trial)).collect();
    let jobs: Vec<Job> = candidates.iter().map(|&(arch, _)| Job { arch, form: Form::Marked }).collect();
    let runs = probes::run_within(limit, &jobs);
    // each, before the first failure counts
    let removed: Vec<_> = trials.iter().map(|trial| table.remove(&trial.name)).collect();
    removed.into_iter().collect::<Result<(), _>>()?;
    let verdicts = registered.into_iter().zip(runs?).zip(&jobs).map(|((registered, run), job)| {
        registered?;
        Ok(Verdict::of(job.arch, Some(true), &run))
    });
    Ok(verdicts.collect())
}

/// Removes what trials of a killed call left. Fails when the kernel refuses that.
pub fn clear(table: &Table, entries: &[Entry]) -> Result<()> {
    for entry in entries.iter().filter(|entry| is_trial(entry)) {
        table.remove_if(&entry.name, Some(entry.registration))?;
    }
    Ok(())
}

fn trial_of(arch: &Arch, rule: &Rule) -> Rule {
    let name = OsString::from(format!("{TRIAL}{}", arch.qemu));
    let mut trial = Rule { name, ..rule.clone() };
    if let Matcher::Magic { magic, .. } = &mut trial.matcher {
        mark(magic);
    }
    trial
}
