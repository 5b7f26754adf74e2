//! The table of handlers that a bench works with: one of its own, or the machine's.
//!
//! Its own is in user and mount namespaces with a private `binfmt_misc` (Linux 6.7).
//! One namespace serves the whole run. Emptying its table is the same for a tool as starting in a new namespace, and
//! takes the cost of making one out of the measurement.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use binfmt_magic::rule::Rule;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

const TABLE: &str = "/proc/sys/fs/binfmt_misc";

/// Moves this process, and what it starts, to namespaces of its own, with an empty table.
///
/// # Errors
/// The system grants users no namespaces, or the kernel has no private `binfmt_misc`.
pub(crate) fn enter() -> Result<()> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).context("this system grants no user namespaces")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    mount_here().context("this kernel has no private binfmt_misc; Linux 6.7 and newer have")
}

fn mount_here() -> nix::Result<()> {
    let kind = Some("binfmt_misc");
    mount(kind, TABLE, kind, MsFlags::empty(), None::<&str>)
}

/// The machine's table, mounted where it belongs until this is dropped; one that was there stays.
#[derive(Debug)]
pub(crate) struct Mounted {
    by_us: bool,
}

impl Mounted {
    /// Mounts it, unless it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn on_the_machine() -> Result<Self> {
        let by_us = !Path::new(TABLE).join("status").exists();
        if by_us {
            mount_here().with_context(|| format!("cannot mount binfmt_misc on {TABLE}"))?;
        }
        Ok(Self { by_us })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.by_us {
            let _ = umount(TABLE);
        }
    }
}

/// Removes every entry.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn clear_table() -> Result<()> {
    fs::write(Path::new(TABLE).join("status"), "-1").context("cannot empty the table")
}

/// Adds an entry. With flag F its interpreter is opened now, as this process sees the path.
///
/// # Errors
/// The kernel cannot hold the rule, or refuses it: the interpreter is missing or not executable.
pub(crate) fn register(rule: &Rule) -> Result<()> {
    let refused = || format!("cannot register {}", rule.interpreter.display());
    let line = rule.encode().with_context(refused)?;
    OpenOptions::new()
        .write(true)
        .open(Path::new(TABLE).join("register"))
        .and_then(|mut register| register.write_all(&line))
        .with_context(refused)
}

/// Whether there is an entry of this name.
pub(crate) fn has(name: &OsStr) -> bool {
    Path::new(TABLE).join(name).exists()
}

/// How many entries there are.
///
/// # Errors
/// The table cannot be read.
pub(crate) fn entries() -> Result<usize> {
    let names = fs::read_dir(TABLE)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    Ok(names.iter().filter(|name| *name != "register" && *name != "status").count())
}
