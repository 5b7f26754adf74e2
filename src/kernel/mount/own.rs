//! The table of a user namespace that was just made: mounted for this mount namespace, and nobody else's.
//!
//! By the calls that make a mount before it has a place (`fsopen(2)`, `fsmount(2)`, `move_mount(2)`): to lay it over the
//! host's automount by `mount(2)` would have the host mount its own first.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::{DEFAULT, MountError, SOURCE, unfit};
use crate::kernel::table::Table;

/// The first Linux that has a table per user namespace.
const SINCE: (u32, u32) = (6, 7);

/// Mounts the table of this process's user namespace, in which it is root, where the kernel expects it, over whatever is
/// there.
///
/// # Errors
/// [`MountError::TooOld`], or the kernel's refusal.
pub fn own() -> Result<Table, MountError> {
    let dir = Path::new(DEFAULT);
    mount_own(dir).map_err(|errno| match errno {
        Errno::ENODEV => MountError::NoSupport(dir.to_owned()),
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS => match release() {
            Some(release) if is_older(&release, SINCE) => MountError::TooOld(release),
            _ => MountError::DeniedInUserNamespace(dir.to_owned()),
        },
        errno => unfit(dir, errno),
    })
}

fn mount_own(dir: &Path) -> Result<Table, Errno> {
    let source = [("source", SOURCE)];
    let mounted = detached("binfmt_misc", &source, MountAttrFlags::empty())?;
    let by_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mounted, "", rustix::fs::CWD, dir, by_descriptor).map_err(refused)?;
    Ok(Table::new(dir, File::from(mounted)))
}

/// A new mount of a file system of this type, which has no place yet. An option without a value is a flag.
///
/// # Errors
/// Those of the calls that make it.
pub(crate) fn detached(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let make = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            match *value {
                "" => fsconfig_set_flag(&context, *key)?,
                value => fsconfig_set_string(&context, *key, value)?,
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(refused)
}

fn refused(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// What this kernel calls itself.
fn release() -> Option<String> {
    let release: io::Result<String> = fs::read_to_string("/proc/sys/kernel/osrelease");
    Some(release.ok()?.trim().to_owned())
}

/// Whether a release, `6.1.0-40-amd64`, is before a version.
fn is_older(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    (major, minor) < version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, older) in [
            ("6.6.30", true),
            ("6.7.0", false),
            ("6.7-rc1", false),
            ("6.12.1+deb13-amd64", false),
            ("5.10.0-30-amd64", true),
            ("10.0", false),
            ("unheard of", false),
        ] {
            assert_eq!(is_older(release, SINCE), older, "{release}");
        }
    }
}
