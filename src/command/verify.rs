//! `--verify`: compares the handlers with what an install would make, and names the command that repairs them.

use anyhow::{Error, Result, anyhow};
use binfmt_magic::platform::Selection;

use super::Call;
use crate::cli::describe_unknown;
use crate::kernel::mount::{self, Lifetime, MountPoint};
use crate::kernel::wording::quoted;
use crate::output::text;
use crate::policy::survey::Survey;
use crate::policy::verify::{self, Audit};

/// Compares the platforms of `list`, or the registered ones. Each difference is a failure.
pub(super) fn verify(call: &mut Call, list: Option<&Selection>) -> Result<()> {
    let table = mount::for_looking(&call.at)?.ok_or_else(|| no_table(&call.at))?;
    let lock = table.lock()?;
    let survey = Survey::take(Some(&table))?;
    let asked = call.listed(list, &survey);
    let mut audit = verify::verify(table.path(), &survey, &call.order, asked.as_deref())?;
    if let Some(list) = list {
        audit.check_list(list, &survey, &call.order);
    }
    if survey.enabled && call.settings.lifetime != Lifetime::Unanchored {
        audit.check_lifetime(&call.at, &survey);
    }
    drop(lock);
    let has_handlers = survey.entries.iter().any(|entry| survey.is_qemu(entry));
    if list.is_none() && !has_handlers && audit.findings.is_empty() {
        call.say_empty("--verify");
    }
    if let Some(why) = &audit.unrehearsed {
        call.streams.say(&format!("flag P is judged by QEMU's version, since nothing can be rehearsed: {why}"));
    }
    audit.repair = verify::command(&audit.findings, &survey, &call.settings.invocation);
    audit.unknown = list.iter().flat_map(|list| &list.unknown).map(describe_unknown).collect();
    audit.in_order = audit.findings.is_empty() && audit.unknown.is_empty();
    judge(call, &audit);
    call.show(&audit, |out, colour, width| text::write_verification(out, &audit, colour, width))
}

/// Why there is no table to compare with, and what to do.
fn no_table(at: &MountPoint) -> Error {
    if at.explicit {
        let dir = quoted(&at.dir);
        return anyhow!("no binfmt_misc is mounted at {dir}; mount it: mount -t binfmt_misc binfmt_misc {dir}");
    }
    match mount::for_uninstalling(at) {
        Err(error) if !error.is_not_allowed() => error.into(),
        _ => {
            anyhow!("no binfmt_misc is in sight here; verify where it is mounted, or name its mount point with --mount")
        }
    }
}

fn judge(call: &mut Call, audit: &Audit) {
    call.lacks_each(audit.unknown.iter().cloned());
    let manual: Vec<&str> = audit.findings.iter().filter_map(|finding| finding.repair.advice()).collect();
    let count = match audit.findings.len() {
        0 => return,
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    call.lacks(match (&audit.repair, manual.last()) {
        (Some(command), None) => format!("{count}; repair: {command}"),
        (Some(command), Some(_)) => format!(
            "{count}, of which {} must be fixed manually (see above); repair the others: {command}",
            manual.len()
        ),
        (None, Some(advice)) if manual.iter().any(|other| other != advice) => {
            format!("{count}, each to be fixed manually (see above); the last one: {advice}")
        }
        (None, Some(advice)) => format!("{count}: {advice}"),
        (None, None) => count,
    });
}
