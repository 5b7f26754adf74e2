//! The root directory of the emulated programs, as they see it: read-only, with the machine's `/proc` and `/dev` and
//! an empty `/tmp` in memory. Belongs to the mount namespace of the bench, so nothing of it is left behind.
//!
//! The caller unpacks it; [`super::sample`] enters it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

/// Where workloads run, as they see it: the one directory that they can write to.
pub(super) const WORK: &str = "/tmp";

/// A root directory with all mounted that programs need.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    /// Mounts what programs need on and below `path`, in the namespace of this process.
    ///
    /// # Errors
    /// There is no such directory, it lacks `proc`, `dev` or `tmp`, or the kernel refuses.
    pub(super) fn mount(path: &Path) -> Result<Self> {
        let path = path.canonicalize().with_context(|| {
            let path = path.display();
            format!("no root directory at {path}; unpack a Debian userland there")
        })?;
        let failed = |directory| {
            let path = path.join(directory);
            format!("cannot mount {}; is it a whole userland?", path.display())
        };
        read_only(&path).with_context(|| failed(""))?;
        for directory in ["proc", "dev"] {
            let source = Path::new("/").join(directory);
            bind(&source, &path.join(directory)).with_context(|| failed(directory))?;
        }
        let kind = Some("tmpfs");
        let mode = Some("mode=1777");
        mount(kind, &path.join("tmp"), kind, MsFlags::empty(), mode).with_context(|| failed("tmp"))?;
        Ok(Self { path })
    }

    /// The directory, as this process sees it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// [`WORK`], as this process sees it.
    pub(super) fn work(&self) -> PathBuf {
        self.path.join(WORK.trim_start_matches('/'))
    }
}

/// No run leaves anything behind, or finds what another one wrote.
fn read_only(path: &Path) -> nix::Result<()> {
    bind(path, path)?;
    let nothing = None::<&str>;
    // an unprivileged namespace may not take these away (mount_namespaces(7)); the bits are those of mount(2)
    let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kept = MsFlags::from_bits_truncate(statvfs(path)?.flags().bits()) & kept;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept;
    mount(nothing, path, nothing, flags, nothing)
}

/// With what is mounted below: an unprivileged namespace may not uncover what that hides.
fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    let nothing = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, nothing, flags, nothing)
}
