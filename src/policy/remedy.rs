//! What to do about programs that do not run. The plan of the install that would help decides, so that no suggested command does
//! nothing. Reads, changes nothing.

use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Selection;

use crate::kernel::wording::quoted;
use crate::policy::install::{Decision, InstallOutcome, Order, plan};
use crate::policy::survey::{Failure, Survey};
use crate::policy::uninstall;

/// What decides on remedies: how this call would install, and how a command must be written to do the same.
#[derive(Debug)]
pub struct Means<'a> {
    pub survey: &'a Survey,
    /// How this call would install, whatever the selection.
    pub order: Order,
}

impl Means<'_> {
    /// What to do about `failure` of the programs of `arch`.
    pub fn against(&self, failure: &Failure, arch: &'static Arch) -> String {
        if let Some(remedy) = failure.outer_remedy(arch) {
            return remedy;
        }
        match failure {
            Failure::SwitchedOff { table: Some(switch) } => {
                let switch = quoted(&switch.to_string_lossy());
                let on = format!("switch it on: echo 1 > {switch}");
                match self.survey.of(arch).handler {
                    Some(_) => on,
                    // an install into a table that is switched off fails
                    None => format!("{on}; then {}", self.install(arch)),
                }
            }
            Failure::Hijacked { entry, .. } => {
                let removal = uninstall::command(self.survey, entry, &self.order.invocation);
                format!("remove it: {removal}")
            }
            _ => self.install(arch),
        }
    }

    /// The command that gives `arch` a handler that works, after what has to be done before it.
    pub fn install(&self, arch: &'static Arch) -> String {
        let status = self.survey.of(arch);
        let order = Order { selection: Selection::of(&[arch]), ..self.order.clone() };
        let planned = match plan(&order, self.survey) {
            Ok(mut planned) => planned.pop(),
            Err(error) => return format!("{error:#}"),
        };
        let again = status.handler.as_ref().map_or("", |_| " again");
        let install = |force| {
            let words = format!("--install {}{force}", arch.oci);
            format!("install it{again}: {}", self.order.invocation.command(&words))
        };
        match planned.map(|(_, decision)| decision) {
            Some(Decision::Register(pending)) => match self.order.emulators.look(&pending.rule.interpreter) {
                Ok(()) => install(""),
                Err(error) => format!("{error}; then {}", install("")),
            },
            Some(Decision::Hijacked(by)) => format!("remove it: {}", by.removal),
            Some(Decision::NameTaken(_) | Decision::Leave(InstallOutcome::LeftTo { .. })) => install(" --force"),
            Some(Decision::Leave(_)) | None => "run it on such a machine: no install changes that".to_owned(),
        }
    }
}
