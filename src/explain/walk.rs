//! Going from file to file as the kernel does, and seeing at each who takes it.
//!
//! What becomes of an ELF file is in [`super::program`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use binfmt_magic::entry::Entry;

use super::elf::{Ident, LoadedBy};
use super::fix::Fixes;
use super::format;
use super::handler::Handlers;
use super::place::{Opened, Place};
use super::problem::{Culprit, Fault, Problem, Role};
use super::shebang::{self, Shebang};
use super::{Content, Explanation, Here, Note, Step, Visit, WINDOW};

/// How often the kernel goes from a file to its interpreter (`exec_binprm`).
pub(super) const REWRITES: usize = 5;

/// Where the kernel goes from a file.
pub(super) enum Next {
    /// Nowhere: it runs, or does not.
    Ends(Option<Fault>),
    /// The loader is what keeps it from running.
    Loader(Box<Problem>),
    /// To this interpreter.
    Goes(Visit),
    /// To this interpreter, of which the probes have shown what comes of it, if the kernel goes so far.
    Proven(Visit),
}

/// What the probes say of the handler of a program's architecture.
pub(super) enum Emulated {
    /// Programs run; what the emulator will say of this one.
    Works(Option<Problem>),
    /// They run only where files of the root directory are that they run in, and do so here if this says nothing else; likewise.
    Depends(Option<Fault>, Option<Problem>),
    /// They do not run.
    Fails(Fault),
}

