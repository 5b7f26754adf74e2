//! What to report after a repair, and what to remember until the next one.

use std::mem::replace;

use binfmt_magic::arch::Arch;

use super::{Event, Hold, Reason, Snapshot};
use crate::policy::install::{InstallOutcome, Item, result_of};
use crate::policy::survey::Survey;

/// An architecture that does not run, and why.
pub type Failing = (&'static Arch, String);

/// How an architecture that runs came to do so.
#[derive(PartialEq, Eq)]
enum Change {
    /// It ran all the time, or another call has repaired it: nothing is reported.
    None,
    Repaired(Reason),
    /// A handler that is not of this install runs it, or the kernel.
    Left,
}

impl Hold {
    /// Remembers the state after an install into a table that was as `before`, and adds the changes to `events`. `all`: whether
    /// what was failing has been tried, too.
    pub(super) fn settle(
        &mut self,
        before: &Snapshot,
        items: &[Item],
        survey: &Survey,
        all: bool,
        events: &mut Vec<Event>,
    ) {
        self.timed_out = survey.timed_out();
        let now = Snapshot::of(survey, &self.arches);
        let former = replace(&mut self.settled, now.clone());
        let is_lost = |arch: &Arch| {
            let had = former.handler(arch);
            had.is_some() && now.handler(arch) != had
        };
        let failing = self.failures(items, survey, is_lost, all);
        let failed = replace(&mut self.failing, failing);
        let running = self.arches.iter().copied().filter(|arch| !self.is_failing(arch));
        let changes = running.map(|arch| (arch, change(items, arch, is_among(&failed, arch), [&former, before, &now])));
        let changes: Vec<_> = changes.collect();
        let of = |wanted: Change| changes.iter().filter(move |(_, change)| *change == wanted).map(|(arch, _)| *arch);
        for reason in [Reason::Gone, Reason::Hijacked, Reason::Over] {
            let arches: Vec<_> = of(Change::Repaired(reason)).collect();
            if !arches.is_empty() {
                events.push(Event::Repaired(arches, reason));
            }
        }
        let handler = |arch| now.handler(arch).map(|entry| entry.name.clone());
        events.extend(of(Change::Left).map(|arch| Event::Left(arch, handler(arch))));
        let fresh = self.failing.iter().filter(|(a, _)| !is_among(&failed, a));
        events.extend(fresh.map(|(arch, why)| Event::Fails(arch, why.clone())));
    }

    pub(super) fn is_failing(&self, arch: &Arch) -> bool {
        is_among(&self.failing, arch)
    }

    /// The architectures that do not run after an install. If the install passed one over in silence (`--install all`, and there is
    /// no emulator), it counts if it was failing before or `is_lost`. Unless `all` were tried, what was failing and was not tried
    /// keeps its reason.
    pub(super) fn failures(
        &self,
        items: &[Item],
        survey: &Survey,
        is_lost: impl Fn(&Arch) -> bool,
        all: bool,
    ) -> Vec<Failing> {
        let reason = |arch: &Arch| {
            if let Some(result) = result_of(items, arch) {
                return result.as_ref().err().map(|error| format!("{error:#}"));
            }
            if survey.of(arch).works() {
                return None;
            }
            match self.failing.iter().find(|(of, _)| *of == arch) {
                Some((_, known)) if !all => Some(known.clone()),
                None if !is_lost(arch) => None,
                _ => Some(self.why_passed_over(arch)),
            }
        };
        self.arches.iter().copied().filter_map(|arch| Some((arch, reason(arch)?))).collect()
    }

    fn why_passed_over(&self, arch: &Arch) -> String {
        let path = self.order.emulators.path_for(arch, &self.order.prefix);
        match self.order.emulators.open(&path) {
            Err(error) => error.to_string(),
            Ok(_) => format!("{} was not there a moment ago", path.display()),
        }
    }
}

/// How `arch`, which runs now, came to do so. The handlers are those after the last repair, before this one, and now:
///
/// | failed before | installed by this repair | handlers | change |
/// | --- | --- | --- | --- |
/// | yes | yes | | repaired: the obstacle is gone |
/// | yes | no | now reads like the former one | repaired: the obstacle is gone |
/// | yes | no | else | left |
/// | no | yes | before: another than the former one | repaired: hijacked |
/// | no | yes | former: one | repaired: gone |
/// | no | no | former: one, and now does not read like it | left |
/// | no | | else | none |
fn change(items: &[Item], arch: &Arch, failed: bool, handlers: [&Snapshot; 3]) -> Change {
    let installed = matches!(result_of(items, arch), Some(Ok(InstallOutcome::Installed { .. })));
    let [former, before, now] = handlers.map(|snapshot| snapshot.handler(arch));
    // an entry that was registered anew may read like the former one
    let is_same = former.zip(now).is_some_and(|(f, now)| now.reads_like(f));
    match (failed, installed) {
        (true, true) => Change::Repaired(Reason::Over),
        (true, false) if is_same => Change::Repaired(Reason::Over),
        (true, false) => Change::Left,
        (false, true) if before.is_some() && before != former => Change::Repaired(Reason::Hijacked),
        (false, true) if former.is_some() => Change::Repaired(Reason::Gone),
        (false, false) if former.is_some() && !is_same => Change::Left,
        (false, _) => Change::None,
    }
}

fn is_among(failing: &[Failing], arch: &Arch) -> bool {
    failing.iter().any(|(of, _)| *of == arch)
}
