//! The ELF part of the walk: which architecture's program a file is, who loads it, and whether its loader is there.

use std::path::Path;

use binfmt_magic::arch::{Arch, Endian};
use binfmt_magic::entry::Entry;
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::elf::{Doomed, Ident, Image, LoadedBy, Malformed};
use super::format;
use super::libc::Libc;
use super::place::{Opened, Purpose, Unopened};
use super::problem::{Culprit, Fault, Problem};
use super::walk::{Next, Walk};
use super::{Loading, Note, Step};
use crate::survey::{Failure, Verdict};

/// Where QEMU's emulators look first for what a program asks for (`interp_prefix`, `-L`): by QEMU's own build, and by
/// Debian's since 2025.
const SYSROOTS: [&str; 2] = ["/usr/gnemul/qemu-", "/etc/qemu-binfmt/"];
/// How many bytes tell kind and machine.
const DECISIVE: usize = 20;
/// Where pages have another size, the kernel says so.
const USUAL_PAGE: u64 = 4096;

/// What the probes say of the handler of a program's architecture.
pub(super) enum Emulated {
    /// Programs run; what the emulator will say of this one.
    Works(Option<Problem>),
    /// They run where the handler's interpreter is found; likewise.
    NotPinned(Option<Problem>),
    /// They do not run.
    Fails(Fault),
}

