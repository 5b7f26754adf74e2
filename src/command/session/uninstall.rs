//! The part of a session that uninstalls, and tells.

use anyhow::Result;
use binfmt_magic::platform::{Platform, items};

use super::Session;
use crate::kernel::mount;
use crate::output::streams::Streams;
use crate::output::text;
use crate::policy::survey::Survey;
use crate::policy::uninstall::{NotRemoved, Removal, RemovalOutcome, mistake, uninstall};

impl Session<'_> {
    pub(super) fn uninstall(&mut self, list: &str, streams: &mut Streams) -> Result<()> {
        let Some(table) = mount::for_uninstalling(&self.at)? else {
            return self.uninstall_nothing(list, streams);
        };
        let lock = table.lock()?;
        let removals = uninstall(&table, list, self.cli.force)?;
        self.report_removals(&removals, streams);
        mount::tidy(&table, &lock, &self.at)?;
        Ok(())
    }

    /// In a user namespace without a table of its own there is nothing to uninstall, but what still runs was not.
    fn uninstall_nothing(&mut self, list: &str, streams: &mut Streams) -> Result<()> {
        let survey = Survey::take(None)?;
        for item in items(list) {
            let result = match mistake(item) {
                Some(unknown) => Err(NotRemoved::Unknown(unknown)),
                None => Ok(RemovalOutcome::NotFound { left_to: None }),
            };
            let label = item.into();
            self.report_removals(&[Removal { label, result }], streams);
            let arch = item
                .parse::<Platform>()
                .map(|platform| survey.of(platform.arch));
            if arch.is_ok_and(|status| status.works() && !status.is_native()) {
                let missing =
                    format!("{item} runs through a handler of the host; uninstall it there");
                self.missing.push(missing);
            }
        }
        Ok(())
    }

    pub(super) fn report_removals(&mut self, removals: &[Removal], streams: &mut Streams) {
        for removal in removals {
            let line = text::removal(removal);
            match not_removed(removal) {
                Some(sentence) => self.fails(line, sentence, streams),
                None => streams.say(&line),
            }
        }
    }
}

/// What is not as it was asked for.
pub(super) fn not_removed(removal: &Removal) -> Option<String> {
    let refusal = removal.result.as_ref().err()?;
    let label = removal.label.to_string_lossy();
    Some(format!("cannot uninstall {label}: {refusal}"))
}
