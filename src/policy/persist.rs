//! Persisting: copies emulators into a host's file system, writes rules by which its init system registers them at every boot, and
//! removes exactly these files again.
//!
//! The host is named by its root directory; a container has that mounted somewhere. Before a file is written, its digest is added to
//! a record beside the emulators, in the form of `sha256sum`, so that a kill at any moment leaves no file that cannot be removed.
//! Files of others, and files that were changed since, are not touched. A file that has the right bytes already counts as written.
//! An emulator is on trial until [`Host::settle`]: until then the former one is kept beside it, and [`Host::give_back`] restores it.
//!
//! The caller knows the rules, and whether a handler works. See `binfmt.d(5)`.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;

use crate::emulator::Source;
use crate::emulator::identity;
use crate::kernel::namespace::with_root_directory;
use crate::kernel::wording::{cause, errno_of};

pub(crate) mod boot;
pub mod export;
mod file;
mod lock;
mod record;

use boot::Boot;
use file::{Spot, digest_of};
use lock::Locked;
// public for fuzz/
pub use record::Record;

/// Where the emulators are copied to. It is writable on hosts with a read-only `/usr`.
pub const EMULATORS: &str = "/var/lib/binfmt";
/// Where the rules are written.
pub const RULES: &str = "/etc/binfmt.d";
const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

/// A host, by its root directory. While this exists, no other call writes to the host.
#[derive(Debug)]
pub struct Host {
    locked: Locked,
    dir: PathBuf,
    /// Whether to replace files that are not of an earlier call.
    force: bool,
}

/// An emulator that was copied to the host, and has to pass a trial there.
#[derive(Debug)]
pub struct OnTrial {
    /// The name of its file.
    pub name: String,
    /// Whether it was written, or was there already.
    pub fate: FileOutcome,
    digest: String,
}

impl OnTrial {
    fn path(&self) -> PathBuf {
        Path::new(EMULATORS).join(&self.name)
    }
}

/// What was done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// Written.
    Written,
    /// It was there already, with the same bytes.
    Unchanged,
    /// Removed.
    Removed,
    /// It failed its trial, and was removed again or replaced by the former file.
    TakenBack,
    /// It did not exist any more.
    Gone,
    /// It was changed since, and stays.
    Changed,
}

impl Host {
    /// The host whose root directory is `dir`.
    ///
    /// # Errors
    /// When `dir` cannot be made the root directory, or another call does not end.
    pub fn at(dir: &Path, force: bool) -> Result<Self> {
        let locked = Locked::new(enter(dir)?, dir)?;
        let dir = dir.to_owned();
        Ok(Self { locked, dir, force })
    }

    /// The same for a host that reads rules at boot. On any other, nothing is touched.
    ///
    /// # Errors
    /// Those of [`Self::at`], or when nothing reads rules.
    pub fn with_rules_at_boot(dir: &Path, force: bool) -> Result<Self> {
        boot_of(dir)?;
        Self::at(dir, force)
    }

    /// What the host does at boot.
    ///
    /// # Errors
    /// When this process has too many open files.
    pub(crate) fn boot(&self) -> io::Result<Boot> {
        let root = self.locked.root().try_clone()?;
        Ok(Boot::new(root.into(), &self.dir))
    }

    /// The emulators on the host.
    ///
    /// # Errors
    /// When this process has too many open files.
    pub fn emulators(&self) -> io::Result<Source> {
        let root = self.locked.root().try_clone()?.into();
        Ok(Source::below(root, Path::new(EMULATORS)))
    }

    /// Copies an emulator to the host, under this name, on trial.
    ///
    /// # Errors
    /// When it cannot be read or written, or a file of others has its name.
    pub fn copy(&self, name: &str, emulator: &mut File) -> Result<OnTrial> {
        let mut bytes = Vec::new();
        emulator.rewind()?;
        emulator.read_to_end(&mut bytes)?;
        Ok(OnTrial {
            name: name.to_owned(),
            fate: self.put(&Path::new(EMULATORS).join(name), &bytes, EXECUTABLE)?,
            digest: identity::digest(&bytes),
        })
    }