/// Going from file to file.
pub(super) struct Walk<'a> {
    pub(super) here: &'a Here<'a>,
    pub(super) place: &'a Place,
    /// This process's own root directory, where pinned files were opened.
    host: Place,
    /// What is taken for changed.
    fixes: Fixes<'a>,
    /// The table, as changed.
    entries: Vec<Entry>,
    enabled: bool,
    steps: Vec<Step>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Walk<'a> {
    /// A walk through things as they are, except for `fixes`.
    pub(super) fn new(here: &'a Here<'a>, place: &'a Place, fixes: Fixes<'a>) -> Self {
        let mut entries = here.means.survey.entries.clone();
        for entry in &mut entries {
            entry.enabled |= fixes.switch_on(Some(&entry.name));
        }
        Self {
            here,
            place,
            host: Place::here(),
            fixes,
            entries,
            enabled: here.enabled || fixes.switch_on(None),
            steps: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn explain(mut self, file: &Path) -> Explanation {
        let problem = self.follow(file);
        Explanation {
            file: file.to_owned(),
            steps: self.steps,
            problem,
            remedy: None,
            notes: self.notes,
        }
    }

    fn follow(&mut self, file: &Path) -> Option<Problem> {
        let mut visit = Visit {
            path: file.to_owned(),
            role: Role::Program,
            pinned: false,
        };
        // what an emulator will say of the program, once it has been started
        let mut later = None;
        let mut rewrites = 0;
        loop {
            let purpose = self.fixes.purpose(&visit.path);
            let opened = self.place_of(visit.pinned).open(&visit.path, purpose);
            if let (Err(unopened), false) = (&opened, visit.pinned) {
                return Some(self.problem(&visit, Fault::Unopened(unopened.clone())));
            }
            if rewrites > REWRITES {
                return Some(self.too_deep(file, &visit));
            }
            // the kernel holds a pinned file, whatever has become of its name
            let Ok(opened) = opened else { return later };
            let (step, next, complaint) = self.step(&visit, opened);
            later = later.or(complaint);
            self.steps.push(step);
            visit = match next {
                Next::Ends(None) => return later,
                Next::Ends(Some(fault)) => return Some(self.problem(&visit, fault)),
                Next::Loader(problem) => return Some(*problem),
                Next::Proven(_) if rewrites < REWRITES => return later,
                Next::Proven(interpreter) | Next::Goes(interpreter) => interpreter,
            };
            rewrites += 1;
        }
    }

    /// An interpreter too many: that of a script, or that of the handler which the file before it has.
    fn too_deep(&self, first: &Path, visit: &Visit) -> Problem {
        let first = self.reach(first, false);
        match (&visit.role, self.steps.last()) {
            (Role::Handler(entry, _), Some(step)) => {
                self.problem(&step.visit, Fault::TooDeep(first, Some(entry.clone())))
            }
            _ => self.problem(visit, Fault::TooDeep(first, None)),
        }
    }

    fn step(&mut self, visit: &Visit, mut opened: Opened) -> (Step, Next, Option<Problem>) {
        if let Some(start) = self.fixes.start(&visit.path) {
            start.clone_into(&mut opened.head);
        }
        let head = opened.head[..opened.head.len().min(WINDOW)].to_vec();
        let content = content(&opened.head);
        let handlers = Handlers::of(&self.entries, self.enabled, &visit.path, &head);
        let place = self.place_of(visit.pinned);
        let mut step = Step {
            visit: visit.clone(),
            real: (opened.real != place.outside(&visit.path)).then(|| opened.real.clone()),
            content,
            head,
            handlers,
            unseen: false,
            works: None,
            loading: None,
        };
        let of_env = self.of_env(&step);
        let (next, complaint) = match (
            self.fixes.installed(&step.head),
            step.handlers.taker.clone(),
        ) {
            (Some(arch), _) => {
                let by = LoadedBy::Emulator;
                let complaint = self.load(arch, by, arch.levels, &mut step, &mut opened);
                (Next::Ends(None), complaint)
            }
            (None, Some(entry)) => self.by_entry(&entry, &mut step, &mut opened),
            (None, None) => (self.by_kernel(&mut step, &mut opened), of_env),
        };
        self.note_privilege(&step, &opened);
        (step, next, complaint)
    }

    /// The interpreter's own chain is followed, but where the probes have shown what comes of it.
    fn by_entry(
        &mut self,
        entry: &Entry,
        step: &mut Step,
        opened: &mut Opened,
    ) -> (Next, Option<Problem>) {
        let Some(interpreter) = entry.interpreter.clone() else {
            return (Next::Ends(None), None);
        };
        let onward = Visit {
            path: interpreter,
            role: Role::Handler(entry.name.clone(), self.here.table.join(&entry.name)),
            pinned: entry.flags.fix_binary,
        };
        match self.emulated(entry, step, opened) {
            None => (Next::Goes(onward), None),
            Some(Emulated::Fails(fault)) => {
                step.works = Some(false);
                (Next::Ends(Some(fault)), None)
            }
            Some(Emulated::Works(complaint)) => {
                step.works = Some(true);
                (Next::Proven(onward), complaint)
            }
            Some(Emulated::Depends(doubt, complaint)) => {
                self.notes.push(if entry.flags.fix_binary {
                    Note::Dynamic(entry.name.clone())
                } else {
                    Note::NotPinned(entry.name.clone())
                });
                let doubt = doubt.map(|fault| self.problem(&step.visit, fault));
                // what is seen to fail comes before what the emulator would say, and that before what nobody knows
                let is_known = doubt.as_ref().is_some_and(|doubt| !doubt.is_unknown());
                step.works = doubt
                    .as_ref()
                    .map_or(Some(true), |_| is_known.then_some(false));
                let told = if is_known { doubt } else { complaint.or(doubt) };
                (Next::Goes(onward), told)
            }
        }
    }

    fn by_kernel(&mut self, step: &mut Step, opened: &mut Opened) -> Next {
        match &step.content {
            Content::Script(Ok(line)) => {
                let line = line.clone();
                let Visit { path, pinned, .. } = &step.visit;
                self.note(&line, path);
                Next::Goes(Visit {
                    role: Role::Interpreter(path.clone(), self.reach(path, *pinned)),
                    path: line.interpreter,
                    pinned: false,
                })
            }
            Content::Elf(ident) => {
                let ident = *ident;
                self.by_machine(ident, step, opened)
            }
            Content::Script(Err(unusable)) => self.untaken(step, Fault::Shebang(*unusable)),
            Content::Other(format) => self.untaken(step, Fault::Format(format)),
        }
    }

    /// What `env` will say, once it has been started.
    fn of_env(&self, step: &Step) -> Option<Problem> {
        let Content::Script(Ok(line)) = &step.content else {
            return None;
        };
        let argument = line.argument.as_deref()?.as_encoded_bytes();
        let fails = line.interpreter.ends_with("env") && argument.ends_with(b"\r");
        fails.then(|| self.problem(&step.visit, Fault::EnvReturn))
    }

    fn note(&mut self, line: &Shebang, script: &Path) {
        let argument = line
            .argument
            .as_deref()
            .unwrap_or_default()
            .as_encoded_bytes();
        let is_env = line.interpreter.ends_with("env");
        if is_env && !argument.starts_with(b"-") && argument.contains(&b' ') {
            self.notes.push(Note::EnvWords(script.to_owned()));
        }
        if !is_env && argument.ends_with(b"\r") {
            self.notes.push(Note::ArgumentReturn(script.to_owned()));
        }
        if line.interpreter.is_relative() {
            self.notes.push(Note::Relative(line.interpreter.clone()));
        }
    }

    /// An entry that is off comes before what the file is.
    fn untaken(&self, step: &Step, fault: Fault) -> Next {
        let disabled = step.handlers.disabled.first().map(|entry| {
            // one that is on by itself is off with the whole table
            let switch = if entry.enabled {
                OsStr::new("status")
            } else {
                &entry.name
            };
            Fault::Disabled(
                entry.name.clone(),
                self.here.table.join(switch),
                entry.enabled,
            )
        });
        Next::Ends(Some(disabled.unwrap_or(fault)))
    }

    pub(super) fn problem(&self, visit: &Visit, fault: Fault) -> Problem {
        Problem {
            path: visit.path.clone(),
            outside: self.reach(&visit.path, visit.pinned),
            culprit: Culprit::Visited(visit.role.clone()),
            fault,
        }
    }

    /// `path` for a command of this process's user: the links of another root directory lead elsewhere from here.
    pub(super) fn reach(&self, path: &Path, pinned: bool) -> PathBuf {
        if self.here.root.is_none() || pinned {
            return path.to_owned();
        }
        let real = self.place.real(path);
        real.unwrap_or_else(|| self.place.outside(path))
    }

    fn place_of(&self, pinned: bool) -> &Place {
        if pinned { &self.host } else { self.place }
    }
}

pub(super) fn content(head: &[u8]) -> Content {
    if let Some(ident) = Ident::read(head) {
        return Content::Elf(ident);
    }
    match shebang::read(head) {
        Some(line) => Content::Script(line),
        None => Content::Other(format::recognize(head)),
    }
}
