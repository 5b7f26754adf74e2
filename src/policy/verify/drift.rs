//! The kinds of drift, each with a word for machines and a sentence for people.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use binfmt_magic::rule::{Flags, Matcher};

use crate::emulator::{EmulatorError, Version};
use crate::kernel::wording::shown;
use crate::policy::survey::Failure;

/// How something differs from what an install would make now.
#[derive(Debug)]
pub enum Drift {
    /// `status` of the table is 0, so no entry has any effect.
    TableOff,
    /// Nothing is seen that holds the table beyond this container or mount namespace.
    MayEnd,
    /// There is no entry, and the user asked for one.
    Missing,
    /// The entry is switched off.
    SwitchedOff,
    /// Programs do not run.
    Broken(Failure),
    /// An install gives it another name. Second: the platform whose name it has, if any.
    Name(OsString, Option<&'static str>),
    /// Its magic is not the architecture's.
    Magic(Option<Matcher>),
    /// Its magic is right, and its mask is not.
    Mask,
    /// Flags that it lacks, and flags that an install does not set.
    Flags(Flags, Flags),
    /// Flags that this program does not know.
    UnknownFlags(String),
    /// An install uses the interpreter at this path.
    Path(PathBuf),
    /// The pinned file has other bytes than the one that an install would pin: the version of each, if known.
    Emulator(Option<Version>, Option<Version>),
    /// This process cannot see which emulator the kernel has pinned; why.
    Unseen(String),
    /// There is no emulator to install, or it is unfit.
    Unfit(EmulatorError),
    /// The emulator to install, at this path, does not run programs; why.
    Unready(PathBuf, String),
    /// The kernel would run these programs natively, and the entry takes them.
    TakesNative,
    /// It has no effect: this newer entry takes all its programs.
    Shadowed(OsString),
    /// It has no effect: this entry, which is not QEMU's, takes all its programs and runs them.
    Preceded(OsString),
    /// It takes programs of no architecture that QEMU runs.
    Idle,
    /// It takes programs of several architectures.
    Broad,
    /// A killed call has left it.
    Leftover,
    /// Another entry has the name that an install would give.
    NameTaken(String),
}

impl Drift {
    /// Its kind, as the JSON names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TableOff => "table_off",
            Self::MayEnd => "may_end",
            Self::Missing => "missing",
            Self::SwitchedOff => "switched_off",
            Self::Broken(_) => "broken",
            Self::Name(..) => "name",
            Self::Magic(_) => "magic",
            Self::Mask => "mask",
            Self::Flags(..) | Self::UnknownFlags(_) => "flags",
            Self::Path(_) => "path",
            Self::Emulator(..) => "emulator",
            Self::Unseen(_) => "unseen",
            Self::Unfit(_) | Self::Unready(..) => "unfit",
            Self::TakesNative => "takes_native",
            Self::Shadowed(_) => "shadowed",
            Self::Preceded(_) => "preceded",
            Self::Idle => "idle",
            Self::Broad => "broad",
            Self::Leftover => "leftover",
            Self::NameTaken(_) => "name_taken",
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableOff => f.write_str("binfmt_misc is switched off, no entry has any effect"),
            Self::MayEnd => f.write_str(
                "nothing is seen to hold the table beyond this container or mount namespace, and there is no anchor",
            ),
            Self::Missing => f.write_str("not installed"),
            Self::SwitchedOff => f.write_str("switched off"),
            Self::Broken(failure) => failure.fmt(f),
            Self::Name(wanted, None) => write!(f, "an install names it {}", shown(wanted)),
            Self::Name(wanted, Some(other)) => {
                write!(f, "has the name of {other}; an install names it {}", shown(wanted))
            }
            Self::Magic(matcher) => {
                f.write_str("the magic is not this architecture's")?;
                match matcher {
                    Some(Matcher::Magic { offset: 0, magic, .. }) => {
                        f.write_str(": ")?;
                        magic.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
                    }
                    _ => Ok(()),
                }
            }
            Self::Mask => f.write_str("the mask is not this architecture's"),
            Self::Flags(missing, surplus) => write_flags(f, *missing, *surplus),
            Self::UnknownFlags(letters) => write!(f, "flags that no install sets: {letters}"),
            Self::Path(wanted) => {
                write!(f, "an install uses the emulator {}", wanted.display())
            }
            Self::Emulator(pinned, wanted) => write_emulators(f, pinned.as_ref(), wanted.as_ref()),
            Self::Unseen(why) => write!(f, "which emulator is pinned cannot be seen: {why}"),
            Self::Unfit(error) => error.fmt(f),
            Self::Unready(path, why) => {
                let path = path.display();
                write!(f, "{path}, which an install would pin, does not run programs: {why}")
            }
            Self::TakesNative => f.write_str("the kernel runs these programs natively"),
            Self::Shadowed(by) => {
                write!(f, "has no effect: {} is newer and takes its programs", shown(by))
            }
            Self::Preceded(by) => {
                let by = shown(by);
                write!(f, "has no effect: {by} is not QEMU's and runs its programs; to take over from it: --force")
            }
            Self::Idle => f.write_str("takes programs of no architecture that QEMU runs"),
            Self::Broad => f.write_str("takes programs of several architectures"),
            Self::Leftover => f.write_str("left by an install that was killed"),
            Self::NameTaken(why) => f.write_str(why),
        }
    }
}

fn write_flags(f: &mut fmt::Formatter<'_>, missing: Flags, surplus: Flags) -> fmt::Result {
    let mut notes = Vec::new();
    if missing != Flags::default() {
        notes.push(format!("without flag {missing}"));
    }
    if surplus != Flags::default() {
        notes.push(format!("with flag {surplus}, which an install leaves out"));
    }
    if missing.fix_binary {
        notes.push("containers do not find its interpreter".to_owned());
    }
    if missing.credentials {
        notes.push("setuid programs do not get their privilege".to_owned());
    }
    if surplus.credentials {
        notes.push("setuid programs get their privilege".to_owned());
    }
    if missing.preserve_argv0 {
        notes.push("programs do not see their own argv[0]".to_owned());
    }
    f.write_str(&notes.join("; "))
}

fn write_emulators(f: &mut fmt::Formatter<'_>, pinned: Option<&Version>, wanted: Option<&Version>) -> fmt::Result {
    let name = |version: Option<&Version>, full: bool| match version {
        Some(Version { number, package: Some(package) }) if full => format!("{number} ({package})"),
        Some(version) => version.to_string(),
        None => "of unknown version".to_owned(),
    };
    let full = pinned.map(|v| &v.number) == wanted.map(|v| &v.number);
    let (pinned, wanted) = (name(pinned, full), name(wanted, full));
    if pinned == wanted {
        return write!(f, "pinned: another build of QEMU {pinned} than the one that an install would pin");
    }
    write!(f, "pinned: QEMU {pinned}; an install would pin QEMU {wanted}")
}
