//! The ELF part of the walk: which architecture's program a file is, what loads it, and whether its loader is there.

use std::ffi::OsString;
use std::path::Path;

use binfmt_magic::arch::{Arch, Endian, Kind};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Rule};
use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::elf::{Ident, Image, LoadedBy, cut_header};
use super::fault::{End, Fault, Fix, Remedy};
use super::handler::{Unmatched, compare};
use super::libc::Libc;
use super::place::{Opened, Purpose};
use super::problem::{Explainer, Problem};
use super::{Step, x32};
use crate::emulator::{EmulatorError, Source, Unfit};
use crate::helper::probes::Form;
use crate::kernel::wording::shown;
use crate::policy::survey::{self, Failure, Verdict};

/// Kind and machine are in these first bytes.
const DECISIVE: usize = 20;
/// The size of pages, in bytes, if the kernel does not tell.
const USUAL_PAGE: u64 = 4096;

/// Why the interpreter at `path`, which is not pinned, is not to be started by us: its start could run another user's file. `None`:
/// it is a static program of this host that nobody else can replace, so the kernel starts that file and no other, unless an entry
/// takes it.
fn no_start(path: &Path) -> Option<String> {
    let shown = shown(path.as_os_str());
    match Source::directory(Path::new("/")).open(path) {
        Ok(_) => None,
        Err(EmulatorError { unfit: Unfit::Replaceable(stranger), .. }) => {
            Some(format!("{shown} can be replaced by {}", stranger.named()))
        }
        Err(EmulatorError { unfit: Unfit::Privileged(privilege), .. }) => Some(format!("{shown} {privilege}")),
        Err(_) => Some(format!("{shown} is not a static program of this host")),
    }
}

/// What the probes say of the handler of a program's architecture.
pub(super) enum Emulated {
    /// Programs run; what the emulator will say of this one.
    Works(Option<Problem>),
    /// Programs run only if the root directory has certain files. The first says why they do not run here, if so; the
    /// second is as above.
    Depends(Option<Problem>, Option<Problem>),
    Fails(Problem),
}

