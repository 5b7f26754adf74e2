//! What `--hold` says on stderr.

use std::path::Path;
use std::time::Duration;

use binfmt_magic::arch::Arch;

use super::interval;
use crate::hold::{Event, Hold, Reason};
use crate::wording::shown;

/// `holding: arm64, arm; looking at each change and every 30s`
#[must_use]
pub fn holding(hold: &Hold, every: Duration) -> String {
    let all = names(hold.held());
    let all = if all.is_empty() { "nothing" } else { &all };
    let failing = names(hold.failing().iter().map(|(arch, _)| *arch));
    let failing = if failing.is_empty() {
        failing
    } else {
        format!("; trying again: {failing}")
    };
    let often = if hold.follows() {
        "at each change and "
    } else {
        ""
    };
    let every = interval(every);
    format!("holding: {all}{failing}; looking {often}every {every}")
}

/// `mending: arm64 OK (no handler was in effect)`
///
/// `dir` is where the table is mounted.
#[must_use]
pub fn mending(event: &Event, dir: &Path, every: Duration) -> String {
    let again = || format!("tried again every {}", interval(every));
    match event {
        Event::Mounted => format!("mending: {} OK (it was not mounted)", dir.display()),
        Event::Anchored => "mending: the anchor OK (it was removed)".to_owned(),
        Event::MayEnd(why) => format!("binfmt: {why}"),
        Event::Mended(arches, reason) => {
            let why = match reason {
                Reason::Gone => "no handler was in effect",
                Reason::Spoilt => "another handler took its programs and did not run them",
                Reason::Over => "what kept it from being installed is over",
            };
            format!("mending: {} OK ({why})", names(arches.iter().copied()))
        }
        Event::Left(arch, Some(handler)) => format!(
            "mending: {} left to {}, which is not of this install and runs it",
            arch.oci,
            shown(handler)
        ),
        Event::Left(arch, None) => {
            format!(
                "mending: {} left to the kernel, which runs it by itself",
                arch.oci
            )
        }
        Event::Fails(arch, why) => format!("mending: {} not yet: {why}; {}", arch.oci, again()),
        Event::Refused(why) => format!("mending: not yet: {why}; {}", again()),
        Event::Over => "mending: OK (all is as it was)".to_owned(),
    }
}

fn names(arches: impl Iterator<Item = &'static Arch>) -> String {
    let names: Vec<&str> = arches.map(|arch| arch.oci).collect();
    names.join(", ")
}
