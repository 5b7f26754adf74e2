//! An ELF file as those read it that load it: Linux, and QEMU's user emulators. Pure: bytes in, facts or a named fault out.
//!
//! Owns what a header says, what of it is a lie, and which lies matter to whom. Nothing is read beyond what the two
//! read themselves, so a file of any size costs the same. Whether the loader that a file asks for is there, and which
//! handler takes the file, is [`crate::explain`]'s.
//!
//! Rests on the gABI, `load_elf_binary` and `load_elf_phdrs` in Linux's `fs/binfmt_elf.c` (each refusal tried on 6.18),
//! and `load_elf_image` in QEMU's `linux-user/elfload.c` (tried with 10.0).

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use binfmt_magic::arch::{ARCHES, Arch, Class, Endian};
use goblin::container::{Container, Ctx};
use goblin::elf::header::{ET_CORE, ET_DYN, ET_EXEC, ET_REL, header32, header64};
use goblin::elf::program_header::{PT_GNU_PROPERTY, PT_INTERP, PT_LOAD};
use goblin::elf::{Elf, Header, ProgramHeader};
use nix::errno::Errno;

use super::WINDOW;

mod property;

/// How many bytes of program headers the kernel takes (`load_elf_phdrs`).
const HEADERS: u64 = 0x1_0000;
/// How long a loader's path may be, its NUL included (`PATH_MAX`).
const LONGEST_PATH: u64 = 4096;

/// Who loads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedBy {
    /// The kernel itself.
    Kernel,
    /// QEMU's user emulator.
    Emulator,
}

/// What the start of an ELF file says of the rest. Numbers are as they stand there, whatever they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ident {
    /// `e_ident[EI_CLASS]`
    pub class: u8,
    /// `e_ident[EI_DATA]`
    pub data: u8,
    /// `e_ident[EI_OSABI]`
    pub os_abi: u8,
    /// `e_type`, in the byte order that it states; little-endian if that is none.
    pub kind: u16,
    /// `e_machine`, likewise.
    pub machine: u16,
    /// `e_flags`, likewise.
    pub flags: u32,
}

impl Ident {
    /// Reads the start of a file; zeros stand for what is missing. `None`: no ELF file.
    #[must_use]
    pub fn read(head: &[u8]) -> Option<Self> {
        let byte = |at: usize| head.get(at).copied().unwrap_or(0);
        let is_big = byte(5) == Endian::Big as u8;
        let half = |at| {
            let half = u16::from_le_bytes([byte(at), byte(at + 1)]);
            if is_big { half.swap_bytes() } else { half }
        };
        let word = |at| {
            let word = u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
            if is_big { word.swap_bytes() } else { word }
        };
        let flags_at = if byte(4) == Class::Elf64 as u8 {
            48
        } else {
            36
        };
        head.starts_with(b"\x7fELF").then(|| Self {
            class: byte(4),
            data: byte(5),
            os_abi: byte(7),
            kind: half(16),
            machine: half(18),
            flags: word(flags_at),
        })
    }

    /// The architecture, whatever kind of file it is.
    #[must_use]
    pub fn arch(&self) -> Option<&'static Arch> {
        ARCHES.iter().find(|arch| {
            (arch.class as u8, arch.endian as u8, arch.machine)
                == (self.class, self.data, self.machine)
                && (arch.flags ^ self.flags) & arch.distinct_flags == 0
        })
    }

    /// Whether it is a program at all, by what it states: executable, or position-independent.
    #[must_use]
    pub fn is_program(&self) -> bool {
        matches!(self.kind, ET_EXEC | ET_DYN)
    }

    /// What kind of file it states to be.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ET_EXEC => "executable",
            ET_DYN => "position-independent",
            ET_REL => "an object file",
            ET_CORE => "a core dump",
            _ => "of no known type",
        }
    }

    /// The operating system's ABI, as far as files for Linux state one.
    #[must_use]
    pub fn os_abi_name(&self) -> String {
        match self.os_abi {
            0 => "System V".to_owned(),
            3 => "GNU/Linux".to_owned(),
            6 => "Solaris".to_owned(),
            9 => "FreeBSD".to_owned(),
            12 => "OpenBSD".to_owned(),
            65 => "FDPIC".to_owned(),
            97 => "ARM".to_owned(),
            other => format!("number {other}"),
        }
    }

    /// The machine's name in the gABI, or its number.
    #[must_use]
    pub fn machine_name(&self) -> String {
        match goblin::elf::header::machine_to_str(self.machine) {
            "UNKNOWN" | "UNKNOWN_EM" | "NONE" => format!("number {}", self.machine),
            name => name.to_owned(),
        }
    }
}

