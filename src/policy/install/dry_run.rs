//! What an install would come to, without a write to the table: the same decisions, and what cannot be seen is rehearsed.

use anyhow::{Result, anyhow};

use super::round::Round;
use super::{Item, Order, check_enabled};
use crate::helper::probes::LIMIT;
use crate::kernel::table::Table;
use crate::policy::rehearsal::{Rehearsed, rehearse};
use crate::policy::survey::Survey;

/// What [`super::install`] would come to on a host that stands as in `survey`; `table` is the host's, if there is one. Where nothing
/// can be rehearsed, an emulator that states its version counts as one that works.
///
/// # Errors
/// When nothing could be installed at all, or probes cannot be run.
pub fn dry_run(table: Option<&Table>, order: &Order, survey: &Survey) -> Result<Vec<Item>> {
    if let Some(table) = table {
        check_enabled(table, table.enabled()?)?;
    }
    let mut round = Round::decide(order, survey, &[], LIMIT)?;
    round.check_emulators();
    round.rehearse(|candidates| {
        let rehearsed = rehearse(candidates, &order.emulators).ok()?;
        let verdict = |rehearsed| match rehearsed {
            Rehearsed::Runs { argv0 } => Ok(argv0),
            Rehearsed::Fails(why) => Err(anyhow!("{why}; put another build there")),
        };
        Some(rehearsed.into_iter().map(verdict).collect())
    });
    Ok(round.items(order))
}
