//! Going from file to file as the kernel does, and seeing at each who takes it.
//!
//! What becomes of an ELF file is in [`super::program`].

use std::path::{Path, PathBuf};

use binfmt_magic::entry::Entry;

use super::elf::Ident;
use super::format;
use super::handler::Handlers;
use super::place::{Opened, Place, Purpose};
use super::problem::{Fault, Problem, Role};
use super::program::Emulated;
use super::shebang::{self, Shebang};
use super::{Content, Explanation, Here, Note, Step, WINDOW};

/// How often the kernel goes from a file to its interpreter (`exec_binprm`).
const REWRITES: usize = 5;

/// Where the kernel goes from a file.
pub(super) enum Next {
    /// Nowhere: it runs, or does not.
    Ends(Option<Fault>),
    /// The loader is what keeps it from running.
    Loader(Box<Problem>),
    /// To this interpreter.
    Goes(PathBuf, Role),
    /// To this interpreter, opened when the entry was registered, whatever the root directory is now.
    GoesPinned(PathBuf, Role),
}

/// Going from file to file.
pub(super) struct Walk<'a> {
    pub(super) here: &'a Here<'a>,
    pub(super) place: Place,
    /// Whether the file at hand is one that an entry has pinned.
    pinned: bool,
    steps: Vec<Step>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(here: &'a Here<'a>, place: Place) -> Self {
        Self {
            here,
            place,
            pinned: false,
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
            notes: self.notes,
        }
    }

    fn follow(&mut self, file: &Path) -> Option<Problem> {
        let (mut path, mut role) = (file.to_owned(), Role::Program);
        // what an emulator will say of the program, once it has been started
        let mut later = None;
        for rewrites in 0.. {
            let host = Place::here();
            let place = if self.pinned { &host } else { &self.place };
            let opened = match place.open(&path, Purpose::Execute) {
                Ok(opened) => opened,
                // the kernel holds the file, whatever has become of its name
                Err(_) if self.pinned => return later,
                Err(unopened) => {
                    return Some(self.problem(&path, &role, Fault::Unopened(unopened)));
                }
            };
            if rewrites > REWRITES {
                return Some(self.problem(&path, &role, Fault::TooDeep(self.reach(file))));
            }
            let (step, next, complaint) = self.step(&path, &role, opened);
            later = later.or(complaint);
            self.steps.push(step);
            (path, role, self.pinned) = match next {
                Next::Ends(None) => return later,
                Next::Ends(Some(fault)) => return Some(self.problem(&path, &role, fault)),
                Next::Loader(problem) => return Some(*problem),
                Next::Goes(path, role) => (path, role, false),
                Next::GoesPinned(path, role) => (path, role, true),
            };
        }
        later
    }

    fn step(
        &mut self,
        path: &Path,
        role: &Role,
        mut opened: Opened,
    ) -> (Step, Next, Option<Problem>) {
        let head = opened.head[..opened.head.len().min(WINDOW)].to_vec();
        let content = content(&opened.head);
        let handlers = Handlers::of(&self.here.survey.entries, self.here.enabled, path, &head);
        let mut step = Step {
            path: path.to_owned(),
            real: (opened.real != self.outside(path)).then(|| opened.real.clone()),
            role: role.clone(),
            content,
            head,
            handlers,
            unseen: false,
            works: None,
            loading: None,
        };
        let (next, complaint) = match step.handlers.taker.clone() {
            Some(entry) => self.by_entry(&entry, &mut step, &mut opened),
            None => (self.by_kernel(&mut step, &mut opened), None),
        };
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
        let role = Role::Handler(entry.name.clone());
        let next = if entry.flags.fix_binary {
            Next::GoesPinned
        } else {
            Next::Goes
        };
        let onward = || next(interpreter.clone(), role.clone());
        match self.emulated(entry, step, opened) {
            None => (onward(), None),
            Some(Emulated::Fails(fault)) => {
                step.works = Some(false);
                (Next::Ends(Some(fault)), None)
            }
            Some(Emulated::Works(complaint)) => {
                step.works = Some(true);
                (Next::Ends(None), complaint)
            }
            Some(Emulated::NotPinned(complaint)) => {
                self.notes.push(Note::NotPinned(entry.name.clone()));
                (onward(), complaint)
            }
        }
    }

    fn by_kernel(&mut self, step: &mut Step, opened: &mut Opened) -> Next {
        match &step.content {
            Content::Script(Ok(line)) => {
                let line = line.clone();
                self.note(&line, &step.path);
                let script = (step.path.clone(), self.reach(&step.path));
                Next::Goes(line.interpreter, Role::Interpreter(script.0, script.1))
            }
            Content::Elf(ident) => {
                let ident = *ident;
                self.by_machine(ident, step, opened)
            }
            Content::Script(Err(unusable)) => untaken(step, Fault::Shebang(*unusable)),
            Content::Other(format) => untaken(step, Fault::Format(format)),
        }
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
        if argument.ends_with(b"\r") {
            self.notes.push(Note::ArgumentReturn(script.to_owned()));
        }
        if line.interpreter.is_relative() {
            self.notes.push(Note::Relative(line.interpreter.clone()));
        }
    }

    pub(super) fn problem(&self, path: &Path, role: &Role, fault: Fault) -> Problem {
        Problem {
            path: path.to_owned(),
            outside: self.reach(path),
            role: role.clone(),
            fault,
        }
    }

    /// `path` for a command of this process's user: the links of another root directory lead elsewhere from here.
    fn reach(&self, path: &Path) -> PathBuf {
        if self.here.root.is_none() || self.pinned {
            return path.to_owned();
        }
        let real = self.place.real(path);
        real.unwrap_or_else(|| self.outside(path))
    }

    /// `path` as this process reaches it, if no symbolic link is in the way.
    fn outside(&self, path: &Path) -> PathBuf {
        if self.pinned {
            Place::here().outside(path)
        } else {
            self.place.outside(path)
        }
    }
}

/// An entry that is off comes before what the file is.
fn untaken(step: &Step, fault: Fault) -> Next {
    let disabled = step.handlers.disabled.first().map(|entry| {
        // one that is on by itself is off with the whole table
        let switch = if entry.enabled {
            "status".into()
        } else {
            entry.name.clone()
        };
        Fault::Disabled(entry.name.clone(), switch)
    });
    Next::Ends(Some(disabled.unwrap_or(fault)))
}

fn content(head: &[u8]) -> Content {
    if let Some(ident) = Ident::read(head) {
        return Content::Elf(ident);
    }
    match shebang::read(head) {
        Some(line) => Content::Script(line),
        None => Content::Other(format::recognize(head)),
    }
}