/// Why a loader refuses a file whose first bytes are fine. Printed, it completes "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The file ends within its header.
    Header,
    /// The header states a wrong size for itself.
    HeaderSize(u16),
    /// The header states a wrong size for a program header.
    EntrySize(u16),
    /// It has no program headers, or more than are read.
    Count(u16),
    /// The program headers are not within the file.
    Headers,
    /// The path of its loader is shorter or longer than a path can be.
    PathLength(u64),
    /// The path of its loader is not within the file.
    PathBeyond,
    /// The path of its loader lies at an offset that no file has.
    PathOffset,
    /// The path of its loader does not end in a NUL.
    PathEnd,
    /// It asks for two loaders.
    Loaders,
}

impl Malformed {
    /// What `execve(2)` fails with, where the kernel loads the file.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::PathBeyond => Errno::EIO,
            Self::PathOffset => Errno::EINVAL,
            _ => Errno::ENOEXEC,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("is truncated: it ends within its ELF header"),
            Self::HeaderSize(size) => {
                write!(f, "has an ELF header that says to be {size} bytes long")
            }
            Self::EntrySize(size) => {
                write!(
                    f,
                    "has an ELF header that says that program headers are {size} bytes long"
                )
            }
            Self::Count(count) => {
                write!(
                    f,
                    "has an ELF header that counts {count} program headers, which the kernel does not take"
                )
            }
            Self::Headers => f.write_str("is truncated: its program headers lie beyond its end"),
            Self::PathLength(length) => {
                write!(
                    f,
                    "asks for a loader (PT_INTERP) by a path of {length} bytes"
                )
            }
            Self::PathBeyond => {
                f.write_str("is truncated: the path of its loader (PT_INTERP) lies beyond its end")
            }
            Self::PathOffset => {
                f.write_str("has the path of its loader (PT_INTERP) at an impossible offset")
            }
            Self::PathEnd => {
                f.write_str("asks for a loader (PT_INTERP) by a path that does not end in a NUL")
            }
            Self::Loaders => f.write_str("asks for two loaders (PT_INTERP)"),
        }
    }
}

/// Why a program that is loaded ends before it does anything. Printed, it completes "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doomed {
    /// Nothing of it is to be mapped.
    NoSegment,
    /// Some of what is to be mapped lies beyond the file's end.
    Truncated {
        /// How long the file must be.
        needs: u64,
        /// How long it is.
        has: u64,
    },
    /// A segment's offset and address do not fall on the same place of a page.
    Unaligned,
    /// A segment takes more of the file than of the memory.
    Overfull,
    /// It is a library, and says nowhere where to begin.
    NoEntry,
}

impl fmt::Display for Doomed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSegment => f.write_str("has no segment to load"),
            Self::Truncated { needs, has } => {
                write!(f, "is truncated: {has} of {needs} bytes are there")
            }
            Self::Unaligned => f.write_str(
                "has a segment whose offset and address do not agree with the page size",
            ),
            Self::Overfull => {
                f.write_str("has a segment that is larger in the file than in memory")
            }
            Self::NoEntry => f.write_str("is a shared library without an entry point"),
        }
    }
}

/// What of a file is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The loader that it asks for.
    pub loader: Option<PathBuf>,
    /// The micro-architecture level that it states to need: 1 to 4 on amd64, else 1.
    pub level: u8,
    by: LoadedBy,
    kind: u16,
    entry: u64,
    segments: Vec<ProgramHeader>,
}

impl Image {
    /// Reads `file` as a program of `arch`. The kernel takes it for one by its machine alone, so class and byte order
    /// are the row's, whatever the file states.
    ///
    /// # Errors
    /// The lie that makes `by` refuse the file.
    pub fn read(
        file: &mut (impl Read + Seek),
        arch: &Arch,
        by: LoadedBy,
    ) -> Result<Self, Malformed> {
        let header = header(file, arch)?;
        let segments = segments(file, &header, arch, by)?;
        let mut paths = segments.iter().filter(|s| s.p_type == PT_INTERP);
        let loader = paths
            .next()
            .map(|segment| loader(file, segment))
            .transpose()?;
        if by == LoadedBy::Emulator && paths.next().is_some() {
            return Err(Malformed::Loaders);
        }
        let mut properties = segments.iter().filter(|s| s.p_type == PT_GNU_PROPERTY);
        let level = properties.next().filter(|_| arch.levels > 1);
        let note = level.and_then(|segment| {
            read_at(file, segment.p_offset, segment.p_filesz.min(LONGEST_PATH))
        });
        Ok(Self {
            loader,
            level: note.map_or(1, |note| property::level(&note)),
            by,
            kind: header.e_type,
            entry: header.e_entry,
            segments,
        })
    }

