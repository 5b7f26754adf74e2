//! Whether a remedy is one: the file is followed again as it would be afterwards, and what is in the way then is told too.

use std::ffi::OsString;
use std::mem::discriminant;
use std::path::PathBuf;

use binfmt_magic::arch::Arch;

use super::place::Place;
use super::problem::Problem;
use super::walk::Walk;
use super::{Explanation, Here};

/// How many remedies are told at once: more than there are kinds of them.
const MOST: usize = 6;

/// What a remedy changes.
#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The file at this path may be executed.
    Executable(PathBuf),
    /// It is copied to where files may be executed.
    Copied(PathBuf),
    /// It begins so.
    Start(PathBuf, Vec<u8>),
    /// This architecture has a handler of an install.
    Installed(&'static Arch),
    /// The table, or this entry of it, is on.
    On(Option<OsString>),
}

/// What to do about a problem.
pub(super) struct Remedy {
    /// In words.
    pub(super) text: String,
    /// What that changes, where it can be foreseen.
    pub(super) fix: Option<Fix>,
}

/// Says what makes the file run.
pub(super) fn judge(explanation: &mut Explanation, here: &Here, place: &Place) {
    let Some(first) = explanation.problem.clone() else {
        return;
    };
    let remedy = first.remedy(here, place);
    let (mut text, mut fixes) = (remedy.text, Vec::from_iter(remedy.fix));
    let mut problems = vec![first];
    while fixes.len() == problems.len() && fixes.len() < MOST {
        let again = Walk::new(here, place, &fixes).explain(&explanation.file);
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
