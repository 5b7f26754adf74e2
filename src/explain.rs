//! Explaining: why a file runs here, or does not.
//!
//! Follows the kernel from file to file: the handlers of `binfmt_misc` are asked first, then `#!`, then ELF, and for the
//! interpreter all begins again. Each step is the kernel's own decision, made from the same bytes. Whether a handler works
//! is shown by the probes of [`crate::policy::survey`]. The file itself is not executed.
//!
//! Rests on `exec_binprm` and `search_binary_handler` in Linux's `fs/exec.c`, `fs/binfmt_misc.c` (which puts itself at
//! the head of the list), `fs/binfmt_script.c` and `fs/binfmt_elf.c`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use binfmt_magic::arch::Arch;

use crate::kernel::wording::shown;
use crate::policy::remedy::Means;
use elf::Ident;
use format::Format;
use handler::Handlers;
use place::{Place, Purpose};
use problem::{Fix, Fixes, Problem, Role};
use shebang::{Shebang, Unusable};
use walk::{REWRITES, Walk, content};

pub mod elf;
pub mod format;
pub mod handler;
pub mod place;
pub mod problem;
pub mod shebang;

mod libc;
mod program;
mod walk;
mod x32;

/// How many bytes at the start of a file the kernel decides by: `BINPRM_BUF_SIZE` since Linux 5.1, half before.
pub const WINDOW: usize = 256;

/// How many remedies one explanation lists at most: more than there are kinds.
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
    /// What makes it run: the remedy of the problem, and those of the problems that show only after it.
    pub remedy: Option<String>,
    /// Sentences that are worth knowing besides.
    pub notes: Vec<String>,
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

/// One file on the way, and what was found out about it.
#[derive(Debug)]
pub struct Step {
    /// Which file it is.
    pub visit: Visit,
    /// Where symbolic links led to, if they did, as this process sees it.
    pub real: Option<PathBuf>,
    /// What it holds.
    pub content: Content,
    /// Its first bytes, as many as the kernel looks at.
    pub head: Vec<u8>,
    /// The entries that match it.
    pub handlers: Handlers,
    /// Whether a handler takes it that cannot be seen from here: that of the host of a user namespace.
    pub unseen: bool,
    /// Whether the probes have shown that handler to work; `None` where they do not go through it.
    pub works: Option<bool>,
    /// Of a program, whether the kernel or an emulator loads it: how.
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

/// Explains `file`, a path in the root directory of `here`; a name without a slash that is not there is looked up in `path`, as
/// `execvp(3)` does.
///
/// # Errors
/// When that root directory cannot be used.
pub fn explain(file: &Path, path: &OsStr, here: &Here) -> Result<Explanation> {
    let place = here.root.map_or_else(|| Ok(Place::here()), Place::below)?;
    let is_name = file.components().count() == 1 && place.real(file).is_none();
    let searched = is_name.then(|| place.search(file, path)).flatten();
    let looked_at = searched.as_deref().unwrap_or(file);
    let mut explanation = Walk::new(here, &place, Fixes(&[])).explain(looked_at);
    if let Some(found) = &searched {
        let (word, found) = (shown(file.as_os_str()), shown(found.as_os_str()));
        let note = format!("{word} was found in PATH: {found}");
        explanation.notes.insert(0, note);
    }
    add_remedy(&mut explanation, here, &place);
    Ok(explanation)
}

/// Says what makes the file run. The file is followed again as it would be once the remedy was applied, and the next problem, if
/// there is one, is told too.
fn add_remedy(explanation: &mut Explanation, here: &Here, place: &Place) {
    let Some(first) = explanation.problem.clone() else {
        return;
    };
    let mut text = first.remedy.text.clone();
    let mut problems = vec![first];
    while problems.len() < MOST {
        let fixes = problems.iter().map(|problem| problem.remedy.fix.clone());
        let Some(fixes) = fixes.collect::<Option<Vec<Fix>>>() else {
            break;
        };
        let again = Walk::new(here, place, Fixes(&fixes)).explain(&explanation.file);
        if explanation.steps.is_empty() {
            // a file that may not be executed is looked at all the same
            (explanation.steps, explanation.notes) = (again.steps, again.notes);
        }
        let is_new = |next: &Problem| problems.iter().all(|known| known.sentence != next.sentence);
        let Some(next) = again.problem.filter(is_new) else {
            break;
        };
        text = format!("{text}; after that, {next}; {}", next.remedy.text);
        problems.push(next);
    }
    explanation.remedy = Some(text);
}

/// The architecture of the program `file`, or of the one that a script's `#!` lines come to, whether or not it runs here. `None`:
/// it comes to no known architecture, or cannot be read.
#[must_use]
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
