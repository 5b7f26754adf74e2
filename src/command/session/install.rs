//! The part of a session that installs: mount, keep, install, tell.

use anyhow::{Result, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;

use super::{Session, describe_unknown};
use crate::cli::{Anchor, OnExit};
use crate::kernel::mount::{self, Lifetime, MountError, Mounted};
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::install::{self, Order, install};
use crate::policy::survey::{Survey, takes};
use crate::policy::uninstall::uninstall_others;

/// What an install came to.
pub(super) struct Installed {
    /// What became of each.
    pub(super) items: Vec<install::Item>,
    /// How the host stands afterwards.
    pub(super) survey: Survey,
    /// Why the handlers may end before the host does, and what to do.
    pub(super) caveat: Option<String>,
}

impl Session<'_> {
    /// Installs, tells what became of each, and shows nothing.
    pub(super) fn install(
        &mut self,
        selection: Selection,
        streams: &mut Streams,
    ) -> Result<Installed> {
        let order = self.order_to_install(selection)?;
        let host = self.host()?;
        let mounted = mount::for_installing(&self.at);
        // a call that holds repairs, one that persists writes what was tried, and both take a table
        let refusal = mounted
            .as_ref()
            .err()
            .filter(|_| !self.cli.hold && host.is_none());
        if let Some(MountError::UserNamespace(_) | MountError::Denied(_)) =
            refusal.and_then(|e| e.downcast_ref())
        {
            if let Some((survey, lines)) = self.runs_already(&order.selection)? {
                for line in &lines {
                    streams.say(line);
                }
                return Ok(Installed {
                    items: Vec::new(),
                    survey,
                    caveat: None,
                });
            }
        }
        let Mounted {
            table,
            lock,
            held_by,
        } = mounted?;
        if self.cli.hold {
            // also where all is in place: it could not be put back
            table.may_change()?;
        }
        let caveat = mount::ensure_lifetime(&self.at, held_by, self.lifetime());
        let installed = match &host {
            Some(host) => self.install_and_persist(host, &table, order.clone(), streams),
            None => install(&table, &order, &[], &mut |item| self.report(item, streams)),
        };
        let installed = installed.and_then(|(items, mut survey)| {
            if self.cli.reset {
                let removals =
                    uninstall_others(&table, |entry| is_wanted(entry, &items, &order.prefix))?;
                self.report_removals(&removals, streams);
                survey = Survey::take_after(&table, &survey.timed_out())?;
            }
            Ok((items, survey))
        });
        let tidied = mount::tidy(&table, &lock, &self.at);
        let (items, survey) = installed?;
        if items.is_empty() && order.selection.unknown.is_empty() && !self.has_emulators() {
            self.missing.push(self.no_emulators());
        }
        for unknown in &order.selection.unknown {
            let line = format!("installing: {} {unknown}", unknown.item);
            self.fails(line, describe_unknown(unknown), streams);
        }
        self.check_levels(&order.selection, &survey);
        // where nothing is left, nothing can end
        let caveat = caveat.filter(|_| matches!(tidied, Ok(false)));
        if let Err(error) = tidied {
            self.missing.push(format!("{error:#}"));
        }
        Ok(Installed {
            items,
            survey,
            caveat: caveat.map(|caveat| format!("{caveat:#}")),
        })
    }

    /// What an install of `selection` is to be.
    ///
    /// # Errors
    /// Where it would remove all that there is, and install nothing.
    pub(super) fn order_to_install(&self, selection: Selection) -> Result<Order> {
        let order = Order {
            reset: self.cli.reset,
            ..self.order(selection)
        };
        if order.reset && !self.has_emulators() {
            bail!("{}", self.no_emulators());
        }
        Ok(order)
    }

    pub(super) fn no_emulators(&self) -> String {
        let dir = self.emulators.dir().display();
        format!("no emulators in {dir}; {}", self.emulators.remedy())
    }

    /// In a user namespace without a table of its own, or without the privilege to look at the host's, the host's
    /// handlers do what can be done. The lines say so, of each.
    pub(super) fn runs_already(
        &self,
        selection: &Selection,
    ) -> Result<Option<(Survey, Vec<String>)>> {
        let survey = Survey::take(None)?;
        let known = ARCHES.iter().filter(|arch| self.has_emulator(arch));
        let arches = selection.arches(known);
        if arches.is_empty() || !arches.iter().all(|arch| survey.of(arch).works()) {
            return Ok(None);
        }
        let line = |arch: &Arch| {
            let how = if survey.of(arch).is_native() {
                "native"
            } else {
                "already installed (on the host)"
            };
            format!("installing: {} {how}", arch.oci)
        };
        let lines = arches.into_iter().map(line).collect();
        Ok(Some((survey, lines)))
    }

    /// How long the handlers are to be there.
    pub(super) fn lifetime(&self) -> Lifetime {
        match self.cli.anchor {
            _ if self.cli.hold && self.cli.on_exit == OnExit::Uninstall => Lifetime::OfThisCall,
            Anchor::Auto => Lifetime::Anchored,
            Anchor::Never => Lifetime::Unanchored,
        }
    }

    /// Tells what became of one architecture.
    pub(super) fn report(&mut self, item: &install::Item, streams: &mut Streams) {
        let line = text::installation(item.0, &item.1);
        match not_installed(item) {
            Some(sentence) => self.fails(line, sentence, streams),
            None => streams.say(&line),
        }
    }
}

/// What is not in place of one architecture.
pub(super) fn not_installed((arch, result): &install::Item) -> Option<String> {
    let error = result.as_ref().err()?;
    Some(format!("{} is not installed: {error:#}", arch.oci))
}

/// Whether a reset keeps this entry: it is of this install, or what an install failed to replace.
pub(super) fn is_wanted(entry: &Entry, items: &[install::Item], prefix: &str) -> bool {
    items.iter().any(|(arch, result)| match result {
        Ok(install::InstallOutcome::Installed { .. }) => entry.name == *arch.entry_name(prefix),
        Ok(install::InstallOutcome::AlreadyInstalled { entry: name, .. }) => entry.name == *name,
        Ok(_) => false,
        Err(_) => takes(entry, arch),
    })
}
