//! Why the kernel refuses a user namespace, or the first mounts in it, and what to do: the settings of the kernel tell.

use std::fmt;

use nix::errno::Errno;

use crate::kernel::process::{self, sysctl};

/// The limits of namespaces. 0 forbids them.
const LIMITS: [&str; 2] = ["user.max_user_namespaces", "user.max_mnt_namespaces"];
/// Debian's own setting, and `AppArmor`'s, which forbid them to users without privilege. Other kernels have neither.
const DEBIANS: &str = "kernel.unprivileged_userns_clone";
const APPARMORS: &str = "kernel.apparmor_restrict_unprivileged_userns";

/// A refusal. `AppArmor` lets a program enter a user namespace and then refuses what it does there, so this is also for
/// the first mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub Errno);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(errno) = self;
        match errno {
            Errno::ENOSPC | Errno::EUSERS => {
                if let Some(limit) = LIMITS.iter().find(|limit| is(limit, "0")) {
                    return write!(f, "{limit} is 0; as root: sysctl {limit}=10000 (in a container: of the host)");
                }
                f.write_str("there are too many, or too many in one another")?;
                LIMITS.iter().try_for_each(|limit| {
                    let value = sysctl(limit);
                    let value = value.as_deref().unwrap_or("not to be seen");
                    write!(f, "; {limit} is {value}")
                })
            }
            Errno::EPERM | Errno::EACCES if is(DEBIANS, "0") => {
                write!(f, "{DEBIANS} is 0; as root: sysctl {DEBIANS}=1")
            }
            // the kernel does not tell which of the two it is
            Errno::EPERM | Errno::EACCES if is(APPARMORS, "1") && process::is_filtered() => write!(
                f,
                "AppArmor or a filter of system calls forbids it ({errno:?}); run a container with --security-opt \
                 seccomp=unconfined --security-opt apparmor=unconfined; outside of containers, as root: sysctl {APPARMORS}=0"
            ),
            Errno::EPERM | Errno::EACCES if is(APPARMORS, "1") => write!(
                f,
                "AppArmor forbids it ({APPARMORS} is 1); as root: sysctl {APPARMORS}=0, or an AppArmor profile for binfmt \
                 with the rule userns"
            ),
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS if process::is_filtered() => write!(
                f,
                "a filter of system calls forbids it ({errno:?}), as containers have one; run the container with \
                 --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
            ),
            Errno::EPERM | Errno::EACCES => write!(
                f,
                "{} ({errno:?}); in a chroot there is none, and a security module may forbid it",
                errno.desc()
            ),
            Errno::EINVAL | Errno::ENOSYS => {
                write!(f, "this kernel has none ({errno:?}; kernel option CONFIG_USER_NS)")
            }
            errno => write!(f, "{} ({errno:?})", errno.desc()),
        }
    }
}

impl std::error::Error for Refused {}

fn is(name: &str, value: &str) -> bool {
    sysctl(name).as_deref() == Some(value)
}
