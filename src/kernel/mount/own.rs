//! The table of a user namespace that was just made: mounted for this mount namespace alone.
//!
//! The mount is made before it has a place (`fsopen(2)`, `fsmount(2)`, `move_mount(2)`). `mount(2)` over the host's
//! automount would make the host mount its own table first.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use super::{DEFAULT, MountError, MountErrorKind, SOURCE, denied_in_user_namespace, unfit};
use crate::kernel::process::release_before;
use crate::kernel::table::Table;

/// The first Linux that has a table per user namespace.
const SINCE: (u32, u32) = (6, 7);

/// Mounts the table of this process's user namespace, in which it is root, at [`DEFAULT`], over whatever is mounted
/// there. Fails when the kernel is older than 6.7, or refuses.
pub fn own() -> Result<Table, MountError> {
    let dir = Path::new(DEFAULT);
    let source = [("source", SOURCE)];
    let mounted = detached("binfmt_misc", &source, MountAttrFlags::empty()).and_then(|mounted| {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mounted, "", rustix::fs::CWD, dir, flags).map_err(errno)?;
        Ok(Table::new(dir, File::from(mounted)))
    });
    mounted.map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS => match release_before(SINCE) {
            Some(release) => MountError::new(
                MountErrorKind::Other,
                format!(
                    "Linux {release} has no binfmt_misc per user namespace (needs 6.7); ask root to install the handlers for \
                     everybody: binfmt --install LIST"
                ),
            ),
            None => denied_in_user_namespace(dir),
        },
        errno => unfit(dir, errno),
    })
}

/// A new mount of a file system of type `kind`, not attached anywhere. An option without a value is a flag.
pub fn detached(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
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
    make().map_err(errno)
}

pub fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
