//! What an install does about each architecture, given its status. Changes nothing; [`crate::policy::verify`] uses the same plan.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::{Result, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Rule};

use super::{Credentials, InstallOutcome, Order, Shadow, Working, transparent};
use crate::emulator::identity;
use crate::emulator::{Source, Version};
use crate::helper::probes::Ran;
use crate::kernel::wording::{cause, shown};
use crate::policy::survey::{Failure, PlatformStatus, Survey, Verdict, qemu_in, runs_natively};
use crate::policy::uninstall;

/// An architecture that an install registers.
#[derive(Debug)]
pub struct Pending {
    pub arch: &'static Arch,
    pub rule: Rule,
    /// If `rule` has flag T, and nobody knows yet whether kernel and emulator support it: the flags without it.
    pub(super) visible: Option<Flags>,
    /// Its handler.
    pub current: Option<Entry>,
    /// Whether `current` works, and so must keep working.
    pub(super) works: bool,
    /// The emulator that `current` has pinned, if it differs from the one to install.
    pub former: Option<Arc<File>>,
    /// Whether the emulator that `current` has pinned was seen, and timed out.
    pub(super) hangs: bool,
    /// Entries to remove once this one works: QEMU's for the same programs, and the one that has the name.
    pub obsolete: Vec<Entry>,
    /// The registration of the new entry, once it exists.
    pub(super) registered: Option<u64>,
    pub(super) credentials: Credentials,
    pub version: Version,
    /// The new emulator's file that was looked at, and must be the one that the kernel pins.
    pub(super) judged: Option<File>,
    pub former_version: Option<Version>,
}

impl Pending {
    /// The name to register under. While another entry has the real name and is needed, it is a stand-in's.
    pub(super) fn name(&self) -> OsString {
        let mut name = self.rule.name.clone();
        while self.obsolete.iter().any(|entry| entry.name == name) {
            name.push(STAND_IN);
        }
        name
    }
}

/// The suffix of a stand-in's name.
const STAND_IN: &str = ".next";

/// Whether `name` is the name of a stand-in for the entry `of`.
pub fn is_stand_in(name: &OsStr, of: &OsStr) -> bool {
    name.as_bytes().strip_prefix(of.as_bytes()).is_some_and(|s| s.starts_with(STAND_IN.as_bytes()))
}

/// What an install does about one architecture.
#[derive(Debug)]
pub enum Decision {
    Leave(InstallOutcome),
    Register(Box<Pending>),
    /// Nothing: the kernel would run its programs natively, but this entry takes them and does not run them.
    Hijacked(Shadow),
    /// Nothing: another entry has the name; why it is not replaced.
    NameTaken(String),
}

