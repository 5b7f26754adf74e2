//! The part of a session that tells what it would do, with `--dry-run`, and does nothing: no write, no mount, no lock.
//!
//! stdout gets a line for each thing; the exit status is that of a look, or 1 where it is plain that something would fail.

use anyhow::Result;
use binfmt_magic::entry::Entry;
use binfmt_magic::platform::Selection;

use super::install::{is_wanted, not_installed};
use super::{Session, describe_unknown};
use crate::helper::probes::Ran;
use crate::kernel::mount::{self, MountError};
use crate::kernel::table::Table;
use crate::kernel::wording::printable;
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::install::{self, InstallOutcome};
use crate::policy::survey::{Failure, Survey, Verdict};
use crate::policy::uninstall::{self, Removal};

impl Session<'_> {
    pub(super) fn dry_run(&mut self, streams: &mut Streams) -> Result<()> {
        let (uninstall, install) = (self.uninstall.take(), self.install.take());
        let table = mount::for_looking(&self.at)?;
        let mut survey = Survey::take(table.as_ref())?;
        let mut lines = Vec::new();
        if let Some(list) = uninstall {
            self.would_uninstall(&list, table.as_ref(), &mut survey, &mut lines)?;
        }
        if let Some(dir) = &self.cli.unpersist {
            lines.extend(self.would_unpersist(dir)?);
        }
        if let Some(selection) = install {
            if let Some(dir) = &self.cli.persist {
                lines.extend(self.would_persist(dir, &selection, &survey.entries)?);
            }
            self.would_install(selection, table.as_ref(), &survey, &mut lines)?;
        }
        if let Some(dir) = &self.cli.export {
            lines.extend(self.would_export(&survey, dir)?);
        }
        let mut lines = lines.iter();
        let written = lines.try_for_each(|line| writeln!(streams.out, "{}", printable(line)));
        streams.finish(written)
    }

    fn would_uninstall(
        &mut self,
        list: &str,
        table: Option<&Table>,
        survey: &mut Survey,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let removals = uninstall::dry_run(survey.table(), list, self.cli.force)?;
        let is_gone = |entry: &Entry| removals.iter().any(|removal| removal.has_removed(entry));
        if let Some(table) = table.filter(|_| survey.table().iter().any(is_gone)) {
            table.may_change()?;
        }
        self.tell_removals(&removals, lines);
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

    fn would_install(
        &mut self,
        selection: Selection,
        table: Option<&Table>,
        survey: &Survey,
        lines: &mut Vec<String>,
    ) -> Result<()> {
        let order = self.order_to_install(selection)?;
        let mounts = mount::would_mount(&self.at);
        if let Err(MountError::UserNamespace(_) | MountError::Denied(_)) = &mounts {
            if let Some((_, said)) = self.runs_already(&order.selection)? {
                lines.extend(said.iter().map(|line| text::would(line)));
                return Ok(());
            }
        }
        let mounts = mounts?;
        let items = install::dry_run(table, &order, survey)?;
        let registers =
            |(_, result): &install::Item| matches!(result, Ok(InstallOutcome::Installed { .. }));
        if items.iter().any(registers) {
            if mounts {
                lines.push(format!("would mount: {}", self.at.dir.display()));
            } else if let Some(table) = table {
                table.may_change()?;
            }
        }
        for item in &items {
            lines.push(text::would(&text::installation(item.0, &item.1)));
            self.told.extend(not_installed(item));
        }
        for unknown in &order.selection.unknown {
            lines.push(format!("would not install: {} {unknown}", unknown.item));
            self.told.push(describe_unknown(unknown));
        }
        if order.reset {
            let wanted = |entry: &Entry| is_wanted(entry, &items, &order.prefix);
            let others = uninstall::dry_run_others(&survey.entries, wanted);
            self.tell_removals(&others, lines);
        }
        if items.is_empty() && order.selection.unknown.is_empty() && !self.has_emulators() {
            self.missing.push(self.no_emulators());
        }
        Ok(())
    }

    fn tell_removals(&mut self, removals: &[Removal], lines: &mut Vec<String>) {
        for removal in removals {
            lines.push(text::would(&text::removal(removal)));
            self.told.extend(super::uninstall::not_removed(removal));
        }
    }
}
