//! What is to be done about each architecture, from how it stands. Changes nothing: an install does it, and
//! [`crate::policy::verify`] tells what an install would do.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::{Result, bail};
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::Rule;

use super::{Credentials, InstallOutcome, Order, Working};
use crate::emulator::identity;
use crate::emulator::{Source, Version};
use crate::helper::probes::Ran;
use crate::kernel::wording::{cause, shown};
use crate::policy::survey::{
    Failure, PlatformStatus, Survey, Verdict, qemu_in, runs_natively, takes,
};

/// An architecture that is to be registered.
pub(crate) struct Pending {
    pub(crate) arch: &'static Arch,
    pub(crate) rule: Rule,
    /// The handler that was found.
    pub(crate) current: Option<Entry>,
    /// Whether `current` works, so that it must not be disturbed.
    pub(super) works: bool,
    /// The emulator that `current` has pinned, if that is not the one that is to be installed.
    pub(crate) former: Option<Arc<File>>,
    /// Entries that go once this one works: QEMU's for the same programs, and whatever holds the name.
    pub(crate) obsolete: Vec<Entry>,
    /// The registration of the new entry, once there is one.
    pub(super) registered: Option<u64>,
    /// What becomes of flag C.
    pub(super) credentials: Credentials,
    /// What the new emulator says of itself, once asked.
    pub(super) version: Version,
    /// The emulator that was looked at, and that is to be pinned.
    pub(super) judged: Option<File>,
    /// Which QEMU `former` is, if it shows or says so.
    pub(crate) former_version: Option<Version>,
}

impl Pending {
    /// Its name while the entry that holds the real one is still needed.
    pub(super) fn name(&self) -> OsString {
        let mut name = self.rule.name.clone();
        while self.obsolete.iter().any(|entry| entry.name == name) {
            name.push(STAND_IN);
        }
        name
    }
}

/// What follows the name of an entry that stands in for another.
const STAND_IN: &str = ".next";

/// Whether `name` is that of a stand-in for the entry `of`.
pub(crate) fn is_stand_in(name: &OsStr, of: &OsStr) -> bool {
    let suffix = name.as_bytes().strip_prefix(of.as_bytes());
    suffix.is_some_and(|s| s.starts_with(STAND_IN.as_bytes()))
}

pub(crate) enum Decision {
    Leave(InstallOutcome),
    Register(Box<Pending>),
    /// One of `all` that there is nothing to say about.
    Skip,
}

/// Why nothing can be registered for an architecture without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InstallRefusal {
    /// The kernel would run it, but this entry takes its programs and does not run them.
    Hijacked(OsString),
    /// The name is held by an entry that is not QEMU's.
    NameOfOther(OsString),
    /// The name is held by what this architecture runs through.
    NameInUse(OsString, &'static str),
}

impl fmt::Display for InstallRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hijacked(entry) => {
                let name = shown(entry);
                write!(
                    f,
                    "native, but {name} takes its programs and does not run them; binfmt --uninstall {name}"
                )
            }
            Self::NameOfOther(name) => {
                let name = shown(name);
                write!(
                    f,
                    "the name {name} is held by an entry that is not QEMU's; --force replaces it"
                )
            }
            Self::NameInUse(name, oci) => {
                let name = shown(name);
                write!(
                    f,
                    "the name {name} is held by what {oci} runs through; --force replaces it"
                )
            }
        }
    }
}

impl std::error::Error for InstallRefusal {}

