//! `--verify`: compares the handlers with what an install would make, and names the command that repairs them.

use std::path::Path;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Selection;

use super::Call;
use crate::cli::describe_unknown;
use crate::kernel::anchor;
use crate::kernel::mount::{self, HeldBy, Lifetime};
use crate::kernel::wording::quoted;
use crate::output::json::Verification;
use crate::output::text;
use crate::policy::survey::Survey;
use crate::policy::verify::{self, Audit, Finding, Repair};

/// An empty table does not tell whether a platform is missing.
const NOTHING: &str =
    "no QEMU handler is registered, so nothing was checked; list the platforms to check: binfmt --verify LIST";

/// Compares the platforms of `list`, or the registered ones. Each difference is a failure.
pub(super) fn verify(call: &mut Call, list: Option<&Selection>) -> Result<()> {
    let table = mount::for_looking(&call.at)?.with_context(|| {
        if call.at.explicit {
            let dir = quoted(&call.at.dir.to_string_lossy());
            format!("no binfmt_misc is mounted at {dir}; mount it: mount -t binfmt_misc binfmt_misc {dir}")
        } else {
            "no binfmt_misc is in sight here; verify where it is mounted, or name its mount point with --mount"
                .to_owned()
        }
    })?;
    let lock = table.lock()?;
    let survey = Survey::take(Some(&table))?;
    let audit = audit(call, list, table.path(), &survey)?;
    drop(lock);
    call.check_all(list, &survey);
    let has_handlers = survey.entries.iter().any(|entry| survey.is_qemu(entry));
    if list.is_none() && !has_handlers && audit.findings.is_empty() {
        call.streams.say(NOTHING);
    }
    if let Some(why) = &audit.unrehearsed {
        call.streams.say(&format!("flag P is judged by QEMU's version, since nothing can be rehearsed: {why}"));
    }
    let repair = verify::command(&audit.findings, &survey, &call.settings.invocation);
    let unknown = list.iter().flat_map(|list| &list.unknown).map(describe_unknown).collect();
    let verification = Verification::new(&audit, repair, unknown);
    judge(call, &verification);
    call.show(&verification, |out, colour, width| text::write_verification(out, &verification, colour, width))
}

fn audit(call: &Call, list: Option<&Selection>, table: &Path, survey: &Survey) -> Result<Audit> {
    let mut audit = Audit::default();
    if !survey.enabled {
        let status = table.join("status");
        let line = format!("echo 1 > {}", quoted(&status.to_string_lossy()));
        let finding =
            about_table("table_off", "binfmt_misc is switched off, no entry has any effect", Repair::Shell(line));
        audit.findings.push(finding);
        return Ok(audit);
    }
    let asked = call.listed(list, survey);
    audit = verify::verify(survey, &call.order, asked.as_deref())?;
    if let Some(arch) = may_end(call, survey) {
        let repair = Repair::Install { arch, force: false };
        let text = "nothing is seen to hold the table beyond this container or mount namespace, and there is no anchor";
        audit.findings.push(about_table("may_end", text, repair));
    }
    Ok(audit)
}

/// One of the architectures whose handlers may end with this container, where that can be told from here.
fn may_end(call: &Call, survey: &Survey) -> Option<&'static Arch> {
    let declined = call.settings.lifetime == Lifetime::Unanchored;
    if declined || mount::holder(&call.at)? != HeldBy::NobodyElse || anchor::seen()? {
        return None;
    }
    let installed = survey.statuses.iter().find(|status| {
        let handler = status.handler.as_ref();
        status.works() && handler.is_some_and(|entry| survey.is_qemu(entry))
    });
    installed.map(|status| status.arch)
}

fn judge(call: &mut Call, verification: &Verification) {
    call.lacks_each(verification.unknown.iter().cloned());
    let findings = &verification.findings;
    let manual: Vec<&String> = findings.iter().filter_map(|f| f.advice.as_ref()).collect();
    let count = match findings.len() {
        0 => return,
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    call.lacks(match (&verification.repair, manual.last()) {
        (Some(command), None) => format!("{count}; repair: {command}"),
        (Some(command), Some(_)) => format!(
            "{count}, of which {} must be fixed manually (see above); repair the others: {command}",
            manual.len()
        ),
        (None, Some(advice)) => format!("{count}: {advice}"),
        (None, None) => count,
    });
}

fn about_table(kind: &'static str, text: &str, repair: Repair) -> Finding {
    Finding { arch: None, entry: None, kind, text: text.to_owned(), repair }
}
