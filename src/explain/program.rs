//! The ELF part of the walk: which architecture's program a file is, what loads it, and whether its loader is there.

use std::path::Path;

use binfmt_magic::arch::{Arch, Endian};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Rule};
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::elf::{Ident, Image, LoadedBy, cut_header, refused};
use super::handler::{Unmatched, compare};
use super::libc::Libc;
use super::place::{Opened, Purpose, Unopened};
use super::problem::{End, Fault, Fix, Problem, Remedy, Scene, quoted};
use super::{Step, Visit, format, x32};
use crate::helper::probes::Form;
use crate::kernel::wording::shown;
use crate::policy::survey::{self, Failure, Verdict};

/// Kind and machine are in these first bytes.
const DECISIVE: usize = 20;
/// Where QEMU's emulators look first for a program's loader and libraries (`interp_prefix`, `-L`): by QEMU's own build,
/// and by Debian's since 2025.
const SYSROOTS: [&str; 2] = ["/usr/gnemul/qemu-", "/etc/qemu-binfmt/"];
/// The size of pages, in bytes, if the kernel does not tell.
const USUAL_PAGE: u64 = 4096;

/// What the probes say of the handler of a program's architecture.
pub(super) enum Emulated {
    /// Programs run; what the emulator will say of this one.
    Works(Option<Problem>),
    /// Programs run only if the root directory has certain files. The first says why they do not run here, if so; the
    /// second is as above.
    Depends(Option<Problem>, Option<Problem>),
    Fails(Problem),
}

