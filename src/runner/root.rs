//! The programs of the probes, in an empty root directory with nothing in it but themselves.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use binfmt_magic::probe;
use nix::libc::MFD_EXEC;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::chroot;

use super::{Form, Job, mark};
use crate::user_namespace;

/// Whom the programs of [`Form::Setuid`] belong to: `nobody`, so that their privilege is none.
pub(super) const OWNER: u32 = 65534;

/// The probes of some jobs, ready to be started.
pub(super) struct Programs {
    /// In the order of the jobs.
    pub(super) all: Vec<Program>,
    /// The root directory to start them in.
    pub(super) root: PathBuf,
}

/// One of them.
pub(super) struct Program {
    pub(super) job: Job,
    /// Below the root directory.
    pub(super) path: PathBuf,
    /// Device and inode.
    pub(super) id: (u64, u64),
    /// Whether it belongs to [`OWNER`] and has the setuid bit.
    pub(super) given_away: bool,
    /// What the path leads to, if that is memory.
    _memory: Option<File>,
}

impl Programs {
    /// Writes the probes to where their root directory is empty.
    ///
    /// Without the privilege for that, of this process or of a user namespace of its own, they stay in memory: then a
    /// probe shows that programs run, and only the flags of its handler whether they would in a container.
    pub(super) fn write(jobs: &[Job]) -> Result<Self> {
        if jobs.iter().any(|job| job.form == Form::Here) {
            return in_memory(jobs);
        }
        in_empty_root(jobs).or_else(|_| in_memory(jobs))
    }
}

/// A tmpfs that nobody else sees. It is laid over a directory that is there for certain, since `binfmt_misc` is mounted
/// below it, and that nothing here needs: not over `/proc` itself, which leads to this program, and to the probes in
/// memory, should one of these steps be refused.
fn in_empty_root(jobs: &[Job]) -> Result<Programs> {
    let (proc, root) = (Path::new("/proc"), Path::new("/proc/sys"));
    let nothing = None::<&str>;
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        user_namespace::enter_as_root()?;
    }
    // the probes will do so with another directory: whether that is allowed shows here
    chroot("/")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, proc, nothing, private, nothing)?;
    mount(
        Some("probes"),
        root,
        Some("tmpfs"),
        MsFlags::MS_NODEV,
        Some("size=16m,mode=755"),
    )?;
    let programs = jobs.iter().map(|job| {
        let name = super::answer::word(job);
        let path = root.join(&name);
        fs::write(&path, program(job))?;
        let given_away = job.form == Form::Setuid && chown(&path, Some(OWNER), None).is_ok();
        let mode = if given_away { 0o4755 } else { 0o755 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        let metadata = fs::metadata(&path)?;
        Ok(Program {
            job: *job,
            path: Path::new("/").join(name),
            id: (metadata.dev(), metadata.ino()),
            given_away,
            _memory: None,
        })
    });
    Ok(Programs {
        all: programs.collect::<Result<_>>()?,
        root: root.to_owned(),
    })
}

/// Their processes inherit the memory, since an emulator that is handed a path looks it up for itself; and other
/// processes may be out of bounds for them.
fn in_memory(jobs: &[Job]) -> Result<Programs> {
    let programs = jobs.iter().map(|job| {
        // asked for where vm.memfd_noexec is set, unknown before Linux 6.3
        let executable = MFdFlags::from_bits_retain(MFD_EXEC);
        let memory = memfd_create(job.arch.qemu, executable)
            .or_else(|_| memfd_create(job.arch.qemu, MFdFlags::empty()));
        let mut file = File::from(memory.context("no memory for the probes")?);
        file.write_all(&program(job))?;
        let metadata = file.metadata()?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(Program {
            job: *job,
            path: path.into(),
            id: (metadata.dev(), metadata.ino()),
            given_away: false,
            _memory: Some(file),
        })
    });
    Ok(Programs {
        all: programs.collect::<Result<_>>()?,
        root: PathBuf::from("/"),
    })
}

fn program(job: &Job) -> Vec<u8> {
    let mut file = probe::elf(job.arch);
    if job.form == Form::Marked {
        mark(&mut file);
    }
    file
}
