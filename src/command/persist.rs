//! `--export` and `--unpersist`: what a host registers at its next boot.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Call;
use crate::kernel::wording::shown;
use crate::output::text::{self, Action};
use crate::policy::persist::{self, FileOutcome, export};

/// `--export`: writes rules for the handlers that work into `dir`.
pub(super) fn export(call: &mut Call, dir: &Path) -> Result<()> {
    let survey = call.survey()?;
    match export::export(&survey, dir, call.settings.force, call.is_dry()) {
        Ok((items, caveats)) => {
            for (path, outcome) in items {
                report(call, "export", &shown(path.as_os_str()), outcome);
            }
            call.lacks_each(caveats);
        }
        Err(error) => call.lacks(format!("{error:#}")),
    }
    Ok(())
}

/// `--unpersist`: removes what `--persist` or `--export` wrote to `dir`.
pub(super) fn unpersist(call: &mut Call, dir: &Path) -> Result<()> {
    let mut any = call.is_dry();
    // a directory that rules were exported to is not a host's root directory
    if fs::symlink_metadata(dir.join("etc")).is_ok_and(|etc| etc.is_dir() || etc.is_symlink()) {
        for (path, outcome) in persist::take_back(dir, call.is_dry())? {
            any = true;
            report(call, "unpersist", &persist::shown(dir, &path), outcome);
        }
    }
    for (path, outcome) in export::take_back(dir, call.is_dry())? {
        any = true;
        report(call, "unpersist", &shown(path.as_os_str()), outcome);
    }
    if !any {
        call.tell(&Action::not_done("unpersist", dir.display(), "nothing found"));
    }
    Ok(())
}

/// Tells what became of a file. Somebody else's changes are a failure: such a file stays.
pub(super) fn report(call: &mut Call, verb: &'static str, path: &str, outcome: Result<FileOutcome>) {
    match outcome {
        Ok(FileOutcome::Changed) => {
            let action = text::filed(verb, path, FileOutcome::Changed);
            call.fails(&action, format!("{path} was changed since it was written; remove it by hand"));
        }
        Ok(outcome) => call.tell(&text::filed(verb, path, outcome)),
        Err(error) => {
            let action = Action::not_done(verb, path, format!("{error:#}"));
            call.fails(&action, format!("{verb}ing {path} failed: {error:#}"));
        }
    }
}
