//! What to do about programs that do not run. The code of the install that would help decides: its plan, its look at the emulator, and
//! a rehearsal of it. So no suggested command does nothing. Reads and runs, changes nothing.

use std::cell::{OnceCell, RefCell};

use anyhow::Result;
use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::{Platform, Selection};
use nix::unistd::geteuid;

use crate::emulator::Source;
use crate::helper::probes::LIMIT;
use crate::kernel::mount::{self, MountPoint};
use crate::kernel::namespace;
use crate::kernel::wording::quoted;
use crate::policy::install::{Decision, InstallOutcome, Order, Pending, Planned, ask_others, forced, plan};
use crate::policy::rehearsal::rehearse;
use crate::policy::survey::{Failure, Survey, Verdict, may_be_native};
use crate::policy::uninstall;

/// What is wrong, and what to do about it.
pub type Issue = (String, String);

/// If `platform` names a level (`linux/amd64/v4`) that its programs do not reach.
pub fn level_lacking(platform: Platform, verdict: &Verdict) -> Option<Issue> {
    let level = verdict.level()?;
    let wanted = platform.variant?.strip_prefix('v')?.parse::<u8>().ok()?;
    let remedy =
        if may_be_native(platform.arch) { "run it where the processor has that level" } else { "use a newer QEMU" };
    (platform.arch.levels > 1 && wanted > level)
        .then(|| (format!("{platform} does not run: only level v{level} of it does"), remedy.to_owned()))
}

/// If the `all` of `list` means nothing, because there is neither a handler nor an emulator.
pub fn all_lacking(list: &Selection, survey: &Survey, order: &Order) -> Option<Issue> {
    let known = |arch: &Arch| !may_be_native(arch) && survey.of(arch).is_known();
    let any = ARCHES.iter().any(known) || order.emulators.has_any(&order.prefix);
    (list.all && !any).then(|| {
        let (dir, remedy) = (order.emulators.dir().display(), order.emulators.remedy());
        let why = format!("there is no handler, and no emulators are in {dir}, so nothing says what all is");
        (why, format!("name the platforms, or {remedy}"))
    })
}

