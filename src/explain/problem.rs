//! What keeps a file from running: the sentence that says so, the errno that its caller meets, and the remedy.
//!
//! Finding it is [`crate::explain`]'s. Rests on `execve(2)`; which errno belongs to what was tried on Linux 6.18.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;
use nix::errno::Errno;

use super::elf::{Doomed, LoadedBy, Malformed};
use super::format::Format;
use super::place::Unopened;
use super::shebang::Unusable;
use super::unmatched::Unmatched;
use crate::kernel::wording::shown;
use crate::policy::survey::Failure;

mod remedy;

/// Why a file is looked at.
#[derive(Debug, Clone)]
pub enum Role {
    /// It is the one that was asked for.
    Program,
    /// The `#!` line of this file asks for it; the same file as this process reaches it.
    Interpreter(PathBuf, PathBuf),
    /// It is the interpreter of this entry, whose file in the table is this.
    Handler(OsString, PathBuf),
}

/// Which file a problem is with.
#[derive(Debug, Clone)]
pub enum Culprit {
    /// One that the kernel comes to.
    Visited(Role),
    /// The loader that a program of this architecture asks for, which the kernel or an emulator loads; and which program that is,
    /// if not the one that was asked for.
    Loader(&'static Arch, LoadedBy, Option<(PathBuf, Role)>),
}

/// What is wrong with a file.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It cannot be opened as the kernel would.
    Unopened(Unopened),
    /// The kernel has gone from interpreter to interpreter often enough, since this file; the next would be that of this
    /// entry, if it is an entry's.
    TooDeep(PathBuf, Option<OsString>),
    /// Its `#!` line cannot be used.
    Shebang(Unusable),
    /// Its `#!` line has `env` look for a name that ends in a carriage return.
    EnvReturn,
    /// It is something else.
    Format(&'static Format),
    /// It is an ELF file, but no program: which kind, and of which architecture.
    NotAProgram(&'static str, Option<&'static Arch>),
    /// It is a program of a machine that QEMU's user emulation does not know: its name.
    Machine(String),
    /// It is a program of this architecture, and those do not run.
    Foreign(&'static Arch, Failure),
    /// It is a program of this architecture, but by its header not one that this entry takes, or, where there is none, that of
    /// an install; and what differs.
    NotTaken(&'static Arch, Option<OsString>, Unmatched),
    /// It is a program of x32, and this kernel runs none.
    X32,
    /// This entry takes it, and no probe can show whether it works.
    Unproven(OsString),
    /// An entry that would take it is off: its name, the file that switches it on, and whether that is the whole table's.
    Disabled(OsString, PathBuf, bool),
    /// Its headers are refused.
    Malformed(Malformed, LoadedBy),
    /// It is started, and ends at once.
    Doomed(Doomed, LoadedBy),
    /// It is to be a loader, and is none: what it is instead, and the errno.
    NoLoader(String, Errno),
    /// It states to need a higher micro-architecture level than there is.
    Level(&'static Arch, u8, u8),
}

/// A fault, where it was found.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The file, as its root directory knows it.
    pub path: PathBuf,
    /// The file, as this process would reach it.
    pub outside: PathBuf,
    /// Which it is.
    pub culprit: Culprit,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Problem {
    /// Whether nobody can tell from here if the file runs.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(
            self.fault,
            Fault::Unopened(Unopened::Unreadable) | Fault::Unproven(_)
        )
    }

    /// What `execve(2)` fails with. `None`: it does not fail, and the program ends all the same; or nobody knows.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        if matches!(self.culprit, Culprit::Loader(_, LoadedBy::Emulator, _)) {
            return None;
        }
        match &self.fault {
            Fault::Unopened(unopened) => unopened.errno(),
            Fault::TooDeep(..) => Some(Errno::ELOOP),
            Fault::Shebang(unusable) => Some(unusable.errno()),
            Fault::Malformed(malformed, LoadedBy::Kernel) => Some(malformed.errno()),
            Fault::NoLoader(_, errno) => Some(*errno),
            Fault::Foreign(_, failure) => errno_of(failure),
            Fault::Malformed(_, LoadedBy::Emulator)
            | Fault::Doomed(..)
            | Fault::Level(..)
            | Fault::Unproven(_)
            | Fault::EnvReturn => None,
            _ => Some(Errno::ENOEXEC),
        }
    }

