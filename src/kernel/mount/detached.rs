//! A table that is held open: as long as it is, the kernel keeps the superblock, and with it the handlers, whatever
//! becomes of the mount that it was found at.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{MountPoint, existing};
use crate::kernel::table::Table;

/// The table at `at`, if one is mounted there, to be held.
///
/// It is held by a copy of its mount that is mounted nowhere (`open_tree(2)`, Linux 5.2), so that no `umount`
/// fails on its account. Where the kernel or a filter refuses that, by the mount itself, which then is busy.
///
/// # Errors
/// When the mount point is unfit.
pub fn for_holding(at: &MountPoint) -> Result<Option<Table>> {
    let Some(table) = existing(&at.dir)? else {
        return Ok(None);
    };
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(Some(match open_tree(&table, "", copy) {
        Ok(detached) => Table::new(&at.dir, File::from(detached)),
        Err(_) => table,
    }))
}

/// Whether `table` is what is mounted at `at`. Looking lets an automount happen.
#[must_use]
pub fn is_at(table: &Table, at: &MountPoint) -> bool {
    let device = |table: &Table| table.metadata(".").map(|m| m.dev()).ok();
    let found = existing(&at.dir).ok().flatten();
    found.is_some_and(|found| device(&found).is_some() && device(&found) == device(table))
}
