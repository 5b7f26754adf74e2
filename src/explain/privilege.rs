//! What setuid and setgid bits come to: whose privilege a program gets, and what stands in the way.
//!
//! Rests on `bprm_fill_uid` in Linux's `fs/exec.c`, which scripts and handlers without flag C never come to.

use super::place::Opened;
use super::problem::Role;
use super::walk::Walk;
use super::{Content, Note, Step};

/// Who starts the program.
enum Starter {
    /// The kernel itself.
    Kernel,
    /// A handler, with flag C or without.
    Handler(bool),
    /// The interpreter of its `#!` line.
    Interpreter,
}

impl Walk<'_> {
    /// Of the program that was asked for, its setuid and setgid bits.
    pub(super) fn note_privilege(&mut self, step: &Step, opened: &Opened) {
        let starter = match (&step.handlers.taker, &step.content) {
            (Some(entry), _) => Starter::Handler(entry.flags.credentials),
            (None, Content::Script(_)) => Starter::Interpreter,
            (None, _) if step.loading.as_ref().is_some_and(|loading| loading.native) => {
                Starter::Kernel
            }
            _ => return,
        };
        if matches!(step.visit.role, Role::Program) {
            let note = note(opened, &starter);
            self.notes.extend(note.map(Note::Privilege));
        }
    }
}

/// What to note, if `file` has such a bit.
fn note(file: &Opened, starter: &Starter) -> Option<String> {
    // without x for the group, the bit means something else
    let setgid = file.mode & 0o2010 == 0o2010;
    let what = match (file.mode & 0o4000 != 0, setgid) {
        (true, true) => format!(
            "setuid and setgid (owner {}, group {})",
            user(file.owner),
            file.group
        ),
        (true, false) => format!("setuid (owner {})", user(file.owner)),
        (false, true) => format!("setgid (group {})", file.group),
        (false, false) => return None,
    };
    let effect = match starter {
        _ if file.nosuid => "the kernel ignores that: the file system is mounted nosuid",
        Starter::Kernel => "the kernel honours that",
        Starter::Handler(true) => "its handler honours that (flag C)",
        Starter::Handler(false) => "its handler ignores that (no flag C)",
        Starter::Interpreter => "the kernel ignores that of scripts",
    };
    Some(format!("it is {what}, and {effect}"))
}

fn user(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        id => id.to_string(),
    }
}
