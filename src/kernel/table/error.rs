//! What the kernel's refusals mean, and what to do about each. See the errnos of `create_entry` and `bm_register_write`
//! in `fs/binfmt_misc.c`, and of `open(2)`.

use std::fmt;
use std::path::PathBuf;

use binfmt_magic::rule::Rule;
use nix::errno::Errno;

use crate::kernel::process::release_before;
use crate::kernel::wording::{cause, shown};

/// A file of the table could not be read, opened, written or locked.
#[derive(Debug)]
pub struct TableError {
    /// `read`, `open`, `write` or `lock`.
    pub(super) verb: &'static str,
    pub(super) path: PathBuf,
    pub(super) errno: Errno,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (self.verb, self.errno) {
            ("lock", Errno::EWOULDBLOCK) => {
                write!(f, "another call has held the lock on {path} for two minutes; end it, or try again")
            }
            ("lock", Errno::EINTR) => write!(f, "told to end while another call held the lock on {path}; try again"),
            ("open", Errno::EACCES | Errno::EPERM) => {
                // only a security module or a missing capability refuses root
                let remedy = if nix::unistd::geteuid().is_root() {
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
                self.path.parent().unwrap_or(&self.path).display()
            ),
            ("open", Errno::ENOENT) => write!(f, "{path} does not exist; is binfmt_misc still mounted there?"),
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
