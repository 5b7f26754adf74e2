//! Which file an interpreter is: where it came from, what has become of its path, its build id and digest, and whether
//! another file is the same byte for byte.
//!
//! Its path may lead to a file server that does not answer, so that is looked up by [`Files`].
//!
//! Works on an open file, since the kernel keeps what it pinned when its path is long gone.
//!
//! Rests on `proc_pid_fd(5)` and `proc_pid_fdinfo(5)`, and, for the build id, on the note that `ld --build-id` writes.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use goblin::elf::note::{NT_GNU_BUILD_ID, NoteDataIterator};
use goblin::elf::program_header::PT_NOTE;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::emulator::{HEAD, read_up_to, segments};
use crate::helper::files::Files;
use crate::kernel::file_system::reading;
use crate::kernel::mount::mountinfo::mounts;
use crate::kernel::process::path_of;
use crate::kernel::wording::errno_of;

/// What the kernel puts behind a path that is gone (`d_path` in `fs/d_path.c`).
const DELETED: &[u8] = b" (deleted)";
/// More than the notes of any program need, in bytes.
const NOTES: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its path when it was opened or, while it lives, now. Seen from this mount namespace only if `place` says so.
    pub path: PathBuf,
    pub place: Place,
    /// Bytes.
    pub size: u64,
    /// GNU build id in hexadecimal digits, where the linker left one.
    pub build_id: Option<String>,
    /// When its bytes were last changed, as its file system has it, in seconds since 1970. Packages and images carry
    /// over the time of their build.
    pub modified: i64,
}

/// What has become of a file's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Present,
    /// The file is gone from its directory, and nothing has taken its place.
    Deleted,
    Replaced,
    /// It is not where it was registered any more, but at this path.
    Moved,
    /// It is, or was, in a container or another mount namespace.
    Elsewhere,
    /// A file system does not say which file is at its path, or where it was registered.
    Unknown,
}

impl Identity {
    /// Looks at these files, whose entries were registered with these paths.
    pub fn of_all(files: &[(&File, Option<&Path>)]) -> Vec<io::Result<Self>> {
        let links: Vec<_> = files.iter().map(|(file, _)| fs::read_link(path_of(*file))).collect();
        let known = links.iter().flatten().flat_map(|link| [Some(link.as_path()), before_deletion(link)]);
        let registered = files.iter().map(|(_, registered)| *registered);
        let mut paths: Vec<&Path> = known.chain(registered).flatten().collect();
        paths.sort_unstable();
        paths.dedup();
        let there = Files::at(&paths);
        let identities = files.iter().zip(&links).map(|((file, registered), link)| {
            let link = link.as_deref().map_err(|error| io::Error::from(errno_of(error)))?;
            Self::of(file, link, *registered, &there)
        });
        identities.collect()
    }

    fn of(file: &File, link: &Path, registered: Option<&Path>, there: &Files) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let id = Ok((metadata.dev(), metadata.ino()));
        let is_at = |path: &Path| there.get(path).map(|there| there == id);
        let former = before_deletion(link);
        let place = match (is_at(link), registered.map_or(Some(true), is_at)) {
            (None, _) | (Some(true), None) => Place::Unknown,
            (Some(true), Some(false)) => Place::Moved,
            (Some(true), Some(true)) => Place::Present,
            (Some(false), _) => match former.map(|path| there.get(path)) {
                Some(None) => Place::Unknown,
                Some(Some(Ok(_))) if is_in_sight(file)? => Place::Replaced,
                Some(Some(_)) => Place::Deleted,
                None if metadata.nlink() == 0 => Place::Deleted,
                None if is_in_sight(file)? => Place::Replaced,
                None => Place::Elsewhere,
            },
        };
        let path = if place == Place::Moved || place == Place::Present { link } else { former.unwrap_or(link) };
        let path = path.to_owned();
        Ok(Self {
            path,
            place,
            size: metadata.len(),
            build_id: reading(file, || build_id(file))?,
            modified: metadata.mtime(),
        })
    }
}

/// The path that the link of a file had before the file was deleted, if it was.
fn before_deletion(link: &Path) -> Option<&Path> {
    let before = link.as_os_str().as_bytes().strip_suffix(DELETED)?;
    Some(Path::new(OsStr::from_bytes(before)))
}

/// Whether `file` is on a mount of this mount namespace.
fn is_in_sight(file: &File) -> io::Result<bool> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id: Option<i32> = id.and_then(|id| id.trim().parse().ok());
    Ok(mounts()?.iter().any(|mount| Some(mount.mnt_id) == id))
}

/// `None` also where the file is no ELF program, or its notes make no sense.
fn build_id(file: &File) -> io::Result<Option<String>> {
    let head = read_up_to(file, 0, HEAD)?;
    for note in segments(&head).unwrap_or_default() {
        if note.p_type != PT_NOTE {
            continue;
        }
        let data = read_up_to(file, note.p_offset, note.p_filesz.min(NOTES))?;
        let alignment = usize::try_from(note.p_align).unwrap_or(0).max(4);
        let notes = NoteDataIterator {
            size: data.len(),
            data: &data,
            offset: 0,
            ctx: (alignment, goblin::container::Ctx::default()),
        };
        let mut notes = notes.flatten();
        if let Some(id) = notes.find(|n| n.n_type == NT_GNU_BUILD_ID && n.name == "GNU") {
            return Ok(Some(hexadecimal(id.desc)));
        }
    }
    Ok(None)
}

/// The whole file's SHA-256, in hexadecimal digits. Fails for more than a gigabyte.
pub fn sha256(file: &File) -> io::Result<String> {
    if file.metadata()?.len() > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut digest = Sha256::new();
    reading(file, || {
        each_chunk(file, |chunk, _| {
            digest.update(chunk);
            Ok(true)
        })
    })?;
    Ok(hexadecimal(&digest.finalize()))
}

/// The SHA-256 of these bytes, in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Whether two files have the same bytes. One file under two paths is not read.
pub fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (first, second) = (one.metadata()?, other.metadata()?);
    if (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        return Ok(true);
    }
    if first.len() != second.len() {
        return Ok(false);
    }
    let mut compared = vec![0; CHUNK];
    let compare = |chunk: &[u8], offset| {
        let compared = &mut compared[..chunk.len()];
        other.read_exact_at(compared, offset)?;
        Ok(compared == chunk)
    };
    reading(other, || each_chunk(one, compare))
}

const CHUNK: usize = 128 * 1024;
/// No file is read beyond this many bytes. The largest emulators have some 50 MB; a sparse file may claim terabytes.
const LIMIT: u64 = 1 << 30;

/// Hands on the bytes of `file` and where they are, until there are no more, or `work` says false: then false.
fn each_chunk(file: &File, mut work: impl FnMut(&[u8], u64) -> io::Result<bool>) -> io::Result<bool> {
    let (mut chunk, mut offset) = (vec![0; CHUNK], 0);
    loop {
        let length = file.read_at(&mut chunk, offset)?;
        if length == 0 {
            return Ok(true);
        }
        if offset >= LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !work(&chunk[..length], offset)? {
            return Ok(false);
        }
        offset += length as u64;
    }
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
