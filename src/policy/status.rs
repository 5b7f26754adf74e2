//! The health of every platform: does it run, and which emulator is it that runs it? And how far is one that does not?
//!
//! Adds to a [`Survey`] what the files behind the handlers are. The very file that the kernel has pinned shows its version; one
//! that does not, and whose entry says that it is QEMU's, is asked by starting it.

use std::ffi::OsString;
use std::fs::File;
use std::thread;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use crate::emulator::identity::{self, Identity};
use crate::emulator::{EmulatorError, Question, Source, Unfit, Version, versions};
use crate::helper::probes::Ran;
use crate::kernel::wording::cause;
use crate::policy::survey::{PlatformStatus, Survey};

/// One platform, looked at closely.
#[derive(Debug)]
pub struct Examined<'a> {
    pub status: &'a PlatformStatus,
    /// What its programs run through, if it is not the kernel itself; or why that cannot be seen.
    pub emulator: Option<Result<Emulator, String>>,
    /// Enabled entries that would take its programs, were there not a newer one.
    pub shadowed: Vec<&'a Entry>,
}

/// The file that the kernel runs programs through.
#[derive(Debug)]
pub struct Emulator {
    pub identity: Identity,
    /// Which QEMU; `None` if it is none by its bytes, and its entry does not call it one, so that it was not started.
    pub version: Option<Result<Version, EmulatorError>>,
    /// SHA-256 in hexadecimal digits, where it was asked for.
    pub sha256: Option<String>,
}

/// Looks closely at `arches`, or at whatever is native or has a handler. `digest`: read each emulator whole.
pub fn examine<'a>(survey: &'a Survey, arches: Option<&[&Arch]>, digest: bool) -> Vec<Examined<'a>> {
    let asked = |status: &&PlatformStatus| match arches {
        Some(arches) => arches.contains(&status.arch),
        None => status.is_known() && !(status.is_native() && status.arch.platforms().is_empty()),
    };
    let statuses: Vec<&PlatformStatus> = survey.statuses.iter().filter(asked).collect();
    let emulators = examine_all(&statuses, digest);
    let examined = statuses.into_iter().zip(emulators);
    examined.map(|(status, emulator)| Examined { status, emulator, shadowed: shadowed(survey, status) }).collect()
}

fn shadowed<'a>(survey: &'a Survey, status: &PlatformStatus) -> Vec<&'a Entry> {
    let Some(handler) = &status.handler else {
        return Vec::new();
    };
    let older = survey.entries.iter().skip_while(|entry| entry.name != handler.name).skip(1);
    older.filter(|entry| entry.enabled && entry.matches(status.arch)).collect()
}

fn examine_all(statuses: &[&PlatformStatus], digest: bool) -> Vec<Option<Result<Emulator, String>>> {
    let found: Vec<Option<Result<(Identity, &File), String>>> = statuses
        .iter()
        .map(|status| match &status.ran {
            Ran::Itself => None,
            Ran::Unseen(why) => Some(Err(why.clone())),
            Ran::Interpreter(file) => Some(identify(status.handler.as_ref(), file).map(|identity| (identity, &**file))),
        })
        .collect();
    let seen =
        || statuses.iter().zip(&found).filter_map(|(status, found)| Some((status, found.as_ref()?.as_ref().ok()?)));
    let questions = seen().map(|(status, (identity, file))| Question {
        path: &identity.path,
        file,
        // another translator may take --version for the name of a program
        may_start: status.handler.as_ref().is_some_and(Entry::starts_qemu),
    });
    let questions: Vec<Question> = questions.collect();
    let (versions, digests) = thread::scope(|scope| {
        let threads = seen().filter(|_| digest).map(|(_, (_, file))| {
            let work = move || identity::sha256(file).ok();
            // where there may be no more threads, it is done here
            thread::Builder::new().spawn_scoped(scope, work).map_err(|_| work())
        });
        let threads: Vec<_> = threads.collect();
        let versions = versions(&questions, crate::helper::probes::LIMIT);
        let digests = threads.into_iter().map(|digest| match digest {
            Ok(thread) => thread.join().ok()?,
            Err(done) => done,
        });
        (versions, digests.collect::<Vec<_>>())
    });
    drop(questions);
    let (mut versions, mut digests) = (versions.into_iter(), digests.into_iter());
    let emulators = found.into_iter().map(|found| {
        let emulator = found?.map(|(identity, _)| Emulator {
            identity,
            version: versions.next().filter(|v| !matches!(v, Err(EmulatorError { unfit: Unfit::NotAsked, .. }))),
            sha256: digests.next().flatten(),
        });
        Some(emulator)
    });
    emulators.collect()
}

fn identify(handler: Option<&Entry>, file: &File) -> Result<Identity, String> {
    let identity = Identity::of(file).map_err(|error| cause(&error))?;
    Ok(match handler.and_then(|entry| entry.interpreter.as_ref()) {
        Some(registered) => identity.registered_as(registered),
        None => identity,
    })
}

/// One architecture, and how far it is from running here.
#[derive(Debug)]
pub struct Listed {
    pub arch: &'static Arch,
    /// `native`, `registered`, `available` (there is an emulator to install) or `unavailable`.
    pub state: &'static str,
    /// The entry that takes its programs, unless it is out of sight.
    pub entry: Option<OsString>,
    /// Why it is unavailable, or registered and yet does not run.
    pub reason: Option<String>,
}

/// Every architecture in the table's order; the emulators to install are those of `emulators`.
pub fn list(survey: &Survey, emulators: &Source, prefix: &str) -> Vec<Listed> {
    let listed = survey.statuses.iter().map(|status| {
        let (arch, entry) = (status.arch, status.handler.as_ref().map(|entry| entry.name.clone()));
        let (state, reason) = if status.is_native() {
            ("native", None)
        } else if status.is_known() {
            ("registered", status.failure().map(ToString::to_string))
        } else {
            match emulators.look(&emulators.path_for(arch, prefix)) {
                Ok(()) => ("available", None),
                Err(error) => ("unavailable", Some(error.to_string())),
            }
        };
        Listed { arch, state, entry, reason }
    });
    listed.collect()
}
