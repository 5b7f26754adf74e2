//! The kinds of programs of one architecture: whether a program runs through the handler of a plain probe says nothing of a
//! program that another entry takes, since its header differs.
//!
//! Entries that others have registered may look at less, or more, of a header than ours do: at what differs between the kinds
//! ([`Kind`]).

use std::time::Duration;

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch, Kind};
use binfmt_magic::entry::Entry;

use super::verdict::find_missing;
use super::{Failure, PlatformStatus, Survey, Verdict, handler_of, may_be_native, taker};
use crate::helper::probes::{self, Form, Job, Ran};

/// A kind of an architecture's programs that another entry takes than its plain probe, or none, and what its probe showed.
#[derive(Debug, Clone)]
pub struct KindStatus {
    pub arch: &'static Arch,
    pub kind: Kind,
    pub entry: Option<Entry>,
    pub verdict: Verdict,
    ran: Ran,
}

/// Runs a probe of each kind that has another handler than the plain probe of its architecture, where that works, or where
/// nothing takes it.
pub(super) fn look(survey: &Survey, limit: Duration) -> Result<Vec<KindStatus>> {
    let mut found = Vec::new();
    for arch in ARCHES.iter().filter(|_| survey.enabled) {
        let plain = handler_of(&survey.entries, arch).map(|entry| entry.registration);
        let status = survey.of(arch);
        let is_worth = |entry: Option<&Entry>| {
            if status.works() {
                plain.is_some() || may_be_native(arch)
            } else {
                status.handler.is_none() && entry.is_some()
            }
        };
        for kind in Kind::ALL {
            let entry = handler_of_kind(&survey.entries, arch, kind);
            if entry.map(|entry| entry.registration) != plain && is_worth(entry) {
                found.push((arch, kind, entry.cloned()));
            }
        }
    }
    let jobs: Vec<Job> = found.iter().map(|(arch, kind, _)| Job { arch, form: Form::Of(*kind) }).collect();
    let runs = probes::run_within(limit, &jobs)?;
    let statuses = found.into_iter().zip(runs).map(|((arch, kind, entry), run)| {
        let pinned = entry.as_ref().map(|entry| entry.flags.fix_binary);
        KindStatus { arch, kind, verdict: Verdict::of(arch, pinned, &run), entry, ran: run.ran }
    });
    let mut statuses: Vec<KindStatus> = statuses.collect();
    find_missing(statuses.iter_mut().map(|kind| (kind.entry.as_ref(), &mut kind.verdict)));
    Ok(statuses)
}

/// Marks an architecture of whose kinds one does not run, or of which there is a handler of some kind only.
pub(super) fn mark(status: &mut PlatformStatus, kinds: &[KindStatus]) {
    let mut own = kinds.iter().filter(|kind| kind.arch == status.arch);
    if status.works() {
        let failure = own.find_map(failure);
        status.verdict = failure.map_or(status.verdict.clone(), Verdict::Fails);
    } else if let Some(kind) = own.next() {
        let failure = kind.verdict.failure().cloned().map(Box::new);
        status.verdict = Verdict::Fails(Failure::OnlyOfKind { kind: kind.kind, failure });
        (status.handler, status.ran) = (kind.entry.clone(), kind.ran.clone());
    }
}

fn failure(kind: &KindStatus) -> Option<Failure> {
    Some(Failure::OfKind {
        kind: kind.kind,
        entry: kind.entry.as_ref().map(|entry| entry.name.clone()),
        failure: Box::new(kind.verdict.failure()?.clone()),
    })
}

impl Survey {
    /// Whether `entry` is the one that takes programs of some kind of `arch`.
    pub fn takes_some_of(&self, entry: &Entry, arch: &Arch) -> bool {
        let newest = |kind| handler_of_kind(&self.entries, arch, kind).map(|newest| newest.registration);
        Kind::ALL.iter().any(|kind| newest(*kind) == Some(entry.registration))
    }
}

/// The newest entry that is on and takes programs of this kind.
fn handler_of_kind<'a>(entries: &'a [Entry], arch: &Arch, kind: Kind) -> Option<&'a Entry> {
    taker(entries, arch, &kind.header(arch))
}
