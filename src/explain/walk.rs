//! Going from file to file as the kernel does, and seeing at each what takes it.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use binfmt_magic::entry::Entry;
use nix::errno::Errno;

use super::elf::{Ident, LoadedBy};
use super::fault::{End, Fault, Fix, Remedy};
use super::format;
use super::handler::Handlers;
use super::place::{Opened, Place};
use super::problem::{Explainer, Fixes, Problem, Role, quoted, unix_lines, without_returns};
use super::program::Emulated;
use super::shebang::{self, Shebang, Unusable};
use super::{Content, Context, Step, Visit, WINDOW};
use crate::kernel::process;
use crate::kernel::wording::shown;

/// How often the kernel goes from a file to its interpreter (`exec_binprm`).
pub(super) const REWRITES: usize = 5;

/// Where the kernel goes from a file.
enum Next {
    /// Nowhere: it runs, or does not.
    Ends(Option<Problem>),
    Goes(Visit),
    /// To this interpreter. The probes have shown what comes of it, if the kernel follows so many.
    Proven(Visit),
}

/// The files that the kernel comes to from one, and what keeps that one from running.
pub(super) struct Walk<'a> {
    pub(super) explainer: Explainer<'a>,
    /// This process's own root directory, where pinned files were opened.
    host: Place,
    /// The table, as changed by the fixes.
    entries: Vec<Entry>,
    enabled: bool,
    pub(super) steps: Vec<Step>,
    /// What keeps the file from running. `None`: it runs.
    pub(super) problem: Option<Problem>,
}

impl<'a> Walk<'a> {
    /// Follows `file` as if `fixes` were applied.
    pub(super) fn follow(file: &Path, context: &'a Context<'a>, place: &'a Place, fixes: Fixes<'a>) -> Self {
        let mut entries = context.remedies.survey.entries.clone();
        for entry in &mut entries {
            entry.enabled |= fixes.switch_on(Some(&entry.name));
        }
        let mut walk = Self {
            explainer: Explainer { context, place, fixes, notes: Vec::new() },
            host: Place::here(),
            entries,
            enabled: context.remedies.survey.enabled || fixes.switch_on(None),
            steps: Vec::new(),
            problem: None,
        };
        walk.problem = walk.go(file);
        walk
    }

    fn go(&mut self, file: &Path) -> Option<Problem> {
        let mut visit = Visit { path: file.to_owned(), role: Role::Program, pinned: false };
        // the complaint that an emulator will have about the program once it is started
        let mut later = None;
        let mut rewrites = 0;
        loop {
            let purpose = self.explainer.fixes.purpose(&visit.path);
            let opened = self.place_of(visit.pinned).open(&visit.path, purpose);
            if let (Err(unopened), false) = (&opened, visit.pinned) {
                return Some(self.explainer.unopened(&visit, unopened));
            }
            if rewrites > REWRITES {
                let is_script = opened.is_ok_and(|it| it.head.starts_with(b"#!"));
                return Some(self.too_deep(file, &visit, is_script));
            }
            // the kernel holds a pinned file, whatever has become of its name
            let Ok(opened) = opened else { return later };
            let (step, next, complaint) = self.step(&visit, opened);
            later = later.or(complaint);
            self.steps.push(step);
            visit = match next {
                Next::Ends(None) => return later,
                Next::Ends(problem) => return problem,
                Next::Proven(_) if rewrites < REWRITES => return later,
                Next::Proven(interpreter) | Next::Goes(interpreter) => interpreter,
            };
            rewrites += 1;
        }
    }

    /// The sixth interpreter in a row, which the kernel refuses: a script's, or the one of the handler of the file before.
    fn too_deep(&self, first: &Path, visit: &Visit, is_script: bool) -> Problem {
        let (blamed, what) = match (&visit.role, self.steps.last()) {
            (Role::Handler(entry, _), Some(step)) => (
                &step.visit,
                format!(
                    "needs one interpreter too many: the kernel follows five, and its handler {} would be the sixth",
                    shown(entry)
                ),
            ),
            _ => (visit, "is the sixth interpreter in a row, and the kernel follows five".to_owned()),
        };
        // in a circle of scripts, none of them is the program that was meant
        let named = if is_script {
            "a program that is not a script".to_owned()
        } else {
            format!("{} itself", self.explainer.file(blamed))
        };
        let first = quoted(&self.explainer.reach(first, false));
        let remedy = Remedy::advice(format!("name {named} in the first line of {first}"));
        let fault = Fault::new(what, End::Refused(Errno::ELOOP), remedy);
        Problem::of(blamed, fault)
    }