impl Scene<'_> {
    /// `None`: `entry` is not known as the handler of an architecture's programs, so that no probe went through it.
    pub(super) fn emulated(&mut self, entry: &Entry, step: &mut Step, opened: &mut Opened) -> Option<Emulated> {
        let arch = Ident::read(&step.head).and_then(|ident| ident.arch())?;
        let status = self.here.means.survey.of(arch);
        let handler = status.handler.as_ref();
        handler.filter(|handler| handler.name == entry.name)?;
        let level = level(&status.verdict).unwrap_or(arch.levels);
        if let Verdict::Fails(failure) = &status.verdict {
            let can_work = matches!(failure, Failure::NotPinned | Failure::NoLoader | Failure::SwitchedOff { .. });
            if !can_work {
                let fault = self.foreign(arch, failure);
                return Some(Emulated::Fails(Problem::of(&step.visit, fault)));
            }
        }
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        Some(match &status.verdict {
            Verdict::Fails(Failure::NotPinned | Failure::NoLoader) => {
                let doubt = self.doubt(arch, entry);
                let doubt = doubt.map(|fault| Problem::of(&step.visit, fault));
                Emulated::Depends(doubt, complaint)
            }
            _ => Emulated::Works(complaint),
        })
    }

    /// What a probe shows of a handler that works in some root directories only. In another root directory than this
    /// process's own, no probe is run: others own its files.
    fn doubt(&self, arch: &'static Arch, entry: &Entry) -> Option<Fault> {
        let verdict = match self.here.root {
            None => survey::of_one(arch, Form::Here).ok(),
            Some(_) => None,
        };
        match verdict {
            Some((Verdict::Works { .. }, _)) => None,
            Some((Verdict::Fails(failure), _)) => Some(self.foreign(arch, &failure)),
            None => {
                let what = format!(
                    "is taken by {}, and whether that handler works in this root directory was not tried",
                    shown(&entry.name)
                );
                let remedy = Remedy::replace(&entry.name, self.here);
                let remedy = remedy.unwrap_or_else(|| Remedy::advice("start it, to see"));
                Some(Fault::new(what, End::Unknown, remedy))
            }
        }
    }

    /// The fault of a program of `arch`, whose programs fail with `failure`.
    fn foreign(&self, arch: &'static Arch, failure: &Failure) -> Fault {
        let end = match failure {
            Failure::NoHandler | Failure::SwitchedOff { .. } => End::Refused(Errno::ENOEXEC),
            Failure::NotPinned | Failure::NoLoader => End::Refused(Errno::ENOENT),
            Failure::Refused(errno) => End::RefusedAsSaid(*errno),
            _ => End::Told,
        };
        let what = match failure {
            Failure::NoHandler => "no handler for those is registered here".to_owned(),
            failure => format!("those do not run here: {failure}"),
        };
        let what = format!("is a program for {}, and {what}", arch.platform());
        let is_there = self.here.means.survey.of(arch).handler.is_some();
        let fix = match failure {
            Failure::SwitchedOff { table: Some(_) } if is_there => Fix::On(None),
            _ => Fix::Installed(arch),
        };
        Fault::new(what, end, Remedy::with(self.here.means.against(failure, arch), fix))
    }

    /// An ELF file that no entry takes. `None`: it runs.
    pub(super) fn by_machine(&mut self, ident: Ident, step: &mut Step, opened: &mut Opened) -> Option<Problem> {
        let native = self.native(ident, step);
        if let Some((mut arch, mut level)) = native.filter(|_| is_native_program(&step.head)) {
            // the kernel decides by the machine; a file that it then cannot read may be of another ABI of that machine
            if x32::matches(&ident) && Image::read(&mut opened.file, arch, LoadedBy::Kernel).is_err() {
                (arch, level) = match x32::native() {
                    Some(x32) => (x32, 1),
                    None => return Some(Problem::of(&step.visit, x32::fault())),
                };
            }
            return self.load(arch, LoadedBy::Kernel, level, step, opened);
        }
        let fault = match ident.arch() {
            _ if step.head.len() < DECISIVE => cut_header(),
            arch if !ident.is_program() => self.not_a_program(ident, arch, step),
            None => Fault::unknown_format(
                format!("is a program for {}, and QEMU has no user emulator for those", ident.machine_in_words()),
                Remedy::advice("run it on such a machine, or build it for this one"),
            ),
            Some(arch) => match self.by_architecture(arch, step, opened) {
                Ok(complaint) => return complaint,
                Err(fault) => fault,
            },
        };
        Some(Problem::of(&step.visit, fault))
    }

    fn not_a_program(&self, ident: Ident, arch: Option<&Arch>, step: &Step) -> Fault {
        let file = self.file(&step.visit);
        let remedy = match (ident.kind_name(), arch) {
            ("an object file", Some(arch)) => format!("link it into a program, with a compiler for linux/{}", arch.oci),
            ("a core dump", _) => format!("look at it with a debugger: gdb --core={file}"),
            _ => format!("see what it is: file {file}"),
        };
        let what = format!("is an ELF file, but not a program: {}", ident.kind_name());
        Fault::unknown_format(what, Remedy::advice(remedy))
    }

    /// A program of this architecture that no entry in sight takes. If a handler out of sight runs it: the complaint that its
    /// emulator will have. Else the fault.
    fn by_architecture(
        &mut self,
        arch: &'static Arch,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Result<Option<Problem>, Fault> {
        let status = self.here.means.survey.of(arch);
        let level = level(&status.verdict).unwrap_or(arch.levels);
        // read even if nothing loads it: the loader that it asks for is shown
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        let handler = status.handler.as_ref();
        let is_ours = arch.matches(&step.head);
        match (&status.verdict, handler) {
            // a handler that cannot be seen is assumed to have the usual magic
            (Verdict::Works { .. }, None) if is_ours && !status.is_native() => {
                (step.taken_by, step.handler_works) = ("handler", Some(true));
                return Ok(complaint);
            }
            (Verdict::Fails(failure), None) | (Verdict::Fails(failure @ Failure::SwitchedOff { .. }), _) if is_ours => {
                return Err(self.foreign(arch, failure));
            }
            _ => {}
        }
        let own = Rule::for_arch(arch, "", Path::new("/"), Flags::default()).matcher;
        let matcher = match handler {
            // an install would take it
            Some(entry) if is_ours => entry.matcher.as_ref(),
            _ => Some(&own),
        };
        let compared = matcher.map(|matcher| compare(matcher, &step.head));
        let unmatched = compared.as_deref().and_then(Unmatched::of);
        Err(match unmatched {
            Some(unmatched) => self.not_taken(arch, handler, &unmatched, step),
            None => self.foreign(arch, &Failure::NoHandler),
        })
    }

    /// The fault of a program whose header does not match `entry` or, without one, the entry of an install.
    fn not_taken(&self, arch: &'static Arch, entry: Option<&Entry>, unmatched: &Unmatched, step: &Step) -> Fault {
        let by = match entry {
            Some(entry) => format!("its handler {} does not take it", shown(&entry.name)),
            None => "no handler for those takes it".to_owned(),
        };
        let what = format!("is a program for linux/{}, but {by}: {unmatched}", arch.oci);
        let remedy = if arch.matches(&step.head) {
            Remedy::install(arch, self.here)
        } else {
            let command = unmatched.command(&self.file(&step.visit));
            let repaired = unmatched.repaired(&step.head);
            Remedy::with(
                format!("make a copy without that, and run it: {command}"),
                Fix::Start(step.visit.path.clone(), repaired),
            )
        };
        Fault::unknown_format(what, remedy)
    }

    /// The row whose programs the kernel takes this for, and its level. It goes by the machine in its own byte order
    /// (`elf_check_arch`); only some architectures look at the class too.
    fn native(&self, ident: Ident, step: &Step) -> Option<(&'static Arch, u8)> {
        const BY_MACHINE_ALONE: [&str; 3] = ["x86_64", "i386", "aarch64"];
        let host = Arch::of_host()?;
        let (low, high) = (*step.head.get(18)?, *step.head.get(19)?);
        let machine = match host.endian {
            Endian::Little => u16::from_le_bytes([low, high]),
            Endian::Big => u16::from_be_bytes([low, high]),
        };
        let rows = self.here.means.survey.statuses.iter();
        let mut rows = rows.filter(|s| s.is_native() && s.arch.machine == machine);
        let found = rows.find(|s| {
            let is_same = (s.arch.flags ^ ident.flags) & s.arch.distinct_flags == 0;
            BY_MACHINE_ALONE.contains(&host.qemu) || ident.class == s.arch.class as u8 && is_same
        })?;
        Some((found.arch, level(&found.verdict).unwrap_or(1)))
    }

    /// Why `by` does not load the program or its loader, if so. Things worth knowing become notes.
    pub(super) fn load(
        &mut self,
        arch: &'static Arch,
        by: LoadedBy,
        level: u8,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Option<Problem> {
        let length = opened.metadata.len();
        let image = match Image::read(&mut opened.file, arch, by) {
            Ok(image) => image,
            Err(flaw) => return Some(Problem::of(&step.visit, flaw.by(by))),
        };
        let wanted = image.loader.as_deref();
        let loader = wanted.map(|path| (path, self.open_loader(path, arch, by)));
        step.load(arch, by, &image, loader.as_ref().and_then(|(_, loader)| loader.as_ref().ok()));
        let mut missing = vec![(&*step.visit.path, image.missing(length))];
        if let Some((path, loader)) = loader {
            match self.check_loader(path, loader, arch, by, &step.visit) {
                Ok(bytes) => missing.push((path, bytes)),
                Err(fault) => {
                    return Some(Problem::of_loader(path, by, &step.visit, fault));
                }
            }
        }
        let flaw = image.fatal_flaw(length, page_size());
        if let Some(flaw) = flaw.or_else(|| image.as_library()) {
            return Some(Problem::of(&step.visit, flaw.by(by)));
        }
        let needs = image.level;
        // only glibc's loader refuses a level; other programs are started, and may run
        let is_glibcs = wanted.is_some_and(|loader| Libc::of(loader) == Some(Libc::Glibc));
        if needs > level && is_glibcs {
            return Some(Problem::of(&step.visit, too_high(arch, needs, level)));
        }
        for (path, bytes) in missing.into_iter().filter(|(_, bytes)| *bytes > 0) {
            let path = shown(path.as_os_str());
            self.notes.push(format!("{path} is truncated: the last {bytes} bytes are missing, and read as zeros"));
        }
        if needs > level {
            self.notes.push(format!(
                "it says that it needs level v{needs}, and only level v{level} runs here: it may end with SIGILL"
            ));
        }
        None
    }

    /// How many bytes of the loader are missing without harm.
    fn check_loader(
        &self,
        path: &Path,
        loader: Result<Opened, Unopened>,
        arch: &'static Arch,
        by: LoadedBy,
        asker: &Visit,
    ) -> Result<u64, Fault> {
        let remedy = || self.remedy_of_loader(path, arch, by, asker);
        let mut loader = loader.map_err(|unopened| {
            let remedy =
                if unopened.is_absent() { remedy() } else { unopened.remedy(path, &quoted(&self.reach(path, false))) };
            Fault::new(unopened.to_string(), unopened.end(), remedy)
        })?;
        let image = read_loader(&mut loader, arch, by).map_err(|flaw| Fault { remedy: remedy(), ..flaw.by(by) })?;
        match image.fatal_flaw(loader.metadata.len(), page_size()) {
            Some(flaw) => Err(flaw.by(by)),
            None => Ok(image.missing(loader.metadata.len())),
        }
    }

    /// The loader, open. QEMU looks in its sysroots before it takes the path as it is.
    fn open_loader(&self, path: &Path, arch: &Arch, by: LoadedBy) -> Result<Opened, Unopened> {
        let purpose = match by {
            LoadedBy::Kernel => Purpose::Execute,
            LoadedBy::Emulator => Purpose::Read,
        };
        let open = |path: &Path| self.place.open(path, purpose);
        if by == LoadedBy::Kernel {
            // an empty path is the current directory to the kernel
            let is_directory = path.as_os_str().is_empty();
            return open(path).map_err(|unopened| match unopened {
                _ if is_directory => Unopened::NoFile("a directory"),
                unopened => unopened,
            });
        }
        let inside = path.strip_prefix("/").unwrap_or(path);
        let sysroots = SYSROOTS.iter().rev();
        let mut found =
            sysroots.filter_map(|root| open(&Path::new(&format!("{root}{}", arch.interpreter)).join(inside)).ok());
        found.next().map_or_else(|| open(path), Ok)
    }
}

