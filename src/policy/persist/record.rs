//! The record of the files that were written to a host: lines of `sha256sum`, so that anybody can check them, and a comment for each
//! directory that was made.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::file::{self, FileAt, find, make_dir, remove_dir, unreachable};
use super::{EMULATORS, READABLE, RULES, shown};
use crate::kernel::file_system::within_limit;
use crate::kernel::wording::{cause, errno_of};

const NAME: &str = "persisted";
/// The largest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;
const HEAD: &str = "# What binfmt --persist wrote; binfmt --unpersist takes it back.";
const MADE: &str = "# made ";
/// Between digest and path (`sha256sum(1)`).
const GAP: &str = "  ";

/// The files that were written and may exist.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Each with its digest. A file that is being replaced has several.
    files: Vec<(String, PathBuf)>,
    /// Directories, parents first.
    made: Vec<PathBuf>,
}

impl Record {
    /// The record of the host whose root directory this thread has; empty if there is none. `dir`: the name of that directory
    /// in messages.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let (target, path) = (FileAt::of(&path()), shown(dir, &path()));
        let target = match target {
            Err(Errno::ENOENT) => return Ok(Self::default()),
            target => target.map_err(|errno| anyhow!("{path}: {}", unreachable(&self::path(), errno)))?,
        };
        let read = || -> io::Result<String> {
            let mut text = String::new();
            target.open()?.take(LONGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        match within_limit(Path::new(&path), read) {
            Ok(text) => Self::parse(&text).map_err(|wrong| {
                anyhow!(
                    "{path} is not as binfmt wrote it: {wrong}; correct or remove the line, and remove its file by hand"
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            // a socket cannot even be opened
            Err(error) if [Errno::ELOOP, Errno::ENXIO].contains(&errno_of(&error)) => {
                bail!("{path} is not a file, so nothing says what --persist wrote; remove it")
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                bail!("{path} is not as binfmt wrote it: it is no text; remove it, and the files that it named by hand")
            }
            Err(error) => bail!("{path}: {}", cause(&error)),
        }
    }

    /// Reads the text of a record. Fails when it names a path that we do not write.
    pub fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(dir) = line.strip_prefix(MADE) {
                let parents = |of: &str| Path::new(of).starts_with(dir);
                // every path starts with an empty one
                if dir.is_empty() || ![EMULATORS, RULES].into_iter().any(parents) {
                    bail!("{dir} is not a directory that it makes");
                }
                record.made.push(dir.into());
            } else if !line.starts_with('#') {
                let (digest, path) = line.split_once(GAP).context("a line without digest")?;
                let file = Path::new(path);
                let dir = file.parent();
                let ours = [EMULATORS, RULES].map(|of| Some(Path::new(of))).contains(&dir);
                // `..` has no file name; a name that ends in `\r` cannot be read back
                if !ours || file.file_name().is_none() || path.ends_with('\r') {
                    bail!("{path} is not a file that it writes");
                }
                record.files.push((digest.to_owned(), path.into()));
            }
        }
        Ok(record)
    }

    /// The text of the record.
    pub fn text(&self) -> String {
        let made = self.made.iter().map(|dir| format!("{MADE}{}\n", dir.display()));
        let files = self.files.iter().map(|(digest, path)| format!("{digest}{GAP}{}\n", path.display()));
        format!("{HEAD}\n{}{}", made.collect::<String>(), files.collect::<String>())
    }

    pub(super) fn write(&self) -> Result<()> {
        FileAt::to_write(&path())?.replace(self.text().as_bytes(), READABLE, file::NEW)
    }

    pub(super) fn has(&self, path: &Path, digest: &str) -> bool {
        let same = |(of, at): &(String, PathBuf)| of == digest && at == path;
        self.files.iter().any(same)
    }

    /// Makes the directory of the record, and notes it and the missing parents of `path`.
    pub(super) fn make_dirs(&mut self, path: &Path) -> Result<()> {
        let own = missing(Path::new(EMULATORS));
        own.iter().try_for_each(|dir| make_dir(dir))?;
        self.made.extend(own);
        self.made.extend(missing(path.parent().unwrap_or(path)));
        Ok(())
    }

    pub(super) fn made_dirs(&self) -> Result<()> {
        self.made.iter().try_for_each(|dir| make_dir(dir))
    }

    pub(super) fn add(&mut self, path: &Path, digest: &str) {
        if !self.has(path, digest) {
            self.files.push((digest.to_owned(), path.to_owned()));
        }
    }

    /// Only the file with this digest can be at `path` from now on.
    pub(super) fn settle(&mut self, path: &Path, digest: &str) {
        self.files.retain(|(of, at)| at != path || of == digest);
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.files.retain(|(_, at)| at != path);
    }

    /// The paths of the files, each once, in the order of the record.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for (_, path) in &self.files {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// Writes the record. If it has no files, removes it instead, and its directories that are empty.
    pub(super) fn write_or_remove(&self) -> Result<()> {
        if !self.files.is_empty() {
            return self.write();
        }
        let (its, others): (Vec<_>, Vec<_>) =
            self.made.iter().rev().partition(|dir| Path::new(EMULATORS).starts_with(dir));
        for dir in others {
            remove_dir(dir);
        }
        let removed = FileAt::of(&path()).and_then(|target| {
            target.clear(file::NEW);
            target.remove()
        });
        if let Some(errno) = removed.err().filter(|errno| *errno != Errno::ENOENT) {
            return Err(anyhow!("{}: {}", path().display(), cause(&errno.into())));
        }
        for dir in its {
            remove_dir(dir);
        }
        Ok(())
    }
}

/// Of `dir` and its parents, those that do not exist, parents first.
fn missing(dir: &Path) -> Vec<PathBuf> {
    let missing = dir.ancestors().take_while(|dir| find(dir, OFlag::empty()).is_err());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

pub(super) fn path() -> PathBuf {
    Path::new(EMULATORS).join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_replaced_only_the_new_bytes_are_ours() {
        let file = Path::new("/var/lib/binfmt/qemu-arm");
        let mut record = Record::default();
        record.add(file, "old");
        record.add(file, "new");
        record.settle(file, "new");
        assert!(!record.has(file, "old"));
        assert!(record.has(file, "new"));
    }

    #[test]
    fn lines_that_an_editor_ended_are_read_but_no_name_that_ends_so() {
        let line = "aa  /etc/binfmt.d/qemu-arm.conf";
        let read = Record::parse(&format!("{line}\r\n")).unwrap();
        assert_eq!(read, Record::parse(line).unwrap());
        assert!(Record::parse(&format!("{line}\r\r\n")).is_err());
    }
}