    /// Writes the file of rules `name`.
    ///
    /// # Errors
    /// When it cannot be written, or a file of others has its name.
    pub fn register_at_boot(&self, name: &str, rules: &[u8]) -> Result<FileOutcome> {
        let path = Path::new(RULES).join(name);
        let fate = self.put(&path, rules, READABLE)?;
        self.inside(|| settle(&path, &identity::digest(rules)))?;
        Ok(fate)
    }

    /// Keeps an emulator that has passed its trial.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn settle(&self, passed: &OnTrial) -> Result<()> {
        self.inside(|| settle(&passed.path(), &passed.digest))
    }

    /// Takes back an emulator that has failed its trial: restores the former one, or removes it. An emulator that was not written for
    /// the trial, and has the file `rules`, stays. `None`: nothing had to be done.
    ///
    /// # Errors
    /// When it cannot be restored or removed.
    pub fn give_back(&self, failed: &OnTrial, rules: &str) -> Result<Option<FileOutcome>> {
        let (emulator, rules) = (failed.path(), Path::new(RULES).join(rules));
        let is_new = failed.fate == FileOutcome::Written;
        self.inside(|| {
            let mut record = Record::read()?;
            let restored = Spot::of(&emulator).and_then(|spot| spot.restore_former());
            let fate = if restored.map_err(|errno| anyhow!("{}", cause(&errno.into())))? {
                if let Some(digest) = digest_of(&emulator)? {
                    record.settle(&emulator, &digest);
                }
                Some(FileOutcome::TakenBack)
            } else if !is_new && record.paths().contains(&rules) {
                None
            } else {
                let fate = remove_if_ours(&record, &emulator)?;
                record.forget(&emulator);
                (fate == FileOutcome::Removed).then_some(FileOutcome::TakenBack)
            };
            record.write_or_remove()?;
            Ok(fate)
        })
    }

    fn put(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<FileOutcome> {
        let put = || -> Result<FileOutcome> {
            let digest = identity::digest(bytes);
            let mut record = Record::read()?;
            if let Ok(spot) = Spot::of(path) {
                let is_ours = |there: &str| record.has(path, there);
                let fate = spot.replaceable(bytes, "--persist", self.force, is_ours)?;
                if let Some(unchanged) = fate {
                    return Ok(unchanged);
                }
            }
            record.make_dirs(path)?;
            record.add(path, &digest);
            let write = || {
                record.write()?;
                record.made_dirs()?;
                let spot = Spot::of(path).map_err(|errno| anyhow!("{}", cause(&errno.into())))?;
                spot.keep_former()?;
                spot.replace(bytes, mode, file::NEW)
            };
            if let Err(error) = write() {
                // the first error is reported, not this one
                let _ = undo(&mut record, path, &digest);
                return Err(error);
            }
            Ok(FileOutcome::Written)
        };
        let failed = || format!("cannot write {}", self.shown(path));
        self.inside(put).with_context(failed)
    }

    /// Removes the unchanged files that were written, rules before emulators, and the empty directories that were made for them. Files
    /// that cannot be removed stay in the record.
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub fn take_back(&self) -> Result<Vec<(PathBuf, Result<FileOutcome>)>> {
        self.inside(|| {
            let mut record = Record::read()?;
            let mut fates = Vec::new();
            for path in record.paths().into_iter().rev() {
                let fate = remove_if_ours(&record, &path);
                if fate.is_ok() {
                    // a file that was changed is not ours any more
                    record.forget(&path);
                }
                fates.push((path, fate));
            }
            record.write_or_remove()?;
            Ok(fates)
        })
    }

    /// The path by which this process finds `path` of the host.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        shown(&self.dir, path)
    }

    /// Does `work` in the host's root directory, so that symbolic links lead to where they do on the host.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        with_root_directory(self.locked.root(), work)?
    }
}

/// The outcomes if these files were written to the host whose root directory is `dir`. Changes nothing.
///
/// # Errors
/// When `dir` cannot be made the root directory, or the record cannot be read.
pub fn would_write(dir: &Path, files: &[(PathBuf, Vec<u8>)], force: bool) -> Result<Vec<Result<FileOutcome>>> {
    with_root_directory(enter(dir)?, || {
        let record = Record::read()?;
        let fate = |(path, bytes): &(PathBuf, Vec<u8>)| {
            let is_ours = |there: &str| record.has(path, there);
            let there = Spot::of(path).ok();
            let fate = there.map(|spot| spot.replaceable(bytes, "--persist", force, is_ours));
            Ok(fate.transpose()?.flatten().unwrap_or(FileOutcome::Written))
        };
        Ok(files.iter().map(fate).collect())
    })?
}

