//! What is wrong with an emulator's file, and the sentence for it: what, at which path, what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::trust::Stranger;
use crate::kernel::wording::{cause, errno_of};

/// Why a file cannot serve as an interpreter.
#[derive(Debug)]
pub enum Unfit {
    /// No such file; where to get it.
    Missing(String),
    /// This program carries emulators, and not this one.
    NotCarried,
    /// A directory, a device, ….
    NotAFile,
    /// No execute permission bit.
    NotExecutable,
    /// A file of no bytes.
    Empty,
    /// No ELF file.
    NotElf,
    /// Its segments lie beyond its end.
    Truncated,
    /// It needs a dynamic loader, which no container has at the path that it asks for.
    Dynamic,
    /// An ELF file of another architecture than this host's, with that one's name.
    Foreign(&'static str),
    /// Somebody else can put another file in its place.
    Replaceable(Stranger),
    /// It may not be started, and its bytes do not tell which QEMU it is.
    NotAsked,
    /// It was killed from outside.
    Killed,
    /// It does not even print its version, in all the time that it is given.
    Hangs,
    /// The operating system does not let it be read or started.
    Refused(io::Error),
    /// It does not start, which may be for want of something; what it did instead, and what helps.
    Starved(String, String),
    /// It does not start, or is no QEMU; what it did instead.
    Broken(String),
}

/// An [`Unfit`] file, with its path.
#[derive(Debug)]
pub struct EmulatorError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub unfit: Unfit,
}

impl fmt::Display for EmulatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.unfit {
            Unfit::Missing(remedy) => write!(f, "{path} does not exist; {remedy}"),
            Unfit::NotCarried => write!(
                f,
                "{path} is not carried by this binfmt; set QEMU_BINARY_PATH to a directory that has it"
            ),
            Unfit::NotAFile => write!(
                f,
                "{path} is not a file; set QEMU_BINARY_PATH to the directory of the emulators"
            ),
            Unfit::NotExecutable => write!(f, "{path} is not executable; chmod +x it"),
            Unfit::Empty => write!(f, "{path} is empty; fetch it again"),
            Unfit::NotElf => write!(f, "{path} is not an ELF program; an emulator must be one"),
            Unfit::Truncated => write!(f, "{path} is truncated; fetch it again"),
            Unfit::Dynamic => write!(
                f,
                "{path} is dynamically linked, so it would not start inside a container; use a static build"
            ),
            Unfit::Foreign(other) => write!(
                f,
                "{path} is a program for {other}, not for this host; use this host's build"
            ),
            Unfit::Replaceable(stranger) => write!(f, "{path} can be replaced by {stranger}"),
            Unfit::NotAsked => write!(f, "{path} is not known to be QEMU"),
            Unfit::Refused(error) => match errno_of(error) {
                Errno::ELOOP => write!(
                    f,
                    "{path} is a circle of symbolic links (ELOOP); put the file itself there"
                ),
                Errno::ESTALE => write!(
                    f,
                    "{path} was replaced while it was looked at (ESTALE); run it again"
                ),
                Errno::ETXTBSY => write!(
                    f,
                    "{path} is being written (ETXTBSY); try again once its writer is done"
                ),
                Errno::EACCES => write!(
                    f,
                    "{path} may not be read or executed (EACCES); check its mode, and whether its file system is \
                     mounted noexec"
                ),
                _ => write!(f, "cannot use {path}: {}", cause(error)),
            },
            Unfit::Killed => write!(
                f,
                "{path} was killed (SIGKILL) when it was started; look for a limit of memory (docker run --memory) or \
                 processor time (ulimit -t)"
            ),
            Unfit::Hangs => write!(
                f,
                "{path} is no working emulator: --version does not end; fetch it again"
            ),
            Unfit::Starved(what, remedy) => {
                write!(f, "{path} does not start: {what}; {remedy}")
            }
            Unfit::Broken(what) => {
                write!(f, "{path} is no working emulator: {what}; fetch it again")
            }
        }
    }
}

impl std::error::Error for EmulatorError {}
