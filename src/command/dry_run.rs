//! `--dry-run`: what the other modes would do, a line for each on stdout. Nothing is done: no write, no mount, no lock; and
//! `--persist`, `--unpersist` and `--export` start no emulator either.
//!
//! The exit status is 1 if something would plainly fail.

use std::path::Path;
use std::rc::Rc;

use anyhow::Result;
use binfmt_magic::entry::Entry;

use super::{Call, install, persist, uninstall};
use crate::cli::Mode;
use crate::kernel::mount::{self, MountError};
use crate::kernel::table::Table;
use crate::kernel::wording::printable;
use crate::output::text::Deed;
use crate::policy::install::{InstallOutcome, Item, Order, dry_run as dry_install};
use crate::policy::persist::would_persist as persisted;
use crate::policy::survey::Survey;
use crate::policy::uninstall::{reset, uninstall as removals_of};

/// Tells what `modes` would do. Each sees the table as the ones before would leave it.
pub(super) fn dry_run(call: &mut Call, modes: &[Mode]) -> Result<()> {
    let table = mount::for_looking(&call.at)?;
    let table = table.as_ref();
    let mut survey = Survey::take(table)?;
    for mode in modes {
        match mode {
            Mode::Uninstall(list) => would_uninstall(call, list, table, &mut survey)?,
            Mode::Unpersist(dir) => persist::unpersist(call, dir)?,
            Mode::Install(asked) => {
                let order = install::order(call, asked)?;
                if let Some(dir) = &asked.persist {
                    would_persist(call, dir, &order, &survey.entries)?;
                }
                would_install(call, &order, table, &survey)?;
            }
            Mode::Export(dir) => {
                call.surveyed(&Rc::new(survey));
                persist::export(call, dir)?;
                break;
            }
            _ => {}
        }
    }
    let written = call.take_would().iter().try_for_each(|line| writeln!(call.streams.out, "{}", printable(line)));
    call.streams.finish(written)
}

fn would_uninstall(call: &mut Call, list: &str, table: Option<&Table>, survey: &mut Survey) -> Result<()> {
    let removals = removals_of(None, survey.table(), list, call.settings.force)?;
    let is_gone = |entry: &Entry| removals.iter().any(|removal| removal.removed.contains(&entry.name));
    if let Some(table) = table.filter(|_| survey.table().iter().any(is_gone)) {
        table.may_change()?;
    }
    uninstall::report(call, &removals);
    survey.forget(is_gone);
    Ok(())
}

fn would_install(call: &mut Call, order: &Order, table: Option<&Table>, survey: &Survey) -> Result<()> {
    let mounts = mount::would_mount(&call.at);
    if mounts.as_ref().is_err_and(MountError::is_not_allowed)
        && install::runs_already(call, &order.selection)?.is_some()
    {
        return Ok(());
    }
    let mounts = mounts?;
    let items = dry_install(table, order, survey)?;
    let registers = |(_, result): &Item| matches!(result, Ok(InstallOutcome::Installed { .. }));
    if items.iter().any(registers) {
        if mounts {
            call.tell(&Deed::done("mount", call.at.dir.display(), ""));
        } else if let Some(table) = table {
            table.may_change()?;
        }
    }
    for item in &items {
        install::report(call, item);
    }
    install::report_missing(call, order, &items);
    if order.reset {
        uninstall::report(call, &reset(None, &survey.entries, &items, &order.prefix));
    }
    Ok(())
}

/// What `order` would write to the host whose root directory is `dir`.
fn would_persist(call: &mut Call, dir: &Path, order: &Order, entries: &[Entry]) -> Result<()> {
    let would = persisted(dir, order, entries)?;
    call.lacks_each(would.caveats);
    for (arch, error) in would.failed {
        persist::is_not_persisted(call, arch, &error);
    }
    persist::report(call, "persist", would.files);
    Ok(())
}