    fn step(&mut self, visit: &Visit, mut opened: Opened) -> (Step, Next, Option<Problem>) {
        if let Some(start) = self.explainer.fixes.start(&visit.path) {
            start.clone_into(&mut opened.head);
        }
        let head = opened.head[..opened.head.len().min(WINDOW)].to_vec();
        let real = (opened.real != self.place_of(visit.pinned).outside(&visit.path)).then_some(&*opened.real);
        let content = content(&opened.head);
        let handlers = Handlers::of(&self.entries, self.enabled, &visit.path, &head);
        let mut step = Step::new(visit, real, &content, head, handlers);
        let (next, complaint) = match (self.explainer.fixes.installed(&step.head), step.handlers.taker.clone()) {
            (Some(arch), _) => {
                let complaint = self.explainer.load(arch, LoadedBy::Emulator, arch.levels, &mut step, &mut opened);
                (Next::Ends(None), complaint)
            }
            (None, Some(entry)) => self.by_entry(&entry, &mut step, &mut opened),
            (None, None) => self.by_kernel(&content, &mut step, &mut opened),
        };
        if matches!(visit.role, Role::Program) {
            self.explainer.notes.extend(privilege(&step, &content, &opened));
        }
        (step.finish(self.explainer.context.verbose), next, complaint)
    }

    /// The interpreter's own chain is followed, unless the probes have shown what comes of it.
    fn by_entry(&mut self, entry: &Entry, step: &mut Step, opened: &mut Opened) -> (Next, Option<Problem>) {
        let Some(interpreter) = entry.interpreter.clone() else {
            return (Next::Ends(None), None);
        };
        let onward = Visit {
            path: interpreter,
            role: Role::Handler(entry.name.clone(), self.explainer.context.table.join(&entry.name)),
            pinned: entry.flags.fix_binary,
        };
        match self.explainer.emulated(entry, step, opened) {
            None => (Next::Goes(onward), None),
            Some(Emulated::Fails(problem)) => {
                step.handler_works = Some(false);
                (Next::Ends(Some(problem)), None)
            }
            Some(Emulated::Works(complaint)) => {
                step.handler_works = Some(true);
                (Next::Proven(onward), complaint)
            }
            Some(Emulated::Depends(doubt, complaint)) => {
                let entry_name = shown(&entry.name);
                self.explainer.notes.push(if entry.flags.fix_binary {
                    format!("the interpreter of {entry_name} is dynamically linked: containers do not find its loader")
                } else {
                    format!("{entry_name} is not pinned (no flag F): containers do not find its interpreter")
                });
                // a failure that was seen counts first, then the complaint of the emulator, then the doubt
                let is_known = doubt.as_ref().is_some_and(|doubt| doubt.end != End::Unknown);
                let works = doubt.is_none();
                step.handler_works = (works || is_known).then_some(works);
                let told = if is_known { doubt } else { complaint.or(doubt) };
                (Next::Goes(onward), told)
            }
        }
    }

    fn by_kernel(&mut self, content: &Content, step: &mut Step, opened: &mut Opened) -> (Next, Option<Problem>) {
        let path = &step.visit.path;
        let start = |bytes: Vec<u8>| Fix::Start(path.clone(), bytes);
        let file = || self.explainer.file(&step.visit);
        let fault = match content {
            Content::Script(Ok(line)) => {
                let complaint = self.of_env(line, &step.visit, &opened.head);
                note_line(line, path, &mut self.explainer.notes);
                let reached = self.explainer.reach(path, step.visit.pinned);
                let interpreter = Visit {
                    role: Role::Interpreter(path.clone(), reached),
                    path: line.interpreter.clone(),
                    pinned: false,
                };
                return (Next::Goes(interpreter), complaint);
            }
            Content::Elf(ident) => {
                let problem = self.explainer.by_machine(*ident, step, opened);
                return (Next::Ends(problem), None);
            }
            Content::Script(Err(unusable)) => {
                let errno = if *unusable == Unusable::Nameless { Errno::EACCES } else { Errno::ENOEXEC };
                let (why, remedy) = match unusable {
                    Unusable::Cut => (
                        format!(
                            "is too long: the interpreter's name must end within the file's first {WINDOW} bytes, or {} \
                             before Linux 5.1",
                            WINDOW / 2
                        ),
                        Remedy::advice(format!(
                            "name it by a shorter path in the first line of {}, or write #!/usr/bin/env NAME there",
                            file()
                        )),
                    ),
                    Unusable::Blank | Unusable::Nameless => (
                        "names no interpreter".to_owned(),
                        Remedy::with(
                            format!("put an interpreter there: sed -i '1s|.*|#!/bin/sh|' {}", file()),
                            start(b"#!/bin/sh\n".to_vec()),
                        ),
                    ),
                };
                Fault::new(format!("is a script, but its #! line {why}"), End::Refused(errno), remedy)
            }
            Content::Other(format) => {
                let table = quoted(self.explainer.context.table);
                let remedy = Remedy {
                    // a file's name may have the other word in it
                    text: format
                        .remedy
                        .split("FILE")
                        .map(|part| part.replace("TABLE", &table))
                        .collect::<Vec<_>>()
                        .join(&file()),
                    fix: format.repaired(&opened.head).map(start),
                };
                Fault::unknown_format(format!("is {}", format.name), remedy)
            }
        };
        // an entry that is off is the reason to name, whatever the file is
        let fault = self.disabled(step).unwrap_or(fault);
        (Next::Ends(Some(Problem::of(&step.visit, fault))), None)
    }

