//! What the kernel's refusals mean, and what to do about each. See the errnos of `create_entry` and `bm_register_write`
//! in `fs/binfmt_misc.c`, and of `open(2)`.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use binfmt_magic::rule::Rule;
use nix::errno::Errno;

use super::{LIMIT, LOCK_PATIENCE};
use crate::kernel::namespace;
use crate::kernel::process::{release_before, sysctl};
use crate::kernel::wording::{cause, quoted, shown};

/// A file of the table could not be read, opened, written or locked.
#[derive(Debug)]
pub struct TableError {
    /// `read`, `open`, `write`, `remove` or `lock`.
    pub(super) verb: &'static str,
    pub(super) path: PathBuf,
    pub(super) errno: Errno,
}

impl TableError {
    /// What was refused.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// How it was refused.
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (self.verb, self.errno) {
            ("lock", Errno::EWOULDBLOCK) => {
                let seconds = LOCK_PATIENCE.as_secs();
                write!(f, "another call has held the lock on {path} for {seconds} s; end it, or try again")
            }
            ("lock", Errno::EINTR) => write!(f, "told to end while another call held the lock on {path}; try again"),
            ("open", Errno::EACCES | Errno::EPERM) => {
                let is_of_others = self.path.metadata().is_ok_and(|file| namespace::is_outsider(file.uid()));
                let remedy = if is_of_others {
                    "it belongs to another user namespace: run as root there"
                } else if nix::unistd::geteuid().is_root() {
                    // only a security module or a missing capability refuses root
                    "a security module (SELinux, AppArmor) or a missing capability forbids it: run the container with \
                     --privileged"
                } else {
                    "run as root, or the container with --privileged"
                };
                write!(f, "permission denied opening {path}; {remedy}")
            }
            ("open", Errno::EROFS) => write!(
                f,
                "{path} is on a read-only mount; mount it read-write: mount -o remount,rw {}",
                quoted(self.path.parent().unwrap_or(&self.path))
            ),
            ("open", Errno::ENOENT) => write!(f, "{path} does not exist; is binfmt_misc still mounted there?"),
            ("remove", Errno::ETIMEDOUT) => {
                write!(f, "the kernel does not remove {path}; see whether the file server of its emulator runs")
            }
            (verb, errno) => write!(f, "cannot {verb} {path}: {}", cause(&errno.into())),
        }
    }
}

impl std::error::Error for TableError {}

/// Why the kernel did not register `rule`, and what to do.
pub(super) fn not_registered(rule: &Rule, refused: &TableError) -> String {
    let interpreter = rule.interpreter.display();
    let why = match refused.errno {
        _ if refused.verb != "write" => refused.to_string(),
        Errno::EEXIST => "an entry of this name is there already; uninstall it".to_owned(),
        Errno::ENOENT => format!("{interpreter} does not exist (ENOENT); put the emulator there"),
        Errno::EACCES => format!(
            "{interpreter} may not be executed (EACCES); check its mode, and whether its file system is mounted noexec"
        ),
        Errno::ETXTBSY => {
            format!("{interpreter} is being written (ETXTBSY); try again once its writer is done")
        }
        Errno::ELOOP => {
            format!("{interpreter} is a circle of symbolic links (ELOOP); name the file itself")
        }
        Errno::ENAMETOOLONG => {
            "a name is too long (ENAMETOOLONG); shorten QEMU_BINARY_PREFIX or QEMU_BINARY_PATH".to_owned()
        }
        Errno::ENOSPC => too_many_open(),
        Errno::ENOMEM => "the kernel is out of memory (ENOMEM); try again".to_owned(),
        // our lines keep to the syntax, so the kernel rejects something that it does not know: flag F came with 4.8
        Errno::EINVAL => match release_before((4, 8)) {
            Some(release) => format!(
                "kernel {release} has no flag F (needs 4.8 or newer): programs in containers would not find the emulator"
            ),
            None => "the kernel rejects the line (EINVAL)".to_owned(),
        },
        _ => refused.to_string(),
    };
    format!("cannot register {}: {why}", shown(&rule.name))
}

/// As much as an install of every architecture opens at the most, old and new emulators together, and some more.
const ROOM: u64 = 100;

/// What to do where the kernel keeps no further interpreter open.
fn too_many_open() -> String {
    let limit = sysctl(LIMIT).and_then(|limit| limit.parse::<u64>().ok());
    let Some(limit) = limit else {
        return format!("the kernel keeps no further interpreter open (ENOSPC); raise {LIMIT}");
    };
    let more = limit.saturating_add(ROOM).min(i32::MAX.unsigned_abs().into());
    let raise = format!("sysctl -w {LIMIT}={more}");
    match (namespace::in_user_namespace(), more == limit) {
        (false, _) => {
            format!("the kernel keeps interpreters open for {limit} entries at the most (ENOSPC); raise that: {raise}")
        }
        (true, true) => format!(
            "the kernel keeps no further interpreter open (ENOSPC), and the limit of this user namespace is the largest one; \
             raise {LIMIT} on the host"
        ),
        (true, false) => format!(
            "the kernel keeps no further interpreter open (ENOSPC): {limit} is the limit in this user namespace, and those \
             above it have their own; raise it here: {raise}; if that does not help, also on the host"
        ),
    }
}
