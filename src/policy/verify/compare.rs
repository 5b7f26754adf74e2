//! Compares each handler with the one that an install would register: flag P by a rehearsal, the rest by reading.

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};

use super::{Audit, Repair, unfit};
use crate::emulator::identity::hexadecimal;
use crate::emulator::{Source, Version};
use crate::helper::probes::LIMIT;
use crate::kernel::wording::shown;
use crate::policy::install::{Pending, ask_others, settle_transparency};
use crate::policy::rehearsal::{rehearse, runs};
use crate::policy::survey::{Failure, PlatformStatus, Survey};

/// Its kind, and a sentence.
pub(super) type Drift = (&'static str, String);

impl Audit {
    /// Compares each handler with the one that an install would register. A missing flag P is no difference if the emulator
    /// does not support it.
    pub(super) fn compare(&mut self, survey: &Survey, mut pending: Vec<Pending>, emulators: &Source) {
        let asked = ask_others(&mut pending, emulators, LIMIT);
        settle_transparency(&mut pending, |candidates| Ok(runs(&rehearse(candidates, emulators)?)));
        let fit = pending.iter().zip(&asked).filter(|(_, asked)| asked.is_ok());
        let candidates: Vec<_> = fit.map(|(p, _)| (p.arch, p.rule.clone())).collect();
        let rehearsed = rehearse(&candidates, emulators).map_err(|error| self.unrehearsed = Some(format!("{error:#}")));
        let mut rehearsed = rehearsed.unwrap_or_default().into_iter();
        for (pending, asked) in pending.iter_mut().zip(asked) {
            let status = survey.of(pending.arch);
            let argv0 = &mut pending.rule.flags.preserve_argv0;
            let new = asked.is_ok().then(|| pending.version.clone());
            let mut obstacle = asked.err().map(|error| (("unfit", error.to_string()), unfit(&error)));
            match (new.as_ref().and_then(|_| rehearsed.next()), &new) {
                (Some(Ok(seen)), _) => *argv0 &= seen.argv0,
                // if nothing runs for a reason of the host, a rehearsal shows no more than that
                (Some(Err(not_run)), _) if outer_remedy(status).is_none() => {
                    let path = pending.rule.interpreter.display();
                    let advice = format!("{path} does not run programs: {not_run}");
                    let text = format!("{path}, which an install would pin, does not run programs: {}", not_run.why);
                    obstacle = Some((("unfit", text), Repair::Advice(advice)));
                }
                (None, Some(version)) if self.unrehearsed.is_some() => *argv0 &= knows_argv0(version),
                _ => {}
            }
            let drifts = differences(pending, survey, new.as_ref());
            let entry = pending.current.as_ref().map(|entry| entry.name.as_os_str());
            self.differ(status, entry, drifts, obstacle);
        }
    }
}

/// What to do if programs do not run for a reason of the host.
pub(super) fn outer_remedy(status: &PlatformStatus) -> Option<String> {
    status.failure()?.outer_remedy(status.arch)
}

/// Whether a QEMU of this version supports flag P: since 6.0 it looks at `AT_FLAGS_PRESERVE_ARGV0` (`main` in `linux-user/main.c`).
fn knows_argv0(version: &Version) -> bool {
    version.order() >= (vec![6], 0)
}

fn differences(pending: &Pending, survey: &Survey, new: Option<&Version>) -> Vec<Drift> {
    let Some(current) = &pending.current else {
        return vec![("missing", "not installed".to_owned())];
    };
    let broken = |failure: &Failure| ("broken", failure.to_string());
    let failure = survey.of(pending.arch).failure();
    if !survey.is_qemu(current) {
        return failure.map(broken).into_iter().collect();
    }
    let mut drifts = shape(current, &pending.rule, pending.arch);
    if pending.former.is_some() {
        drifts.push(("emulator", emulators(pending.former_version.as_ref(), new)));
    }
    let gained = survey.of(pending.arch).gains();
    drifts.extend(gained.map(|gained| ("privileged", format!("its emulator {gained}"))));
    let unpinned = !current.flags.fix_binary;
    match failure {
        Some(Failure::SwitchedOff { .. }) => drifts.push(("switched_off", "switched off".to_owned())),
        Some(Failure::NotPinned) if unpinned => {}
        Some(failure) => drifts.push(broken(failure)),
        None => {}
    }
    drifts
}

/// How the entry as the kernel prints it differs from `rule`.
fn shape(entry: &Entry, rule: &Rule, arch: &Arch) -> Vec<Drift> {
    let mut drifts = Vec::new();
    if entry.name != rule.name {
        let other = ARCHES.iter().find(|other| entry.name == *other.entry_name(""));
        let other = other.filter(|other| *other != arch && !entry.matches(other));
        let has = other.map(|other| format!("has the name of {}; ", other.oci)).unwrap_or_default();
        drifts.push(("name", format!("{has}an install names it {}", shown(&rule.name))));
    }
    match (&entry.matcher, &rule.matcher) {
        (have, want) if have.as_ref() == Some(want) => {}
        (Some(Matcher::Magic { offset: 0, magic: have, .. }), Matcher::Magic { magic: want, .. }) if have == want => {
            drifts.push(("mask", "the mask is not this architecture's".to_owned()));
        }
        (have, _) => {
            let digits = match have {
                Some(Matcher::Magic { offset: 0, magic, .. }) => format!(": {}", hexadecimal(magic)),
                _ => String::new(),
            };
            drifts.push(("magic", format!("the magic is not this architecture's{digits}")));
        }
    }
    let (have, want) = (entry.flags, rule.flags.as_kept());
    if have != want {
        drifts.push(("flags", flags(without(want, have), without(have, want))));
    }
    if !entry.unknown_flags.is_empty() {
        drifts.push(("flags", format!("flags that no install sets: {}", entry.unknown_flags)));
    }
    if entry.interpreter.as_ref() != Some(&rule.interpreter) {
        let path = rule.interpreter.display();
        drifts.push(("path", format!("an install uses the emulator {path}")));
    }
    drifts
}

fn without(one: Flags, other: Flags) -> Flags {
    Flags {
        preserve_argv0: one.preserve_argv0 && !other.preserve_argv0,
        open_binary: one.open_binary && !other.open_binary,
        credentials: one.credentials && !other.credentials,
        fix_binary: one.fix_binary && !other.fix_binary,
        transparent: one.transparent && !other.transparent,
    }
}

/// What it means that `missing` flags are not set, and `surplus` ones are.
fn flags(missing: Flags, surplus: Flags) -> String {
    let mut notes = Vec::new();
    if missing != Flags::default() {
        notes.push(format!("without flag {missing}"));
    }
    if surplus != Flags::default() {
        notes.push(format!("with flag {surplus}, which an install leaves out"));
    }
    let effects = [
        (missing.fix_binary, "containers do not find its interpreter"),
        (missing.credentials, "setuid programs do not get their privilege"),
        (surplus.credentials, "setuid programs get their privilege"),
        (missing.preserve_argv0, "programs do not see their own argv[0]"),
        (missing.transparent, "ps shows the emulator instead of the program"),
    ];
    notes.extend(effects.into_iter().filter(|(is_so, _)| *is_so).map(|(_, effect)| effect.to_owned()));
    notes.join("; ")
}

/// The pinned emulator, and the one that an install would pin: their versions, if known.
fn emulators(pinned: Option<&Version>, wanted: Option<&Version>) -> String {
    let name = |version: Option<&Version>, full: bool| match version {
        Some(Version { number, package: Some(package) }) if full => format!("{number} ({package})"),
        Some(version) => version.to_string(),
        None => "of unknown version".to_owned(),
    };
    let full = pinned.map(|v| &v.number) == wanted.map(|v| &v.number);
    let (pinned, wanted) = (name(pinned, full), name(wanted, full));
    if pinned == wanted {
        return format!("pinned: another build of QEMU {pinned} than the one that an install would pin");
    }
    format!("pinned: QEMU {pinned}; an install would pin QEMU {wanted}")
}
