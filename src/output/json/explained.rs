//! What `binfmt --explain FILE --format json` prints.

use std::path::Path;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};
use serde::Serialize;

use super::{interpreter, name, text};
use crate::explain::elf::Ident;
use crate::explain::handler::{Byte, compare};
use crate::explain::problem::Role;
use crate::explain::{Content, Explanation, Loading, Step};

/// Why a file runs, or does not.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// The file that was asked for.
    pub file: String,
    /// The root directory that it was looked for in, if one was named.
    pub root: Option<String>,
    /// Whether it would be started here, and not end at once. `null`: that cannot be told.
    pub runs: Option<bool>,
    /// Name of the error of `execve(2)`. `null`: there is none, or it is not known.
    pub errno: Option<String>,
    /// Why it does not run, or why that cannot be told.
    pub reason: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The files that the kernel comes to, the first one that was asked for.
    pub steps: Vec<ExplainedStep>,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
}

/// One file that the kernel comes to.
#[derive(Debug, Serialize)]
pub struct ExplainedStep {
    /// Its path, in its root directory.
    pub path: String,
    /// Where symbolic links led to, if they did, as `binfmt` sees it.
    pub real: Option<String>,
    /// Why the kernel comes to it: `file`, `#!` or `handler`.
    pub because: &'static str,
    /// What it is, in words.
    pub is: String,
    /// The platform whose program it is.
    pub platform: Option<String>,
    /// Of an ELF file, its machine by the name that the ELF specification has.
    pub machine: Option<String>,
    /// Of an ELF file: 32 or 64.
    pub bits: Option<u8>,
    /// Of an ELF file: `little` or `big`.
    pub byte_order: Option<&'static str>,
    /// Of an ELF file, its type, in words.
    pub kind: Option<&'static str>,
    /// Of an ELF file, its operating system's ABI.
    pub os_abi: Option<String>,
    /// Of a program: `static`, `static-pie` or `dynamic`.
    pub linkage: Option<&'static str>,
    /// Of a dynamic program, the loader that it asks for.
    pub loader: Option<String>,
    /// Where that loader is, as `binfmt` sees it; `null` if it is not there.
    pub loader_found: Option<String>,
    /// Of a script, its interpreter.
    pub interpreter: Option<String>,
    /// Of a script, what its interpreter gets as an argument.
    pub argument: Option<String>,
    /// Who takes it: `kernel`, `handler` or `nobody`.
    pub taken_by: &'static str,
    /// The entry that takes it; `null` for a handler too that is out of sight, that of the host of a user namespace.
    pub handler: Option<Matching>,
    /// Whether programs run through it, as the probes have shown; `null` where they do not go through it.
    pub handler_works: Option<bool>,
    /// Entries that would, were there not a newer one.
    pub shadowed: Vec<Matching>,
    /// Entries that would, were they switched on.
    pub disabled: Vec<Matching>,
    /// With `--verbose`: the file beside the magic of its handler, or that an install would register.
    pub bytes: Option<Vec<Byte>>,
}

/// An entry that matches.
#[derive(Debug, Serialize)]
pub struct Matching {
    /// Its name.
    pub entry: String,
    /// Its flags, as the kernel prints them.
    pub flags: String,
    /// Its interpreter.
    pub interpreter: Option<String>,
    /// The extension by which it matches, if it is not by magic.
    pub extension: Option<String>,
}

impl Explained {
    /// `root`: what was named as such. `verbose`: whether bytes are compared.
    #[must_use]
    pub fn new(explanation: &Explanation, root: Option<&Path>, verbose: bool) -> Self {
        let problem = explanation.problem.as_ref();
        let step = |step: &Step| ExplainedStep::new(step, verbose);
        Self {
            file: text(explanation.file.as_os_str()),
            root: root.map(|root| text(root.as_os_str())),
            runs: match problem {
                None => Some(true),
                Some(problem) if problem.is_unknown() => None,
                Some(_) => Some(false),
            },
            errno: problem.and_then(|problem| Some(format!("{:?}", problem.errno()?))),
            reason: problem.map(ToString::to_string),
            remedy: explanation.remedy.clone(),
            steps: explanation.steps.iter().map(step).collect(),
            notes: explanation.notes.clone(),
        }
    }
}

