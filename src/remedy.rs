//! What makes programs of an architecture run that do not: decided by the plan of the install that would do it, so that no
//! command is suggested that changes nothing. Reads, changes nothing.

use std::ffi::OsStr;

use binfmt_magic::arch::Arch;
use binfmt_magic::platform::{Platform, Selection};

use crate::install::{Decision, Order, Outcome, Refusal, plan};
use crate::invocation::Invocation;
use crate::survey::{Failure, Survey};
use crate::uninstall::item_for;
use crate::wording::quoted;

/// How this call would install, and how a command would have to be written to do the same.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// What runs here.
    pub survey: &'a Survey,
    /// How to install; its selection does not count.
    pub order: &'a Order,
    /// What the commands repeat.
    pub invocation: &'a Invocation,
}

impl Means<'_> {
    /// What to do about `failure`, that of programs of `arch`.
    #[must_use]
    pub fn against(&self, failure: &Failure, arch: &'static Arch) -> String {
        if let Some(remedy) = failure.outer_remedy(arch) {
            return remedy;
        }
        match failure {
            Failure::SwitchedOff {
                table: Some(status),
            } => {
                let status = quoted(&status.to_string_lossy());
                let on = format!("switch it on: echo 1 > {status}");
                match self.survey.of(arch).handler {
                    Some(_) => on,
                    // an install begins with a look at the switch
                    None => format!("{on}; then {}", self.install(arch)),
                }
            }
            Failure::Spoilt { entry, .. } => self.uninstall(entry),
            _ => self.install(arch),
        }
    }

    /// How programs of `arch` come to a handler that works: a command, and before it what the command lacks.
    #[must_use]
    pub fn install(&self, arch: &'static Arch) -> String {
        let named = vec![Platform {
            arch,
            variant: None,
        }];
        let order = Order {
            selection: Selection {
                named,
                ..Selection::default()
            },
            ..self.order.clone()
        };
        let planned = match plan(&order, self.survey) {
            Ok(planned) => planned.into_iter().next().map(|(_, decision)| decision),
            Err(error) => return format!("{error:#}"),
        };
        let again = self
            .survey
            .of(arch)
            .handler
            .as_ref()
            .map_or("", |_| " again");
        let install = |force| {
            let words = format!("--install {}{force}", arch.oci);
            format!("install it{again}: {}", self.invocation.command(&words))
        };
        match planned {
            Some(Ok(Decision::Register(pending))) => {
                match order.emulators.look(&pending.rule.interpreter) {
                    Ok(()) => install(""),
                    Err(error) => format!("{error}; then {}", install("")),
                }
            }
            Some(Err(Refusal::Spoilt(entry))) => self.uninstall(&entry),
            Some(Err(_) | Ok(Decision::Leave(Outcome::LeftTo { .. }))) => install(" --force"),
            Some(Ok(_)) | None => "run it on such a machine: no install changes that".to_owned(),
        }
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
