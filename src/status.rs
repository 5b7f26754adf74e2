//! The health of every platform: does it run, and which emulator is it that runs it?
//!
//! Adds to a [`Survey`] what the files behind the handlers are. The very file that the kernel has pinned shows its version; one
//! that does not, and whose entry says that it is QEMU's, is asked by starting it, all at the same time.

use std::fs::File;
use std::thread;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use crate::emulator::{Asked, EmulatorError, Version};
use crate::identity::{self, Identity};
use crate::runner::Ran;
use crate::survey::{Standing, Survey, qemu_in, takes};
use crate::wording::cause;

/// One platform, looked at closely.
#[derive(Debug)]
pub struct Examined<'a> {
    /// How it stands.
    pub standing: &'a Standing,
    /// What its programs run through, if it is not the kernel itself; or why that is not to be seen.
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
#[must_use]
pub fn examine<'a>(
    survey: &'a Survey,
    arches: Option<&[&Arch]>,
    digest: bool,
) -> Vec<Examined<'a>> {
    let asked = |standing: &&Standing| match arches {
        Some(arches) => arches.iter().any(|arch| arch.qemu == standing.arch.qemu),
        None => {
            standing.is_known() && !(standing.is_native() && standing.arch.platforms().is_empty())
        }
    };
    let standings: Vec<&Standing> = survey.standings.iter().filter(asked).collect();
    let emulators = examine_all(&standings, digest);
    let examined = standings.into_iter().zip(emulators);
    let examined = examined.map(|(standing, emulator)| Examined {
        standing,
        emulator,
        shadowed: shadowed(survey, standing),
    });
    examined.collect()
}

fn shadowed<'a>(survey: &'a Survey, standing: &Standing) -> Vec<&'a Entry> {
    let Some(handler) = &standing.handler else {
        return Vec::new();
    };
    let entries = survey.entries.iter();
    let older = entries
        .skip_while(|entry| entry.name != handler.name)
        .skip(1);
    older
        .filter(|entry| entry.enabled && takes(entry, standing.arch))
        .collect()
}

/// An emulator that may have been asked for its version and not have answered yet.
struct Asking<'a> {
    file: &'a File,
    identity: Identity,
    version: Telling,
}

/// How an emulator tells its version.
enum Telling {
    /// By its bytes.
    Shown(Version),
    /// It says so, once it is started.
    Asked(Result<Asked, EmulatorError>),
    NotQemu,
}

fn examine_all(standings: &[&Standing], digest: bool) -> Vec<Option<Result<Emulator, String>>> {
    let asking: Vec<_> = standings
        .iter()
        .map(|standing| match &standing.ran {
            Ran::Itself => None,
            Ran::Unseen(why) => Some(Err(why.clone())),
            Ran::Interpreter(file) => Some(Asking::ask(standing.handler.as_ref(), file)),
        })
        .collect();
    // made while they start
    let digests = thread::scope(|scope| {
        let threads = asking.iter().map(|asking| {
            let file = asking.as_ref()?.as_ref().ok().filter(|_| digest)?.file;
            let work = move || identity::sha256(file).ok();
            // where there may be no more threads, it is done here
            let thread = thread::Builder::new().spawn_scoped(scope, work);
            Some(thread.map_err(|_| work()))
        });
        let threads: Vec<_> = threads.collect();
        let digest = |digest: Option<Result<thread::ScopedJoinHandle<'_, _>, _>>| match digest? {
            Ok(thread) => thread.join().ok()?,
            Err(done) => done,
        };
        threads.into_iter().map(digest).collect::<Vec<_>>()
    });
    let asked = asking.into_iter().zip(digests);
    asked
        .map(|(asking, sha256)| asking.map(|asking| asking.map(|asking| asking.answer(sha256))))
        .collect()
}

impl<'a> Asking<'a> {
    fn ask(handler: Option<&Entry>, file: &'a File) -> Result<Self, String> {
        let mut identity = Identity::of(file).map_err(|error| cause(&error))?;
        if let Some(registered) = handler.and_then(|entry| entry.interpreter.as_ref()) {
            identity = identity.registered_as(registered);
        }
        let version = match qemu_in(file) {
            Some(qemu) => Telling::Shown(qemu.version),
            // what runs programs of other systems need not take it for a question
            None if handler.is_some_and(Entry::is_qemu) => {
                Telling::Asked(Asked::version(&identity.path, file))
            }
            None => Telling::NotQemu,
        };
        Ok(Self {
            file,
            identity,
            version,
        })
    }

    fn answer(self, sha256: Option<String>) -> Emulator {
        Emulator {
            identity: self.identity,
            version: match self.version {
                Telling::Shown(version) => Some(Ok(version)),
                Telling::Asked(asked) => Some(asked.and_then(Asked::answer)),
                Telling::NotQemu => None,
            },
            sha256,
        }
    }
}
