//! The loader that a program asks for: looked for where whoever loads it looks, and whether it is one.

use std::path::Path;

use binfmt_magic::arch::Arch;
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::Step;
use super::elf::{Doomed, Ident, Image, LoadedBy, Malformed};
use super::format;
use super::place::{Opened, Purpose, Unopened};
use super::problem::{Culprit, Fault, Problem, Role};
use super::walk::Walk;

/// Where QEMU's emulators look first for what a program asks for (`interp_prefix`, `-L`): by QEMU's own build, and by
/// Debian's since 2025.
const SYSROOTS: [&str; 2] = ["/usr/gnemul/qemu-", "/etc/qemu-binfmt/"];
/// Where pages have another size, the kernel says so.
const USUAL_PAGE: u64 = 4096;

impl Walk<'_> {
    /// The loader is looked for where the program runs, whoever asks for it.
    pub(super) fn problem_of_loader(
        &self,
        path: &Path,
        arch: &'static Arch,
        by: LoadedBy,
        fault: Fault,
        step: &Step,
    ) -> Problem {
        let role = step.visit.role.clone();
        let asker = (!matches!(role, Role::Program)).then(|| (step.visit.path.clone(), role));
        Problem {
            path: path.to_owned(),
            outside: self.reach(path, false),
            culprit: Culprit::Loader(arch, by, asker),
            fault,
        }
    }

    /// The loader, open. QEMU looks in its sysroots before it takes the path as it is.
    pub(super) fn open_loader(
        &self,
        path: &Path,
        arch: &Arch,
        by: LoadedBy,
    ) -> Result<Opened, Fault> {
        let purpose = match by {
            LoadedBy::Kernel => Purpose::Execute,
            LoadedBy::Emulator => Purpose::Read,
        };
        let open = |path: &Path| self.place.open(path, purpose);
        let sysroots = SYSROOTS.iter().filter(|_| by == LoadedBy::Emulator);
        let mut opened = open(path);
        for sysroot in sysroots {
            let inside = path.strip_prefix("/").unwrap_or(path);
            let found = open(&Path::new(&format!("{sysroot}{}", arch.interpreter)).join(inside));
            opened = found.or(opened);
        }
        opened.map_err(|unopened| {
            // an empty path is the current directory to the kernel
            let is_directory = path.as_os_str().is_empty() && by == LoadedBy::Kernel;
            Fault::Unopened(if is_directory {
                Unopened::NoFile("a directory")
            } else {
                unopened
            })
        })
    }
}

/// The kernel reads a whole header of its own class, then looks at the machine; an emulator at class and byte order too.
/// Returns how many of its bytes are missing without harm.
pub(super) fn check_loader(
    opened: &mut Opened,
    arch: &'static Arch,
    by: LoadedBy,
) -> Result<u64, Fault> {
    let header = arch.header().len() as u64;
    let none = |what: String, errno| Err(Fault::NoLoader(what, errno));
    if opened.length < header {
        return none(
            format!("is too short for a loader: {} bytes", opened.length),
            Errno::EIO,
        );
    }
    let Some(ident) = Ident::read(&opened.head) else {
        return none(
            format!(
                "is not a loader, but {}",
                format::recognize(&opened.head).name
            ),
            Errno::ELIBBAD,
        );
    };
    let same = match by {
        LoadedBy::Kernel => ident.machine == arch.machine,
        LoadedBy::Emulator => ident.arch().is_some_and(|other| other == arch),
    };
    if !same {
        let other = ident.arch().map_or_else(
            || ident.machine_name(),
            |arch| format!("linux/{}", arch.oci),
        );
        return none(
            format!("is for {other}, not for linux/{}", arch.oci),
            Errno::ELIBBAD,
        );
    }
    let length = opened.length;
    let refused = |malformed: Malformed| Fault::NoLoader(malformed.to_string(), Errno::ELIBBAD);
    let image = Image::read_loader(opened.file(), arch, by).map_err(refused)?;
    let doomed = if ident.is_program() {
        image.doom(length, page_size())
    } else {
        Some(Doomed::NoSegment)
    };
    match doomed.filter(|doomed| *doomed != Doomed::NoEntry) {
        Some(doomed) => Err(Fault::Doomed(doomed, by)),
        None => Ok(image.missing(length)),
    }
}

pub(super) fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(USUAL_PAGE)
}
