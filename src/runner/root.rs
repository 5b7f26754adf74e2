//! The empty root directory that probes are started in, with nothing in it but themselves.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use binfmt_magic::probe;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Job, mark};
use crate::mount::DEFAULT as MOUNT_POINT;

/// The directory that holds the probes, and what undoes it.
pub(super) struct Root {
    /// Where the probes are, as this process sees it now.
    pub(super) dir: PathBuf,
}

impl Root {
    /// Writes the probes into a new directory and makes it this process's root.
    ///
    /// With the privilege to mount, or a user namespace that has it, that is a tmpfs nobody else sees. It is laid over
    /// `/proc`, which is there for certain (this process was started from it) and not needed any more.
    pub(super) fn enter(native: bool, jobs: &[Job]) -> Result<Self> {
        let proc = Path::new("/proc");
        if native {
            own_user_namespace().context("no user namespace to be had")?;
            let nothing = None::<&str>;
            mount(
                nothing,
                MOUNT_POINT,
                Some("binfmt_misc"),
                MsFlags::empty(),
                nothing,
            )
            .context("no binfmt_misc for a user namespace (needs Linux 6.7)")?;
        } else if unshare(CloneFlags::CLONE_NEWNS).is_err() && own_user_namespace().is_err() {
            return Self::temporary(jobs);
        }
        let (nothing, quiet) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        mount(
            nothing,
            proc,
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .context("cannot keep mounts private")?;
        mount(
            Some("probes"),
            proc,
            Some("tmpfs"),
            quiet,
            Some("size=1m,mode=755"),
        )
        .context("cannot mount a tmpfs for the probes")?;
        write_probes(proc, jobs)?;
        nix::unistd::chroot(proc).context("cannot change the root directory")?;
        env::set_current_dir("/")?;
        Ok(Self { dir: "/".into() })
    }

    /// Where nothing may be mounted: a directory on disk. As root of a container that may still be made the root; a
    /// plain user sees the probes run, but not that the interpreter is pinned.
    fn temporary(jobs: &[Job]) -> Result<Self> {
        let candidates = [
            env::temp_dir(),
            "/run".into(),
            "/var/tmp".into(),
            "/".into(),
        ];
        let name = format!(".binfmt-{}", std::process::id());
        let made = candidates
            .iter()
            .map(|parent| parent.join(&name))
            .find(|dir| fs::create_dir(dir).is_ok());
        let dir = made.context(
            "no privilege to mount a tmpfs for the probes, and no directory to write them to; run with --privileged, or \
             give the container a writable /tmp",
        )?;
        let root = Self { dir };
        write_probes(&root.dir, jobs)?;
        Ok(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.dir != Path::new("/") {
            // best effort: what cannot be removed is a few hundred bytes in a temporary directory
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
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

fn write_probes(dir: &Path, jobs: &[Job]) -> Result<()> {
    for job in jobs {
        let path = dir.join(file_name(job));
        let mut file = probe::elf(job.arch);
        if job.marked {
            mark(&mut file);
        }
        fs::write(&path, file)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

pub(super) fn file_name(job: &Job) -> String {
    format!("{}{}", job.arch.qemu, if job.marked { "+" } else { "" })
}
