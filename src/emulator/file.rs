//! An emulator's file without running it: may it be read and executed, can others replace it, is it a complete and static
//! ELF program of this host?

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use binfmt_magic::arch::{ARCHES, Arch, Class};
use goblin::container::{Container, Ctx};
use goblin::elf::header::{header32, header64};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, ProgramHeader};
use nix::errno::Errno;
use nix::unistd::geteuid;

use super::unfit::Unfit;

/// How much of the file is read: the headers of every emulator are in its first page.
pub const HEAD: u64 = 4096;
/// Symbolic links on the way to a file, as the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// Opens it, if it may serve.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn look(path: &Path) -> Result<File, Unfit> {
    let metadata = path.metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unfit::Missing(String::new()),
        _ => Unfit::Refused(e),
    })?;
    if !metadata.is_file() {
        return Err(Unfit::NotAFile);
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(Unfit::NotExecutable);
    }
    if geteuid().is_root() {
        if let Some(place) = open_to_all(path).map_err(Unfit::Refused)? {
            return Err(Unfit::Replaceable(place));
        }
    }
    let mut head = Vec::new();
    let file = File::open(path).map_err(Unfit::Refused)?;
    let mut start = (&file).take(HEAD);
    start.read_to_end(&mut head).map_err(Unfit::Refused)?;
    // of this very file: another may have taken its place since
    let length = file.metadata().map_err(Unfit::Refused)?.len();
    check_head(&head, length)?;
    Ok(file)
}

/// The first place on the way to `path` at which every user may put another file: it is writable by all, and is no folder
/// like `/tmp` (sticky), in which nobody may replace what others have put there. The way is the one that the kernel takes
/// (`path_resolution(7)`), through the folders of links. Who owns what is not judged: to name a user's file is to trust that user.
///
/// # Errors
/// Those of looking at a place or reading a link, and `ELOOP` as the kernel has it.
fn open_to_all(path: &Path) -> io::Result<Option<PathBuf>> {
    let names = |path: &Path| {
        let names = path.components().rev();
        names
            .map(|name| name.as_os_str().to_owned())
            .collect::<Vec<_>>()
    };
    let mut ahead = names(&std::path::absolute(path)?);
    let (mut place, mut links) = (PathBuf::new(), 0);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            place.pop();
            continue;
        }
        place.push(name);
        let metadata = place.symlink_metadata()?;
        if metadata.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            ahead.extend(names(&place.read_link()?));
            place.pop();
            continue;
        }
        let sticky = metadata.is_dir() && metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o002 != 0 && !sticky {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// `head` is the start of a file of `length` bytes.
///
/// # Errors
/// The first thing that is wrong with it, as an emulator of this host.
pub fn check_head(head: &[u8], length: u64) -> Result<(), Unfit> {
    if head.is_empty() {
        return Err(Unfit::Empty);
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(Unfit::NotElf);
    }
    let segments = segments(head).ok_or(Unfit::Truncated)?;
    if let Some(host) = Arch::of_host() {
        if !host.matches(head) {
            let other = ARCHES.iter().find(|arch| arch.matches(head));
            return Err(Unfit::Foreign(
                other.map_or("an unknown architecture", |arch| arch.oci),
            ));
        }
    }
    let loaded = |s: &&ProgramHeader| s.p_type == PT_LOAD;
    let end = segments
        .iter()
        .filter(loaded)
        .map(|s| s.p_offset.saturating_add(s.p_filesz))
        .max();
    if end.is_none_or(|end| end > length) {
        return Err(Unfit::Truncated);
    }
    if segments.iter().any(|s| s.p_type == PT_INTERP) {
        return Err(Unfit::Dynamic);
    }
    Ok(())
}

/// The program headers, if `head` reaches that far.
#[must_use]
pub fn segments(head: &[u8]) -> Option<Vec<ProgramHeader>> {
    let header = Elf::parse_header(head).ok()?;
    let (container, size) = if header.e_ident[4] == Class::Elf64 as u8 {
        (Container::Big, header64::SIZEOF_EHDR)
    } else {
        (Container::Little, header32::SIZEOF_EHDR)
    };
    let context = Ctx::new(container, header.endianness().ok()?);
    let start = usize::try_from(header.e_phoff).ok()?;
    if start < size {
        return None;
    }
    ProgramHeader::parse(head, start, usize::from(header.e_phnum), context).ok()
}

/// The `length` bytes from `offset` on, or as many as there are.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn read_up_to(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
