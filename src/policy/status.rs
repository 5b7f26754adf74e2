//! The health of every platform: does it run, and which emulator is it that runs it?
//!
//! Adds to a [`Survey`] what the files behind the handlers are. The very file that the kernel has pinned shows its version; one
//! that does not, and whose entry says that it is QEMU's, is asked by starting it.

use std::fs::File;
use std::thread;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use crate::emulator::identity::{self, Identity};
use crate::emulator::{EmulatorError, Question, Unfit, Version, versions};
use crate::helper::probes::Ran;
use crate::kernel::wording::cause;
use crate::policy::survey::{PlatformStatus, Survey, takes};

/// One platform, looked at closely.
#[derive(Debug)]
pub struct Examined<'a> {
    /// How it stands.
    pub status: &'a PlatformStatus,
    /// What its programs run through, if it is not the kernel itself; or why that cannot be seen.
    pub emulator: Option<Result<Emulator, String>>,
    /// Enabled entries that would take its programs, were there not a newer one.
    pub shadowed: Vec<&'a Entry>,
}

/// The file that the kernel runs programs through.
#[derive(Debug)]
pub struct Emulator {
    /// Which file.
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
    let examined = examined.map(|(status, emulator)| Examined { status, emulator, shadowed: shadowed(survey, status) });
    examined.collect()
}

fn shadowed<'a>(survey: &'a Survey, status: &PlatformStatus) -> Vec<&'a Entry> {
    let Some(handler) = &status.handler else {
        return Vec::new();
    };
    let entries = survey.entries.iter();
    let older = entries.skip_while(|entry| entry.name != handler.name).skip(1);
    older.filter(|entry| entry.enabled && takes(entry, status.arch)).collect()
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
    let files = || found.iter().flatten().flatten();
    let handlers = statuses.iter().zip(&found);
    let handlers = handlers.filter(|(_, found)| matches!(found, Some(Ok(_))));
    let questions = handlers.zip(files()).map(|((status, _), (identity, file))| Question {
        path: &identity.path,
        file,
        // what runs programs of other systems need not take it for a question
        may_start: status.handler.as_ref().is_some_and(Entry::is_qemu),
    });
    let questions: Vec<Question> = questions.collect();
    let (versions, digests) = thread::scope(|scope| {
        let threads = files().filter(|_| digest).map(|(_, file)| {
            let work = move || identity::sha256(file).ok();
            // where there may be no more threads, it is done here
            let thread = thread::Builder::new().spawn_scoped(scope, work);
            thread.map_err(|_| work())
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
            version: versions.next().filter(|version| !is_not_asked(version)),
            sha256: digests.next().flatten(),
        });
        Some(emulator)
    });
    emulators.collect()
}

fn is_not_asked(version: &Result<Version, EmulatorError>) -> bool {
    matches!(version, Err(error) if matches!(error.unfit, Unfit::NotAsked))
}

fn identify(handler: Option<&Entry>, file: &File) -> Result<Identity, String> {
    let identity = Identity::of(file).map_err(|error| cause(&error))?;
    let registered = handler.and_then(|entry| entry.interpreter.as_ref());
    Ok(match registered {
        Some(registered) => identity.registered_as(registered),
        None => identity,
    })
}