/// One architecture, and what an install does about it.
pub type Planned = (&'static Arch, Decision);

/// What an install by `order` does about each architecture, except those of `all` that have no emulator or are native. Fails when
/// this program is built for another host, or probes cannot be run.
pub fn plan(order: &Order, survey: &Survey) -> Result<Vec<Planned>> {
    let seen = survey.natively()?;
    check_host(&seen)?;
    let runs = |arch: &Arch| runs_natively(&seen, arch);
    let wanted = ARCHES.iter().filter(|arch| order.selection.wants(arch));
    Ok(wanted.filter_map(|arch| Some((arch, decide(order, survey, arch, runs(arch))?))).collect())
}

/// A build for another architecture would register handlers that take this host's own programs.
fn check_host(seen: &[(&Arch, Verdict)]) -> Result<()> {
    let Some(host) = Arch::of_host() else {
        return Ok(());
    };
    let verdict = seen.iter().find(|(arch, _)| *arch == host);
    let why = match verdict {
        Some((_, Verdict::Works { .. })) => return Ok(()),
        Some((_, Verdict::Fails(failure))) => failure.to_string(),
        None => "an entry takes even the programs of trials".to_owned(),
    };
    bail!(
        "this binfmt is built for {0}, and programs of {0} do not run natively here: {why}; use the build, or the \
         image, for the host's own architecture",
        host.oci
    )
}

fn decide(order: &Order, survey: &Survey, arch: &'static Arch, is_native: bool) -> Option<Decision> {
    let status = survey.of(arch);
    let named = order.selection.by_name(arch).is_some();
    let is_host = Arch::of_host().is_some_and(|host| host == arch);
    if is_host || is_native || status.is_native() {
        return of_native(order, survey, status, named);
    }
    let mut rule = order.rule(arch);
    let credentials = spare_credentials(order, survey, status, &mut rule);
    let handler = status.handler.as_ref();
    if let Some(entry) = handler.filter(|_| status.works()) {
        let left = leave(order, survey, (status, entry), &mut rule, credentials);
        if let Some(outcome) = left {
            return Some(Decision::Leave(outcome));
        }
    }
    let visible = transparent::is_wanted(order, handler).then_some(rule.flags);
    if visible.is_some() {
        rule.flags = rule.flags.with_transparency();
    }
    if !named && !order.emulators.has(&rule.interpreter) {
        return None;
    }
    let obsolete = obsolete(survey, arch, &rule.name);
    if let Some(why) = name_taken(survey, arch, &rule.name).filter(|_| !order.force) {
        return Some(Decision::NameTaken(why));
    }
    let (current, works) = (handler.cloned(), status.works());
    let former = former(status, &rule, &order.emulators).ok().flatten();
    let former_version = former.as_deref().and_then(qemu_in).map(|qemu| qemu.version);
    Some(Decision::Register(Box::new(Pending {
        arch,
        rule,
        visible,
        current,
        works,
        former,
        hangs: status.interpreter().is_some() && status.failure().is_some_and(Failure::is_timeout),
        obsolete,
        registered: None,
        credentials,
        version: Version::default(),
        judged: None,
        former_version,
    })))
}

/// What the kernel runs natively needs no handler.
fn of_native(order: &Order, survey: &Survey, status: &PlatformStatus, named: bool) -> Option<Decision> {
    if !named {
        return None;
    }
    let shadowed_by = status.handler.as_ref().map(|entry| Shadow {
        entry: entry.name.clone(),
        removal: uninstall::command(survey, &entry.name, &order.invocation),
    });
    match shadowed_by {
        Some(by) if !status.works() => Some(Decision::Hijacked(by)),
        shadowed_by => Some(Decision::Leave(InstallOutcome::Native { shadowed_by })),
    }
}

/// The outcome if a handler that works stays. Takes flag P out of `rule` where the flag would only add an argument.
fn leave(
    order: &Order,
    survey: &Survey,
    (status, entry): (&PlatformStatus, &Entry),
    rule: &mut Rule,
    credentials: Credentials,
) -> Option<InstallOutcome> {
    let name = entry.name.clone();
    let is_qemu = survey.is_qemu(entry);
    if !is_qemu && !order.force {
        return Some(InstallOutcome::LeftTo { entry: name });
    }
    if status.gains().is_some() {
        return None;
    }
    let (former, unseen) = match former(status, rule, &order.emulators) {
        Ok(former) => (former, None),
        Err(why) => (None, Some(why)),
    };
    if former.is_none() && loses_argv0(status) {
        rule.flags.preserve_argv0 = false;
    }
    let hidden = || Rule { flags: rule.flags.with_transparency(), ..rule.clone() };
    let may_hide = transparent::is_wanted(order, Some(entry));
    // to hide the emulator as well is no reason to replace a handler that is to be kept
    let as_seen = !may_hide || order.working == Working::Keep;
    let same = former.is_none() && (may_hide && matches_rule(entry, &hidden()) || as_seen && matches_rule(entry, rule));
    let lacks = || is_qemu && !order.reset && order.emulators.lacks(&rule.interpreter);
    let kept = if same {
        None
    } else if order.working == Working::Keep && former.is_some() {
        Some("it has another emulator".to_owned())
    } else if order.working == Working::Keep {
        Some("it differs from a new one".to_owned())
    } else if let Some(newer) = is_newer(order, entry, former.as_deref(), rule) {
        Some(newer)
    } else if lacks() {
        Some(format!("{} does not exist", rule.interpreter.display()))
    } else {
        return None;
    };
    Some(InstallOutcome::AlreadyInstalled { entry: name, kept, unseen, credentials })
}

/// Why a newer QEMU stays, unless the user asked to replace it: an older one would weaken the host.
fn is_newer(order: &Order, entry: &Entry, pinned: Option<&File>, rule: &Rule) -> Option<String> {
    let other_credentials = order.credentials.is_some_and(|asked| asked != entry.flags.credentials);
    if order.working == Working::Replace || other_credentials {
        return None;
    }
    let pinned = qemu_in(pinned?)?.version;
    let wanted = qemu_in(&order.emulators.file(&rule.interpreter)?)?.version;
    let newer = pinned.order() > wanted.order();
    newer.then(|| format!("its QEMU {pinned} is newer than {wanted}; --force replaces it"))
}

/// Takes flag C out of `rule` if the handler that runs programs now lacks it, unless the user asked for it: setuid programs that get
/// their owner's privilege weaken the host. If another tool's entry takes the programs before one of QEMU's does, QEMU's decides.
fn spare_credentials(order: &Order, survey: &Survey, status: &PlatformStatus, rule: &mut Rule) -> Credentials {
    // where this process sees other files than those that start programs, the interpreter may exist
    let in_part = |f: &Failure| matches!(f, Failure::OnlyOfKind { failure: None, .. });
    let may_run = |f: &Failure| f.is_of_containers() || matches!(f, Failure::NoInterpreter(_)) || in_part(f);
    let runs = status.works() || status.failure().is_some_and(may_run);
    let lacks = |entry: &&Entry| runs && !entry.flags.credentials;
    let of_qemu = || survey.entries.iter().find(|entry| survey.is_qemu(entry) && entry.matches(status.arch));
    let handler =
        status.handler.as_ref().map(|entry| if survey.is_qemu(entry) { entry } else { of_qemu().unwrap_or(entry) });
    let Some(entry) = handler.filter(lacks) else {
        return Credentials::AsAsked;
    };
    if !rule.flags.credentials || order.credentials.is_some() {
        return Credentials::AsAsked;
    }
    if order.working == Working::Replace {
        return Credentials::Gained;
    }
    rule.flags.credentials = false;
    rule.flags.open_binary = entry.flags.open_binary;
    Credentials::LeftOut
}

/// What [`forced`] may return.
pub const FORCED: [&str; 2] = ["--force", "--force --credentials no"];

/// The options of an install that is to take over from another entry, and to leave out flag C where it would without `--force`.
pub fn forced(order: &Order, survey: &Survey, status: &PlatformStatus) -> &'static str {
    let spared = spare_credentials(order, survey, status, &mut order.rule(status.arch));
    FORCED[usize::from(spared == Credentials::LeftOut)]
}

