//! Listing: every architecture that there is an emulator for in QEMU, and how far it is from running here.

use std::ffi::OsString;

use binfmt_magic::arch::Arch;

use crate::emulator::{EmulatorError, Source};
use crate::policy::survey::{Failure, Survey, Verdict};

/// How far an architecture is from running.
#[derive(Debug)]
pub enum Available {
    /// The kernel runs it by itself.
    Native,
    /// An entry takes its programs; `failure` says why they do not run all the same.
    Registered {
        /// The entry, unless it is out of sight.
        entry: Option<OsString>,
        /// What the probe showed, if they do not run.
        failure: Option<Failure>,
    },
    /// No entry, but a fit emulator to install.
    Emulator,
    /// Neither.
    No(EmulatorError),
}

/// One architecture.
#[derive(Debug)]
pub struct Listed {
    /// The row.
    pub arch: &'static Arch,
    /// How far it is from running.
    pub available: Available,
}

/// Every architecture in the table's order; emulators are those of `emulators`.
pub fn list(survey: &Survey, emulators: &Source, prefix: &str) -> Vec<Listed> {
    let listed = survey.statuses.iter().map(|status| {
        let arch = status.arch;
        let available = match (&status.handler, &status.verdict) {
            (None, Verdict::Works { .. }) if status.is_native() => Available::Native,
            (entry, verdict) if entry.is_some() || status.works() => Available::Registered {
                entry: entry.as_ref().map(|entry| entry.name.clone()),
                failure: match verdict {
                    Verdict::Fails(failure) => Some(failure.clone()),
                    Verdict::Works { .. } => None,
                },
            },
            _ => match emulators.look(&emulators.path_for(arch, prefix)) {
                Ok(()) => Available::Emulator,
                Err(error) => Available::No(error),
            },
        };
        Listed { arch, available }
    });
    listed.collect()
}
