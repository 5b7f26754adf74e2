//! What the kernel's refusals mean, and what to do about each. See the list of errnos in `create_entry` and
//! `bm_register_write`, `fs/binfmt_misc.c`, and in `open(2)`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use binfmt_magic::rule::RuleError;
use nix::errno::Errno;

use crate::kernel::wording::shown;

/// What was being done to a file of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    Open,
    Write,
    Lock,
}

/// A file of the table could not be read or written.
#[derive(Debug)]
pub struct TableError {
    pub(super) op: Op,
    pub(super) path: PathBuf,
    pub(super) errno: Errno,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (self.op, self.errno) {
            (Op::Lock, Errno::EWOULDBLOCK) => write!(
                f,
                "another call has held the lock on {path} for two minutes; end it, or try again"
            ),
            (Op::Lock, Errno::EINTR) => write!(
                f,
                "told to end while another call held the lock on {path}; try again"
            ),
            (Op::Open, Errno::EACCES | Errno::EPERM) => {
                write!(f, "permission denied opening {path}; {}", denied())
            }
            (Op::Open, Errno::EROFS) => write!(
                f,
                "{path} is on a read-only mount; mount it read-write: mount -o remount,rw {}",
                self.path.parent().unwrap_or(&self.path).display()
            ),
            (Op::Open, Errno::ENOENT) => write!(
                f,
                "{path} does not exist; is binfmt_misc still mounted there?"
            ),
            (op, errno) => {
                let verb = match op {
                    Op::Read => "read",
                    Op::Open => "open",
                    Op::Write => "write",
                    Op::Lock => "lock",
                };
                write!(f, "cannot {verb} {path}: {} ({errno:?})", errno.desc())
            }
        }
    }
}

impl std::error::Error for TableError {}

/// Root is refused by a security module only; anyone else lacks root.
fn denied() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "a security module (SELinux, AppArmor) or a missing capability forbids it: run the container with --privileged"
    } else {
        "run as root, or the container with --privileged"
    }
}

/// An entry could not be registered.
#[derive(Debug)]
pub enum RegisterError {
    /// The rule itself cannot be written as a line that the kernel takes.
    Rule(RuleError),
    /// The kernel said no.
    Refused {
        /// What the kernel refused, and how.
        refused: TableError,
        /// The entry's name.
        name: OsString,
        /// The interpreter that was to be opened.
        interpreter: PathBuf,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (refused, name, interpreter) = match self {
            Self::Rule(error @ RuleError::Length(_)) => {
                return write!(f, "{error}; set QEMU_BINARY_PATH to a shorter path");
            }
            Self::Rule(error) => return error.fmt(f),
            Self::Refused {
                refused,
                name,
                interpreter,
            } => (refused, shown(name), interpreter.display()),
        };
        match (refused.op, refused.errno) {
            (Op::Write, Errno::EEXIST) => write!(
                f,
                "cannot register {name}: an entry of this name is there already; uninstall it"
            ),
            (Op::Write, Errno::ENOENT) => write!(
                f,
                "cannot register {name}: {interpreter} does not exist (ENOENT); put the emulator there"
            ),
            (Op::Write, Errno::EACCES) => write!(
                f,
                "cannot register {name}: {interpreter} may not be executed (EACCES); check its mode, and whether its \
                 file system is mounted noexec"
            ),
            (Op::Write, Errno::ETXTBSY) => write!(
                f,
                "cannot register {name}: {interpreter} is being written (ETXTBSY); try again once its writer is done"
            ),
            (Op::Write, Errno::ELOOP) => write!(
                f,
                "cannot register {name}: {interpreter} is a circle of symbolic links (ELOOP); name the file itself"
            ),
            (Op::Write, Errno::ENAMETOOLONG) => write!(
                f,
                "cannot register {name}: a name is too long (ENAMETOOLONG); shorten QEMU_BINARY_PREFIX or QEMU_BINARY_PATH"
            ),
            (Op::Write, Errno::ENOMEM) => write!(
                f,
                "cannot register {name}: the kernel is out of memory (ENOMEM); try again"
            ),
            (Op::Write, Errno::EINVAL) => write!(f, "cannot register {name}: {}", rejected()),
            _ => write!(f, "cannot register {name}: {refused}"),
        }
    }
}

impl std::error::Error for RegisterError {}

/// The encoder keeps to the syntax, so a rejection is about what this kernel does not know; flag F came with 4.8.
fn rejected() -> String {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = (
        numbers.next().and_then(Result::ok),
        numbers.next().and_then(Result::ok),
    );
    if version < (Some(4), Some(8)) {
        format!(
            "kernel {release} has no flag F (needs 4.8 or newer): programs in containers would not find the emulator"
        )
    } else {
        format!("kernel {release} rejects the line (EINVAL)")
    }
}
