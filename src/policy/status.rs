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
use crate::emulator::{EmulatorError, KnownDefect, Question, Source, Unfit, Version, known_defects, versions};
use crate::helper::probes::{LIMIT, Ran};
use crate::kernel::wording::{cause, text};
use crate::policy::remedy::Remedies;
use crate::policy::survey::{Failure, PlatformStatus, Survey, Verdict};

/// One platform, looked at closely.
#[derive(Debug, Serialize)]
pub struct PlatformHealth {
    #[serde(skip)]
    pub arch: &'static Arch,
    pub platform: String,
    pub qemu: &'static str,
    /// `native`: the kernel runs it by itself. `works`: a handler runs it, `entry` or one out of sight. `broken`: there is a handler,
    /// and programs do not run, or only in root directories that have its interpreter. `missing`: there is no handler.
    pub state: &'static str,
    pub reason: Option<String>,
    pub remedy: Option<String>,
    pub entry: Option<String>,
    pub flags: Option<String>,
    pub interpreter: Option<String>,
    pub argv0: Option<bool>,
    pub setuid: Option<bool>,
    /// Whose name, arguments and `/proc/PID/exe` `ps` shows: those of the `program`, or of its `emulator`.
    pub ps_shows: Option<&'static str>,
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
    /// What programs gain that run through it, without flag C: a sentence about the file.
    pub privilege: Option<String>,
    pub defects: Vec<KnownDefect>,
    /// When it was last changed, in seconds since 1970.
    #[serde(skip)]
    pub modified: i64,
}

/// Looks closely at `arches`, or at whatever is native or has a handler. `digest`: read each emulator whole. Remedies are left to
/// [`advise`].
pub fn examine(survey: &Survey, arches: Option<&[&Arch]>, digest: bool) -> Vec<PlatformHealth> {
    let asked = |status: &&PlatformStatus| match arches {
        Some(arches) => arches.contains(&status.arch),
        None => status.is_known() && !(status.is_native() && status.arch.platforms().is_empty()),
    };
    let statuses: Vec<&PlatformStatus> = survey.statuses.iter().filter(asked).collect();
    let emulators = examine_all(&statuses, digest);
    let examined = statuses.into_iter().zip(emulators);
    examined.map(|(status, emulator)| PlatformHealth::new(survey, status, emulator)).collect()
}

/// Adds to each that does not run what to do about that.
pub fn advise(remedies: &Remedies, examined: &mut [PlatformHealth]) {
    let failing = examined.iter_mut().filter_map(|health| Some((remedies.survey.of(health.arch).failure()?, health)));
    let (failures, healths): (Vec<_>, Vec<_>) =
        failing.map(|(failure, health)| ((health.arch, failure), health)).unzip();
    for (health, remedy) in healths.into_iter().zip(remedies.against_all(&failures)) {
        health.remedy = Some(remedy);
    }
}

impl PlatformHealth {
    fn new(survey: &Survey, status: &PlatformStatus, emulator: Option<Result<EmulatorFile, String>>) -> Self {
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
            remedy: None,
            entry: handler.map(|h| text(&h.name)),
            flags: handler.map(|h| format!("{}{}", h.flags, h.unknown_flags)),
            interpreter: handler.and_then(|h| h.interpreter.as_ref()).map(text),
            argv0,
            setuid: status.setuid,
            ps_shows: match (&status.ran, status.works()) {
                (Ran::Interpreter(_), true) if !status.transparent => Some("emulator"),
                (Ran::Unseen(_), true) if !status.transparent => None,
                (_, works) => works.then_some("program"),
            },
            start_us,
            emulator,
            unseen,
            shadowed: shadowed(survey, status),
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
    let interpreters = statuses.iter().filter_map(|status| {
        let registered = status.handler.as_ref().and_then(|entry| entry.interpreter.as_deref());
        Some((status.interpreter()?, registered))
    });
    let mut identities = Identity::of_all(&interpreters.collect::<Vec<_>>()).into_iter();
    let found = statuses.iter().map(|status| match &status.ran {
        Ran::Itself => None,
        Ran::Unseen(why) => Some(Err(why.clone())),
        Ran::Interpreter(file) => {
            let identity = identities.next()?.map_err(|error| cause(&error));
            Some(identity.map(|identity| (identity, &**file)))
        }
    });
    let found: Vec<Option<Result<(Identity, &File), String>>> = found.collect();
    let seen =
        || statuses.iter().zip(&found).filter_map(|(status, found)| Some((status, found.as_ref()?.as_ref().ok()?)));
    let questions = seen().map(|(status, (identity, file))| Question {
        path: &identity.path,
        file,
        // another translator may take --version for the name of a program; one that timed out is not waited for again
        may_start: status.handler.as_ref().is_some_and(Entry::starts_qemu) && !times_out(status),
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
    let emulators = statuses.iter().zip(found).map(|(status, found)| {
        Some(found?.and_then(|(identity, _)| {
            let version = versions.next().ok_or("it was not asked")?;
            Ok(EmulatorFile::new(status, identity, version, digests.next().flatten()))
        }))
    });
    emulators.collect()
}

fn times_out(status: &PlatformStatus) -> bool {
    status.failure().is_some_and(Failure::is_timeout)
}

impl EmulatorFile {
    /// What runs the programs of `status`. `version`: which QEMU it is.
    fn new(
        status: &PlatformStatus,
        identity: Identity,
        version: Result<Version, EmulatorError>,
        sha256: Option<String>,
    ) -> Self {
        let (version, mute) = match version {
            Ok(version) => (Some(version), None),
            Err(EmulatorError { unfit: Unfit::NotAsked, .. }) if times_out(status) => {
                (None, Some("it is not asked, since it timed out".to_owned()))
            }
            Err(EmulatorError { unfit: Unfit::NotAsked, .. }) => (None, Some("it is not QEMU's".to_owned())),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            defects: version.as_ref().map(|version| known_defects(version, status.arch)).unwrap_or_default(),
            version: version.as_ref().map(ToString::to_string),
            package: version.and_then(|version| version.package),
            mute,
            privilege: status.gains().map(|gained| gained.to_string()),
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