impl Walk<'_> {
    /// `None`: `entry` is not known as the handler of an architecture's programs, so that no probe went through it.
    pub(super) fn emulated(
        &mut self,
        entry: &Entry,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Option<Emulated> {
        let arch = Ident::read(&step.head).and_then(|ident| ident.arch())?;
        let standing = self.here.survey.of(arch);
        standing
            .handler
            .as_ref()
            .filter(|handler| handler.name == entry.name)?;
        let level = match &standing.verdict {
            Verdict::Works { level, .. } => *level,
            Verdict::Fails(Failure::NotPinned) if !entry.flags.fix_binary => {
                let complaint = self.load(arch, LoadedBy::Emulator, arch.levels, step, opened);
                return Some(Emulated::NotPinned(complaint));
            }
            Verdict::Fails(failure) => {
                return Some(Emulated::Fails(Fault::Foreign(arch, failure.clone())));
            }
        };
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        Some(Emulated::Works(complaint))
    }

    /// An ELF file that no entry takes.
    pub(super) fn by_machine(
        &mut self,
        ident: Ident,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Next {
        if let Some((arch, level)) = self.native(step).filter(|_| is_native_program(&step.head)) {
            let problem = self.load(arch, LoadedBy::Kernel, level, step, opened);
            return problem.map_or(Next::Ends(None), |problem| Next::Loader(Box::new(problem)));
        }
        if step.head.len() < DECISIVE {
            let fault = Fault::Malformed(Malformed::Header, LoadedBy::Kernel);
            return Next::Ends(Some(fault));
        }
        if !ident.is_program() {
            return Next::Ends(Some(Fault::NotAProgram(ident.kind_name())));
        }
        let Some(arch) = ident.arch() else {
            return Next::Ends(Some(Fault::Machine(ident.machine_name())));
        };
        let standing = self.here.survey.of(arch);
        let level = match &standing.verdict {
            Verdict::Works { level, .. } => *level,
            Verdict::Fails(_) => arch.levels,
        };
        // what it asks for is worth telling, whoever will load it
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        let entry = standing.handler.as_ref().map(|entry| entry.name.clone());
        match &standing.verdict {
            Verdict::Works { .. } if entry.is_none() && !standing.is_native() => {
                (step.unseen, step.works) = (true, Some(true));
                complaint.map_or(Next::Ends(None), |problem| Next::Loader(Box::new(problem)))
            }
            Verdict::Fails(failure)
                if entry.is_none() || matches!(failure, Failure::SwitchedOff { .. }) =>
            {
                Next::Ends(Some(Fault::Foreign(arch, failure.clone())))
            }
            _ => Next::Ends(Some(Fault::NotTaken(arch, entry))),
        }
    }

    /// The row whose programs the kernel takes this for, and its level. It goes by the machine in its own byte order
    /// (`elf_check_arch`); only some architectures look at the class too.
    fn native(&self, step: &Step) -> Option<(&'static Arch, u8)> {
        const BY_MACHINE_ALONE: [&str; 3] = ["x86_64", "i386", "aarch64"];
        let host = Arch::of_host()?;
        let (low, high) = (*step.head.get(18)?, *step.head.get(19)?);
        let machine = match host.endian {
            Endian::Little => u16::from_le_bytes([low, high]),
            Endian::Big => u16::from_be_bytes([low, high]),
        };
        let mut rows = self
            .here
            .survey
            .standings
            .iter()
            .filter(|s| s.is_native() && s.arch.machine == machine);
        let found = rows.find(|s| {
            BY_MACHINE_ALONE.contains(&host.qemu) || step.head.get(4) == Some(&(s.arch.class as u8))
        })?;
        let level = match found.verdict {
            Verdict::Works { level, .. } => level,
            Verdict::Fails(_) => 1,
        };
        Some((found.arch, level))
    }

    /// What whoever loads it has to say of it, and of its loader.
    fn load(
        &mut self,
        arch: &'static Arch,
        by: LoadedBy,
        level: u8,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Option<Problem> {
        let problem = |fault| Some(self.problem(&step.visit, fault));
        let length = opened.length;
        let image = match Image::read(opened.file(), arch, by) {
            Ok(image) => image,
            Err(malformed) => return problem(Fault::Malformed(malformed, by)),
        };
        let wanted = image.loader.as_deref();
        let loader = wanted.map(|path| self.open_loader(path, arch, by));
        let found = loader.as_ref().and_then(|loader| loader.as_ref().ok());
        step.loading = Some(Loading {
            arch,
            native: by == LoadedBy::Kernel,
            position_independent: image.is_position_independent(),
            loader: image.loader.clone(),
            found: found.map(|loader| loader.real.clone()),
        });
        let checked = loader.map(|loader| check_loader(&mut loader?, arch, by));
        let missing = match (wanted, checked) {
            (Some(path), Some(Err(fault))) => {
                return Some(self.problem_of_loader(path, arch, by, fault));
            }
            (Some(path), Some(Ok(missing))) => Some((path, missing)),
            _ => None,
        };
        if let Some(doomed) = image.doom(length, page_size()) {
            return problem(Fault::Doomed(doomed, by));
        }
        // nobody else looks at what a program states: the rest is tried and may succeed
        let is_glibcs = wanted.is_some_and(|loader| Libc::of(loader) == Libc::Glibc);
        if image.level > level && is_glibcs {
            return problem(Fault::Level(arch, image.level, level));
        }
        let missing = [Some((&*step.visit.path, image.missing(length))), missing];
        let missing = missing
            .into_iter()
            .flatten()
            .filter(|(_, bytes)| *bytes > 0);
        let notes = missing.map(|(path, bytes)| Note::Missing(path.to_owned(), bytes));
        self.notes.extend(notes);
        if image.level > level {
            self.notes.push(Note::Level(image.level, level));
        }
        None
    }

    /// The loader is looked for where the program runs, whoever asks for it.
    fn problem_of_loader(
        &self,
        path: &Path,
        arch: &'static Arch,
        by: LoadedBy,
        fault: Fault,
    ) -> Problem {
        Problem {
            path: path.to_owned(),
            outside: self.reach(path, false),
            culprit: Culprit::Loader(arch, by),
            fault,
        }
    }

    /// The loader, open. QEMU looks in its sysroots before it takes the path as it is.
    fn open_loader(&self, path: &Path, arch: &Arch, by: LoadedBy) -> Result<Opened, Fault> {
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

/// `e_type` as this host's kernel reads it, whatever byte order the file states.
fn is_native_program(head: &[u8]) -> bool {
    let mut head = head.to_vec();
    if let (Some(data), Some(host)) = (head.get_mut(5), Arch::of_host()) {
        *data = host.endian as u8;
    }
    Ident::read(&head).is_some_and(|ident| ident.is_program())
}

/// The kernel reads a whole header of its own class, then looks at the machine; an emulator at class and byte order too.
/// Returns how many of its bytes are missing without harm.
fn check_loader(opened: &mut Opened, arch: &'static Arch, by: LoadedBy) -> Result<u64, Fault> {
    let header = arch.header().len() as u64;
    let none = |what: String, errno| Err(Fault::NoLoader(what, errno));
    if opened.length < header {
        return none(
            format!("is too short to be one: {} bytes", opened.length),
            Errno::EIO,
        );
    }
    let Some(ident) = Ident::read(&opened.head) else {
        return none(
            format!("is none, but {}", format::recognize(&opened.head).name),
            Errno::ELIBBAD,
        );
    };
    let same = match by {
        LoadedBy::Kernel => ident.machine == arch.machine,
        LoadedBy::Emulator => ident.arch().is_some_and(|other| other.qemu == arch.qemu),
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

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(USUAL_PAGE)
}
