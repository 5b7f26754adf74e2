//! The programs of the probes, in an empty root directory with nothing in it but themselves.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use binfmt_magic::probe;
use nix::libc::MFD_EXEC;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::chroot;

use super::{Job, mark};

/// The probes of some jobs, ready to be started.
pub(super) struct Programs {
    /// In the order of the jobs, as this process sees them now.
    pub(super) paths: Vec<PathBuf>,
    /// What some of the paths lead to.
    files: Vec<File>,
}

impl Programs {
    /// Writes the probes to where their root directory is empty.
    ///
    /// Without the privilege for that, of this process or of a user namespace of its own, they stay in memory: then a
    /// probe shows that programs run, and only the flags of its handler whether they would in a container.
    pub(super) fn write(jobs: &[Job]) -> Result<Self> {
        in_empty_root(jobs).or_else(|_| in_memory(jobs))
    }
}

/// A tmpfs that nobody else sees becomes the root. It is laid over a directory that is there for certain, since
/// `binfmt_misc` is mounted below it, and that nothing here needs: not over `/proc` itself, which leads to the probes in
/// memory, should one of these steps be refused.
fn in_empty_root(jobs: &[Job]) -> Result<Programs> {
    let (proc, root) = (Path::new("/proc"), Path::new("/proc/sys"));
    let nothing = None::<&str>;
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        own_user_namespace()?;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, proc, nothing, private, nothing)?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("probes"),
        root,
        Some("tmpfs"),
        quiet,
        Some("size=16m,mode=755"),
    )?;
    let names = jobs.iter().map(|job| {
        let name = format!("{}{}", job.arch.qemu, if job.marked { "+" } else { "" });
        let path = root.join(&name);
        fs::write(&path, program(job))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Path::new("/").join(name))
    });
    let paths = names.collect::<Result<_>>()?;
    chroot(root)?;
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
        // asked for where vm.memfd_noexec is set, unknown before Linux 6.3
        let executable = MFdFlags::from_bits_retain(MFD_EXEC);
        let memory = memfd_create(job.arch.qemu, MFdFlags::MFD_CLOEXEC | executable)
            .or_else(|_| memfd_create(job.arch.qemu, MFdFlags::MFD_CLOEXEC));
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
