//! `--uninstall`: removes entries, and tells what became of each.

use anyhow::Result;
use binfmt_magic::platform::{Platform, items};

use super::Call;
use crate::kernel::mount;
use crate::output::text;
use crate::policy::survey::Survey;
use crate::policy::uninstall::{self, NotRemoved, Removal, RemovalOutcome, mistake};

/// Removes what `list` names.
pub(super) fn uninstall(call: &mut Call, list: &str) -> Result<()> {
    let Some(table) = mount::for_uninstalling(&call.at)? else {
        return without_table(call, list);
    };
    let lock = table.lock()?;
    let removals = uninstall::uninstall(&table, list, call.settings.force)?;
    report(call, &removals);
    mount::tidy(&table, &lock, &call.at)?;
    Ok(())
}

/// In a user namespace without a table of its own nothing can be uninstalled. A platform that runs nevertheless, through a handler of
/// the host, is a failure.
fn without_table(call: &mut Call, list: &str) -> Result<()> {
    let survey = Survey::take(None)?;
    for item in items(list) {
        let result = match mistake(item) {
            Some(unknown) => Err(NotRemoved::Unknown(unknown)),
            None => Ok(RemovalOutcome::NotFound { left_to: None }),
        };
        let label = item.into();
        report(call, &[Removal { label, result }]);
        let platform = item.parse::<Platform>();
        let status = platform.map(|platform| survey.of(platform.arch));
        if status.is_ok_and(|status| status.works() && !status.is_native()) {
            call.lacks(format!("{item} runs through a handler of the host; uninstall it there"));
        }
    }
    Ok(())
}

/// Tells what became of each entry.
pub(super) fn report(call: &mut Call, removals: &[Removal]) {
    for removal in removals {
        let line = text::removal(removal);
        match not_removed(removal) {
            Some(sentence) => call.fails(line, sentence),
            None => call.tell(&line),
        }
    }
}

/// The failure to remove an entry, if it is one.
pub(super) fn not_removed(removal: &Removal) -> Option<String> {
    let why = removal.result.as_ref().err()?;
    let label = removal.label.to_string_lossy();
    Some(format!("cannot uninstall {label}: {why}"))
}