    /// An entry that would take the file is off.
    fn disabled(&self, step: &Step) -> Option<Fault> {
        let entry = step.handlers.disabled.first()?;
        // one that is on by itself is off with the whole table
        let (switch, fix) = if entry.enabled {
            (OsStr::new("status"), Fix::On(None))
        } else {
            (&*entry.name, Fix::On(Some(entry.name.clone())))
        };
        let switch = quoted(&self.explainer.context.table.join(switch));
        let remedy = Remedy::with(format!("switch it on: echo 1 > {switch}"), fix);
        let what = format!("matches {}, which is switched off", shown(&entry.name));
        Some(Fault::unknown_format(what, remedy))
    }

    /// The complaint that `env` will have once it is started.
    fn of_env(&self, line: &Shebang, visit: &Visit, head: &[u8]) -> Option<Problem> {
        if !line.is_env() || !line.argument().ends_with(b"\r") {
            return None;
        }
        let fix = Fix::Start(visit.path.clone(), unix_lines(head));
        let remedy = Remedy::with(without_returns(&self.explainer.file(visit)), fix);
        let what =
            "is a script whose #! line ends in a carriage return, which env takes for a part of the program's name";
        let fault = Fault::new(what, End::Told, remedy);
        Some(Problem::of(visit, fault))
    }

    fn place_of(&self, pinned: bool) -> &Place {
        if pinned { &self.host } else { self.explainer.place }
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

fn note_line(line: &Shebang, script: &Path, notes: &mut Vec<String>) {
    let (argument, script) = (line.argument(), shown(script.as_os_str()));
    if line.is_env() && !argument.starts_with(b"-") && argument.contains(&b' ') {
        notes.push(format!("env takes the rest of the #! line of {script} for one name; env -S splits it into words"));
    }
    if !line.is_env() && argument.ends_with(b"\r") {
        notes.push(format!(
            "the argument in the #! line of {script} ends in a carriage return, which its interpreter may refuse"
        ));
    }
    if line.interpreter.is_relative() {
        notes.push(format!(
            "{} is looked up in the current directory of the process that starts the script",
            shown(line.interpreter.as_os_str())
        ));
    }
}

/// The effect of the setuid and setgid bits of the program. Rests on `bprm_fill_uid` in Linux's `fs/exec.c`, which the
/// kernel does not call for scripts and for handlers without flag C.
fn privilege(step: &Step, content: &Content, file: &Opened) -> Option<String> {
    let effect = match (&step.handlers.taker, content) {
        (None, Content::Elf(_) | Content::Other(_)) if step.taken_by != "kernel" => return None,
        _ if file.nosuid => "the kernel ignores that: the file system is mounted nosuid",
        _ if process::mask("NoNewPrivs:") == Some(1) => "the kernel ignores that: no_new_privs is set (see setpriv(1))",
        (Some(entry), _) if entry.flags.credentials => "its handler honours that (flag C)",
        (Some(_), _) => "its handler ignores that (no flag C)",
        (None, Content::Script(_)) => "the kernel ignores that of scripts",
        (None, _) => "the kernel honours that",
    };
    let (mode, group) = (file.metadata.mode(), file.metadata.gid());
    let owner = match file.metadata.uid() {
        0 => "root".to_owned(),
        id => id.to_string(),
    };
    // without x for the group, the bit means something else
    let is_setgid = mode & 0o2010 == 0o2010;
    let what = match (mode & 0o4000 != 0, is_setgid) {
        (true, true) => format!("setuid and setgid (owner {owner}, group {group})"),
        (true, false) => format!("setuid (owner {owner})"),
        (false, true) => format!("setgid (group {group})"),
        (false, false) => return None,
    };
    Some(format!("it is {what}, and {effect}"))
}
