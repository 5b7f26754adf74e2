//! Compares each handler with the one that an install would register: flag P by a rehearsal, the rest by reading.

use std::ffi::OsString;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};

use super::Drift;
use crate::emulator::{Source, Version};
use crate::helper::probes::LIMIT;
use crate::policy::install::{Pending, ask, spread};
use crate::policy::rehearsal::{Rehearsed, rehearse};
use crate::policy::survey::{Failure, PlatformStatus, Survey, takes};

/// One architecture that an install would register anew.
pub(super) struct ComparedEntry {
    pub(super) arch: &'static Arch,
    /// Its handler.
    pub(super) entry: Option<OsString>,
    /// How the handler differs. A missing flag P is no difference if the emulator does not support it.
    pub(super) drifts: Vec<Drift>,
    /// Why an install cannot repair that, if it cannot.
    pub(super) obstacle: Option<Drift>,
}

/// Compares each handler with the one that an install would register. Also returns why nothing could be rehearsed, if so.
pub(super) fn compare(
    survey: &Survey,
    mut pending: Vec<Pending>,
    emulators: &Source,
) -> (Vec<ComparedEntry>, Option<String>) {
    let asked = ask(&pending, emulators, LIMIT);
    let fit = pending.iter().zip(&asked).filter(|(_, asked)| asked.new.is_ok());
    let candidates: Vec<_> = fit.map(|(p, _)| (p.arch, p.rule.clone())).collect();
    let (rehearsed, unrehearsed) = match rehearse(&candidates, emulators) {
        Ok(answers) => (answers, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let rehearsed = spread(asked.iter().map(|asked| asked.new.is_ok()), rehearsed);
    let all = pending.iter_mut().zip(asked).zip(rehearsed);
    let compared = all.map(|((pending, asked), rehearsed)| {
        let status = survey.of(pending.arch);
        let argv0 = &mut pending.rule.flags.preserve_argv0;
        let (new, mut obstacle) = match asked.new {
            Ok((version, _)) => (Some(version), None),
            Err(error) => (None, Some(Drift::Unfit(error))),
        };
        match (rehearsed, &new) {
            (Some(Rehearsed::Runs { argv0: kept }), _) => *argv0 &= kept,
            // if nothing runs for a reason of the host, a rehearsal shows no more than that
            (Some(Rehearsed::Fails(why)), _) if outer_remedy(status).is_none() => {
                obstacle = Some(Drift::Unready(pending.rule.interpreter.clone(), why));
            }
            (None, Some(version)) if unrehearsed.is_some() => *argv0 &= knows_argv0(version),
            _ => {}
        }
        ComparedEntry {
            arch: pending.arch,
            entry: pending.current.as_ref().map(|entry| entry.name.clone()),
            drifts: differences(pending, survey, asked.former, new),
            obstacle,
        }
    });
    (compared.collect(), unrehearsed)
}

/// What to do if programs do not run for a reason of the host.
pub(super) fn outer_remedy(status: &PlatformStatus) -> Option<String> {
    status.failure()?.outer_remedy(status.arch)
}

/// Whether a QEMU of this version supports flag P: since 6.0 it looks at `AT_FLAGS_PRESERVE_ARGV0` (`main` in `linux-user/main.c`).
fn knows_argv0(version: &Version) -> bool {
    version.order() >= (vec![6], 0)
}

/// How the handler differs from the one to be registered.
fn differences(pending: &Pending, survey: &Survey, former: Option<Version>, new: Option<Version>) -> Vec<Drift> {
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
        let other = ARCHES.iter().find(|other| entry.name == *other.entry_name(""));
        let other = other.filter(|other| *other != arch && !takes(entry, other));
        drifts.push(Drift::Name(rule.name.clone(), other.map(|other| other.oci)));
    }
    match (&entry.matcher, &rule.matcher) {
        (have, want) if have.as_ref() == Some(want) => {}
        (Some(Matcher::Magic { offset: 0, magic: have, .. }), Matcher::Magic { magic: want, .. }) if have == want => {
            drifts.push(Drift::Mask);
        }
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

/// The flags that `one` has and `other` lacks.
fn without(one: Flags, other: Flags) -> Flags {
    Flags {
        preserve_argv0: one.preserve_argv0 && !other.preserve_argv0,
        open_binary: one.open_binary && !other.open_binary,
        credentials: one.credentials && !other.credentials,
        fix_binary: one.fix_binary && !other.fix_binary,
    }
}