    /// Whether it is for the emulator to say, in whose hands the program is by then.
    fn is_emulators(&self) -> bool {
        matches!(self.culprit, Culprit::Loader(_, LoadedBy::Emulator, _))
            || matches!(
                self.fault,
                Fault::Malformed(_, LoadedBy::Emulator) | Fault::Doomed(_, LoadedBy::Emulator)
            )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(self.path.as_os_str());
        match &self.culprit {
            Culprit::Loader(_, _, None) => write!(f, "its loader {path} ")?,
            Culprit::Loader(_, _, Some((asker, role))) => {
                let asker = shown(asker.as_os_str());
                match role {
                    Role::Handler(entry, _) => {
                        write!(f, "its handler {} starts {asker}", shown(entry))?;
                    }
                    _ => write!(f, "its interpreter is {asker}")?,
                }
                write!(f, ", whose loader {path} ")?;
            }
            Culprit::Visited(Role::Program) => f.write_str("it ")?,
            Culprit::Visited(Role::Interpreter(..)) if ends_in_return(&self.path) => {
                write!(
                    f,
                    "its #! line ends in a carriage return, so its interpreter is {path}, which "
                )?;
            }
            Culprit::Visited(Role::Interpreter(..)) => {
                write!(f, "its interpreter {path} ")?;
            }
            Culprit::Visited(Role::Handler(entry, _)) => {
                write!(f, "its handler {} starts {path}, which ", shown(entry))?;
            }
        }
        self.fault.fmt(f)?;
        match (self.errno(), &self.fault) {
            (_, Fault::Foreign(_, Failure::Refused(_))) => Ok(()),
            (Some(errno), _) => write!(f, " ({errno:?}: {})", errno.desc().to_ascii_lowercase()),
            (None, Fault::Doomed(_, LoadedBy::Kernel)) => {
                f.write_str("; it is started, and a signal ends it at once")
            }
            (None, _) if self.is_emulators() => {
                f.write_str("; its emulator starts, and ends at once")
            }
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened(unopened) => unopened.fmt(f),
            Self::TooDeep(_, None) => {
                f.write_str("is the sixth interpreter in a row, and the kernel follows five")
            }
            Self::TooDeep(_, Some(entry)) => write!(
                f,
                "needs one interpreter too many: the kernel follows five, and its handler {} would be the sixth",
                shown(entry)
            ),
            Self::Shebang(unusable) => write!(f, "is a script, but {unusable}"),
            Self::EnvReturn => f.write_str(
                "is a script whose #! line ends in a carriage return, which env takes for a part of the program's name",
            ),
            Self::Format(format) => write!(f, "is {}", format.name),
            Self::NotAProgram(kind, _) => write!(f, "is an ELF file, but not a program: {kind}"),
            Self::Machine(name) => {
                write!(f, "is a program for {name}, and QEMU has no user emulator for those")
            }
            Self::X32 => f.write_str(
                "is an x32 program (amd64 with 32-bit pointers), and this kernel does not start x32 programs",
            ),
            Self::Foreign(arch, Failure::NoHandler) => {
                write!(
                    f,
                    "is a program for linux/{}, and no handler for those is registered here",
                    arch.oci
                )
            }
            Self::Foreign(arch, failure) => {
                write!(
                    f,
                    "is a program for linux/{}, and those do not run here: {failure}",
                    arch.oci
                )
            }
            Self::NotTaken(arch, entry, unmatched) => {
                write!(f, "is a program for linux/{}, but ", arch.oci)?;
                match entry {
                    Some(entry) => write!(f, "its handler {} does not take it", shown(entry))?,
                    None => f.write_str("no handler for those takes it")?,
                }
                write!(f, ": {unmatched}")
            }
            Self::Unproven(entry) => write!(
                f,
                "is taken by {}, and whether that handler works in this root directory was not tried",
                shown(entry)
            ),
            Self::Disabled(entry, _, _) => {
                write!(f, "matches {}, which is switched off", shown(entry))
            }
            Self::Malformed(malformed, _) => malformed.fmt(f),
            Self::Doomed(doomed, _) => doomed.fmt(f),
            Self::NoLoader(what, _) => f.write_str(what),
            Self::Level(arch, needs, has) => write!(
                f,
                "says that it needs level v{needs} of linux/{}, and only level v{has} runs here",
                arch.oci
            ),
        }
    }
}

/// What the kernel says to the caller while programs of an architecture fail so.
fn errno_of(failure: &Failure) -> Option<Errno> {
    match failure {
        Failure::NoHandler | Failure::SwitchedOff { .. } => Some(Errno::ENOEXEC),
        Failure::NotPinned | Failure::NoLoader => Some(Errno::ENOENT),
        Failure::Refused(errno) => Some(*errno),
        _ => None,
    }
}

fn ends_in_return(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"\r")
}
