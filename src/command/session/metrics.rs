//! The part of a session that hands metrics out.

use std::io;

use binfmt_magic::platform::Selection;

use super::Session;
use crate::kernel::mount;
use crate::output::json::Health;
use crate::output::prometheus::{Measured, write_metrics};
use crate::output::streams::Streams;
use crate::policy::install::is_stale;
use crate::policy::status::Examined;
use crate::policy::survey::Survey;

impl Session<'_> {
    /// `health` is what `examined` came to.
    pub(super) fn show_metrics(
        &self,
        survey: &Survey,
        examined: &[Examined<'_>],
        health: &Health,
        streams: &mut Streams,
    ) -> io::Result<()> {
        let order = self.order(Selection::default());
        let table = mount::for_looking(&self.at).ok().flatten();
        let measure = |(examined, health)| {
            let Examined {
                status, emulator, ..
            }: &Examined<'_> = examined;
            let handler = status.handler.as_ref();
            let emulator = emulator
                .as_ref()
                .and_then(|emulator| emulator.as_ref().ok());
            Measured {
                health,
                changed: handler.and_then(|entry| table.as_ref()?.changed(&entry.name)),
                modified: emulator.map(|emulator| emulator.identity.modified),
                stale: is_stale(&order, survey, status),
            }
        };
        let measured = examined.iter().zip(&health.platforms).map(measure);
        write_metrics(streams.out, &measured.collect::<Vec<_>>())
    }
}