/// What decides on remedies: how this call would install, and how a command must be written to do the same.
#[derive(Debug)]
pub struct Remedies<'a> {
    pub survey: &'a Survey,
    /// How this call would install, whatever the selection.
    pub order: Order,
    /// Where it would look for the table.
    at: MountPoint,
    /// What [`Survey::natively`] returns, once it is needed.
    natively: OnceCell<Vec<(&'static Arch, Verdict)>>,
    /// The architectures whose emulators have been tried, each with what keeps it from running programs.
    tried: RefCell<Vec<(&'static Arch, Option<String>)>>,
}

/// Where the kernel runs the programs, or no install would change how they run.
const NO_INSTALL: &str = "run it on such a machine: no install changes that";

impl<'a> Remedies<'a> {
    /// Nothing is tried before it is needed.
    pub fn new(survey: &'a Survey, order: Order, at: MountPoint) -> Self {
        Self { survey, order, at, natively: OnceCell::new(), tried: RefCell::default() }
    }

    /// The level of the programs of `arch` that the kernel runs where no entry takes them, if it runs them.
    pub fn native_level(&self, arch: &Arch) -> Option<u8> {
        if !may_be_native(arch) {
            return None;
        }
        let natively = self.natively.get_or_init(|| self.survey.natively().unwrap_or_default());
        natively.iter().find(|(of, _)| *of == arch)?.1.level()
    }

    /// What to do about `failure` of the programs of `arch`.
    pub fn against(&self, failure: &Failure, arch: &'static Arch) -> String {
        self.without_install(failure, arch).unwrap_or_else(|| self.install(arch))
    }

    /// What to do about several failures. The emulators that would be installed are tried at the same time.
    pub fn against_all(&self, failing: &[(&'static Arch, &Failure)]) -> Vec<String> {
        let others: Vec<_> = failing.iter().map(|(arch, failure)| self.without_install(failure, arch)).collect();
        let to_install = failing.iter().zip(&others).filter(|(_, other)| other.is_none());
        self.try_out(&to_install.map(|((arch, _), _)| *arch).collect::<Vec<_>>());
        let remedies = failing.iter().zip(others);
        remedies.map(|((arch, _), other)| other.unwrap_or_else(|| self.install(arch))).collect()
    }

    /// What to do, if no install is a part of it.
    fn without_install(&self, failure: &Failure, arch: &'static Arch) -> Option<String> {
        if let Some(remedy) = failure.outer_remedy(arch) {
            return Some(remedy);
        }
        match failure {
            Failure::SwitchedOff { .. } if self.survey.of(arch).handler.is_some() => switching_on(failure),
            // an install does not take what the kernel runs by itself
            Failure::Hijacked { entry, .. } | Failure::OfKind { entry: Some(entry), .. } if may_be_native(arch) => {
                let removal = uninstall::command(self.survey, entry, &self.order.invocation);
                Some(format!("remove it: {removal}"))
            }
            _ => None,
        }
    }

    /// The command that gives `arch` a handler that works, after what has to be done before it.
    pub fn install(&self, arch: &'static Arch) -> String {
        self.try_out(&[arch]);
        let tried = self.tried.borrow().iter().find(|(of, _)| *of == arch).map(|(_, obstacle)| obstacle.clone());
        let planned = match self.plan(&[arch], self.order.force) {
            Ok(mut planned) => planned.pop(),
            Err(error) => return format!("{error:#}"),
        };
        match (planned.map(|(_, decision)| decision), tried) {
            (Some(Decision::Hijacked(by)), _) => format!("remove it: {}", by.removal),
            (Some(Decision::Register(_)), Some(obstacle)) => self.command(arch, "", obstacle),
            (Some(Decision::NameTaken(_) | Decision::Leave(InstallOutcome::LeftTo { .. })), Some(obstacle)) => {
                self.command(arch, forced(&self.order, self.survey, self.survey.of(arch)), obstacle)
            }
            // a handler that works, and does not take the program
            (Some(Decision::Leave(InstallOutcome::AlreadyInstalled { .. })), tried) => {
                match (self.order.emulators.look(&self.order.rule(arch).interpreter), tried) {
                    (Err(error), _) => self.command(arch, "", Some(error.to_string())),
                    (Ok(()), Some(obstacle)) => {
                        self.command(arch, forced(&self.order, self.survey, self.survey.of(arch)), obstacle)
                    }
                    (Ok(()), None) => NO_INSTALL.to_owned(),
                }
            }
            _ => NO_INSTALL.to_owned(),
        }
    }

    /// What an install of `arches` would do about each.
    fn plan(&self, arches: &[&'static Arch], force: bool) -> Result<Vec<Planned>> {
        plan(&Order { selection: Selection::of(arches), force, ..self.order.clone() }, self.survey)
    }

    /// Finds out what keeps the emulators from running programs that an install of `arches` would register, at least with `--force`.
    fn try_out(&self, arches: &[&'static Arch]) {
        let is_new = |arch: &&&'static Arch| self.tried.borrow().iter().all(|(of, _)| *of != **arch);
        let new: Vec<&'static Arch> = arches.iter().filter(is_new).copied().collect();
        let planned = self.plan(&new, true).unwrap_or_default();
        let mut pending: Vec<Pending> = Vec::new();
        for (_, decision) in planned {
            if let Decision::Register(planned) = decision {
                pending.push(*planned);
            }
        }
        let obstacles = obstacles(&mut pending, &self.order.emulators);
        self.tried.borrow_mut().extend(pending.iter().map(|pending| pending.arch).zip(obstacles));
    }

    /// The command that installs `arch`; `obstacle` has to be removed before.
    fn command(&self, arch: &Arch, options: &str, obstacle: Option<String>) -> String {
        let status = self.survey.of(arch);
        let again = status.handler.as_ref().map_or("", |_| " again");
        let words = format!("--install {} {options}", arch.oci);
        let command = self.order.invocation.command(words.trim_end());
        let install = match mount::may_install(&self.at) {
            Err(_) if self.is_hidden() => {
                let here = MountPoint { explicit: true, ..self.at.clone() };
                let here = mount::may_install(&here).is_ok().then(|| {
                    let dir = quoted(&self.at.dir);
                    format!(
                        "; or here, which hides the host's handlers from this user namespace: {command} --mount {dir}"
                    )
                });
                format!("install it{again} on the host: {command}{}", here.unwrap_or_default())
            }
            Err(_) if !geteuid().is_root() => format!("install it{again} as root: {command}"),
            Err(error) => format!("{error:#}; then install it{again}: {command}"),
            Ok(()) => format!("install it{again}: {command}"),
        };
        let steps = obstacle.into_iter().chain(status.failure().and_then(switching_on));
        let steps: Vec<String> = steps.collect();
        if steps.is_empty() { install } else { format!("{}; then {install}", steps.join("; ")) }
    }

    /// Whether this is a user namespace without a table of its own, in which an install mounts none unless it is told where.
    fn is_hidden(&self) -> bool {
        namespace::in_user_namespace() && !self.at.explicit && mount::would_mount(&self.at).is_err()
    }
}

fn switching_on(failure: &Failure) -> Option<String> {
    match failure {
        Failure::SwitchedOff { table: Some(switch) } => Some(format!("switch it on: echo 1 > {}", quoted(switch))),
        _ => None,
    }
}

/// What keeps each emulator from running programs, and what to do about that. An emulator that states its version counts as one that
/// runs them where nothing can be rehearsed.
fn obstacles(pending: &mut [Pending], emulators: &Source) -> Vec<Option<String>> {
    let asked = ask_others(pending, emulators, LIMIT);
    let fit = pending.iter().zip(&asked).filter(|(_, asked)| asked.is_ok());
    let candidates: Vec<_> = fit.map(|(pending, _)| (pending.arch, pending.rule.clone())).collect();
    let mut rehearsed = rehearse(&candidates, emulators).unwrap_or_default().into_iter();
    let obstacles = pending.iter().zip(asked).map(|(pending, asked)| {
        if let Err(error) = asked {
            return Some(error.to_string());
        }
        let not_run = rehearsed.next()?.err()?;
        Some(format!("{} does not run programs: {not_run}", pending.rule.interpreter.display()))
    });
    obstacles.collect()
}
