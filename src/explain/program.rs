//! The ELF part of the walk: which architecture's program a file is, who loads it, and whether its loader is there.

use std::ffi::OsStr;
use std::path::Path;

use binfmt_magic::arch::{Arch, Endian};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};

use super::elf::{Ident, Image, LoadedBy, Malformed};
use super::handler::compare;
use super::libc::Libc;
use super::loader::{check_loader, page_size};
use super::place::Opened;
use super::problem::{Fault, Problem};
use super::unmatched::Unmatched;
use super::walk::{Emulated, Next, Walk};
use super::x32;
use super::{Loading, Note, Step};
use crate::policy::survey::{self, Failure, Verdict};

/// How many bytes tell kind and machine.
const DECISIVE: usize = 20;
impl Walk<'_> {
    /// `None`: `entry` is not known as the handler of an architecture's programs, so that no probe went through it.
    pub(super) fn emulated(
        &mut self,
        entry: &Entry,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Option<Emulated> {
        let arch = Ident::read(&step.head).and_then(|ident| ident.arch())?;
        let status = self.here.means.survey.of(arch);
        status
            .handler
            .as_ref()
            .filter(|handler| handler.name == entry.name)?;
        let by = LoadedBy::Emulator;
        Some(match &status.verdict {
            Verdict::Works { level, .. } => {
                Emulated::Works(self.load(arch, by, *level, step, opened))
            }
            Verdict::Fails(Failure::NotPinned | Failure::NoLoader) => {
                let complaint = self.load(arch, by, arch.levels, step, opened);
                Emulated::Depends(self.doubt(arch, &entry.name), complaint)
            }
            Verdict::Fails(Failure::SwitchedOff { .. }) => {
                Emulated::Works(self.load(arch, by, arch.levels, step, opened))
            }
            Verdict::Fails(failure) => Emulated::Fails(Fault::Foreign(arch, failure.clone())),
        })
    }

    /// What a probe shows of a handler that works in some root directories only. In another than this process's own, none is run:
    /// its files are somebody else's.
    fn doubt(&self, arch: &'static Arch, entry: &OsStr) -> Option<Fault> {
        let unproven = || Some(Fault::Unproven(entry.to_owned()));
        if self.here.root.is_some() {
            return unproven();
        }
        match survey::of_one_here(arch) {
            Ok(Verdict::Works { .. }) => None,
            Ok(Verdict::Fails(failure)) => Some(Fault::Foreign(arch, failure)),
            Err(_) => unproven(),
        }
    }

    /// An ELF file that no entry takes.
    pub(super) fn by_machine(
        &mut self,
        ident: Ident,
        step: &mut Step,
        opened: &mut Opened,
    ) -> Next {
        if let Some((arch, level)) = self
            .native(ident, step)
            .filter(|_| is_native_program(&step.head))
        {
            let problem = self.load(arch, LoadedBy::Kernel, level, step, opened);
            // the kernel goes by the machine; what then makes no sense to it may be an ABI of its own
            let is_refused = |p: &Problem| matches!(p.fault, Fault::Malformed(..));
            if x32::is_it(&ident) && problem.as_ref().is_some_and(is_refused) {
                return self.by_x32(step, opened);
            }
            return ends(problem);
        }
        if step.head.len() < DECISIVE {
            let fault = Fault::Malformed(Malformed::Header, LoadedBy::Kernel);
            return Next::Ends(Some(fault));
        }
        if !ident.is_program() {
            return Next::Ends(Some(Fault::NotAProgram(ident.kind_name(), ident.arch())));
        }
        let Some(arch) = ident.arch() else {
            return Next::Ends(Some(Fault::Machine(ident.machine_in_words())));
        };
        let status = self.here.means.survey.of(arch);
        let level = match &status.verdict {
            Verdict::Works { level, .. } => *level,
            Verdict::Fails(_) => arch.levels,
        };
        // what it asks for is worth telling, whoever will load it
        let complaint = self.load(arch, LoadedBy::Emulator, level, step, opened);
        let is_ours = arch.matches(&step.head);
        let unmatched = |matcher: &Matcher| Unmatched::of(&compare(matcher, &step.head));
        let own = || {
            let matcher = Rule::for_arch(arch, "", Path::new("/"), Flags::default()).matcher;
            let name = status.handler.as_ref().map(|entry| entry.name.clone());
            unmatched(&matcher).map(|unmatched| Fault::NotTaken(arch, name, unmatched))
        };
        let fault = match (&status.verdict, &status.handler) {
            // a handler that is out of sight has the usual magic, as far as one knows
            (Verdict::Works { .. }, None) if !status.is_native() && is_ours => {
                (step.unseen, step.works) = (true, Some(true));
                return ends(complaint);
            }
            (Verdict::Fails(failure), None) if is_ours => {
                Some(Fault::Foreign(arch, failure.clone()))
            }
            (Verdict::Fails(failure @ Failure::SwitchedOff { .. }), _) if is_ours => {
                Some(Fault::Foreign(arch, failure.clone()))
            }
            // an install would take it
            (_, Some(entry)) if is_ours => {
                let matcher = entry.matcher.as_ref();
                let name = Some(entry.name.clone());
                matcher
                    .and_then(unmatched)
                    .map(|unmatched| Fault::NotTaken(arch, name, unmatched))
            }
            _ => own(),
        };
        Next::Ends(Some(
            fault.unwrap_or(Fault::Foreign(arch, Failure::NoHandler)),
        ))
    }

    /// A program of x32: where the kernel runs those, as of any native one.
    fn by_x32(&mut self, step: &mut Step, opened: &mut Opened) -> Next {
        if let Some(arch) = x32::native() {
            return ends(self.load(arch, LoadedBy::Kernel, 1, step, opened));
        }
        step.loading = None;
        Next::Ends(Some(Fault::X32))
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
        let mut rows = self
            .here
            .means
            .survey
            .statuses
            .iter()
            .filter(|s| s.is_native() && s.arch.machine == machine);
        let found = rows.find(|s| {
            let is_same = (s.arch.flags ^ ident.flags) & s.arch.distinct_flags == 0;
            BY_MACHINE_ALONE.contains(&host.qemu) || ident.class == s.arch.class as u8 && is_same
        })?;
        let level = match found.verdict {
            Verdict::Works { level, .. } => level,
            Verdict::Fails(_) => 1,
        };
        Some((found.arch, level))
    }

    /// What whoever loads it has to say of it, and of its loader.
    pub(super) fn load(
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
                return Some(self.problem_of_loader(path, arch, by, fault, step));
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
}

fn ends(problem: Option<Problem>) -> Next {
    problem.map_or(Next::Ends(None), |problem| Next::Loader(Box::new(problem)))
}

/// `e_type` as this host's kernel reads it, whatever byte order the file states.
fn is_native_program(head: &[u8]) -> bool {
    let mut head = head.to_vec();
    if let (Some(data), Some(host)) = (head.get_mut(5), Arch::of_host()) {
        *data = host.endian as u8;
    }
    Ident::read(&head).is_some_and(|ident| ident.is_program())
}
