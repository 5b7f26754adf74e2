//! The health of every platform: does it run, and which emulator is it that runs it? And how far is one that does not?
//!
//! Adds to a [`Survey`] what the files behind the handlers are. The very file that the kernel has pinned shows its version; one
//! that does not, and whose entry says that it is QEMU's, is asked by starting it. What each key means is in `json.schema.json`.

use std::fs::File;
use std::thread;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use serde::Serialize;

use crate::emulator::identity::{self, Identity, Place};
use crate::emulator::{EmulatorError, Question, Source, Unfit, Version, versions};
use crate::helper::probes::{LIMIT, Ran};
use crate::kernel::wording::{cause, text};
use crate::policy::remedy::Means;
use crate::policy::survey::{PlatformStatus, Survey, Verdict};

/// One platform, looked at closely.
#[derive(Debug, Serialize)]
pub struct PlatformHealth {
    #[serde(skip)]
    pub arch: &'static Arch,
    pub platform: String,
    pub qemu: &'static str,
    /// `native`: the kernel runs it by itself. `works`: a handler runs it, `entry` or one out of sight. `broken`: there is a handler,
    /// and programs do not run. `missing`: there is no handler.
    pub state: &'static str,
    pub reason: Option<String>,
    pub remedy: Option<String>,
    pub entry: Option<String>,
    pub flags: Option<String>,
    pub interpreter: Option<String>,
    pub argv0: Option<bool>,
    pub setuid: Option<bool>,
    pub start_us: Option<u64>,
    pub emulator: Option<EmulatorFile>,
    pub unseen: Option<String>,
    pub shadowed: Vec<String>,
}

/// The very file that runs programs, which may long have gone from its path.
#[derive(Debug, Serialize)]
pub struct EmulatorFile {
    pub version: Option<String>,
    pub package: Option<String>,
    pub mute: Option<String>,
    pub build_id: Option<String>,
    pub sha256: Option<String>,
    pub size: u64,
    pub path: String,
    pub place: Place,
    /// When it was last changed, in seconds since 1970.
    #[serde(skip)]
    pub modified: i64,
}

/// Looks closely at `arches`, or at whatever is native or has a handler. `digest`: read each emulator whole.
pub fn examine(means: &Means, arches: Option<&[&Arch]>, digest: bool) -> Vec<PlatformHealth> {
    let asked = |status: &&PlatformStatus| match arches {
        Some(arches) => arches.contains(&status.arch),
        None => status.is_known() && !(status.is_native() && status.arch.platforms().is_empty()),
    };
    let statuses: Vec<&PlatformStatus> = means.survey.statuses.iter().filter(asked).collect();
    let emulators = examine_all(&statuses, digest);
    let examined = statuses.into_iter().zip(emulators);
    examined.map(|(status, emulator)| PlatformHealth::new(means, status, emulator)).collect()
}

impl PlatformHealth {
    fn new(means: &Means, status: &PlatformStatus, emulator: Option<Result<EmulatorFile, String>>) -> Self {
        let handler = status.handler.as_ref();
        let (state, failure, argv0, start_us) = match &status.verdict {
            Verdict::Works { argv0, micros, .. } => {
                let state = if status.is_native() { "native" } else { "works" };
                (state, None, Some(*argv0), Some(*micros))
            }
            Verdict::Fails(failure) => {
                let state = if handler.is_some() { "broken" } else { "missing" };
                (state, Some(failure), None, None)
            }
        };
        let (emulator, unseen) = match emulator.transpose() {
            Ok(emulator) => (emulator, None),
            Err(why) => (None, Some(why)),
        };
        Self {
            arch: status.arch,
            platform: status.arch.platform(),
            qemu: status.arch.qemu,
            state,
            reason: failure.map(ToString::to_string),
            remedy: failure.map(|failure| means.against(failure, status.arch)),
            entry: handler.map(|h| text(&h.name)),
            flags: handler.map(|h| format!("{}{}", h.flags, h.unknown_flags)),
            interpreter: handler.and_then(|h| h.interpreter.as_ref()).map(text),
            argv0,
            setuid: status.setuid,
            start_us,
            emulator,
            unseen,
            shadowed: shadowed(means.survey, status),
        }
    }
}

/// The enabled entries that would take its programs, were there not a newer one.
fn shadowed(survey: &Survey, status: &PlatformStatus) -> Vec<String> {
    let Some(handler) = &status.handler else {
        return Vec::new();
    };
    let older = survey.entries.iter().skip_while(|entry| entry.name != handler.name).skip(1);
    older.filter(|entry| entry.enabled && entry.matches(status.arch)).map(|entry| text(&entry.name)).collect()
}

/// What the programs of each run through, if it is not the kernel itself; or why that cannot be seen.
fn examine_all(statuses: &[&PlatformStatus], digest: bool) -> Vec<Option<Result<EmulatorFile, String>>> {
    let found: Vec<Option<Result<(Identity, &File), String>>> = statuses
        .iter()
        .map(|status| match &status.ran {
            Ran::Itself => None,
            Ran::Unseen(why) => Some(Err(why.clone())),
            Ran::Interpreter(file) => {
                let registered = status.handler.as_ref().and_then(|entry| entry.interpreter.as_deref());
                let identity = Identity::of(file, registered).map_err(|error| cause(&error));
                Some(identity.map(|identity| (identity, &**file)))
            }
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
        let versions = versions(&questions, LIMIT);
        let digests = threads.into_iter().map(|digest| match digest {
            Ok(thread) => thread.join().ok()?,
            Err(done) => done,
        });
        (versions, digests.collect::<Vec<_>>())
    });
    drop(questions);
    let (mut versions, mut digests) = (versions.into_iter(), digests.into_iter());
    let emulators = found.into_iter().map(|found| {
        Some(found?.and_then(|(identity, _)| {
            let version = versions.next().ok_or("it was not asked")?;
            Ok(EmulatorFile::new(identity, version, digests.next().flatten()))
        }))
    });
    emulators.collect()
}

impl EmulatorFile {
    /// `version`: which QEMU it is.
    fn new(identity: Identity, version: Result<Version, EmulatorError>, sha256: Option<String>) -> Self {
        let (version, mute) = match version {
            Ok(version) => (Some(version), None),
            Err(EmulatorError { unfit: Unfit::NotAsked, .. }) => (None, Some("it is not QEMU's".to_owned())),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            version: version.as_ref().map(ToString::to_string),
            package: version.and_then(|version| version.package),
            mute,
            build_id: identity.build_id,
            sha256,
            size: identity.size,
            path: text(&identity.path),
            place: identity.place,
            modified: identity.modified,
        }
    }
}

/// One architecture, and how far it is from running here.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub platform: String,
    pub qemu: &'static str,
    pub aliases: &'static [&'static str],
    /// `native`, `registered`, `available` (there is an emulator to install) or `unavailable`.
    pub state: &'static str,
    pub entry: Option<String>,
    pub reason: Option<String>,
}

/// Every architecture in the table's order; the emulators to install are those of `emulators`.
pub fn list(survey: &Survey, emulators: &Source, prefix: &str) -> Vec<Listed> {
    let listed = survey.statuses.iter().map(|status| {
        let arch = status.arch;
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
        let entry = status.handler.as_ref().map(|entry| text(&entry.name));
        Listed { platform: arch.platform(), qemu: arch.qemu, aliases: arch.aliases, state, entry, reason }
    });
    listed.collect()
}
