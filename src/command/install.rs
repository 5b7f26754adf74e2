//! `--install` and `--reset`: mounts the table, sees that it stays, installs, and tells what became of each platform.

use std::rc::Rc;

use anyhow::{Result, bail};
use binfmt_magic::arch::ARCHES;
use binfmt_magic::platform::Selection;

use super::{Call, persist, uninstall};
use crate::cli::{self, describe_unknown};
use crate::kernel::mount::{self, MountError, Mounted};
use crate::output::text::{self, Deed};
use crate::policy::install::{self, Order};
use crate::policy::persist::Host;
use crate::policy::survey::{Look, Survey};
use crate::policy::uninstall::reset;

pub(super) struct Installed {
    pub(super) items: Vec<install::Item>,
    pub(super) survey: Rc<Survey>,
    /// Why the handlers may end before the host does, and what to do.
    pub(super) caveat: Option<String>,
}

pub(super) fn install(call: &mut Call, asked: &cli::Install) -> Result<()> {
    let installed = perform(call, asked, false)?;
    call.lacks_each(installed.caveat);
    Ok(())
}

/// Installs, and tells what became of each platform. `holds`: the call stays to repair, and so needs a table that it can change.
pub(super) fn perform(call: &mut Call, asked: &cli::Install, holds: bool) -> Result<Installed> {
    let order = order(call, asked)?;
    let host = asked.persist.as_ref().map(|dir| Host::at(dir, &order)).transpose()?;
    let mounted = mount::for_installing(&call.at);
    // to hold, and to persist, a table is needed
    if let (Err(error), None, false) = (&mounted, &host, holds) {
        if let Some(installed) = without_table(call, error, &order)? {
            return Ok(installed);
        }
    }
    let Mounted { table, lock, held_by } = mounted?;
    if holds {
        // even if nothing has to change now: later it may
        table.may_change()?;
    }
    let caveat = mount::ensure_lifetime(&call.at, held_by, call.settings.lifetime);
    let installed = match &host {
        Some(host) => persist::install_and_persist(call, host, &table, order.clone()),
        None => install::install(&table, &order, &[], &mut |item| report(call, item)),
    };
    let installed = installed.and_then(|(items, mut survey)| {
        if order.reset {
            uninstall::report(call, &reset(Some(&table), &table.entries()?, &items, &order.prefix));
            let look = Look { known: &survey.statuses, ..Look::default() };
            survey = Survey::look(Some(&table), look)?;
        }
        Ok((items, Rc::new(survey)))
    });
    let tidied = mount::tidy(&table, &lock, &call.at);
    let (items, survey) = installed?;
    report_missing(call, &order, &items);
    call.check_levels(&order.selection, &survey);
    // an empty table cannot lose handlers
    let caveat = caveat.filter(|_| matches!(tidied, Ok(false)));
    if let Err(error) = tidied {
        call.lacks(format!("{error:#}"));
    }
    call.surveyed(&survey);
    Ok(Installed { items, survey, caveat: caveat.map(|caveat| format!("{caveat:#}")) })
}

/// How to install what was asked for. Fails when it would remove everything, and install nothing.
pub(super) fn order(call: &Call, asked: &cli::Install) -> Result<Order> {
    if asked.reset && !call.has_emulators() {
        bail!("{}", no_emulators(call));
    }
    Ok(Order { reset: asked.reset, ..call.order(asked.selection.clone()) })
}

/// Records the unknown platforms of `order`, and that there was nothing to install for want of emulators.
pub(super) fn report_missing(call: &mut Call, order: &Order, items: &[install::Item]) {
    for unknown in &order.selection.unknown {
        call.fails(&Deed::not_done("install", &unknown.item, unknown.to_string()), describe_unknown(unknown));
    }
    if items.is_empty() && order.selection.unknown.is_empty() && !call.has_emulators() {
        let sentence = no_emulators(call);
        call.lacks(sentence);
    }
}

fn no_emulators(call: &Call) -> String {
    let dir = call.order.emulators.dir().display();
    format!("no emulators in {dir}; {}", call.order.emulators.remedy())
}

/// What an install comes to where no table can be mounted, and why is `error`: everything in place, if it runs already.
fn without_table(call: &mut Call, error: &anyhow::Error, order: &Order) -> Result<Option<Installed>> {
    let error = error.downcast_ref::<MountError>();
    if !error.is_some_and(MountError::is_not_allowed) {
        return Ok(None);
    }
    let Some(survey) = runs_already(call, &order.selection)? else {
        return Ok(None);
    };
    let survey = Rc::new(survey);
    call.surveyed(&survey);
    Ok(Some(Installed { items: Vec::new(), survey, caveat: None }))
}

/// In a user namespace without a table of its own, or without the privilege to look at the host's, a platform may run through the
/// host's handlers. If all of `selection` do, tells so, and returns what runs here.
pub(super) fn runs_already(call: &mut Call, selection: &Selection) -> Result<Option<Survey>> {
    let survey = Survey::take(None)?;
    let known = ARCHES.iter().filter(|arch| call.has_emulator(arch));
    let arches = selection.arches(known);
    if arches.is_empty() || !arches.iter().all(|arch| survey.of(arch).works()) {
        return Ok(None);
    }
    for arch in arches {
        let how = if survey.of(arch).is_native() { "native" } else { "already installed (on the host)" };
        call.tell(&Deed::not_done("install", arch.oci, how));
    }
    Ok(Some(survey))
}

pub(super) fn report(call: &mut Call, item: &install::Item) {
    let deed = text::installation(item.0, &item.1);
    match not_installed(item) {
        Some(sentence) => call.fails(&deed, sentence),
        None => call.tell(&deed),
    }
}

/// The failure to install a platform, if it is one.
pub(super) fn not_installed((arch, result): &install::Item) -> Option<String> {
    let error = result.as_ref().err()?;
    Some(format!("{} is not installed: {error:#}", arch.oci))
}
