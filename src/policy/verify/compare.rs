//! The handler that is there against the one that an install would register: flag P by rehearsal, the rest by reading.

use std::ffi::OsString;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};

use super::Drift;
use crate::emulator::{Source, Version};
use crate::helper::probes::LIMIT;
use crate::policy::install::{Pending, ask};
use crate::policy::rehearsal::{Rehearsed, rehearse};
use crate::policy::survey::{Failure, PlatformStatus, Survey, takes};

/// One architecture that an install would register anew.
pub(super) struct ComparedEntry {
    pub(super) arch: &'static Arch,
    /// The handler that is there.
    pub(super) entry: Option<OsString>,
    /// How it differs; not at all where only flag P did, and its emulator does not keep `argv[0]` either way.
    pub(super) drifts: Vec<Drift>,
    /// What keeps an install from repairing that.
    pub(super) obstacle: Option<Drift>,
}

/// Compares all of them, asking and rehearsing at the same time. Also why nothing could be rehearsed, if so.
pub(super) fn compare(
    survey: &Survey,
    mut pending: Vec<Pending>,
    emulators: &Source,
) -> (Vec<ComparedEntry>, Option<String>) {
    let asked = ask(&pending, emulators, LIMIT).into_iter();
    let answers: Vec<_> = asked
        .map(|asked| (asked.former, asked.new.map(|(version, _)| version)))
        .collect();
    let new = answers.iter().map(|(_, new)| new.as_ref().ok());
    let (unready, unrehearsed) = rehearsed(&mut pending, &new.collect::<Vec<_>>(), emulators);
    let all = pending.into_iter().zip(answers).zip(unready);
    let compared = all.map(|((pending, (former, new)), unready)| {
        let status = survey.of(pending.arch);
        let (new, unfit) = match new {
            Ok(version) => (Some(version), None),
            Err(error) => (None, Some(Drift::Unfit(error))),
        };
        // where the host keeps everything from running, a rehearsal shows no more than that
        let unready = unready.filter(|_| outer_remedy(status).is_none());
        ComparedEntry {
            arch: pending.arch,
            entry: pending.current.as_ref().map(|entry| entry.name.clone()),
            drifts: differences(&pending, survey, former, new),
            obstacle: unfit.or(unready),
        }
    });
    (compared.collect(), unrehearsed)
}

/// What to do where the host keeps programs from running.
pub(super) fn outer_remedy(status: &PlatformStatus) -> Option<String> {
    status.failure()?.outer_remedy(status.arch)
}

/// Rehearses what has an emulator (`new`: its version), decides flag P by what is seen, and returns what does not run;
/// or why nothing was seen.
fn rehearsed(
    pending: &mut [Pending],
    new: &[Option<&Version>],
    emulators: &Source,
) -> (Vec<Option<Drift>>, Option<String>) {
    let fit = pending.iter().zip(new).filter(|(_, new)| new.is_some());
    let candidates: Vec<_> = fit
        .map(|(pending, _)| (pending.arch, pending.rule.clone()))
        .collect();
    let (mut answers, unrehearsed) = match rehearse(&candidates, emulators) {
        Ok(answers) => (Some(answers.into_iter()), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let all = pending.iter_mut().zip(new).map(|(pending, new)| {
        let argv0 = &mut pending.rule.flags.preserve_argv0;
        let version = (*new)?;
        match answers.as_mut().map(Iterator::next) {
            None => *argv0 &= knows_argv0(version),
            Some(None) => {}
            Some(Some(Rehearsed::Runs { argv0: kept })) => *argv0 &= kept,
            Some(Some(Rehearsed::Fails(why))) => {
                return Some(Drift::Unready(pending.rule.interpreter.clone(), why));
            }
        }
        None
    });
    (all.collect(), unrehearsed)
}

/// Where nothing can be rehearsed: since 6.0 QEMU looks at `AT_FLAGS_PRESERVE_ARGV0` (`main` in `linux-user/main.c`).
fn knows_argv0(version: &Version) -> bool {
    version.order() >= (vec![6], 0)
}

/// How the handler that is there differs from the one to be registered.
fn differences(
    pending: &Pending,
    survey: &Survey,
    former: Option<Version>,
    new: Option<Version>,
) -> Vec<Drift> {
    let Some(current) = &pending.current else {
        return vec![Drift::Missing];
    };
    let failure = survey.of(pending.arch).failure().cloned();
    if !survey.is_qemu(current) {
        return failure.map(Drift::Broken).into_iter().collect();
    }
    let mut drifts = shape(current, &pending.rule, pending.arch);
    if pending.former.is_some() {
        drifts.push(Drift::Emulator(former, new));
    }
    let unpinned = !current.flags.fix_binary;
    match failure {
        Some(Failure::SwitchedOff { .. }) => drifts.push(Drift::SwitchedOff),
        Some(Failure::NotPinned) if unpinned => {}
        Some(failure) => drifts.push(Drift::Broken(failure)),
        None => {}
    }
    drifts
}

/// How the entry as the kernel prints it differs from `rule`.
fn shape(entry: &Entry, rule: &Rule, arch: &Arch) -> Vec<Drift> {
    let mut drifts = Vec::new();
    if entry.name != rule.name {
        let other = ARCHES
            .iter()
            .find(|other| entry.name == *other.entry_name(""));
        let other = other.filter(|other| *other != arch && !takes(entry, other));
        drifts.push(Drift::Name(rule.name.clone(), other.map(|other| other.oci)));
    }
    match (&entry.matcher, &rule.matcher) {
        (have, want) if have.as_ref() == Some(want) => {}
        (
            Some(Matcher::Magic {
                offset: 0,
                magic: have,
                ..
            }),
            Matcher::Magic { magic: want, .. },
        ) if have == want => drifts.push(Drift::Mask),
        (have, _) => drifts.push(Drift::Magic(have.clone())),
    }
    let (have, want) = (entry.flags, rule.flags.as_kept());
    if have != want {
        drifts.push(Drift::Flags(without(want, have), without(have, want)));
    }
    if !entry.unknown_flags.is_empty() {
        drifts.push(Drift::UnknownFlags(entry.unknown_flags.clone()));
    }
    if entry.interpreter.as_ref() != Some(&rule.interpreter) {
        drifts.push(Drift::Path(rule.interpreter.clone()));
    }
    drifts
}

/// The flags of the one that the other does not have.
fn without(one: Flags, other: Flags) -> Flags {
    Flags {
        preserve_argv0: one.preserve_argv0 && !other.preserve_argv0,
        open_binary: one.open_binary && !other.open_binary,
        credentials: one.credentials && !other.credentials,
        fix_binary: one.fix_binary && !other.fix_binary,
    }
}
