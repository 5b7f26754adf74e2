//! An emulator's file without running it: may it be read and executed, can others replace it, does it give privileges to
//! whoever starts it, is it a complete and static ELF program of this host?

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use binfmt_magic::arch::{ARCHES, Arch, Class};
use goblin::container::{Container, Ctx};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, Header, ProgramHeader};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag};
use rustix::fs::fgetxattr;

use super::Unfit;
use super::trust::Found;
use crate::kernel::wording::quoted;

/// How much of the file is read: the headers of every emulator are in its first page.
pub const HEAD: u64 = 4096;

/// Opens it, if it may serve.
pub(super) fn look(path: &Path) -> Result<File, Unfit> {
    let found = Found::at(path).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => Unfit::Missing(String::new()),
        errno => Unfit::Refused(errno.into()),
    })?;
    let mode = found.stat.st_mode;
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(wrong("is not a file; set QEMU_BINARY_PATH to the directory of the emulators"));
    }
    if let Some(file_system) = found.pseudo {
        return Err(Unfit::Wrong(format!(
            "is a file that the kernel makes up ({file_system}), not an emulator; put the emulator there"
        )));
    }
    if mode & 0o111 == 0 {
        return Err(Unfit::NotExecutable);
    }
    if let Some(stranger) = &found.stranger {
        return Err(Unfit::Replaceable(stranger.clone()));
    }
    let file = found.open().map_err(|errno| Unfit::Refused(errno.into()))?;
    // of this very file: another may have taken its place since
    if let Some(privilege) = Privilege::of(&file).map_err(Unfit::Refused)? {
        return Err(Unfit::Privileged(privilege));
    }
    let head = read_up_to(&file, 0, HEAD).map_err(Unfit::Refused)?;
    let length = file.metadata().map_err(Unfit::Refused)?.len();
    check_head(&head, length)?;
    Ok(file)
}

/// What the kernel gives to whoever starts a file. Without flag C, whoever starts a foreign program starts its emulator
/// (`bprm_creds_from_file` in `fs/exec.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The rights of its owner (setuid).
    Owner(u32),
    /// Those of its group (setgid).
    Group(u32),
    /// Its file capabilities (`capabilities(7)`).
    Capabilities,
}

impl Privilege {
    /// What `file` gives, if its file system is not mounted `nosuid`. Errors: those of `fstat(2)`.
    pub fn of(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let mode = Mode::from_bits_truncate(metadata.mode());
        Ok(if mode.contains(Mode::S_ISUID) {
            Some(Self::Owner(metadata.uid()))
        } else if mode.contains(Mode::S_ISGID) {
            Some(Self::Group(metadata.gid()))
        } else {
            // one of another user namespace cannot be read here (EOVERFLOW)
            let read = fgetxattr(file, "security.capability", &mut [0u8; 64]).map_err(io::Error::from);
            let errno = read.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()));
            matches!(errno, Ok(_) | Err(Errno::ERANGE | Errno::EOVERFLOW)).then_some(Self::Capabilities)
        })
    }

    /// The command that takes it from the file at `path`.
    pub fn removal(self, path: &Path) -> String {
        let command = if self == Self::Capabilities { "setcap -r" } else { "chmod u-s,g-s" };
        format!("{command} {}", quoted(path))
    }
}

/// `is setuid, so programs that any user starts run with the rights of user 0`; follows what is so
impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let so = "so programs that any user starts run with";
        match self {
            Self::Owner(user) => write!(f, "is setuid, {so} the rights of user {user}"),
            Self::Group(group) => write!(f, "is setgid, {so} the rights of group {group}"),
            Self::Capabilities => write!(f, "has file capabilities, {so} these"),
        }
    }
}

/// `head` is the start of a file of `length` bytes. The error is the first thing that is wrong with it, as an emulator
/// of this host.
pub fn check_head(head: &[u8], length: u64) -> Result<(), Unfit> {
    if head.is_empty() {
        return Err(wrong("is empty; fetch it again"));
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(wrong("is not an ELF program; an emulator must be one"));
    }
    let header = Elf::parse_header(head).map_err(|_| truncated())?;
    let segments = segments_of(&header, head).ok_or_else(truncated)?;
    if let Some(host) = Arch::of_host() {
        if !host.matches(head) {
            let other = ARCHES.iter().find(|arch| arch.matches(head));
            let other = other.map_or("an unknown architecture", |arch| arch.oci);
            return Err(Unfit::Wrong(format!("is a program for {other}, not for this host; use this host's build")));
        }
    }
    let loaded = |s: &&ProgramHeader| s.p_type == PT_LOAD;
    let end = segments.iter().filter(loaded).map(|s| s.p_offset.saturating_add(s.p_filesz)).max();
    // linkers put the headers of sections at the end; nothing loads them, and a file that lacks them lacks more
    let sections = u64::from(header.e_shnum) * u64::from(header.e_shentsize);
    if end.is_none_or(|end| end.max(header.e_shoff.saturating_add(sections)) > length) {
        return Err(truncated());
    }
    if segments.iter().any(|s| s.p_type == PT_INTERP) {
        // no container has its loader at the path that it asks for
        return Err(wrong("is dynamically linked, so it would not start inside a container; use a static build"));
    }
    Ok(())
}

fn wrong(what: &str) -> Unfit {
    Unfit::Wrong(what.to_owned())
}

fn truncated() -> Unfit {
    wrong("is truncated; fetch it again")
}

/// The program headers, if `head` reaches that far.
pub fn segments(head: &[u8]) -> Option<Vec<ProgramHeader>> {
    segments_of(&Elf::parse_header(head).ok()?, head)
}

fn segments_of(header: &Header, head: &[u8]) -> Option<Vec<ProgramHeader>> {
    let context = context_of(header)?;
    let start = usize::try_from(header.e_phoff).ok()?;
    if start < Header::size(context) {
        return None;
    }
    ProgramHeader::parse(head, start, usize::from(header.e_phnum), context).ok()
}

/// Width and byte order of what an ELF header describes. `None`: it states no known byte order.
pub fn context_of(header: &Header) -> Option<Ctx> {
    let container = if header.e_ident[4] == Class::Elf64 as u8 { Container::Big } else { Container::Little };
    Some(Ctx::new(container, header.endianness().ok()?))
}

/// The `length` bytes from `offset` on, or as many as there are.
pub fn read_up_to(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let length = fill(&mut bytes, file, offset)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads from `offset` on into `bytes`, as far as the file goes; returns how many.
pub(super) fn fill(bytes: &mut [u8], file: &File, offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
