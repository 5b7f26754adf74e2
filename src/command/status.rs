//! `--status`, a health check; and what a call without it shows: what runs here.

use anyhow::Result;
use binfmt_magic::platform::Selection;

use super::Call;
use crate::cli::{Format, describe_unknown};
use crate::kernel::mount;
use crate::output::json::{Health, Status, write_json};
use crate::output::prometheus::{Measured, write_metrics};
use crate::output::text;
use crate::policy::install::is_stale;
use crate::policy::status::{advise, examine};
use crate::policy::survey::{Failure, PlatformStatus, Survey};

/// What runs here: the incumbent's JSON, or the table of `--status`, without a judgement. If that cannot be found out, what was done
/// before is done all the same.
pub(super) fn overview(call: &mut Call) -> Result<()> {
    let survey = match call.survey() {
        Err(error) if call.has_done => {
            call.streams.say(&format!("what runs here now cannot be shown: {error:#}"));
            return Ok(());
        }
        survey => survey?,
    };
    if call.settings.format == Format::Text {
        let health = Health::new(&survey, examine(&survey, None, false), true);
        return show_health(call, &health);
    }
    let written = write_json(call.streams.out, &Status::from(&*survey));
    call.streams.finish(written)
}

/// Shows whether the platforms of `list`, or the registered ones, run. Each that does not is a failure.
pub(super) fn status(call: &mut Call, list: Option<&Selection>) -> Result<()> {
    let survey = call.survey()?;
    let arches = call.listed(list, &survey);
    let json = call.settings.format == Format::Json;
    let mut examined = examine(&survey, arches.as_deref(), json);
    advise(&call.remedies(&survey), &mut examined);
    let health = Health::new(&survey, examined, arches.is_none());
    let is_foreign = |status: &PlatformStatus| !status.is_native() && status.is_known();
    if list.is_none() && !survey.statuses.iter().any(is_foreign) {
        call.say_empty("--status");
    }
    judge(call, &survey, &health);
    call.check_all(list, &survey);
    if let Some(selection) = list {
        call.lacks_each(selection.unknown.iter().map(describe_unknown));
        call.check_levels(selection, &survey);
    }
    if call.settings.format == Format::Prometheus {
        return show_metrics(call, &survey, &health);
    }
    show_health(call, &health)
}

fn judge(call: &mut Call, survey: &Survey, health: &Health) {
    for failing in health.failing() {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (reason, remedy) = (text(&failing.reason), text(&failing.remedy));
        let is_of_containers = survey.of(failing.arch).failure().is_some_and(Failure::is_of_containers);
        let place = if is_of_containers { " in containers" } else { "" };
        let sentence = format!("{} does not run{place}: {reason}; {remedy}", failing.platform);
        // metrics have no room for reasons, the other forms show them
        match call.settings.format {
            Format::Prometheus => call.lacks(sentence),
            _ => call.shown(sentence),
        }
    }
}

fn show_health(call: &mut Call, health: &Health) -> Result<()> {
    call.show(health, |out, colour, width| text::write_health(out, health, colour, width))
}

fn show_metrics(call: &mut Call, survey: &Survey, health: &Health) -> Result<()> {
    let table = mount::for_looking(&call.at).ok().flatten();
    let measured = health.platforms.iter().map(|health| {
        let status = survey.of(health.arch);
        let changed = |name| table.as_ref()?.changed(name);
        Measured {
            health,
            changed: status.handler.as_ref().and_then(|entry| changed(&entry.name)),
            stale: is_stale(&call.order, survey, status),
        }
    });
    let measured: Vec<_> = measured.collect();
    let written = write_metrics(call.streams.out, &measured);
    call.streams.finish(written)
}
