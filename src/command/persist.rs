//! `--persist`, `--export` and `--unpersist`: what a host registers at its next boot.

use std::fs;
use std::path::Path;

use anyhow::{Error, Result, anyhow};
use binfmt_magic::arch::Arch;

use super::{Call, install};
use crate::kernel::table::Table;
use crate::kernel::wording::shown;
use crate::output::text::{self, Deed};
use crate::policy::install::{Item, Order, install as install_all, result_of};
use crate::policy::persist::{self, FileOutcome, Host, Staged, export};
use crate::policy::survey::Survey;

/// Copies the emulators of `order` to the host, and installs them from there, so that the host registers the same at boot.
pub(super) fn install_and_persist(
    call: &mut Call,
    host: &Host,
    table: &Table,
    mut order: Order,
) -> Result<(Vec<Item>, Survey)> {
    call.lacks_each(host.does_not_read());
    let (mut copied, mut failed) = (Vec::new(), Vec::new());
    for (arch, copy) in host.copy_emulators(table, &order)? {
        match copy {
            Ok(copy) => {
                call.tell(&text::filed("persist", &host.shown(&copy.path), copy.fate));
                copied.push((arch, copy));
            }
            Err(error) => {
                failed.push(arch);
                is_not_persisted(call, arch, &error);
                call.tell(&Deed::not_done("install", arch.oci, "not tried, since it is not persisted"));
            }
        }
    }
    order.emulators = host.emulators()?;
    let installed = if order.reset && !failed.is_empty() {
        Err(anyhow!(
            "not reset, since not every emulator could be persisted: {}",
            call.take_pending().unwrap_or_default()
        ))
    } else {
        // the host may have an older copy of a failed one
        order.selection = order.selection.without(failed);
        install_all(table, &order, &[], &mut |item| install::report(call, item))
    };
    match &installed {
        Ok((items, survey)) => write_rules(call, host, &copied, items, survey),
        Err(_) => copied.iter().for_each(|(_, copy)| give_back(call, host, copy)),
    }
    installed
}

/// Takes back the copy of an emulator that no handler uses.
fn give_back(call: &mut Call, host: &Host, copy: &Staged) {
    let path = host.shown(&copy.path);
    match host.give_back(copy) {
        Ok(false) => {}
        Ok(true) => call.tell(&text::filed("persist", &path, FileOutcome::TakenBack)),
        Err(error) => {
            let deed = Deed::not_done("persist", &path, format!("not taken back: {error:#}"));
            call.fails(&deed, format!("{path} is not taken back: {error:#}"));
        }
    }
}

pub(super) fn is_not_persisted(call: &mut Call, arch: &Arch, error: &Error) {
    let deed = Deed::not_done("persist", arch.oci, format!("{error:#}"));
    call.fails(&deed, format!("{} is not persisted: {error:#}", arch.oci));
}

/// Writes a rule for each handler that was seen to work with an emulator on the host, and takes the other emulators back.
fn write_rules(call: &mut Call, host: &Host, copied: &[(&'static Arch, Staged)], items: &[Item], survey: &Survey) {
    for (arch, copy) in copied {
        let written = match result_of(items, arch) {
            Some(Ok(outcome)) => host.register_at_boot(arch, outcome, survey),
            // this failure is recorded already
            Some(Err(_)) => Ok(None),
            None => Err(anyhow!("there was nothing to install")),
        };
        if !matches!(written, Ok(Some(_))) {
            give_back(call, host, copy);
        }
        match written {
            Ok(Some((path, fate, caveat))) => {
                call.tell(&text::filed("persist", &path, fate));
                call.lacks_each(caveat);
            }
            Ok(None) => {}
            Err(error) => is_not_persisted(call, arch, &error),
        }
    }
}

/// `--export`: writes rules for the handlers that work into `dir`.
pub(super) fn export(call: &mut Call, dir: &Path) -> Result<()> {
    let survey = call.survey()?;
    match export::export(&survey, dir, call.settings.force, call.is_dry()) {
        Ok((items, caveats)) => {
            report(call, "export", items.into_iter().map(in_words));
            call.lacks_each(caveats);
        }
        Err(error) => call.lacks(format!("{error:#}")),
    }
    Ok(())
}

/// `--unpersist`: removes what `--persist` or `--export` wrote to `dir`.
pub(super) fn unpersist(call: &mut Call, dir: &Path) -> Result<()> {
    let mut files = Vec::new();
    // a directory that rules were exported to is not a host's root directory
    if fs::symlink_metadata(dir.join("etc")).is_ok() {
        let taken = persist::take_back(dir, call.is_dry())?.into_iter();
        files.extend(taken.map(|(path, outcome)| (persist::shown(dir, &path), outcome)));
    }
    let exported = export::take_back(dir, call.is_dry())?;
    files.extend(exported.into_iter().map(in_words));
    if files.is_empty() && !call.is_dry() {
        call.tell(&Deed::not_done("unpersist", dir.display(), "nothing found"));
    }
    report(call, "unpersist", files);
    Ok(())
}

fn in_words((path, outcome): export::Item) -> (String, Result<FileOutcome>) {
    (shown(path.as_os_str()), outcome)
}

/// Tells what became of files. Somebody else's changes are a failure: such a file stays.
pub(super) fn report(
    call: &mut Call,
    verb: &'static str,
    files: impl IntoIterator<Item = (String, Result<FileOutcome>)>,
) {
    for (path, outcome) in files {
        match outcome {
            Ok(outcome) => {
                let deed = text::filed(verb, &path, outcome);
                if outcome == FileOutcome::Changed {
                    let why = "was changed since it was written; remove it by hand";
                    call.fails(&deed, format!("{path} {why}"));
                } else {
                    call.tell(&deed);
                }
            }
            Err(error) => {
                let deed = Deed::not_done(verb, &path, format!("{error:#}"));
                call.fails(&deed, format!("{verb}ing {path} failed: {error:#}"));
            }
        }
    }
}