/// What became of thinking about one architecture.
pub(crate) type Planned = (&'static Arch, Result<Decision, InstallRefusal>);

/// What `order` comes to, architecture by architecture.
///
/// # Errors
/// When probes cannot be run, or this program is not on the host that it believes to be on.
pub(crate) fn plan(order: &Order, survey: &Survey) -> Result<Vec<Planned>> {
    let seen = survey.natively()?;
    check_host(&seen)?;
    let runs = |arch: &Arch| runs_natively(&seen, arch);
    let wanted = ARCHES.iter().filter(|arch| order.selection.wants(arch));
    let planned = wanted.map(|arch| (arch, decide(order, survey, arch, runs(arch))));
    Ok(planned.collect())
}

/// What is registered for a host that this program only believes to be on would take that host's own programs.
fn check_host(seen: &[(&Arch, Verdict)]) -> Result<()> {
    let Some(host) = Arch::of_host() else {
        return Ok(());
    };
    let verdict = seen.iter().find(|(arch, _)| *arch == host);
    let why = match verdict {
        Some((_, Verdict::Works { .. })) => return Ok(()),
        Some((_, Verdict::Fails(failure))) => failure.to_string(),
        None => "an entry takes even what is marked as none of its own".to_owned(),
    };
    bail!(
        "this binfmt is built for {0}, and programs of {0} do not run here by themselves: {why}; use the build, or the \
         image, for the host's own architecture",
        host.oci
    )
}

fn decide(
    order: &Order,
    survey: &Survey,
    arch: &'static Arch,
    is_native: bool,
) -> Result<Decision, InstallRefusal> {
    let status = survey.of(arch);
    let named = order.selection.by_name(arch).is_some();
    let is_host = Arch::of_host().is_some_and(|host| host == arch);
    if is_host || is_native || status.is_native() {
        return of_native(status, named);
    }
    let mut rule = order.rule_for(arch);
    let credentials = spare_credentials(order, status, &mut rule);
    let handler = status.handler.as_ref();
    if let Some(entry) = handler.filter(|_| status.works()) {
        let left = leave(order, survey, (status, entry), &mut rule, credentials);
        if let Some(outcome) = left {
            return Ok(Decision::Leave(outcome));
        }
    }
    if !named && !order.emulators.has(&rule.interpreter) {
        return Ok(Decision::Skip);
    }
    let obsolete = obsolete(survey, arch, &rule.name);
    if !order.force {
        check_name(survey, arch, &rule.name)?;
    }
    let (current, works) = (handler.cloned(), status.works());
    let former = former(status, &rule, &order.emulators).ok().flatten();
    let former_version = former.as_deref().and_then(qemu_in).map(|qemu| qemu.version);
    Ok(Decision::Register(Box::new(Pending {
        arch,
        rule,
        current,
        works,
        former,
        obsolete,
        registered: None,
        credentials,
        version: Version::default(),
        judged: None,
        former_version,
    })))
}

/// What the kernel runs by itself needs no handler.
fn of_native(status: &PlatformStatus, named: bool) -> Result<Decision, InstallRefusal> {
    let handler = status.handler.as_ref();
    if let Some(entry) = handler.filter(|_| named && !status.works()) {
        return Err(InstallRefusal::Hijacked(entry.name.clone()));
    }
    let shadowed_by = handler.map(|entry| entry.name.clone());
    Ok(if named {
        Decision::Leave(InstallOutcome::Native { shadowed_by })
    } else {
        Decision::Skip
    })
}

/// Why a handler that works stays, if it does. Takes flag P out of `rule` where it would only add an argument.
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
    let (former, unseen) = match former(status, rule, &order.emulators) {
        Ok(former) => (former, None),
        Err(why) => (None, Some(why)),
    };
    if former.is_none() && loses_argv0(status) {
        rule.flags.preserve_argv0 = false;
    }
    let same = matches_rule(entry, rule) && former.is_none();
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
    Some(InstallOutcome::AlreadyInstalled {
        entry: name,
        kept,
        unseen,
        credentials,
    })
}

/// An older QEMU in place of a newer one weakens the host for everybody on it. Why the newer one stays, unless told otherwise.
fn is_newer(order: &Order, entry: &Entry, pinned: Option<&File>, rule: &Rule) -> Option<String> {
    let other_credentials = order
        .credentials
        .is_some_and(|asked| asked != entry.flags.credentials);
    if order.working == Working::Replace || other_credentials {
        return None;
    }
    let pinned = qemu_in(pinned?)?.version;
    let wanted = qemu_in(&order.emulators.file(&rule.interpreter)?)?.version;
    let newer = pinned.order() > wanted.order();
    newer.then(|| format!("its QEMU {pinned} is newer than {wanted}; --force replaces it"))
}