    /// Whether it is position-independent.
    #[must_use]
    pub fn is_position_independent(&self) -> bool {
        self.kind == ET_DYN
    }

    /// Why it would end at once, in a file of `length` bytes where pages have `page` bytes.
    #[must_use]
    pub fn doom(&self, length: u64, page: u64) -> Option<Doomed> {
        let loaded = || self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        let needs = loaded().filter(|s| s.p_filesz > 0);
        let needs = needs.map(|s| s.p_offset.saturating_add(s.p_filesz)).max();
        if loaded().next().is_none() {
            return Some(Doomed::NoSegment);
        }
        if self.by == LoadedBy::Kernel && loaded().any(|s| s.p_filesz > s.p_memsz) {
            return Some(Doomed::Overfull);
        }
        let differs = |s: &ProgramHeader| s.p_offset % page != s.p_vaddr % page;
        if loaded().any(|s| s.p_filesz > 0 && differs(s)) {
            return Some(Doomed::Unaligned);
        }
        if let Some(needs) = needs.filter(|needs| *needs > length) {
            return Some(Doomed::Truncated { needs, has: length });
        }
        let is_library = self.entry == 0 && self.kind == ET_DYN && self.loader.is_none();
        is_library.then_some(Doomed::NoEntry)
    }
}

fn header(file: &mut (impl Read + Seek), arch: &Arch) -> Result<Header, Malformed> {
    let size = match arch.class {
        Class::Elf32 => header32::SIZEOF_EHDR,
        Class::Elf64 => header64::SIZEOF_EHDR,
    };
    let mut head = read_at(file, 0, size as u64).ok_or(Malformed::Header)?;
    head[4] = arch.class as u8;
    head[5] = arch.endian as u8;
    head.resize(WINDOW, 0);
    Elf::parse_header(&head).map_err(|_| Malformed::Header)
}

fn segments(
    file: &mut (impl Read + Seek),
    header: &Header,
    arch: &Arch,
    by: LoadedBy,
) -> Result<Vec<ProgramHeader>, Malformed> {
    let (container, header_size) = match arch.class {
        Class::Elf32 => (Container::Little, header32::SIZEOF_EHDR),
        Class::Elf64 => (Container::Big, header64::SIZEOF_EHDR),
    };
    let order = match arch.endian {
        Endian::Little => goblin::container::Endian::Little,
        Endian::Big => goblin::container::Endian::Big,
    };
    let context = Ctx::new(container, order);
    if by == LoadedBy::Emulator && usize::from(header.e_ehsize) != header_size {
        return Err(Malformed::HeaderSize(header.e_ehsize));
    }
    let size = ProgramHeader::size(context);
    if usize::from(header.e_phentsize) != size {
        return Err(Malformed::EntrySize(header.e_phentsize));
    }
    let count = usize::from(header.e_phnum);
    let bytes = (count * size) as u64;
    if by == LoadedBy::Kernel && !(1..=HEADERS).contains(&bytes) {
        return Err(Malformed::Count(header.e_phnum));
    }
    let bytes = read_at(file, header.e_phoff, bytes).ok_or(Malformed::Headers)?;
    ProgramHeader::parse(&bytes, 0, count, context).map_err(|_| Malformed::Headers)
}

fn loader(file: &mut (impl Read + Seek), segment: &ProgramHeader) -> Result<PathBuf, Malformed> {
    let length = segment.p_filesz;
    if !(2..=LONGEST_PATH).contains(&length) {
        return Err(Malformed::PathLength(length));
    }
    if segment
        .p_offset
        .checked_add(length)
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Malformed::PathOffset);
    }
    let mut path = read_at(file, segment.p_offset, length).ok_or(Malformed::PathBeyond)?;
    if path.last() != Some(&0) {
        return Err(Malformed::PathEnd);
    }
    let end = path.iter().position(|byte| *byte == 0);
    path.truncate(end.unwrap_or(path.len()));
    Ok(OsString::from_vec(path).into())
}

/// Exactly these bytes of the file, or none.
fn read_at(file: &mut (impl Read + Seek), offset: u64, length: u64) -> Option<Vec<u8>> {
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == length).then_some(bytes)
}
