//! Emulators that are embedded in this program: sections of its ELF file that `objcopy --add-section` has put there,
//! such as `qemu-aarch64.zst`, each one frame of Zstandard (RFC 8878). The loader maps none of them.
//!
//! An emulator is unpacked into memory when it is needed, each into a file system of its own (`tmpfs`) that is mounted
//! nowhere, as `/usr/bin/qemu-aarch64`: the path that it has in the image. So it works on a read-only or `noexec` file
//! system, no user can put another file in its place, and the memory is free again as soon as this process and the
//! entry that has the emulator pinned are gone. A caller who may not mount gets only a file in memory
//! (`memfd_create(2)`), which serves for everything except registering.
//!
//! Rests on `fsmount(2)`, Linux 5.2.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(target_pointer_width = "32")]
use goblin::elf::{header::header32 as header, section_header::section_header32 as section_header};
#[cfg(target_pointer_width = "64")]
use goblin::elf::{header::header64 as header, section_header::section_header64 as section_header};
use nix::errno::Errno;
use rustix::mount::MountAttrFlags;

use super::{DIR, cannot_mount};
use crate::helper::probes::in_memory_file;
use crate::kernel::mount::detached;
use crate::kernel::process::path_of;

const PROGRAM: &str = "/proc/self/exe";
/// What the name of a section that holds an emulator ends with.
const SUFFIX: &str = ".zst";

#[derive(Debug)]
pub(super) struct Embedded {
    /// What the names of the emulators begin with.
    pub(super) prefix: String,
    sections: HashMap<String, Section>,
    unpacked: Mutex<HashMap<OsString, Arc<OwnedFd>>>,
}

/// Where in the program's file it is: offset and size, in bytes.
type Section = (u64, u64);

impl Embedded {
    /// Each is called `prefix` and its name. `None` where the program has none, as in most builds. Fails when the
    /// program's own file cannot be read; `InvalidData` when it was cut short.
    pub(super) fn in_this_program(prefix: &str) -> io::Result<Option<Self>> {
        if cfg!(not(feature = "embedded")) {
            return Ok(None);
        }
        let sections = places(&mut File::open(PROGRAM)?)?;
        Ok((!sections.is_empty()).then(|| Self { prefix: prefix.to_owned(), sections, unpacked: Mutex::default() }))
    }

    pub(super) fn has(&self, name: &OsStr) -> bool {
        self.section(name).is_ok()
    }

    /// The emulator `name`, to be read or started. Errors: those of [`Self::root`], except for a lack of privilege, and
    /// those of a file in memory.
    pub(super) fn open(&self, name: &OsStr) -> io::Result<File> {
        match self.root(name) {
            Ok(root) => File::open(below(&root, name)),
            Err(error) if cannot_mount(&error) => {
                let mut file = in_memory_file(&name.to_string_lossy(), &[])?;
                unpack(self.section(name)?, &mut file)?;
                // the kernel starts no file that is open for writing
                File::open(path_of(&file))
            }
            Err(error) => Err(error),
        }
    }

    /// A root directory in which the emulator `name` is, at its path in the image. Errors: `NotFound` where it is not
    /// embedded; when nothing can be mounted here, or there is no memory; or when the section is damaged.
    pub(super) fn root(&self, name: &OsStr) -> io::Result<Arc<OwnedFd>> {
        let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = unpacked.get(name) {
            return Ok(root.clone());
        }
        let section = self.section(name)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = Arc::new(detached("tmpfs", &[("mode", "755")], attributes)?);
        fs::create_dir_all(below(&root, OsStr::new("")))?;
        let file = below(&root, name);
        let mut new = OpenOptions::new();
        unpack(section, &mut new.write(true).create_new(true).open(&file)?)?;
        fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        unpacked.insert(name.to_owned(), root.clone());
        Ok(root)
    }

    fn section(&self, name: &OsStr) -> io::Result<Section> {
        let name = name.to_str().and_then(|name| name.strip_prefix(&self.prefix));
        let section = name.and_then(|name| self.sections.get(name));
        section.copied().ok_or_else(|| Errno::ENOENT.into())
    }
}

