//! The programs of the probes, in an empty root directory with nothing in it but themselves.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use binfmt_magic::probe;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::chroot;

use super::{Job, mark};
use crate::mount::DEFAULT as MOUNT_POINT;

/// The probes of some jobs, ready to be started.
pub(super) struct Programs {
    /// In the order of the jobs, as this process sees them now.
    pub(super) paths: Vec<PathBuf>,
    /// What some of the paths lead to.
    files: Vec<File>,
}

impl Programs {
    /// Writes the probes to where their root directory is empty; `native` also takes all handlers away from them.
    ///
    /// Without the privilege for that, of this process or of a user namespace of its own, they stay in memory: then a
    /// probe shows that programs run, and only the flags of its handler whether they would in a container.
    pub(super) fn write(jobs: &[Job], native: bool) -> Result<Self> {
        match in_empty_root(jobs, native) {
            Err(_) if !native => in_memory(jobs),
            result => result,
        }
    }
}

/// A tmpfs that nobody else sees becomes the root. It is laid over `/proc`, which is there for certain (this process was
/// started from it) and not needed any more.
fn in_empty_root(jobs: &[Job], native: bool) -> Result<Programs> {
    let proc = Path::new("/proc");
    let nothing = None::<&str>;
    if native {
        own_user_namespace()?;
        let flags = MsFlags::empty();
        mount(nothing, MOUNT_POINT, Some("binfmt_misc"), flags, nothing)
            .context("no binfmt_misc for a user namespace (needs Linux 6.7)")?;
    } else if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        own_user_namespace()?;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, proc, nothing, private, nothing).context("cannot keep mounts private")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let size = Some("size=1m,mode=755");
    mount(Some("probes"), proc, Some("tmpfs"), quiet, size).context("cannot mount a tmpfs")?;
    let names = jobs.iter().map(|job| {
        let name = format!("{}{}", job.arch.qemu, if job.marked { "+" } else { "" });
        let path = proc.join(&name);
        fs::write(&path, program(job))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Path::new("/").join(name))
    });
    let paths = names
        .collect::<Result<_>>()
        .context("cannot write the probes")?;
    chroot(proc).context("cannot change the root directory")?;
    env::set_current_dir("/")?;
    Ok(Programs {
        paths,
        files: Vec::new(),
    })
}

/// The paths lead through this process, since an emulator that is handed one looks it up for itself.
fn in_memory(jobs: &[Job]) -> Result<Programs> {
    let mut programs = Programs {
        paths: Vec::new(),
        files: Vec::new(),
    };
    for job in jobs {
        let memory = memfd_create(job.arch.qemu, MFdFlags::MFD_CLOEXEC);
        let mut file = File::from(memory.context("no memory for the probes")?);
        file.write_all(&program(job))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        programs.paths.push(path.into());
        programs.files.push(file);
    }
    Ok(programs)
}

/// Enters a user namespace in which this user is root, and a mount namespace of it.
fn own_user_namespace() -> Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    // files cannot be made by a user whom the namespace does not know
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok(())
}

fn program(job: &Job) -> Vec<u8> {
    let mut file = probe::elf(job.arch);
    if job.marked {
        mark(&mut file);
    }
    file
}
