//! Which QEMU the new emulators are, and those that are pinned now.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use binfmt_magic::entry::Entry;

use super::decide::Pending;
use crate::emulator::{EmulatorError, Question, Source, Unfit, Version, versions};
use crate::policy::survey::ANOTHER_BUILD;

/// Opens the new emulators and finds out their versions, and those of the emulators that are pinned now. The errors, in
/// their order, say why a new one does not serve.
pub(super) fn ask(pending: &mut [Pending], emulators: &Source, limit: Duration) -> Vec<Result<(), EmulatorError>> {
    let paths = pending.iter().map(|p| p.rule.interpreter.as_path());
    let new = open_and_ask(emulators, &paths.collect::<Vec<_>>(), limit);
    keep(pending, new, limit)
}

/// [`ask`], after a survey that waited as long for each handler: an emulator that has timed out there is not waited for again.
pub fn ask_others(pending: &mut [Pending], emulators: &Source, limit: Duration) -> Vec<Result<(), EmulatorError>> {
    let is_same = |p: &Pending| p.hangs && p.former.is_none() && emulators.has(&p.rule.interpreter);
    let others = pending.iter().filter(|p| !is_same(p)).map(|p| p.rule.interpreter.as_path());
    let mut others = open_and_ask(emulators, &others.collect::<Vec<_>>(), limit).into_iter();
    let hung = |p: &Pending| EmulatorError {
        path: p.rule.interpreter.clone(),
        unfit: Unfit::Wrong(format!("does not run programs: timed out; {ANOTHER_BUILD}")),
    };
    let new = pending.iter().map(|p| if is_same(p) { None } else { others.next() }.unwrap_or_else(|| Err(hung(p))));
    let new = new.collect();
    keep(pending, new, limit)
}

/// Notes what is known of each new emulator, and asks the pinned ones.
fn keep(
    pending: &mut [Pending],
    new: Vec<Result<(Version, File), EmulatorError>>,
    limit: Duration,
) -> Vec<Result<(), EmulatorError>> {
    let questions = pending.iter().filter_map(|pending| {
        let (path, file) = (pending.rule.interpreter.as_path(), to_be_asked(pending)?);
        Some(Question { path, file, may_start: true })
    });
    let mut formers = versions(&questions.collect::<Vec<_>>(), limit).into_iter();
    let fit = pending.iter_mut().zip(new).map(|(pending, new)| {
        if to_be_asked(pending).is_some() {
            pending.former_version = formers.next().and_then(Result::ok);
        }
        let (version, file) = new?;
        (pending.version, pending.judged) = (version, Some(file));
        Ok(())
    });
    fit.collect()
}

/// The emulator that is pinned now, if its bytes do not show its version, its entry says that it is QEMU's, and it ends.
fn to_be_asked(pending: &Pending) -> Option<&File> {
    let says = pending.current.as_ref().is_some_and(Entry::starts_qemu);
    pending.former.as_deref().filter(|_| says && !pending.hangs && pending.former_version.is_none())
}

/// Opens the emulators at `paths`, and finds out their versions, each within `limit`.
pub(super) fn open_and_ask(
    source: &Source,
    paths: &[&Path],
    limit: Duration,
) -> Vec<Result<(Version, File), EmulatorError>> {
    let opened: Vec<_> = paths.iter().map(|path| source.open(path)).collect();
    let questions = paths.iter().zip(&opened).filter_map(|(path, file)| {
        let file = file.as_ref().ok()?;
        Some(Question { path, file, may_start: true })
    });
    let mut versions = versions(&questions.collect::<Vec<_>>(), limit).into_iter();
    let asked = opened.into_iter().map(|file| {
        let file = file?;
        Ok((versions.next().unwrap_or_else(|| Ok(Version::default()))?, file))
    });
    asked.collect()
}
