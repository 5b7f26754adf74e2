//! The order in which emulators take turns at a workload, and the rule that no failed run counts.

use anyhow::{Context, Result, bail, ensure};

use super::emulator::Emulator;
use super::root::Root;
use super::sample::{self, Outcome, Program, Sample};
use super::workload::Workload;
use crate::report;

/// What everything is measured with.
#[derive(Debug)]
pub(super) struct Bench {
    /// Where programs run.
    pub(super) root: Root,
    /// What they run under; not empty.
    pub(super) emulators: Vec<Emulator>,
}

/// What to do about a run that does not count.
const REMEDY: &str = "fix that emulator, or leave this workload out with --only";

/// The samples of one workload: by round, then by emulator.
pub(super) type Rounds = Vec<Vec<Sample>>;

impl Bench {
    /// Measures each of `workloads`, in every round under one emulator right after the other.
    ///
    /// # Errors
    /// A program cannot be started, or ends otherwise than it ought to or than it does under another emulator.
    pub(super) fn measure(&self, workloads: &[&Workload], rounds: usize) -> Result<Vec<Rounds>> {
        report::progress("trying everything once");
        let tried = workloads.iter().map(|workload| self.try_once(workload));
        let expected = tried.collect::<Result<Vec<_>>>()?;
        let mut samples = vec![Vec::with_capacity(rounds); workloads.len()];
        for round in 0..rounds {
            report::progress(&format!("round {} of {rounds}", round + 1));
            for (at, workload) in workloads.iter().enumerate() {
                samples[at].push(self.round(workload, round, &expected[at])?);
            }
        }
        Ok(samples)
    }

    /// Runs a workload once under each emulator, unmeasured: what fails is told before the long run, and what is read
    /// from disk is in memory from then on. Returns how it ends.
    fn try_once(&self, workload: &Workload) -> Result<Outcome> {
        let name = workload.name;
        if let Some(preparation) = workload.preparation {
            let name = format!("what {name} needs");
            self.sample(&name, preparation, 1, &self.emulators[0], None)?;
        }
        let mut expected = None;
        for emulator in &self.emulators {
            let found = self.sample(name, workload.program, 1, emulator, expected.as_ref())?;
            expected.get_or_insert(found.outcome);
        }
        expected.context("no emulator was named")
    }

    /// A sample of each emulator, in their order. Another one begins the next round.
    fn round(&self, workload: &Workload, round: usize, expected: &Outcome) -> Result<Vec<Sample>> {
        let begins = round % self.emulators.len();
        let (late, early) = self.emulators.split_at(begins);
        let mut samples = Vec::with_capacity(self.emulators.len());
        for emulator in early.iter().chain(late) {
            let (name, program, starts) = (workload.name, workload.program, workload.starts);
            samples.push(self.sample(name, program, starts, emulator, Some(expected))?);
        }
        samples.rotate_right(begins);
        Ok(samples)
    }

    /// Runs `program` under `emulator`; a run that fails, or ends otherwise than expected, is an error that names both.
    fn sample(
        &self,
        name: &str,
        program: Program,
        starts: u32,
        emulator: &Emulator,
        expected: Option<&Outcome>,
    ) -> Result<Sample> {
        let who = || format!("{name} fails under {}", emulator.name);
        emulator.register()?;
        let sample = sample::take(self.root.path(), program, starts, emulator.setting.as_deref()).with_context(who)?;
        let outcome = &sample.outcome;
        ensure!(
            outcome.status == program.status,
            "{}: {outcome}, not exit status {}; on stderr: {}; {REMEDY}",
            who(),
            program.status,
            sample.stderr.lines().last().unwrap_or("nothing")
        );
        if let Some(expected) = expected.filter(|expected| *expected != outcome) {
            let other = &self.emulators[0].name;
            bail!("{}: {outcome}; under {other}: {expected}; {REMEDY}", who());
        }
        Ok(sample)
    }
}
