//! Handlers that were waited for in vain, as long as any probe may take, and that are not waited for again.

use binfmt_magic::arch::Arch;

use super::{Failure, Sight, Standing, Survey};
use crate::helper::probes::Ran;

impl Survey {
    /// The standings of those. No emulator is kept open with them.
    #[must_use]
    pub fn hung(&self) -> Vec<Standing> {
        let hangs = |standing: &&Standing| {
            let failure = standing.failure();
            standing.handler.is_some() && failure.is_some_and(Failure::is_timeout)
        };
        let hung = self.standings.iter().filter(hangs).cloned();
        let unseen = || Ran::Unseen("it hangs, and is not started again".to_owned());
        hung.map(|standing| Standing {
            ran: unseen(),
            ..standing
        })
        .collect()
    }
}

impl<'a> Sight<'a> {
    /// How `arch` stood when its handler was waited for in vain, if that is its handler still.
    pub(super) fn known_to_hang(&self, arch: &Arch) -> Option<&'a Standing> {
        let handler = self.handler_of(arch);
        let is_it =
            |known: &&Standing| known.arch.qemu == arch.qemu && known.handler.as_ref() == handler;
        self.hung.iter().find(is_it)
    }
}
