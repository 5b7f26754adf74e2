//! Keeping a table: seeing to it that the handlers are there for as long as they are wanted.

use anyhow::anyhow;

use super::{DEFAULT, HeldBy, MountPoint};
use crate::kernel::anchor;

/// How long handlers are to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as this call, which holds the table open.
    OfThisCall,
    /// Until they are uninstalled, or the host ends; by an anchor where nothing else keeps them.
    Anchored,
    /// The same, as far as it goes without an anchor.
    Unanchored,
}

/// Sees to it that the handlers of the table at `at`, which has this `held_by`, are there for as long as that, or says why they may
/// not be, and what to do.
///
/// Where the host is not seen to have the table mounted, it is anchored, whoever else may hold it: nothing tells whether they will
/// stay. Age alone is trusted only where the anchor is refused.
#[must_use]
pub fn ensure_lifetime(
    at: &MountPoint,
    held_by: HeldBy,
    lifetime: Lifetime,
) -> Option<anyhow::Error> {
    if matches!(held_by, HeldBy::Host | HeldBy::UserNamespace) {
        return None;
    }
    let refused = match lifetime {
        Lifetime::OfThisCall => return None,
        Lifetime::Unanchored if anchor::is_set() => return None,
        Lifetime::Unanchored => anyhow!("--anchor never"),
        Lifetime::Anchored => anchor::set(&at.dir.join("register")).err()?.into(),
    };
    if held_by == HeldBy::Other {
        return None;
    }
    Some(refused.context(format!(
        "these handlers may end with this container or mount namespace; on the host: mount -t binfmt_misc \
         binfmt_misc {DEFAULT}, then install again; or run the container with --pid=host, or, where the host has \
         it mounted, with -v {DEFAULT}:/binfmt_misc and --mount /binfmt_misc"
    )))
}
