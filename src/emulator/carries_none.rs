//! [`Carried`] in a build that carries no emulators, as the image's: without the feature `carried`.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// There are none.
#[derive(Debug)]
pub(super) enum Carried {}

#[allow(clippy::unnecessary_wraps, reason = "as in the other build")]
impl Carried {
    pub(super) fn of_this_program(_: &str) -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn prefix(&self) -> &str {
        match *self {}
    }

    pub(super) fn has(&self, _: &OsStr) -> bool {
        match *self {}
    }

    pub(super) fn open(&self, _: &OsStr) -> io::Result<File> {
        match *self {}
    }

    pub(super) fn root(&self, _: &OsStr) -> io::Result<Arc<OwnedFd>> {
        match *self {}
    }
}
