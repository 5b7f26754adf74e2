//! Persisting: emulators copied into a host's file system, and rules by which its init system registers them at every boot;
//! and taking back exactly that.
//!
//! The host is named by its root directory, which in a container is where it has been mounted. Everything written there is
//! entered first in a record beside the emulators, in the form of `sha256sum`, so that a kill at any instant leaves no file
//! that cannot be taken back. What somebody else has written, or changed since, is not touched, unless it is byte for byte what was
//! to be written: that counts as written. An emulator is on trial until [`Host::settle`]: the former, if there was one, is beside
//! it, and comes back with [`Host::give_back`].
//!
//! What the rules say is the caller's to know; whether a handler works is known before it gets here. See `binfmt.d(5)`.

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
pub(crate) mod file;
mod lock;
mod record;

use boot::Boot;
use file::{Spot, digest_of};
use lock::Locked;
// public for fuzz/
pub use record::Record;

/// Where the emulators are copied to: a place for a program's own files that is writable where `/usr` is not.
pub const EMULATORS: &str = "/var/lib/binfmt";
/// Where rules for the boot are read from, with those of other packages.
pub const RULES: &str = "/etc/binfmt.d";
const EXECUTABLE: u32 = 0o755;
pub(crate) const READABLE: u32 = 0o644;

/// A host, by its root directory. As long as this is held, no other call writes to it.
#[derive(Debug)]
pub struct Host {
    locked: Locked,
    dir: PathBuf,
    /// Also write over what is not of an earlier call.
    force: bool,
}

/// An emulator that is on the host, and has to pass a trial there.
#[derive(Debug)]
pub struct OnTrial {
    /// The name of its file.
    pub name: String,
    /// Whether it was written for this trial, or was there.
    pub fate: FileOutcome,
    digest: String,
}

impl OnTrial {
    fn path(&self) -> PathBuf {
        Path::new(EMULATORS).join(&self.name)
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// Written.
    Written,
    /// It was there, the same.
    Unchanged,
    /// Removed.
    Removed,
    /// Written, and removed again, or what was there before is there again: it has failed its trial.
    TakenBack,
    /// It was gone already.
    Gone,
    /// Somebody has changed it since, so it stays.
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

    /// The same, where something reads rules at boot. Where nothing does, not even a lock is left.
    ///
    /// # Errors
    /// Those of [`Self::at`], or when nothing does.
    pub fn with_rules_at_boot(dir: &Path, force: bool) -> Result<Self> {
        boot_of(dir)?;
        Self::at(dir, force)
    }

    /// What it does at boot.
    ///
    /// # Errors
    /// When there may be no more open files.
    pub(crate) fn boot(&self) -> io::Result<Boot> {
        let root = self.locked.root().try_clone()?;
        Ok(Boot::new(root.into(), &self.dir))
    }

    /// The emulators that were copied to it.
    ///
    /// # Errors
    /// When there may be no more open files.
    pub fn emulators(&self) -> io::Result<Source> {
        let root = self.locked.root().try_clone()?.into();
        Ok(Source::below(root, Path::new(EMULATORS)))
    }

    /// Copies an emulator to it, under this name, on trial.
    ///
    /// # Errors
    /// When it cannot be read or written, or another file is there.
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
    /// When it cannot be written, or another file is there.
    pub fn register_at_boot(&self, name: &str, rules: &[u8]) -> Result<FileOutcome> {
        let path = Path::new(RULES).join(name);
        let fate = self.put(&path, rules, READABLE)?;
        self.inside(|| settle(&path, &identity::digest(rules)))?;
        Ok(fate)
    }

    /// An emulator has passed its trial.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn settle(&self, passed: &OnTrial) -> Result<()> {
        self.inside(|| settle(&passed.path(), &passed.digest))
    }