impl ExplainedStep {
    fn new(step: &Step, verbose: bool) -> Self {
        let ident = match &step.content {
            Content::Elf(ident) => Some(ident),
            _ => None,
        };
        let line = match &step.content {
            Content::Script(Ok(line)) => Some(line),
            _ => None,
        };
        let loading = step.loading.as_ref();
        let arch = loading.map(|loading| loading.arch).or(ident.and_then(Ident::arch));
        Self {
            path: text(step.visit.path.as_os_str()),
            real: step.real.as_ref().map(|real| text(real.as_os_str())),
            because: match step.visit.role {
                Role::Handler(..) => "handler",
                Role::Interpreter(..) => "#!",
                Role::Program => "file",
            },
            is: what(step),
            platform: arch.map(name),
            machine: ident.map(Ident::machine_name),
            bits: ident.and_then(Ident::bits),
            byte_order: ident.and_then(Ident::byte_order),
            kind: ident.map(Ident::kind_name),
            os_abi: ident.map(Ident::os_abi_name),
            linkage: loading.map(linkage),
            loader: loading.and_then(|l| Some(text(l.loader.as_ref()?.as_os_str()))),
            loader_found: loading.and_then(|l| Some(text(l.found.as_ref()?.as_os_str()))),
            interpreter: line.map(|line| text(line.interpreter.as_os_str())),
            argument: line.and_then(|line| line.argument.as_deref()).map(text),
            taken_by: match (&step.handlers.taker, line, loading) {
                (Some(_), ..) => "handler",
                _ if step.unseen => "handler",
                (None, Some(_), _) => "kernel",
                (None, _, Some(loading)) if loading.native => "kernel",
                _ => "nobody",
            },
            handler: step.handlers.taker.as_ref().map(Matching::from),
            handler_works: step.works,
            shadowed: step.handlers.shadowed.iter().map(Matching::from).collect(),
            disabled: step.handlers.disabled.iter().map(Matching::from).collect(),
            bytes: verbose.then(|| bytes(step, arch)),
        }
    }
}

impl From<&Entry> for Matching {
    fn from(entry: &Entry) -> Self {
        let extension = match &entry.matcher {
            Some(Matcher::Extension(extension)) => Some(text(extension)),
            _ => None,
        };
        Self {
            entry: text(&entry.name),
            flags: format!("{}{}", entry.flags, entry.unknown_flags),
            interpreter: interpreter(entry),
            extension,
        }
    }
}

fn what(step: &Step) -> String {
    match &step.content {
        Content::Elf(ident) if ident.is_program() => match ident.arch() {
            Some(arch) => format!("a program for {}", name(arch)),
            None => format!("a program for a machine called {}", ident.machine_name()),
        },
        Content::Elf(ident) => format!("an ELF file, {}", ident.kind_name()),
        Content::Script(_) => "a script".to_owned(),
        Content::Other(format) => format.name.to_owned(),
    }
}

fn linkage(loading: &Loading) -> &'static str {
    match (&loading.loader, loading.position_independent) {
        (Some(_), _) => "dynamic",
        (None, true) => "static-pie",
        (None, false) => "static",
    }
}

/// Beside the handler's magic, or, where none takes the file, beside the one of its architecture.
fn bytes(step: &Step, arch: Option<&Arch>) -> Vec<Byte> {
    let own = || Some(Rule::for_arch(arch?, "", Path::new("/"), Flags::default()).matcher);
    let handler = step.handlers.taker.as_ref().or(step.handlers.disabled.first());
    let matcher = handler.and_then(|entry| entry.matcher.clone()).or_else(own);
    let compared = matcher.map(|matcher| compare(&matcher, &step.head));
    compared.unwrap_or_default()
}
