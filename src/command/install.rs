//! `--install`, `--reset` and `--uninstall`: what became of each platform. And the lines of every step that changes handlers.

use anyhow::Result;

use super::{Call, persist};
use crate::cli::{self, describe_unknown};
use crate::output::text::{self, Action};
use crate::policy::install::{Item, Order};
use crate::policy::transaction::{Asked, Event, Installed, Tell, Transaction, dry_uninstall};
use crate::policy::uninstall::Removal;

pub(super) fn install(call: &mut Call, asked: &cli::Install) -> Result<()> {
    let installed = perform(call, asked, false)?;
    call.lacks_each(installed.caveat);
    Ok(())
}

pub(super) fn uninstall(call: &mut Call, list: &str) -> Result<()> {
    let force = call.settings.force;
    if call.is_dry() && !call.has_surveyed() {
        let at = call.at.clone();
        let removed = dry_uninstall(&at, list, force, &mut |event| tell(call, event))?;
        call.forget_entries(removed);
        return Ok(());
    }
    transact(call, |transaction, tell| transaction.uninstall(list, force, tell))
}

/// Installs, and tells what became of each platform. `holds`: the call stays to repair, and so needs a table that it can change.
pub(super) fn perform(call: &mut Call, asked: &cli::Install, holds: bool) -> Result<Installed> {
    let order = Order { reset: asked.reset, ..call.order(asked.selection.clone()) };
    let asked = Asked { persist: asked.persist.as_deref(), holds };
    let installed = transact(call, |transaction, tell| transaction.install(&order, &asked, tell))?;
    call.surveyed(&installed.survey);
    Ok(installed)
}

/// Carries out a step, or notes it in a dry run, and tells what comes of it.
pub(super) fn transact<T>(call: &mut Call, step: impl FnOnce(&mut Transaction, Tell) -> Result<T>) -> Result<T> {
    let noted = if call.is_dry() { Some(call.survey()?) } else { None };
    let mut transaction = Transaction { at: call.at.clone(), lifetime: call.settings.lifetime, noted };
    let done = step(&mut transaction, &mut |event| tell(call, event));
    if let Some(survey) = &transaction.noted {
        call.surveyed(survey);
    }
    done
}

fn tell(call: &mut Call, event: Event) {
    match event {
        Event::Mounts(dir) => call.tell(&Action::done("mount", dir.display(), "")),
        Event::Installed(item) => report(call, item),
        Event::Runs(arch, is_native) => {
            let how = if is_native { "native" } else { "already installed (on the host)" };
            call.tell(&Action::not_done("install", arch.oci, how));
        }
        Event::Unknown(unknown) => {
            call.fails(&Action::not_done("install", &unknown.item, unknown.to_string()), describe_unknown(unknown));
        }
        Event::Removed(removal) => report_removal(call, removal),
        Event::Filed(path, outcome) => persist::report(call, "persist", &path, outcome),
        Event::NotPersisted(arch, error) => {
            let action = Action::not_done("persist", arch.oci, format!("{error:#}"));
            call.fails(&action, format!("{} is not persisted: {error:#}", arch.oci));
        }
        Event::NotTried(arch) => {
            call.tell(&Action::not_done("install", arch.oci, "not tried, since it is not persisted"));
        }
        Event::Lacks(sentence) => call.lacks(sentence),
    }
}

fn report(call: &mut Call, item: &Item) {
    let action = text::installation(item.0, &item.1);
    match not_installed(item) {
        Some(sentence) => call.fails(&action, sentence),
        None => call.tell(&action),
    }
}

/// The failure to install a platform, if it is one.
pub(super) fn not_installed((arch, result): &Item) -> Option<String> {
    let error = result.as_ref().err()?;
    Some(format!("{} is not installed: {error:#}", arch.oci))
}

pub(super) fn report_removal(call: &mut Call, removal: &Removal) {
    let action = text::removal(removal);
    match &removal.failure {
        Some(why) => {
            let label = removal.label.to_string_lossy();
            call.fails(&action, format!("cannot uninstall {label}: {why}"));
        }
        None => call.tell(&action),
    }
}