#[cfg(feature = "embedded")]
fn unpack((offset, size): Section, into: &mut File) -> io::Result<()> {
    let mut program = File::open(PROGRAM)?;
    program.seek(SeekFrom::Start(offset))?;
    let compressed = io::BufReader::new(program.take(size));
    let decoder = ruzstd::decoding::StreamingDecoder::new(compressed);
    let mut bytes = decoder.map_err(|_| damaged())?;
    io::copy(&mut bytes, into).map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        None => damaged(),
    })?;
    let decoder = bytes.into_frame_decoder();
    let intact = decoder.get_checksum_from_data() == decoder.get_calculated_checksum();
    intact.then_some(()).ok_or_else(damaged)
}

/// The image has its emulators beside the program.
#[cfg(not(feature = "embedded"))]
fn unpack(_: Section, _: &mut File) -> io::Result<()> {
    Err(Errno::ENOENT.into())
}

fn damaged() -> io::Error {
    let text = "this program is damaged, fetch it again";
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Where this process finds the emulator `name` below `root`.
fn below(root: &OwnedFd, name: &OsStr) -> PathBuf {
    path_of(root).join(&DIR[1..]).join(name)
}

/// Offset and size of the section of each emulator, by its name, in an ELF file of this host. Fails when the file
/// cannot be read; `InvalidData` when it was cut short.
#[allow(clippy::useless_conversion, reason = "the fields of 32-bit files are smaller")]
pub fn places(program: &mut File) -> io::Result<HashMap<String, (u64, u64)>> {
    let header = header::Header::from_fd(program).map_err(io::Error::other)?;
    let count = usize::from(header.e_shnum);
    // objcopy puts them last, so that a broken download lacks them; of the size that is read, whatever the header has
    let size = u64::from(header.e_shnum) * section_header::SIZEOF_SHDR as u64;
    if u64::from(header.e_shoff).saturating_add(size) > program.metadata()?.len() {
        return Err(damaged());
    }
    let headers = section_header::SectionHeader::from_fd(program, header.e_shoff.into(), count);
    let headers = headers.map_err(io::Error::other)?;
    // a program that was stripped of its sections has none
    let Some(table) = headers.get(usize::from(header.e_shstrndx)) else {
        return Ok(HashMap::new());
    };
    program.seek(SeekFrom::Start(table.sh_offset.into()))?;
    let mut names = Vec::new();
    program.take(table.sh_size.into()).read_to_end(&mut names)?;
    let section = |header: &section_header::SectionHeader| {
        let name = names.get(usize::try_from(header.sh_name).ok()?..)?;
        let name = std::str::from_utf8(name.split(|byte| *byte == 0).next()?).ok()?;
        let name = name.strip_suffix(SUFFIX)?.to_owned();
        Some((name, (header.sh_offset.into(), header.sh_size.into())))
    };
    Ok(headers.iter().filter_map(section).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::mem::offset_of;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn a_program_that_was_cut_short_is_damaged_whatever_size_its_headers_claim() {
        let size = section_header::SIZEOF_SHDR;
        for claimed in [size, 0, 1] {
            let mut bytes = vec![0; header::SIZEOF_EHDR + 2 * size];
            let mut set = |at: usize, number: &[u8]| bytes[at..][..number.len()].copy_from_slice(number);
            let claimed = u16::try_from(claimed).unwrap();
            set(offset_of!(header::Header, e_shoff), &header::SIZEOF_EHDR.to_ne_bytes());
            set(offset_of!(header::Header, e_shentsize), &claimed.to_ne_bytes());
            set(offset_of!(header::Header, e_shnum), &2_u16.to_ne_bytes());
            assert!(places(&mut file_of(&bytes)).unwrap().is_empty());
            bytes.pop();
            let error = places(&mut file_of(&bytes)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{claimed}");
        }
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = File::from(memfd_create("file", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }
}