impl Explainer<'_> {
    /// `None`: `entry` is not known as the handler of an architecture's programs, so that no probe went through it.
    pub(super) fn emulated(&mut self, entry: &Entry, step: &mut Step, opened: &mut Opened) -> Option<Emulated> {
        let arch = Ident::read(&step.head).and_then(|ident| ident.arch())?;
        let survey = &self.context.remedies.survey;
        let status = survey.of(arch);
        let kind = Kind::of(&step.head, arch);
        // the probe that is like this program
        let (handler, verdict) = match survey.kinds.iter().find(|of| of.arch == arch && Some(of.kind) == kind) {
            Some(status) => (status.entry.as_ref(), &status.verdict),
            None => (status.handler.as_ref(), &status.verdict),
        };
        handler.filter(|handler| handler.name == entry.name)?;
        let level = verdict.level().unwrap_or(arch.levels);
        let failure = match verdict {
            // of another kind than this program
            Verdict::Works { .. } | Verdict::Fails(Failure::OfKind { .. }) => None,
            Verdict::Fails(failure) => Some(failure),
        };
        // in another root directory, the interpreter may exist
        let in_root = self.context.root.is_some();
        let depends = |f: &&Failure| f.is_of_containers() || in_root && matches!(f, Failure::NoInterpreter(_));
        if let Some(failure) = failure {
            let can_work = depends(&failure) || matches!(failure, Failure::SwitchedOff { .. });
            if !can_work {
                let fault = self.foreign(arch, failure);
                return Some(Emulated::Fails(Problem::of(&step.visit, fault)));
            }
        }
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        self.note_defects(status, Some(entry), complaint.as_ref());
        Some(match failure.filter(depends) {
            Some(_) => {
                let doubt = self.doubt(arch, entry);
                let doubt = doubt.map(|fault| Problem::of(&step.visit, fault));
                Emulated::Depends(doubt, complaint)
            }
            None => Emulated::Works(complaint),
        })
    }

    /// What a probe shows of a handler that works in some root directories only. It starts the interpreter as this process's
    /// user and in its root directory, so only one that runs no other user's file.
    fn doubt(&self, arch: &'static Arch, entry: &Entry) -> Option<Fault> {
        let verdict = match self.untried(entry) {
            Some(why) => Err(why),
            None => survey::of_one(arch, Form::Here).map_err(|error| format!(": {error:#}")),
        };
        match verdict {
            Ok((Verdict::Works { .. }, _)) => None,
            Ok((Verdict::Fails(failure), _)) => Some(self.foreign(arch, &failure)),
            Err(why) => {
                let what = format!(
                    "is taken by {}, and whether that handler works in this root directory was not tried{why}",
                    shown(&entry.name)
                );
                let remedy = Remedy::replace(&entry.name, self.context);
                let remedy = remedy.unwrap_or_else(|| Remedy::advice("start it, to see"));
                Some(Fault::new(what, End::Unknown, remedy))
            }
        }
    }

    /// Why no probe is run through `entry` in the root directory of this process, if so.
    fn untried(&self, entry: &Entry) -> Option<String> {
        if self.context.root.is_some() {
            // others own its files
            return Some(String::new());
        }
        let why = match entry.interpreter.as_deref() {
            // the file that is pinned may be another than the one at its path
            _ if entry.flags.fix_binary => Some("its pinned interpreter is dynamically linked".to_owned()),
            Some(path) => no_start(path).or_else(|| {
                let taker = self.taker_of(path)?;
                Some(format!("{} takes its interpreter", shown(&taker)))
            }),
            None => Some("it has no interpreter".to_owned()),
        };
        why.map(|why| format!(": {why}"))
    }

    /// The entry that takes the program at `path`, or may do so.
    fn taker_of(&self, path: &Path) -> Option<OsString> {
        let survey = &self.context.remedies.survey;
        let head = self.place.open(path, Purpose::Read).map(|opened| opened.head).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        let takes = |entry: &&Entry| survey.enabled && (entry.takes(&head, name) || survey::is_unclear(entry));
        survey.entries.iter().find(takes).map(|entry| entry.name.clone())
    }

    /// The fault of a program of `arch`, whose programs fail with `failure`.
    fn foreign(&self, arch: &'static Arch, failure: &Failure) -> Fault {
        let end = match failure {
            Failure::NoHandler | Failure::NativeOnly | Failure::SwitchedOff { .. } => End::Refused(Errno::ENOEXEC),
            Failure::NotPinned | Failure::NoInterpreter(_) | Failure::NoLoader => End::Refused(Errno::ENOENT),
            Failure::Refused(errno) => End::RefusedAsSaid(*errno),
            _ => End::Told,
        };
        let what = match failure {
            Failure::NoHandler => "no handler for those is registered here".to_owned(),
            failure => format!("those do not run here: {failure}"),
        };
        let what = format!("is a program for {}, and {what}", arch.platform());
        let is_there = self.context.remedies.survey.of(arch).handler.is_some();
        let fix = match failure {
            Failure::SwitchedOff { table: Some(_) } if is_there => Fix::On(None),
            _ => Fix::Installed(arch),
        };
        Fault::new(what, end, Remedy::with(self.context.remedies.against(failure, arch), fix))
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
        let status = self.context.remedies.survey.of(arch);
        let level = status.verdict.level().unwrap_or(arch.levels);
        // read even if nothing loads it: the loader that it asks for is shown
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        let handler = status.handler.as_ref();
        let is_ours = arch.matches(&step.head);
        match (&status.verdict, handler) {
            // a handler that cannot be seen is assumed to have the usual magic
            (Verdict::Works { .. }, None) if is_ours && !status.is_native() => {
                (step.taken_by, step.handler_works) = ("handler", Some(true));
                self.note_defects(status, None, complaint.as_ref());
                return Ok(complaint);
            }
            (Verdict::Fails(failure), None)
            | (Verdict::Fails(failure @ (Failure::NativeOnly | Failure::SwitchedOff { .. })), _)
                if is_ours =>
            {
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
            Remedy::install(arch, self.context)
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
        let statuses = self.context.remedies.survey.statuses.iter();
        let rows = statuses.map(|status| status.arch).filter(|arch| arch.machine == machine);
        let mut rows = rows.filter(|arch| {
            let is_same = (arch.flags ^ ident.flags) & arch.distinct_flags == 0;
            BY_MACHINE_ALONE.contains(&host.qemu) || ident.class == arch.class as u8 && is_same
        });
        rows.find_map(|arch| Some((arch, self.context.remedies.native_level(arch)?)))
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
        let substitute = step.handlers.loader.as_ref().filter(|_| by == LoadedBy::Kernel);
        let wanted = image.loader.as_deref().filter(|_| substitute.is_none());
        if let (Some(entry), Some(_)) = (substitute, &image.loader) {
            let path = entry.interpreter.as_deref().unwrap_or(Path::new(""));
            let (path, entry) = (shown(path.as_os_str()), shown(&entry.name));
            self.notes.push(format!("the kernel uses {path} as its loader, because of the entry {entry} (flag L)"));
        }
        let loader = wanted.map(|path| (path, self.open_loader(path, arch, by)));
        let found = loader.as_ref().and_then(|(path, loader)| match loader {
            Ok(loader) => Some(loader.real.clone()),
            Err(unopened) if unopened.is_absent() => None,
            Err(_) => self.place.real(path),
        });
        step.load(arch, by, &image, found.as_deref());
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
            return Some(Problem::of(&step.visit, too_high(arch, by, needs, level)));
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
}

/// Its C library refuses a program of this level.
fn too_high(arch: &Arch, by: LoadedBy, needs: u8, level: u8) -> Fault {
    let what = format!("says that it needs level v{needs} of linux/{}, and only level v{level} runs here", arch.oci);
    let runner = match by {
        LoadedBy::Kernel => "a processor",
        LoadedBy::Emulator => "an emulator",
    };
    let remedy = format!("build it for a lower level, or use {runner} with x86-64-v{needs}");
    Fault::new(what, End::Told, Remedy::advice(remedy))
}

/// In bytes.
pub(super) fn page_size() -> u64 {
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
