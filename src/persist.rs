//! Persisting: emulators copied into a host's file system, and rules by which its init system registers them at every boot;
//! and taking back exactly that.
//!
//! The host is named by its root directory, which in a container is where it has been mounted. Everything written there is
//! entered first in a record beside the emulators, in the form of `sha256sum`, so that a kill at any instant leaves nothing
//! that cannot be taken back. What somebody else has written, or changed since, is not touched.
//!
//! What the rules say is [`crate::export`]'s; whether a handler works is known before it gets here. See `binfmt.d(5)`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::emulator::Source;
use crate::identity;
use crate::namespace::with_root_directory;
use crate::wording::cause;

mod record;

use record::Record;

/// Where the emulators are copied to: a place for a program's own files that is writable where `/usr` is not.
pub const EMULATORS: &str = "/var/lib/binfmt";
/// Where rules for the boot are read from, with those of other packages.
pub const RULES: &str = "/etc/binfmt.d";
/// What reads them: the program of systemd, by its two usual paths, or the service of `OpenRC`.
const READERS: [&str; 3] = [
    "/usr/lib/systemd/systemd-binfmt",
    "/lib/systemd/systemd-binfmt",
    "/etc/init.d/binfmt",
];
const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

/// A host, by its root directory.
#[derive(Debug)]
pub struct Host {
    root: OwnedFd,
    dir: PathBuf,
    /// Also write over what is not of an earlier call.
    force: bool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Written.
    Written,
    /// It was there, the same.
    Unchanged,
    /// Removed.
    Removed,
    /// It was gone already.
    Gone,
    /// Somebody has changed it since, so it stays.
    Changed,
}

impl Host {
    /// The host whose root directory is `dir`.
    ///
    /// # Errors
    /// When `dir` cannot be opened and made the root directory.
    pub fn at(dir: &Path, force: bool) -> Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let root = OwnedFd::from(File::open(dir)?);
            with_root_directory(&root, || ())?;
            Ok(root)
        };
        let root = open().map_err(|error| {
            let (dir, cause) = (dir.display(), cause(&error));
            anyhow!("{dir} cannot be entered as a root directory: {cause}; mount the host's there: docker run -v /:{dir}")
        })?;
        let dir = dir.to_owned();
        Ok(Self { root, dir, force })
    }

    /// Whether something reads rules at its boot.
    ///
    /// # Errors
    /// When nothing does.
    pub fn check(&self) -> Result<()> {
        let reads = |reader: &&str| fs::symlink_metadata(reader).is_ok();
        if self.inside(|| Ok(READERS.iter().any(reads)))? {
            return Ok(());
        }
        bail!(
            "nothing in {} reads {RULES} at boot, neither systemd-binfmt nor OpenRC's binfmt; is that the host's root directory?",
            self.dir.display()
        )
    }

    /// The emulators that were copied to it.
    ///
    /// # Errors
    /// Those of [`Source::below`].
    pub fn emulators(&self) -> io::Result<Source> {
        Source::below(&self.dir, Path::new(EMULATORS))
    }

    /// Copies an emulator to it, under this name.
    ///
    /// # Errors
    /// When it cannot be read or written, or another file is there.
    pub fn copy(&self, name: &str, emulator: &mut File) -> Result<Fate> {
        let mut bytes = Vec::new();
        emulator.rewind()?;
        emulator.read_to_end(&mut bytes)?;
        self.put(&Path::new(EMULATORS).join(name), &bytes, EXECUTABLE)
    }

    /// Writes the file of rules `name`.
    ///
    /// # Errors
    /// When it cannot be written, or another file is there.
    pub fn register_at_boot(&self, name: &str, rules: &[u8]) -> Result<Fate> {
        self.put(&Path::new(RULES).join(name), rules, READABLE)
    }

    /// Removes the emulator `name` again, if it was copied and no file of rules `rules` was written for it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(&self, name: &str, rules: &str) -> Result<()> {
        let (emulator, rules) = (
            Path::new(EMULATORS).join(name),
            Path::new(RULES).join(rules),
        );
        self.inside(|| {
            let mut record = Record::read()?;
            let paths = record.paths();
            if paths.contains(&emulator) && !paths.contains(&rules) {
                fs::remove_file(&emulator)?;
                record.forget(&emulator);
                record.write()?;
            }
            if record.paths().is_empty() {
                record.remove()?;
            }
            Ok(())
        })
    }

    fn put(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<Fate> {
        let put = || -> Result<Fate> {
            let digest = identity::digest(bytes);
            let mut record = Record::read()?;
            if let Some(there) = digest_of(path)? {
                if there == digest {
                    return Ok(Fate::Unchanged);
                }
                if !record.has(path, &there) && !self.force {
                    bail!("it is there, and not of --persist; remove it, or let --force do it");
                }
            }
            let parents = [Path::new(EMULATORS), path.parent().unwrap_or(path)];
            for dir in parents {
                record.make_dir(dir)?;
            }
            record.add(path, &digest);
            record.write()?;
            replace(path, bytes, mode)?;
            record.settle(path, &digest);
            record.write()?;
            Ok(Fate::Written)
        };
        let failed = || format!("cannot write {}", self.shown(path));
        self.inside(put).with_context(failed)
    }

    /// Removes what was written, as far as it is still that, and what directories were made for it and are empty.
    ///
    /// # Errors
    /// When the record cannot be read, or something in it not be removed.
    pub fn take_back(&self) -> Result<Vec<(PathBuf, Fate)>> {
        self.inside(|| {
            let mut record = Record::read()?;
            let mut fates = Vec::new();
            for path in record.paths() {
                let fate = match digest_of(&path)? {
                    None => Fate::Gone,
                    Some(there) if record.has(&path, &there) => {
                        let failed = || format!("cannot remove {}", self.shown(&path));
                        fs::remove_file(&path).with_context(failed)?;
                        Fate::Removed
                    }
                    Some(_) => Fate::Changed,
                };
                // what a call that was killed left
                let _ = fs::remove_file(unfinished(&path));
                // what stays is not ours any more
                record.forget(&path);
                fates.push((path, fate));
            }
            record.remove()?;
            Ok(fates)
        })
    }

    /// A path of the host, as this process would call it.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.dir.join(below).display().to_string()
    }

    /// The host's symbolic links lead to where they do on the host.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        with_root_directory(&self.root, work)?
    }
}

fn digest_of(path: &Path) -> Result<Option<String>> {
    let read = || {
        let mut bytes = Vec::new();
        let mut options = OpenOptions::new();
        // whatever is there must not be waited for
        let options = options.read(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(identity::digest(&bytes))),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow!("it cannot be read: {}", cause(&error))),
    }
}

/// Puts a file in its place as a whole, on the disk.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let unfinished = unfinished(path);
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|error| {
        // it may not even have been made
        let _ = fs::remove_file(&unfinished);
        anyhow!("{}", cause(&error))
    })
}

fn unfinished(path: &Path) -> PathBuf {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    unfinished.into()
}