/// Why the entry `name`, if it exists, stays: it is not QEMU's, or runs another architecture's programs.
fn name_taken(survey: &Survey, arch: &Arch, name: &OsStr) -> Option<String> {
    let holder = survey.entries.iter().find(|entry| entry.name == name)?;
    let name = shown(name);
    if !survey.is_qemu(holder) {
        return Some(format!("the entry {name} is not QEMU's; --force replaces it"));
    }
    let needs_it = |s: &&PlatformStatus| {
        let handler = s.handler.as_ref().map(|entry| &entry.name);
        s.arch != arch && s.works() && handler == Some(&holder.name)
    };
    let other = survey.statuses.iter().find(needs_it)?.arch.oci;
    Some(format!("the entry {name} runs the programs of {other}; --force replaces it"))
}

/// Whether flag P is set and the pinned emulator does not support it, so that the flag only adds an argument.
fn loses_argv0(status: &PlatformStatus) -> bool {
    let has_flag = status.handler.as_ref().is_some_and(|h| h.flags.preserve_argv0);
    has_flag && matches!(status.verdict, Verdict::Works { argv0: false, .. })
}

pub(super) fn matches_rule(entry: &Entry, rule: &Rule) -> bool {
    entry.name == rule.name && entry.is_made_by(rule)
}

/// The emulator that the kernel has pinned, if its bytes differ from those of the file at the interpreter's path. `None` also if
/// there is no such file. The error says why the pinned one cannot be compared.
fn former(status: &PlatformStatus, rule: &Rule, emulators: &Source) -> Result<Option<Arc<File>>, String> {
    let pinned = match &status.ran {
        Ran::Interpreter(pinned) => pinned,
        Ran::Itself => return Ok(None),
        Ran::Unseen(why) => return Err(why.clone()),
    };
    let Some(there) = emulators.file(&rule.interpreter) else {
        return Ok(None);
    };
    let same = identity::is_same(pinned, &there).map_err(|error| cause(&error))?;
    Ok((!same).then(|| pinned.clone()))
}

/// Whether an install by `order` would pin an emulator with other bytes than the one that the kernel has pinned. False also if the
/// pinned one is newer, so that an install leaves it. `None` if one of the two is missing.
pub fn is_stale(order: &Order, survey: &Survey, status: &PlatformStatus) -> Option<bool> {
    let rule = order.rule(status.arch);
    let (emulators, rule) = (&order.emulators, &rule);
    let handler = status.handler.as_ref()?;
    let is_pinned = matches!(status.ran, Ran::Interpreter(_));
    if !is_pinned || !survey.is_qemu(handler) || emulators.open(&rule.interpreter).is_err() {
        return None;
    }
    let former = former(status, rule, emulators).ok()?;
    Some(former.is_some_and(|pinned| is_newer(order, handler, Some(&pinned), rule).is_none()))
}

/// QEMU's entries that take the programs of `arch` alone, and the entry `name`.
fn obsolete(survey: &Survey, arch: &Arch, name: &OsStr) -> Vec<Entry> {
    let only_this = |entry: &&Entry| {
        survey.is_qemu(entry) && ARCHES.iter().all(|other| entry.matches_some_of(other) == (other == arch))
    };
    let goes = |entry: &&Entry| entry.name == name || only_this(entry);
    survey.entries.iter().filter(goes).cloned().collect()
}
