//! `--hold`: installs, then stays and tells what was repaired, until a signal ends it.

use std::io;

use anyhow::{Result, anyhow};

use super::install::{not_installed, perform, report_removal};
use super::{Call, status};
use crate::cli::{Install, Stay};
use crate::kernel::file_system;
use crate::kernel::wait;
use crate::kernel::wording::not_started;
use crate::output::text;
use crate::policy::hold::{Event, Hold, Watch, Woken};
use crate::policy::transaction::Installed;

/// Installs and stays. A platform that cannot be installed at first is tried again, unless no other one is held.
pub(super) fn hold(call: &mut Call, asked: &Install, stay: &Stay) -> Result<()> {
    let cannot_wait = |error: io::Error| anyhow!("cannot wait for signals: {}", not_started(&error));
    wait::end_by_signals().map_err(cannot_wait)?;
    file_system::wait_without_limit();
    let order = call.order(asked.selection.clone());
    let Installed { items, survey, caveat } = perform(call, asked, true)?;
    if let Err(error) = status::overview(call) {
        call.lacks(format!("{error:#}"));
    }
    if !items.iter().any(|(_, result)| result.is_ok()) {
        call.lacks_each(caveat);
        return Ok(());
    }
    call.tell_pending();
    // these are tried again, and may be in place at the end
    let failed: Vec<String> = items.iter().filter_map(not_installed).collect();
    call.forget(&failed);
    if let Some(caveat) = &caveat {
        call.streams.say(&format!("binfmt: {caveat}"));
    }
    let watch = Watch::new(stay.interval);
    let table = (call.at.clone(), call.settings.lifetime);
    let mut hold = Hold::begin(order, table, watch, &items, &survey, caveat);
    let line = text::holding(&hold, &items, stay.interval);
    call.streams.say(&line);
    // changes from before the watch began
    tell(call, &hold.look(false), stay);
    loop {
        // while it sleeps, no other thread has to wake up
        file_system::stop_watching();
        match hold.watch.wait().map_err(cannot_wait)? {
            Woken::Ended => break,
            woken => tell(call, &hold.look(woken == Woken::Due), stay),
        }
    }
    if !stay.uninstalls {
        tell(call, &hold.leave(), stay);
        for (arch, why) in &hold.failing {
            call.shown(format!("{} is not installed: {why}", arch.oci));
        }
        // at the end, no line says that nothing could be done
        hold.refused.iter().for_each(|refused| call.lacks(refused.why.clone()));
    }
    hold.end(stay.uninstalls, &mut |removal| report_removal(call, removal))?;
    hold.caveat.into_iter().for_each(|caveat| call.shown(caveat));
    Ok(())
}

fn tell(call: &mut Call, events: &[Event], stay: &Stay) {
    for event in events {
        let line = text::repairing(event, &call.at.dir, stay.interval);
        call.streams.say(&line);
    }
}
