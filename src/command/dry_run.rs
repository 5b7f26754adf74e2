//! `--dry-run`: what the other modes would do, a line for each on stdout. Nothing is done: no write, no mount, no lock; and
//! `--persist`, `--unpersist` and `--export` start no emulator either.
//!
//! The exit status is 1 if something would plainly fail.

use std::io::{Read, Seek};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Error, Result};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;
use binfmt_magic::rule::Rule;

use super::persist::{PERSISTED, arches, check_prefix, is_not_persisted, rules_of};
use super::{Call, install, persist, uninstall};
use crate::cli::{Install, Mode};
use crate::helper::probes::Ran;
use crate::kernel::mount::{self, MountError};
use crate::kernel::table::Table;
use crate::kernel::wording::printable;
use crate::policy::install::{InstallOutcome, Item, dry_run as dry_install};
use crate::policy::persist::{EMULATORS, RULES, boot_of, export, shown, would_write};
use crate::policy::survey::{Failure, Survey, Verdict};
use crate::policy::uninstall::{uninstall as removals_of, uninstall_others};

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
                if let Some(dir) = &asked.persist {
                    would_persist(call, dir, &asked.selection, &survey.entries)?;
                }
                would_install(call, asked, table, &survey)?;
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
    survey.entries.retain(|entry| !is_gone(entry));
    for status in &mut survey.statuses {
        if status.handler.as_ref().is_some_and(is_gone) {
            status.handler = None;
            status.ran = Ran::Itself;
            status.verdict = Verdict::Fails(Failure::NoHandler);
        }
    }
    Ok(())
}

fn would_install(call: &mut Call, asked: &Install, table: Option<&Table>, survey: &Survey) -> Result<()> {
    let order = install::order(call, asked)?;
    let mounts = mount::would_mount(&call.at);
    if mounts.as_ref().is_err_and(MountError::is_not_allowed)
        && install::runs_already(call, &order.selection)?.is_some()
    {
        return Ok(());
    }
    let mounts = mounts?;
    let items = dry_install(table, &order, survey)?;
    let registers = |(_, result): &Item| matches!(result, Ok(InstallOutcome::Installed { .. }));
    if items.iter().any(registers) {
        if mounts {
            call.tell(&format!("mounting: {} OK", call.at.dir.display()));
        } else if let Some(table) = table {
            table.may_change()?;
        }
    }
    for item in &items {
        install::report(call, item);
    }
    install::report_missing(call, &order, &items);
    if order.reset {
        let wanted = |entry: &Entry| install::is_wanted(entry, &items, &order.prefix);
        uninstall::report(call, &uninstall_others(None, &survey.entries, wanted));
    }
    Ok(())
}

/// What an install of `selection` would copy to the host whose root directory is `dir`.
fn would_persist(call: &mut Call, dir: &Path, selection: &Selection, entries: &[Entry]) -> Result<()> {
    check_prefix(call)?;
    let boot = boot_of(dir)?;
    call.lacks_each(boot.does_not_read());
    let mut files = Vec::new();
    for arch in arches(call, selection, entries)? {
        let order = &call.order;
        let name = arch.interpreter_name(&order.prefix);
        let rule = Rule::for_arch(arch, &order.prefix, Path::new(EMULATORS), order.flags);
        let path = Path::new(RULES).join(rules_of(&rule.name));
        let read =
            order.emulators.open(&order.emulators.dir().join(&name)).map_err(Error::from).and_then(|mut file| {
                let mut bytes = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
                Ok((bytes, export::line(&rule)?))
            });
        call.lacks_each(boot.overrules(&path, &rule, arch));
        match read {
            Ok((bytes, line)) => {
                files.push((Path::new(EMULATORS).join(&name), bytes));
                files.push((path, [PERSISTED, &line].concat()));
            }
            Err(error) => is_not_persisted(call, arch, &error),
        }
    }
    let outcomes = would_write(dir, &files, call.settings.force)?;
    let paths = files.iter().map(|(path, _)| shown(dir, path));
    persist::report(call, "persisting", paths.zip(outcomes));
    Ok(())
}