/// Setuid programs that get their owner's privilege weaken the host: where a handler is without flag C, so is what takes its place,
/// unless told otherwise. A handler that runs nothing decides nothing.
fn spare_credentials(order: &Order, status: &PlatformStatus, rule: &mut Rule) -> Credentials {
    let runs = status.works()
        || matches!(
            status.failure(),
            Some(Failure::NotPinned | Failure::NoLoader)
        );
    let lacks = |entry: &&Entry| runs && !entry.flags.credentials;
    let Some(entry) = status.handler.as_ref().filter(lacks) else {
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

/// The entry that holds `name` must be QEMU's, and no other architecture may run through it.
fn check_name(survey: &Survey, arch: &Arch, name: &OsStr) -> Result<(), InstallRefusal> {
    let Some(holder) = survey.entries.iter().find(|entry| entry.name == name) else {
        return Ok(());
    };
    if !survey.is_qemu(holder) {
        return Err(InstallRefusal::NameOfOther(name.to_owned()));
    }
    let needs_it = |s: &&PlatformStatus| {
        let handler = s.handler.as_ref().map(|entry| &entry.name);
        s.arch != arch && s.works() && handler == Some(&holder.name)
    };
    if let Some(other) = survey.statuses.iter().find(needs_it) {
        return Err(InstallRefusal::NameInUse(name.to_owned(), other.arch.oci));
    }
    Ok(())
}

/// Whether flag P is set, and yet the emulator that is pinned does not keep `argv[0]`: then the flag only adds an
/// argument.
fn loses_argv0(status: &PlatformStatus) -> bool {
    let has_flag = status
        .handler
        .as_ref()
        .is_some_and(|h| h.flags.preserve_argv0);
    has_flag && matches!(status.verdict, Verdict::Works { argv0: false, .. })
}

pub(super) fn matches_rule(entry: &Entry, rule: &Rule) -> bool {
    entry.name == rule.name && entry.is_made_by(rule)
}

/// The emulator that the kernel has pinned, if it is not byte for byte the one at the interpreter's path. Where that path
/// leads nowhere, there is nothing to compare. The error is why the pinned one cannot be compared.
fn former(
    status: &PlatformStatus,
    rule: &Rule,
    emulators: &Source,
) -> Result<Option<Arc<File>>, String> {
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

/// Whether the kernel has pinned another emulator for one of QEMU's handlers than an install by `order` would pin, byte for byte, and
/// not a newer one, which an install leaves. `None` where one of the two is missing.
pub(crate) fn is_stale(order: &Order, survey: &Survey, status: &PlatformStatus) -> Option<bool> {
    let rule = order.rule_for(status.arch);
    let (emulators, rule) = (&order.emulators, &rule);
    let handler = status.handler.as_ref()?;
    let is_pinned = matches!(status.ran, Ran::Interpreter(_));
    if !is_pinned || !survey.is_qemu(handler) || emulators.open(&rule.interpreter).is_err() {
        return None;
    }
    let former = former(status, rule, emulators).ok()?;
    Some(former.is_some_and(|pinned| is_newer(order, handler, Some(&pinned), rule).is_none()))
}

/// QEMU's entries for the programs of `arch` and of no other architecture, and the holder of `name`.
fn obsolete(survey: &Survey, arch: &Arch, name: &OsStr) -> Vec<Entry> {
    let only_this = |entry: &&Entry| {
        survey.is_qemu(entry)
            && ARCHES
                .iter()
                .all(|other| takes(entry, other) == (other == arch))
    };
    let goes = |entry: &&Entry| entry.name == name || only_this(entry);
    survey.entries.iter().filter(goes).cloned().collect()
}
