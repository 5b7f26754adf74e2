//! Explaining: why a file runs here, or does not.
//!
//! Follows the kernel from file to file: the handlers of `binfmt_misc` are asked first, then `#!`, then ELF, and for
//! the interpreter all begins again. Each step is the kernel's own decision, made from the same bytes. Whether a
//! handler works is shown by the probes of [`crate::policy::survey`]. The file itself is not executed.
//!
//! Rests on `exec_binprm` and `search_binary_handler` in Linux's `fs/exec.c`, `fs/binfmt_misc.c` (which puts itself at
//! the head of the list), `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use binfmt_magic::arch::Arch;
use serde::Serialize;

use crate::kernel::wording::{shown, text};
use crate::policy::remedy::Remedies;
pub use command::Command;
use elf::Ident;
use fault::{End, Fix};
use format::Format;
use place::{Place, Purpose};
use problem::{Fixes, Problem, Role};
use shebang::{Shebang, Unusable};
pub use step::{Matching, Step};
use walk::{REWRITES, Walk, content};

pub mod elf;
pub mod fault;
pub mod format;
pub mod handler;
pub mod place;
pub mod problem;
pub mod shebang;

mod command;
mod libc;
mod loader;
mod program;
mod step;
mod walk;
mod x32;

/// How many bytes at the start of a file the kernel decides by: `BINPRM_BUF_SIZE` since Linux 5.1, half before.
pub const WINDOW: usize = 256;

/// How many remedies one explanation lists at most: more than there are kinds.
const MOST: usize = 6;

/// What an explanation rests on besides the file.
#[derive(Debug)]
pub struct Context<'a> {
    /// What runs here, and how this call would install more.
    pub remedies: Remedies<'a>,
    /// Where the table is, for commands that change it.
    pub table: &'a Path,
    /// The root directory that the file would run in, unless it is this process's own.
    pub root: Option<&'a Path>,
    /// The name that this process's own root directory had before it was entered, if it was.
    pub entered: Option<&'a Path>,
    /// Whether bytes are compared with a magic.
    pub verbose: bool,
}

/// Why a file runs, or does not: what `--explain --format json` prints. `json.schema.json` says what each key means.
#[derive(Debug, Serialize)]
pub struct Explanation {
    pub file: String,
    pub root: Option<String>,
    pub runs: Option<bool>,
    pub errno: Option<String>,
    pub reason: Option<String>,
    pub remedy: Option<String>,
    pub steps: Vec<Step>,
    pub notes: Vec<String>,
    /// Whether what keeps it from running is the loader that an emulator would load.
    #[serde(skip)]
    pub is_emulators_loader: bool,
}

/// A file that the kernel comes to.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Where it is, in its root directory.
    pub path: PathBuf,
    pub role: Role,
    /// Whether it was opened when its entry was registered, so that the root directory is this process's own.
    pub pinned: bool,
}

#[derive(Debug)]
pub enum Content {
    Elf(Ident),
    /// A script, and its first line.
    Script(Result<Shebang, Unusable>),
    Other(&'static Format),
}

/// Explains `file`, a path in the root directory of `context`; a name without a slash that is not there is looked up in
/// `path`, as `execvp(3)` does.
pub fn explain(file: &Path, path: &OsStr, context: &Context) -> Result<Explanation> {
    let place = context.root.map_or_else(|| Ok(Place::here()), Place::below)?;
    let is_name = file.components().count() == 1 && place.real(file).is_none();
    let searched = is_name.then(|| place.search(file, path)).flatten();
    let looked_at = searched.as_deref().unwrap_or(file);
    let mut walk = Walk::follow(looked_at, context, &place, Fixes(&[]));
    if let Some(found) = &searched {
        let note = format!("{} was found in PATH: {}", shown(file.as_os_str()), shown(found.as_os_str()));
        walk.explainer.notes.insert(0, note);
    }
    let remedy = walk.problem.clone().map(|first| remedy(first, looked_at, &mut walk));
    let problem = walk.problem;
    let is_emulators_loader = problem.as_ref().is_some_and(|problem| problem.is_emulators_loader);
    Ok(Explanation {
        file: text(looked_at),
        root: context.root.map(text),
        runs: match &problem {
            Some(problem) if problem.end == End::Unknown => None,
            problem => Some(problem.is_none()),
        },
        errno: problem.as_ref().and_then(|problem| Some(format!("{:?}", problem.errno()?))),
        reason: problem.map(|problem| problem.sentence),
        remedy,
        steps: walk.steps,
        notes: walk.explainer.notes,
        is_emulators_loader,
    })
}

/// What makes `file` run. It is followed again as it would be once the remedy of the `first` problem was applied, and
/// the next problem, if there is one, is told too.
fn remedy(first: Problem, file: &Path, walk: &mut Walk) -> String {
    let mut text = first.remedy.text.clone();
    let mut problems = vec![first];
    while problems.len() < MOST {
        let fixes = problems.iter().map(|problem| problem.remedy.fix.clone());
        let Some(fixes) = fixes.collect::<Option<Vec<Fix>>>() else {
            break;
        };
        let again = Walk::follow(file, walk.explainer.context, walk.explainer.place, Fixes(&fixes));
        if walk.steps.is_empty() {
            // a file that may not be executed is looked at all the same
            (walk.steps, walk.explainer.notes) = (again.steps, again.explainer.notes);
        }
        let is_new = |next: &Problem| problems.iter().all(|known| known.sentence != next.sentence);
        let Some(next) = again.problem.filter(is_new) else {
            break;
        };
        text = format!("{text}; after that, {}; {}", next.sentence, next.remedy.text);
        problems.push(next);
    }
    text
}

/// The architecture of the program `file`, or of the one that a script's `#!` lines come to, whether or not it runs
/// here. `None`: it comes to no known architecture, or cannot be read.
pub fn machine_of(place: &Place, file: &Path) -> Option<&'static Arch> {
    let mut file = file.to_owned();
    for _ in 0..=REWRITES {
        let opened = place.open(&file, Purpose::Execute).ok()?;
        file = match content(&opened.head) {
            Content::Elf(ident) => return ident.arch().filter(|_| ident.is_program()),
            Content::Script(line) => line.ok()?.interpreter,
            Content::Other(_) => return None,
        };
    }
    None
}