    /// An emulator has failed: the former one is there again, or none. One that was there before, and has a file of rules `rules`,
    /// stays. `None` where all is as it was.
    ///
    /// # Errors
    /// When it cannot be put back, or removed.
    pub fn give_back(&self, failed: &OnTrial, rules: &str) -> Result<Option<FileOutcome>> {
        let (emulator, rules) = (failed.path(), Path::new(RULES).join(rules));
        let is_new = failed.fate == FileOutcome::Written;
        self.inside(|| {
            let mut record = Record::read()?;
            let put_back = Spot::of(&emulator).and_then(|spot| spot.put_back());
            let fate = if put_back.map_err(|errno| anyhow!("{}", cause(&errno.into())))? {
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
                spot.keep()?;
                spot.replace(bytes, mode, file::NEW)
            };
            if let Err(error) = write() {
                // the error that led here is the one to be told
                let _ = undo(&mut record, path, &digest);
                return Err(error);
            }
            Ok(FileOutcome::Written)
        };
        let failed = || format!("cannot write {}", self.shown(path));
        self.inside(put).with_context(failed)
    }

    /// Removes what was written, as far as it is still that, rules before emulators, and what directories were made for it and are
    /// empty. What cannot be removed stays in the record.
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
                    // what stays is not ours any more
                    record.forget(&path);
                }
                fates.push((path, fate));
            }
            record.write_or_remove()?;
            Ok(fates)
        })
    }

    /// A path of the host, as this process would call it.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        shown(&self.dir, path)
    }

    /// The host's symbolic links lead to where they do on the host.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        with_root_directory(self.locked.root(), work)?
    }
}

/// What [`Host`] would make of these files and their bytes on the host whose root directory is `dir`, which is only looked at.
///
/// # Errors
/// When `dir` cannot be made the root directory, or the record not be read.
pub fn would_write(
    dir: &Path,
    files: &[(PathBuf, Vec<u8>)],
    force: bool,
) -> Result<Vec<Result<FileOutcome>>> {
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

/// What [`Host::take_back`] would do on that host, which is only looked at.
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

/// A path of the host whose root directory is `dir`, as this process would call it.
#[must_use]
pub fn shown(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix("/").unwrap_or(path);
    dir.join(below).display().to_string()
}

/// Opens `dir`, which can be made a root directory.
fn enter(dir: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let root = File::open(dir)?;
        with_root_directory(&root, || ())?;
        Ok(root)
    };
    open().map_err(|error| {
        let remedy = match errno_of(&error) {
            Errno::EPERM => "run it as root, or the container with --privileged".to_owned(),
            _ => format!(
                "in a container, mount the host's there: docker run -v /:{}",
                dir.display()
            ),
        };
        let (dir, cause) = (dir.display(), cause(&error));
        anyhow!("{dir} cannot be entered as a root directory: {cause}; {remedy}")
    })
}

/// What was at `path` is there again, or nothing, and the record says so. A write may fail when the file `written` is in its
/// place already, and that one has passed no trial.
///
/// # Errors
/// When that fails too. Then the record still has whatever may be there.
fn undo(record: &mut Record, path: &Path, written: &str) -> Result<()> {
    let there = match Spot::of(path) {
        Ok(spot) => {
            if !spot.put_back()? && spot.digest()?.as_deref() == Some(written) {
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

/// What is at `path` is ours, if it is still `ours`, and nothing else there any more. It need not be in the record yet: byte for
/// byte the same was found there, maybe of a call whose record is gone.
fn settle(path: &Path, ours: &str) -> Result<()> {
    if digest_of(path)?.as_deref() != Some(ours) {
        // somebody else has written there meanwhile
        return Ok(());
    }
    let mut record = Record::read()?;
    Spot::of(path)?.forget(file::FORMER);
    record.add(path, ours);
    record.settle(path, ours);
    record.write()
}

/// What taking back the file at `path` comes to: [`FileOutcome::Removed`] if it is as the record has it.
fn fate_of(record: &Record, path: &Path) -> Result<FileOutcome> {
    Ok(match digest_of(path)? {
        None => FileOutcome::Gone,
        Some(there) if record.has(path, &there) => FileOutcome::Removed,
        Some(_) => FileOutcome::Changed,
    })
}

/// Removes what is at `path` if the record has it, and what a call that was killed left beside it.
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