/// What [`Host::take_back`] would do on that host. Changes nothing.
///
/// # Errors
/// Those of [`would_write`].
pub fn would_take_back(dir: &Path) -> Result<Vec<(PathBuf, Result<FileOutcome>)>> {
    with_root_directory(enter(dir)?, || {
        let record = Record::read()?;
        let paths = record.paths().into_iter().rev();
        let fates = paths.map(|path| (path.clone(), fate_of(&record, &path)));
        Ok(fates.collect())
    })?
}

/// What the host whose root directory is `dir` does at boot.
///
/// # Errors
/// When `dir` cannot be made the root directory, or nothing there reads rules.
pub(crate) fn boot_of(dir: &Path) -> Result<Boot> {
    let boot = Boot::new(enter(dir)?.into(), dir);
    if boot.has_reader() {
        return Ok(boot);
    }
    bail!(
        "nothing in {} reads {RULES} at boot, neither systemd-binfmt nor OpenRC's binfmt; is that the host's root directory?",
        dir.display()
    )
}

/// The path by which this process finds `path` of the host whose root directory is `dir`.
#[must_use]
pub fn shown(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix("/").unwrap_or(path);
    dir.join(below).display().to_string()
}

/// Opens `dir`, and checks that it can be made the root directory.
fn enter(dir: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let root = File::open(dir)?;
        with_root_directory(&root, || ())?;
        Ok(root)
    };
    open().map_err(|error| {
        let remedy = match errno_of(&error) {
            Errno::EPERM => "run it as root, or the container with --privileged".to_owned(),
            _ => format!("in a container, mount the host's there: docker run -v /:{}", dir.display()),
        };
        let (dir, cause) = (dir.display(), cause(&error));
        anyhow!("{dir} cannot be entered as a root directory: {cause}; {remedy}")
    })
}

/// After a failed write, restores the former file at `path`, or removes the new one, and updates the record. A write may fail when
/// the new file, whose digest is `written`, is in place already.
///
/// # Errors
/// When that fails too. Then the record still has every file that may be there.
fn undo(record: &mut Record, path: &Path, written: &str) -> Result<()> {
    let there = match Spot::of(path) {
        Ok(spot) => {
            if !spot.restore_former()? && spot.digest()?.as_deref() == Some(written) {
                spot.remove()?;
            }
            spot.digest()?
        }
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    match there {
        Some(digest) => record.settle(path, &digest),
        None => record.forget(path),
    }
    record.write_or_remove()
}

/// Records that the file at `path` is ours, if its digest is still `ours`, and forgets the former file. It may not be in the record
/// yet: a file with the same bytes counts as written.
fn settle(path: &Path, ours: &str) -> Result<()> {
    if digest_of(path)?.as_deref() != Some(ours) {
        // another process has written there meanwhile
        return Ok(());
    }
    let mut record = Record::read()?;
    Spot::of(path)?.forget(file::FORMER);
    record.add(path, ours);
    record.settle(path, ours);
    record.write()
}

/// The outcome of taking back the file at `path`: [`FileOutcome::Removed`] if it is unchanged.
fn fate_of(record: &Record, path: &Path) -> Result<FileOutcome> {
    Ok(match digest_of(path)? {
        None => FileOutcome::Gone,
        Some(there) if record.has(path, &there) => FileOutcome::Removed,
        Some(_) => FileOutcome::Changed,
    })
}

/// Removes the file at `path` if it is ours, and the files that a killed call left beside it.
fn remove_if_ours(record: &Record, path: &Path) -> Result<FileOutcome> {
    let fate = fate_of(record, path)?;
    let Ok(spot) = Spot::of(path) else {
        return Ok(fate);
    };
    spot.clear();
    if fate == FileOutcome::Removed {
        let removed = spot.remove();
        removed.map_err(|errno| anyhow!("it cannot be removed: {}", cause(&errno.into())))?;
    }
    Ok(fate)
}
