//! Handlers that timed out, which are not waited for again.

use binfmt_magic::arch::Arch;

use super::{Failure, PlatformStatus, Survey, TableSnapshot};
use crate::helper::probes::Ran;

impl Survey {
    /// The statuses of those. No emulator is kept open with them.
    #[must_use]
    pub fn timed_out(&self) -> Vec<PlatformStatus> {
        let hangs = |status: &&PlatformStatus| {
            let failure = status.failure();
            status.handler.is_some() && failure.is_some_and(Failure::is_timeout)
        };
        let timed_out = self.statuses.iter().filter(hangs).cloned();
        let unseen = || Ran::Unseen("it hangs, and is not started again".to_owned());
        timed_out
            .map(|status| PlatformStatus {
                ran: unseen(),
                ..status
            })
            .collect()
    }
}

impl<'a> TableSnapshot<'a> {
    /// How `arch` stood when its handler timed out, if that is its handler still.
    pub(super) fn known_to_hang(&self, arch: &Arch) -> Option<&'a PlatformStatus> {
        let handler = self.handler_of(arch);
        let is_it =
            |known: &&PlatformStatus| known.arch == arch && known.handler.as_ref() == handler;
        self.timed_out.iter().find(is_it)
    }
}
