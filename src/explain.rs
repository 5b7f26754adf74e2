//! Explaining: why a file runs here, or does not.
//!
//! Follows the kernel from file to file: the handlers of `binfmt_misc` are asked first, then `#!`, then ELF, and for the
//! interpreter that comes of it all begins again. Each step is the kernel's own decision, taken from the same bytes; whether a
//! handler works is not decided here but seen, by the probes of [`crate::policy::survey`]. The file itself is not executed.
//!
//! Rests on `exec_binprm` and `search_binary_handler` in Linux's `fs/exec.c`, `fs/binfmt_misc.c` (which puts itself at
//! the head of the list), `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;

use crate::kernel::wording::shown;
use crate::policy::remedy::Means;
use elf::Ident;
use fix::Fixes;
use format::Format;
use handler::Handlers;
use place::{Place, RootError};
use problem::{Problem, Role};
use shebang::{Shebang, Unusable};
use walk::Walk;

pub mod elf;
pub mod format;
pub mod handler;
pub mod libc;
pub mod place;
pub mod problem;
pub mod shebang;
pub mod unmatched;

mod fix;
mod loader;
mod machine;
mod privilege;
mod program;
mod walk;
mod x32;

pub use machine::machine_of;

/// How much of a file's beginning the kernel decides by (`BINPRM_BUF_SIZE`): so much since Linux 5.1, half before.
pub const WINDOW: usize = 256;

/// How many remedies are told at once: more than there are kinds of them.
const MOST: usize = 6;

/// What an explanation rests on besides the file.
#[derive(Debug)]
pub struct Here<'a> {
    /// What runs here, and how this call would install more.
    pub means: Means<'a>,
    /// Whether the table as a whole is on.
    pub enabled: bool,
    /// Where the table is, for commands that change it.
    pub table: &'a Path,
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
    /// What makes it run, where there is a problem: what to do about that one, and about those that show only then.
    pub remedy: Option<String>,
    /// What is worth knowing besides.
    pub notes: Vec<Note>,
}

/// A file that the kernel comes to.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Where it is, in its root directory.
    pub path: PathBuf,
    /// Why it is looked at.
    pub role: Role,
    /// Whether it was opened when its entry was registered, so that the root directory is this process's own.
    pub pinned: bool,
}

/// One file on the way.
#[derive(Debug)]
pub struct Step {
    /// Which one it is.
    pub visit: Visit,
    /// Where symbolic links led to, if they did, as this process sees it.
    pub real: Option<PathBuf>,
    /// What it holds.
    pub content: Content,
    /// Its first bytes, as many as the kernel looks at.
    pub head: Vec<u8>,
    /// The entries that match it.
    pub handlers: Handlers,
    /// Whether a handler takes it that is out of sight: that of the host of a user namespace.
    pub unseen: bool,
    /// Whether the probes have shown that handler to work; `None` where they do not go through it.
    pub works: Option<bool>,
    /// Of a program, by whomever it would be loaded: how.
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
    /// So many bytes at the end of this file are missing, within the page that it ends in.
    Missing(PathBuf, u64),
    /// The program states to need this level of its architecture, and the other is what runs here.
    Level(u8, u8),
    /// This name without a slash was found in `PATH`, at this path.
    Searched(PathBuf, PathBuf),
    /// The pinned interpreter of this entry needs a loader of the root directory that programs run in.
    Dynamic(OsString),
    /// What the program's setuid or setgid bit stands for, and whether it counts.
    Privilege(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| shown(path.as_os_str());
        match self {
            Self::EnvWords(script) => write!(
                f,
                "env takes the rest of the #! line of {} for one name; env -S splits it into words",
                name(script)
            ),
            Self::ArgumentReturn(script) => write!(
                f,
                "the argument in the #! line of {} ends in a carriage return, which its interpreter may refuse",
                name(script)
            ),
            Self::Relative(path) => write!(
                f,
                "{} is looked up in the current directory of the process that starts the script",
                name(path)
            ),
            Self::Missing(path, bytes) => write!(
                f,
                "{} is truncated: the last {bytes} bytes are missing, and read as zeros",
                name(path)
            ),
            Self::Level(needs, has) => write!(
                f,
                "it says that it needs level v{needs}, and only level v{has} runs here: it may end with SIGILL"
            ),
            Self::NotPinned(entry) => write!(
                f,
                "{} is not pinned (no flag F): containers do not find its interpreter",
                shown(entry)
            ),
            Self::Dynamic(entry) => write!(
                f,
                "the interpreter of {} is dynamically linked: containers do not find its loader",
                shown(entry)
            ),
            Self::Searched(word, path) => {
                write!(f, "{} was found in PATH: {}", name(word), name(path))
            }
            Self::Privilege(text) => f.write_str(text),
        }
    }
}

/// Explains `file`, a path in the root directory of `here`; a name without a slash that is not there is looked up in `path`, as
/// `execvp(3)` does.
///
/// # Errors
/// When that root directory cannot be used.
pub fn explain(file: &Path, path: &OsStr, here: &Here) -> Result<Explanation, RootError> {
    let place = here.root.map_or_else(|| Ok(Place::here()), Place::below)?;
    let is_name = file.components().count() == 1 && place.real(file).is_none();
    let searched = is_name.then(|| place.search(file, path)).flatten();
    let looked_at = searched.as_deref().unwrap_or(file);
    let mut explanation = Walk::new(here, &place, Fixes(&[])).explain(looked_at);
    if let Some(found) = &searched {
        let note = Note::Searched(file.to_owned(), found.clone());
        explanation.notes.insert(0, note);
    }
    judge(&mut explanation, here, &place);
    Ok(explanation)
}

/// Says what makes the file run. A remedy is one if it does: the file is followed again as it would be afterwards, and what is in the
/// way then is told too.
fn judge(explanation: &mut Explanation, here: &Here, place: &Place) {
    let Some(first) = explanation.problem.clone() else {
        return;
    };
    let remedy = first.remedy(here, place);
    let (mut text, mut fixes) = (remedy.text, Vec::from_iter(remedy.fix));
    let mut problems = vec![first];
    while fixes.len() == problems.len() && fixes.len() < MOST {
        let again = Walk::new(here, place, Fixes(&fixes)).explain(&explanation.file);
        if explanation.steps.is_empty() {
            // a file that may not be executed is looked at all the same
            (explanation.steps, explanation.notes) = (again.steps, again.notes);
        }
        let Some(next) = again.problem.filter(|next| !is_among(next, &problems)) else {
            break;
        };
        let remedy = next.remedy(here, place);
        text = format!("{text}; after that, {next}; {}", remedy.text);
        fixes.extend(remedy.fix);
        problems.push(next);
    }
    explanation.remedy = Some(text);
}

fn is_among(next: &Problem, problems: &[Problem]) -> bool {
    let same = |problem: &Problem| {
        problem.path == next.path && discriminant(&problem.fault) == discriminant(&next.fault)
    };
    problems.iter().any(same)
}
