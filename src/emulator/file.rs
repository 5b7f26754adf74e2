//! An emulator's file without running it: may it be read and executed, can others replace it, is it a complete and static
//! ELF program of this host?

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use binfmt_magic::arch::{ARCHES, Arch, Class};
use goblin::container::{Container, Ctx};
use goblin::elf::header::{header32, header64};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, ProgramHeader};
use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::trust::Found;
use super::unfit::Unfit;

/// How much of the file is read: the headers of every emulator are in its first page.
pub const HEAD: u64 = 4096;

/// Opens it, if it may serve.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn look(path: &Path) -> Result<File, Unfit> {
    let found = Found::at(path).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Unfit::Missing(String::new()),
        errno => Unfit::Refused(errno.into()),
    })?;
    let mode = found.stat.st_mode;
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Unfit::NotAFile);
    }
    if mode & 0o111 == 0 {
        return Err(Unfit::NotExecutable);
    }
    if let Some(stranger) = &found.stranger {
        return Err(Unfit::Replaceable(stranger.clone()));
    }
    let file = found.open().map_err(|errno| Unfit::Refused(errno.into()))?;
    let head = read_up_to(&file, 0, HEAD).map_err(Unfit::Refused)?;
    // of this very file: another may have taken its place since
    let length = file.metadata().map_err(Unfit::Refused)?.len();
    check_head(&head, length)?;
    Ok(file)
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
