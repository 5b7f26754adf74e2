//! Explaining: why a file runs here, or does not.
//!
//! Follows the kernel from file to file: the handlers of `binfmt_misc` are asked first, then `#!`, then ELF, and for the
//! interpreter that comes of it all begins again. Each step is the kernel's own decision, taken from the same bytes; whether a
//! handler works is not decided here but seen, by the probes of [`crate::survey`]. Nothing is executed, nothing changed.
//!
//! Rests on `exec_binprm` and `search_binary_handler` in Linux's `fs/exec.c`, `fs/binfmt_misc.c` (which puts itself at
//! the head of the list), `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use crate::survey::Survey;
use crate::wording::shown;
use elf::Ident;
use format::Format;
use handler::Handlers;
use place::{Opened, Place, Purpose};
use problem::{Fault, Problem, Role};
use shebang::{Shebang, Unusable};

pub mod elf;
pub mod format;
pub mod handler;
pub mod libc;
pub mod place;
pub mod problem;
pub mod shebang;

mod program;

/// How much of a file's beginning the kernel decides by (`BINPRM_BUF_SIZE`).
pub const WINDOW: usize = 256;
/// How often the kernel goes from a file to its interpreter (`exec_binprm`).
const REWRITES: usize = 5;

/// What an explanation rests on besides the file.
#[derive(Debug)]
pub struct Here<'a> {
    /// What runs here.
    pub survey: &'a Survey,
    /// Whether the table as a whole is on.
    pub enabled: bool,
    /// The root directory that the file would run in, unless it is this process's own.
    pub root: Option<&'a Path>,
}

/// Why a file runs, or does not.
#[derive(Debug)]
pub struct Explanation {
    /// The file that was asked for.
    pub file: PathBuf,
    /// The files that the kernel comes to, that one first.
    pub steps: Vec<Step>,
    /// What keeps it from running. `None`: it runs.
    pub problem: Option<Problem>,
    /// What is worth knowing besides.
    pub notes: Vec<Note>,
}

/// One file on the way.
#[derive(Debug)]
pub struct Step {
    /// Where it is, in its root directory.
    pub path: PathBuf,
    /// Where symbolic links led to, if they did, as this process sees it.
    pub real: Option<PathBuf>,
    /// Why it is looked at.
    pub role: Role,
    /// What it holds.
    pub content: Content,
    /// Its first bytes, as many as the kernel looks at.
    pub head: Vec<u8>,
    /// The entries that match it.
    pub handlers: Handlers,
    /// Of an ELF file that is loaded, by the kernel or an emulator: how.
    pub loading: Option<Loading>,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// An ELF file.
    Elf(Ident),
    /// A script, and its first line.
    Script(Result<Shebang, Unusable>),
    /// Something else.
    Other(&'static Format),
}

/// How a program is loaded.
#[derive(Debug)]
pub struct Loading {
    /// Its architecture.
    pub arch: &'static Arch,
    /// Whether the kernel does it without a handler.
    pub native: bool,
    /// Whether it is position-independent.
    pub position_independent: bool,
    /// The loader that it asks for.
    pub loader: Option<PathBuf>,
    /// Where that is, as this process sees it.
    pub found: Option<PathBuf>,
}

/// Something worth knowing that keeps nothing from running as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The script hands `env` several words as one name.
    EnvWords(PathBuf),
    /// The argument of the script's interpreter ends in a carriage return.
    ArgumentReturn(PathBuf),
    /// The interpreter is looked for from the directory that the caller is in.
    Relative(PathBuf),
    /// The handler's interpreter is looked up where the program runs, so that containers do not find it.
    NotPinned(OsString),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnvWords(script) => write!(
                f,
                "env gets all that follows it in the #! line of {} as one name; env -S splits it",
                shown(script.as_os_str())
            ),
            Self::ArgumentReturn(script) => write!(
                f,
                "the argument in the #! line of {} ends in a carriage return, which its interpreter may not take",
                shown(script.as_os_str())
            ),
            Self::Relative(path) => write!(
                f,
                "{} is looked for from the directory of whoever starts the script",
                shown(path.as_os_str())
            ),
            Self::NotPinned(entry) => write!(
                f,
                "{} is not pinned (no flag F): containers do not find its interpreter",
                shown(entry)
            ),
        }
    }
}

/// Explains `file`, a path in the root directory of `here`.
///
/// # Errors
/// When that root directory cannot be opened.
pub fn explain(file: &Path, here: &Here) -> io::Result<Explanation> {
    let place = here.root.map_or_else(|| Ok(Place::here()), Place::below)?;
    let mut walk = Walk {
        here,
        place,
        pinned: false,
        steps: Vec::new(),
        notes: Vec::new(),
    };
    let problem = walk.follow(file);
    Ok(Explanation {
        file: file.to_owned(),
        steps: walk.steps,
        problem,
        notes: walk.notes,
    })
}

/// Where the kernel goes from a file.
enum Next {
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
struct Walk<'a> {
    here: &'a Here<'a>,
    place: Place,
    /// Whether the file at hand is one that an entry has pinned.
    pinned: bool,
    steps: Vec<Step>,
    notes: Vec<Note>,
}

impl Walk<'_> {
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
                return Some(self.problem(&path, &role, Fault::TooDeep(file.to_owned())));
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
            Some(program::Emulated::Fails(fault)) => (Next::Ends(Some(fault)), None),
            Some(program::Emulated::Works(complaint)) => (Next::Ends(None), complaint),
            Some(program::Emulated::NotPinned(complaint)) => {
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
                Next::Goes(line.interpreter, Role::Interpreter(step.path.clone()))
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

    fn problem(&self, path: &Path, role: &Role, fault: Fault) -> Problem {
        Problem {
            path: path.to_owned(),
            outside: match self.here.root {
                Some(_) => self.outside(path),
                None => path.to_owned(),
            },
            role: role.clone(),
            fault,
        }
    }

    /// `path` as this process reaches it.
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
    let disabled = step.handlers.disabled.first();
    let disabled = disabled.map(|entry| Fault::Disabled(entry.name.clone()));
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
