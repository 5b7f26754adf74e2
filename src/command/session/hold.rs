//! The part of a session that holds: install, then stay and tell what was repaired, until it is told to end.

use anyhow::Result;
use binfmt_magic::platform::Selection;

use super::Session;
use super::install::{Installed, not_installed};
use crate::cli::OnExit;
use crate::kernel::wait;
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::hold::{Event, HeldTable, Hold, Watch, Woken};
use crate::policy::survey::Survey;

impl Session<'_> {
    /// Installs and stays. What cannot be installed at first is tried again, if there is anything else to hold.
    pub(super) fn hold(&mut self, selection: Selection, streams: &mut Streams) -> Result<()> {
        wait::end_by_signals()?;
        let order = self.order(selection.clone());
        let Installed {
            items,
            survey,
            caveat,
        } = self.install(selection, streams)?;
        if let Err(error) = self.show_once(&survey, streams) {
            self.missing.push(format!("{error:#}"));
        }
        if !items.iter().any(|(_, result)| result.is_ok()) {
            self.missing.extend(caveat);
            return Ok(());
        }
        self.let_go(streams);
        // what is tried again may be in place at the end
        let failed: Vec<String> = items.iter().filter_map(not_installed).collect();
        self.told.retain(|told| !failed.contains(told));
        for missing in self.missing.drain(..) {
            streams.say(&format!("binfmt: {missing}"));
            self.told.push(missing);
        }
        if let Some(caveat) = &caveat {
            streams.say(&format!("binfmt: {caveat}"));
        }
        let table = HeldTable::new(self.at.clone(), self.lifetime(), caveat);
        let watch = Watch::new(self.cli.interval);
        let mut hold = Hold::begin(order, table, watch, &items, &survey);
        streams.say(&text::holding(&hold, &items, self.cli.interval));
        // what has changed before there was a watch
        self.tell(&hold.look(false), streams);
        loop {
            match hold.wait()? {
                Woken::Ended => break,
                woken => self.tell(&hold.look(woken == Woken::Due), streams),
            }
        }
        let uninstall = self.cli.on_exit == OnExit::Uninstall;
        if !uninstall {
            self.tell(&hold.leave(), streams);
            let failing = hold.failing().iter();
            let failing =
                failing.map(|(arch, why)| format!("{} is not installed: {why}", arch.oci));
            self.told.extend(failing);
            self.told.extend(hold.refused().map(str::to_owned));
        }
        let removals = hold.end(uninstall)?;
        self.report_removals(&removals, streams);
        self.told.extend(hold.caveat().map(str::to_owned));
        Ok(())
    }

    fn tell(&self, events: &[Event], streams: &mut Streams) {
        for event in events {
            streams.say(&text::repairing(event, &self.at.dir, self.cli.interval));
        }
    }

    /// What an install shows.
    fn show_once(&mut self, installed: &Survey, streams: &mut Streams) -> Result<()> {
        let closer = if self.shows_health() {
            Some(self.survey()?)
        } else {
            None
        };
        let shown = self.show(closer.as_ref().unwrap_or(installed), streams);
        streams.finish(shown)
    }
}
