//! The part of a session that holds: install, then stay and tell what was mended, until it is told to end.

use std::time::Instant;

use anyhow::Result;
use binfmt_magic::platform::Selection;

use super::Session;
use crate::cli::OnExit;
use crate::hold::{Event, Hold, Installed, Watch, Woken};
use crate::streams::Streams;
use crate::survey::Survey;
use crate::text;

impl Session<'_> {
    /// Installs and stays. What cannot be installed at first is tried again, if there is anything else to hold.
    pub(super) fn hold(
        mut self,
        selection: Selection,
        streams: &mut Streams,
    ) -> Result<Option<String>> {
        let watch = Watch::start(self.cli.interval)?;
        let order = self.order(selection.clone());
        let begin = Instant::now();
        let (items, survey) = self.install(selection, streams)?;
        let took = begin.elapsed();
        if let Err(error) = self.show_once(&survey, streams) {
            self.missing.push(format!("{error:#}"));
        }
        if !items.iter().any(|(_, result)| result.is_ok()) {
            return Ok(self.last_line(streams));
        }
        let caveats = std::mem::take(&mut self.missing);
        self.told.clear();
        for caveat in &caveats {
            streams.say(&format!("binfmt: {caveat}"));
        }
        let installed = Installed {
            items,
            survey,
            took,
            caveats,
        };
        let mut hold = Hold::begin(order, self.at.clone(), self.lifetime(), watch, installed);
        streams.say(&text::holding(&hold, self.cli.interval));
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
            self.told.extend(
                failing.map(|(arch, reason)| format!("{} is not installed: {reason}", arch.oci)),
            );
            self.told.extend(hold.refused().map(str::to_owned));
        }
        let removals = hold.end(uninstall)?;
        self.report_removals(&removals, streams);
        self.told.extend_from_slice(hold.caveats());
        Ok(self.last_line(streams))
    }

    fn tell(&self, events: &[Event], streams: &mut Streams) {
        for event in events {
            streams.say(&text::held(event, &self.at.dir, self.cli.interval));
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
