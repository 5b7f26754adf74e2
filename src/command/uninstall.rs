//! `--uninstall`: removes entries, and tells what became of each.

use anyhow::Result;
use binfmt_magic::platform::{Platform, items};

use super::Call;
use crate::kernel::mount;
use crate::output::text;
use crate::policy::survey::Survey;
use crate::policy::uninstall::{self, Removal, mistake};

pub(super) fn uninstall(call: &mut Call, list: &str) -> Result<()> {
    let Some(table) = mount::for_uninstalling(&call.at)? else {
        return without_table(call, list);
    };
    let lock = table.lock()?;
    let removals = uninstall::uninstall(Some(&table), table.entries()?, list, call.settings.force)?;
    report(call, &removals);
    mount::tidy(&table, &lock, &call.at)?;
    Ok(())
}

/// In a user namespace without a table of its own nothing can be uninstalled. A platform that runs nevertheless, through a handler of
/// the host, is a failure.
fn without_table(call: &mut Call, list: &str) -> Result<()> {
    let survey = Survey::take(None)?;
    for item in items(list) {
        report(call, &[Removal { label: item.into(), failure: mistake(item), ..Removal::default() }]);
        let platform = item.parse::<Platform>();
        let status = platform.map(|platform| survey.of(platform.arch));
        if status.is_ok_and(|status| status.works() && !status.is_native()) {
            call.lacks(format!("{item} runs through a handler of the host; uninstall it there"));
        }
    }
    Ok(())
}

pub(super) fn report(call: &mut Call, removals: &[Removal]) {
    for removal in removals {
        let deed = text::removal(removal);
        match &removal.failure {
            Some(why) => {
                let label = removal.label.to_string_lossy();
                call.fails(&deed, format!("cannot uninstall {label}: {why}"));
            }
            None => call.tell(&deed),
        }
    }
}
