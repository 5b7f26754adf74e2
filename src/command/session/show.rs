//! The part of a session that shows how things are, in the form that was asked for, and what of it counts as missing.

use std::io;

use super::{Session, describe_unknown};
use crate::cli::Format;
use crate::output::json::{Architecture, Health, Status, write_json};
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::list::list;
use crate::policy::status::examine;
use crate::policy::survey::Survey;

/// What a table without handlers would leave open: whether there ought to be any.
const NOTHING: &str = "no handler is registered, so no emulator was checked; list the platforms to check: binfmt --status LIST";

impl Session<'_> {
    pub(super) fn show(&mut self, survey: &Survey, streams: &mut Streams) -> io::Result<()> {
        if let Some(file) = &self.cli.explain {
            return self.explain(file, survey, streams);
        }
        if self.cli.list {
            let listed = list(survey, &self.emulators, &self.prefix);
            let listed: Vec<Architecture> = listed.iter().map(Architecture::from).collect();
            return match self.cli.format {
                Some(Format::Json) => write_json(streams.out, &listed),
                _ => text::write_list(
                    streams.out,
                    &listed,
                    streams.colour,
                    self.width(streams.width),
                ),
            };
        }
        if !self.shows_health() {
            return write_json(streams.out, &Status::from(survey));
        }
        let arches = self.meant_by(self.status.as_ref(), survey);
        let json = self.cli.format == Some(Format::Json);
        let examined = examine(survey, arches.as_deref(), json);
        let health = Health::new(&self.means(survey), &examined, arches.is_none());
        if self.cli.status.is_some() {
            if self.status.is_none()
                && !survey
                    .statuses
                    .iter()
                    .any(|s| !s.is_native() && s.is_known())
            {
                streams.say(NOTHING);
            }
            self.judge(&health);
            self.missing
                .extend(self.means_nothing(self.status.as_ref(), survey));
            if let Some(selection) = self.status.clone() {
                self.check_levels(&selection, survey);
            }
        }
        match self.cli.format {
            Some(Format::Json) => write_json(streams.out, &health),
            Some(Format::Prometheus) => self.show_metrics(survey, &examined, &health, streams),
            _ => text::write_health(
                streams.out,
                &health,
                streams.colour,
                self.width(streams.width),
            ),
        }
    }

    /// What tables are to fit: a terminal, unless all columns are asked for.
    pub(super) fn width(&self, terminal: Option<usize>) -> Option<usize> {
        terminal.filter(|_| !self.cli.verbose)
    }

    /// `--status` is a health check: what does not run counts as missing.
    fn judge(&mut self, health: &Health) {
        for failing in health.failing() {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (reason, remedy) = (text(&failing.reason), text(&failing.remedy));
            let missing = format!("{} does not run: {reason}; {remedy}", failing.platform);
            // of the forms of output, metrics alone have no room for reasons
            let lines = match self.cli.format {
                Some(Format::Prometheus) => &mut self.missing,
                _ => &mut self.told,
            };
            lines.push(missing);
        }
        for unknown in self.status.iter().flat_map(|selection| &selection.unknown) {
            self.missing.push(describe_unknown(unknown));
        }
    }
}
