//! What makes programs of an architecture run that do not: decided by the plan of the install that would do it, so that no
//! command is suggested that changes nothing. Reads, changes nothing.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fmt;

use binfmt_magic::arch::{ARCHES, Arch};
use binfmt_magic::platform::{Platform, Selection};

use crate::kernel::wording::quoted;
use crate::policy::install::{Decision, InstallOutcome, InstallRefusal, Order, Planned, plan};
use crate::policy::invocation::Invocation;
use crate::policy::survey::{Failure, Survey};
use crate::policy::uninstall::item_for;

/// How this call would install, and how a command would have to be written to do the same.
pub struct Means<'a> {
    /// What runs here.
    pub survey: &'a Survey,
    /// What the commands repeat.
    pub invocation: &'a Invocation,
    order: Order,
    /// What would be done about all that does not run, once that was asked.
    failing: OnceCell<Result<Vec<Planned>, String>>,
}

impl fmt::Debug for Means<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut means = f.debug_struct("Means");
        means
            .field("invocation", self.invocation)
            .finish_non_exhaustive()
    }
}

impl<'a> Means<'a> {
    /// As `order` would install, whose selection does not count.
    #[must_use]
    pub fn new(survey: &'a Survey, order: Order, invocation: &'a Invocation) -> Self {
        Self {
            survey,
            invocation,
            order,
            failing: OnceCell::new(),
        }
    }

    /// What to do about `failure`, that of programs of `arch`.
    #[must_use]
    pub fn against(&self, failure: &Failure, arch: &'static Arch) -> String {
        if let Some(remedy) = failure.outer_remedy(arch) {
            return remedy;
        }
        match failure {
            Failure::SwitchedOff {
                table: Some(switch),
            } => {
                let switch = quoted(&switch.to_string_lossy());
                let on = format!("switch it on: echo 1 > {switch}");
                match self.survey.of(arch).handler {
                    Some(_) => on,
                    // an install begins with a look at the switch
                    None => format!("{on}; then {}", self.install(arch)),
                }
            }
            Failure::Hijacked { entry, .. } => self.uninstall(entry),
            _ => self.install(arch),
        }
    }

    /// How programs of `arch` come to a handler that works: a command, and before it what the command lacks.
    #[must_use]
    pub fn install(&self, arch: &'static Arch) -> String {
        let status = self.survey.of(arch);
        let alone = || self.plan(&|other| other == arch);
        let own;
        let planned = if status.works() {
            own = alone();
            &own
        } else {
            let failing = || self.plan(&|other| !self.survey.of(other).works());
            self.failing.get_or_init(failing)
        };
        let mut planned = match planned {
            Ok(planned) => planned.iter(),
            Err(error) => return error.clone(),
        };
        let again = status.handler.as_ref().map_or("", |_| " again");
        let install = |force| {
            let words = format!("--install {}{force}", arch.oci);
            format!("install it{again}: {}", self.invocation.command(&words))
        };
        let decision = planned.find(|(of, _)| *of == arch);
        match decision.map(|(_, decision)| decision) {
            Some(Ok(Decision::Register(pending))) => {
                match self.order.emulators.look(&pending.rule.interpreter) {
                    Ok(()) => install(""),
                    Err(error) => format!("{error}; then {}", install("")),
                }
            }
            Some(Err(InstallRefusal::Hijacked(entry))) => self.uninstall(entry),
            Some(Err(_) | Ok(Decision::Leave(InstallOutcome::LeftTo { .. }))) => {
                install(" --force")
            }
            Some(Ok(_)) | None => "run it on such a machine: no install changes that".to_owned(),
        }
    }

    /// What an install would do about these.
    fn plan(&self, wanted: &dyn Fn(&Arch) -> bool) -> Result<Vec<Planned>, String> {
        let named = ARCHES.iter().filter(|arch| wanted(arch));
        let named = named.map(|arch| Platform {
            arch,
            variant: None,
        });
        let order = Order {
            selection: Selection {
                named: named.collect(),
                ..Selection::default()
            },
            ..self.order.clone()
        };
        plan(&order, self.survey).map_err(|error| format!("{error:#}"))
    }

    fn uninstall(&self, name: &OsStr) -> String {
        let entries = &self.survey.entries;
        let entry = entries.iter().find(|entry| entry.name == name);
        let is_qemu = entry.is_none_or(|entry| self.survey.is_qemu(entry));
        let force = if is_qemu { "" } else { " --force" };
        let words = format!("--uninstall {}{force}", quoted(&item_for(entries, name)));
        format!("remove it: {}", self.invocation.command(&words))
    }
}