/// The micro-architecture level that the probes have shown to run.
fn level(verdict: &Verdict) -> Option<u8> {
    match verdict {
        Verdict::Works { level, .. } => Some(*level),
        Verdict::Fails(_) => None,
    }
}

/// Its C library refuses a program of this level.
fn too_high(arch: &Arch, needs: u8, level: u8) -> Fault {
    let what = format!("says that it needs level v{needs} of linux/{}, and only level v{level} runs here", arch.oci);
    let remedy = format!("build it for a lower level, or use a processor or an emulator with x86-64-v{needs}");
    Fault::new(what, End::Told, Remedy::advice(remedy))
}

/// The kernel reads a whole header of its own class, then looks at the machine; an emulator looks at class and byte
/// order too.
fn read_loader(opened: &mut Opened, arch: &'static Arch, by: LoadedBy) -> Result<Image, Fault> {
    let (header, length) = (arch.header().len() as u64, opened.metadata.len());
    if length < header {
        let what = format!("is too short for a loader: {length} bytes");
        return Err(refused(what, Errno::EIO));
    }
    let none = |what: String| refused(what, Errno::ELIBBAD);
    let ident = Ident::read(&opened.head).ok_or_else(|| {
        let is = format::recognize(&opened.head).name;
        none(format!("is not a loader, but {is}"))
    })?;
    let same = match by {
        LoadedBy::Kernel => ident.machine == arch.machine,
        LoadedBy::Emulator => ident.arch().is_some_and(|other| other == arch),
    };
    if !same {
        let other = ident.arch().map_or_else(|| ident.machine_name(), Arch::platform);
        return Err(none(format!("is for {other}, not for linux/{}", arch.oci)));
    }
    let image = Image::read_loader(&mut opened.file, arch, by).map_err(|flaw| none(flaw.what))?;
    Ok(if ident.is_program() { image } else { image.without_segments() })
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(USUAL_PAGE)
}

/// `e_type` as this host's kernel reads it, whatever byte order the file states.
fn is_native_program(head: &[u8]) -> bool {
    let mut head = head.to_vec();
    if let (Some(data), Some(host)) = (head.get_mut(5), Arch::of_host()) {
        *data = host.endian as u8;
    }
    Ident::read(&head).is_some_and(|ident| ident.is_program())
}
