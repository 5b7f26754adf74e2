//! The record of what was written to a host: lines of `sha256sum`, so that anybody can check them, and a comment for each
//! directory that was made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::{EMULATORS, READABLE, replace};
use crate::wording::cause;

const NAME: &str = "persisted";
const HEAD: &str = "# What binfmt --persist wrote; binfmt --unpersist takes it back.";
const MADE: &str = "# made ";
/// Between digest and path (`sha256sum(1)`).
const GAP: &str = "  ";

/// What was written, and may be there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// With its digest; more than one of a path while it is replaced.
    files: Vec<(String, PathBuf)>,
    /// Directories, each after the one that it is in.
    made: Vec<PathBuf>,
}

impl Record {
    /// That of the host whose root directory this thread has. Nothing, if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read() -> Result<Self> {
        match fs::read_to_string(path()) {
            Ok(text) => Self::parse(&text)
                .with_context(|| format!("{} is not as binfmt wrote it", path().display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(anyhow!("{}: {}", path().display(), cause(&error))),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(dir) = line.strip_prefix(MADE) {
                record.made.push(dir.into());
            } else if !line.starts_with('#') {
                let (digest, path) = line.split_once(GAP).context("a line without digest")?;
                record.files.push((digest.to_owned(), path.into()));
            }
        }
        Ok(record)
    }

    fn text(&self) -> String {
        let made = self
            .made
            .iter()
            .map(|dir| format!("{MADE}{}\n", dir.display()));
        let files = self.files.iter();
        let files = files.map(|(digest, path)| format!("{digest}{GAP}{}\n", path.display()));
        format!(
            "{HEAD}\n{}{}",
            made.collect::<String>(),
            files.collect::<String>()
        )
    }

    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        replace(&path(), self.text().as_bytes(), READABLE)
    }

    pub(super) fn has(&self, path: &Path, digest: &str) -> bool {
        let same = |(of, at): &(String, PathBuf)| of == digest && at == path;
        self.files.iter().any(same)
    }

    /// Makes `dir`, and what it is in, and takes note of what was not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn make_dir(&mut self, dir: &Path) -> Result<()> {
        let missing = dir.ancestors().take_while(|dir| !dir.exists());
        let missing: Vec<&Path> = missing.collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir(dir).map_err(|error| anyhow!("{}: {}", dir.display(), cause(&error)))?;
            self.made.push(dir.to_owned());
        }
        Ok(())
    }

    pub(super) fn add(&mut self, path: &Path, digest: &str) {
        if !self.has(path, digest) {
            self.files.push((digest.to_owned(), path.to_owned()));
        }
    }

    /// Nothing but `digest` is at `path` any more.
    pub(super) fn settle(&mut self, path: &Path, digest: &str) {
        self.files.retain(|(of, at)| at != path || of == digest);
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.files.retain(|(_, at)| at != path);
    }

    /// Each once, in their order.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for (_, path) in &self.files {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// Removes the record, and the directories that it tells of and that are empty.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_file(path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(anyhow!("{}: {}", path().display(), cause(&error)));
            }
            _ => {}
        }
        for dir in self.made.iter().rev() {
            // refused where somebody else has put something there
            let _ = fs::remove_dir(dir);
        }
        Ok(())
    }
}

fn path() -> PathBuf {
    Path::new(EMULATORS).join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = Record::default();
        record.add(Path::new("/etc/binfmt.d/qemu-arm.conf"), "aa");
        record.add(Path::new("/var/lib/binfmt/qemu-arm"), "bb");
        record.add(Path::new("/var/lib/binfmt/qemu-arm"), "cc");
        record.made.push("/var/lib/binfmt".into());
        let read = Record::parse(&record.text()).unwrap();
        assert_eq!(read, record);
        assert!(read.has(Path::new("/var/lib/binfmt/qemu-arm"), "bb"));
        assert_eq!(read.paths().len(), 2);
    }

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
    fn what_is_no_record_is_refused() {
        assert!(Record::parse("something else\n").is_err());
    }
}
