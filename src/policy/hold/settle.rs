//! What became of each platform that was lost, or could not be installed before.

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;

use super::{Event, Hold, Reason, Snapshot};
use crate::policy::install::{InstallOutcome, Item};
use crate::policy::survey::Survey;

/// A platform that does not run, and why.
pub type Failing = (&'static Arch, String);

/// What became of one that runs.
enum Fate {
    /// It ran all the time, or another call has repaired it.
    Unchanged,
    Repaired(Reason),
    /// Something else has registered another handler for it, which works.
    Left,
}

impl Hold {
    /// Takes note of how things are after an install into a table that was as `before`, and adds to `events` what has become of
    /// each. `all`: whether what was failing has been tried, too.
    pub(super) fn settle(
        &mut self,
        before: &Snapshot,
        items: &[Item],
        survey: &Survey,
        all: bool,
        events: &mut Vec<Event>,
    ) {
        self.timed_out = survey.timed_out();
        let settled = Snapshot::of(survey, &self.arches);
        let former = std::mem::replace(&mut self.settled, settled);
        let is_lost = |arch: &Arch| {
            let had = former.handler(arch);
            had.is_some() && self.settled.handler(arch) != had
        };
        let failing = self.failures(items, survey, is_lost, all);
        let failed = std::mem::replace(&mut self.failing, failing);
        let fate = |arch: &Arch| {
            let installed = matches!(of(items, arch), Some(Ok(InstallOutcome::Installed { .. })));
            match (former.handler(arch), before.handler(arch)) {
                _ if is_among(&failed, arch) && installed => Fate::Repaired(Reason::Over),
                (Some(had), _) if is_among(&failed, arch) && self.still_has(arch, had) => {
                    Fate::Repaired(Reason::Over)
                }
                _ if is_among(&failed, arch) => Fate::Left,
                (had, there) if installed && there.is_some() && there != had => {
                    Fate::Repaired(Reason::Hijacked)
                }
                // or wiped out since
                (Some(_), _) if installed => Fate::Repaired(Reason::Gone),
                (Some(had), _) if !self.still_has(arch, had) => Fate::Left,
                _ => Fate::Unchanged,
            }
        };
        let running = self.arches.iter().copied();
        let running = running.filter(|arch| !is_among(&self.failing, arch));
        let fates: Vec<_> = running.map(|arch| (arch, fate(arch))).collect();
        for reason in Reason::ALL {
            let repaired = fates
                .iter()
                .filter(|(_, fate)| matches!(fate, Fate::Repaired(why) if *why == reason));
            let repaired: Vec<_> = repaired.map(|(arch, _)| *arch).collect();
            if !repaired.is_empty() {
                events.push(Event::Repaired(repaired, reason));
            }
        }
        let left = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Left));
        events.extend(left.map(|(arch, _)| {
            let handler = self.settled.handler(arch);
            Event::Left(arch, handler.map(|entry| entry.name.clone()))
        }));
        let fresh = self.failing.iter();
        let fresh = fresh.filter(|(arch, _)| !is_among(&failed, arch));
        events.extend(fresh.map(|(arch, why)| Event::Fails(arch, why.clone())));
    }

    /// Whether the handler of `arch` reads as `had` did. One that was registered anew may.
    fn still_has(&self, arch: &Arch, had: &Entry) -> bool {
        let handler = self.settled.handler(arch);
        handler.is_some_and(|handler| handler.reads_like(had))
    }

    pub(super) fn is_known_to_fail(&self, arch: &Arch) -> bool {
        is_among(&self.failing, arch)
    }

    /// What does not run after an install. Of what that passes over without a word, `--install all` without an emulator, it
    /// is what was failing before or `is_lost`. Unless `all` was tried, what was failing and has not been tried fails as before.
    pub(super) fn failures(
        &self,
        items: &[Item],
        survey: &Survey,
        is_lost: impl Fn(&Arch) -> bool,
        all: bool,
    ) -> Vec<Failing> {
        let known = |arch: &Arch| self.failing.iter().find(|(of, _)| *of == arch);
        let reason = |arch: &Arch| match of(items, arch) {
            Some(result) => result.as_ref().err().map(|error| format!("{error:#}")),
            None if survey.of(arch).works() => None,
            None => match known(arch) {
                Some((_, reason)) if !all => Some(reason.clone()),
                None if !is_lost(arch) => None,
                _ => Some(self.why_passed_over(arch)),
            },
        };
        let arches = self.arches.iter().copied();
        arches
            .filter_map(|arch| Some((arch, reason(arch)?)))
            .collect()
    }

    fn why_passed_over(&self, arch: &Arch) -> String {
        let path = self.order.emulators.path_for(arch, &self.order.prefix);
        match self.order.emulators.open(&path) {
            Err(error) => error.to_string(),
            Ok(_) => format!("{} was not there a moment ago", path.display()),
        }
    }
}

fn of<'a>(items: &'a [Item], arch: &Arch) -> Option<&'a anyhow::Result<InstallOutcome>> {
    let item = items.iter().find(|(of, _)| *of == arch);
    item.map(|(_, result)| result)
}

fn is_among(failing: &[Failing], arch: &Arch) -> bool {
    failing.iter().any(|(of, _)| *of == arch)
}
