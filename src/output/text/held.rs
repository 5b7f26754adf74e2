//! What `--hold` says on stderr.

use std::path::Path;
use std::time::Duration;

use binfmt_magic::arch::Arch;

use super::interval;
use crate::kernel::wording::shown;
use crate::policy::hold::{Event, Hold, Reason};
use crate::policy::install::{InstallOutcome, Item};

/// `holding: arm64, arm; looking at each change and every 30s`
///
/// `items` is what the install before has come to.
pub fn holding(hold: &Hold, items: &[Item], every: Duration) -> String {
    let works = |item: &&Item| item.1.as_ref().is_ok_and(InstallOutcome::is_through_handler);
    let working = names(items.iter().filter(works).map(|(arch, _)| *arch));
    let working = if working.is_empty() { "nothing" } else { &working };
    let failing = names(hold.failing.iter().map(|(arch, _)| *arch));
    let failing = if failing.is_empty() { failing } else { format!("; retrying: {failing}") };
    let often = if hold.watch.follows() { "at each change and " } else { "" };
    let every = interval(every);
    format!("holding: {working}{failing}; looking {often}every {every}")
}

/// `repairing: arm64 OK (no handler was in effect)`
///
/// `dir` is where the table is mounted.
pub fn repairing(event: &Event, dir: &Path, every: Duration) -> String {
    let retrying = || format!("failed, retrying every {}", interval(every));
    match event {
        Event::Mounted => format!("repairing: {} OK (it was not mounted)", dir.display()),
        Event::Anchored => "repairing: the anchor OK (it was removed)".to_owned(),
        Event::MayEnd(why) => format!("binfmt: {why}"),
        Event::Repaired(arches, reason) => {
            let why = match reason {
                Reason::Gone => "no handler was in effect",
                Reason::Hijacked => "another handler took its programs and did not run them",
                Reason::Over => "the obstacle is gone",
            };
            format!("repairing: {} OK ({why})", names(arches.iter().copied()))
        }
        Event::Left(arch, Some(handler)) => {
            format!("repairing: {} left to {}, which is not of this install and runs it", arch.oci, shown(handler))
        }
        Event::Left(arch, None) => {
            format!("repairing: {} left to the kernel, which runs it by itself", arch.oci)
        }
        Event::Fails(arch, why) => format!("repairing: {} {}: {why}", arch.oci, retrying()),
        Event::Refused(why) => format!("repairing: {}: {why}", retrying()),
        Event::Over => "repairing: OK (all is as it was)".to_owned(),
    }
}

fn names(arches: impl Iterator<Item = &'static Arch>) -> String {
    let names: Vec<&str> = arches.map(|arch| arch.oci).collect();
    names.join(", ")
}
