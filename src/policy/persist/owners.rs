//! A host's root directory, entered only if nobody but root decides what is written there.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::file::find;
use super::record::{self, Record};
use super::{EMULATORS, RULES, shown};
use crate::emulator::{Stranger, stranger_in};
use crate::kernel::file_system::within_limit;
use crate::kernel::namespace::with_root_directory;
use crate::kernel::wording::{cause, errno_of};

/// Opens the root directory `dir`, if what is at `paths` there can be written.
pub(super) fn enter_to_write(dir: &Path, paths: &[PathBuf]) -> Result<File> {
    let root = enter(dir)?;
    check_owners(&root, dir, paths)?;
    check_links(&root, dir)?;
    Ok(root)
}

/// Fails when another user owns, or can write to, a folder on the way to our files on the host whose root directory is `root`; the
/// record; a file that it names; or a file at `paths`. Such a user could have us write, or remove, any file of the host, and
/// root starts what is there. If there is no such user, nobody can change any of it between this look and its use.
pub(super) fn check_owners(root: &File, dir: &Path, paths: &[PathBuf]) -> Result<()> {
    with_root_directory(root, || {
        check_owner(dir, &record::path())?;
        check_owner(dir, &Path::new(RULES).join("*.conf"))?;
        // a record that cannot be read is reported where it is used
        let recorded = Record::read(dir).map(|record| record.paths()).unwrap_or_default();
        paths.iter().chain(&recorded).try_for_each(|path| check_owner(dir, path))
    })?
}

/// The same of the file at `path` alone. `dir`: the name in messages of the root directory that this thread has.
pub(super) fn check_owner(dir: &Path, path: &Path) -> Result<()> {
    let shown = || shown(dir, path);
    let stranger = stranger_in(path.parent().unwrap_or(path), path.file_name())
        .map_err(|errno| anyhow!("cannot see who owns {}: {}", shown(), cause(&errno.into())))?;
    refuse(stranger.map(|stranger| stranger.below(dir)), shown())
}

/// Fails if another user decides what is at `path`.
pub(super) fn refuse(stranger: Option<Stranger>, path: impl Display) -> Result<()> {
    let Some(stranger) = stranger else { return Ok(()) };
    // one of these is for root alone, and so may lose the mode of a shared folder
    let is_ours = |folder: &Path| [EMULATORS, RULES].iter().any(|ours| folder.ends_with(&ours[1..]));
    let remedy = match stranger.shared_folder().filter(|folder| !is_ours(folder)) {
        Some(_) => "name a folder that only root may write to".to_owned(),
        None => stranger.take_over(),
    };
    bail!("{path} can be replaced by {}; {remedy}", stranger.named())
}

/// Fails when a folder of ours, or one on the way to it, is a symbolic link that leads nowhere: none can be made there.
fn check_links(root: &File, dir: &Path) -> Result<()> {
    let leads_nowhere = |path: &&Path| {
        find(path, OFlag::empty()).is_err_and(|errno| errno == Errno::ENOENT) && find(path, OFlag::O_NOFOLLOW).is_ok()
    };
    let mut folders = [EMULATORS, RULES].into_iter().flat_map(|folder| Path::new(folder).ancestors());
    match with_root_directory(root, || folders.find(leads_nowhere))? {
        Some(link) => bail!(
            "{} is a symbolic link to what does not exist on that host; make that directory there, or remove the link",
            shown(dir, link)
        ),
        None => Ok(()),
    }
}

/// Opens `dir`, and checks that it can be made the root directory.
pub(super) fn enter(dir: &Path) -> Result<File> {
    let open = || -> io::Result<File> {
        let root = within_limit(dir, || File::open(dir))?;
        with_root_directory(&root, || ())?;
        Ok(root)
    };
    open().map_err(|error| {
        let remedy = match errno_of(&error) {
            Errno::EPERM => "run it as root, or the container with --privileged".to_owned(),
            _ => format!("in a container, mount the host's there: docker run -v /:{}", dir.display()),
        };
        let (dir, cause) = (dir.display(), cause(&error));
        anyhow!("{dir} cannot be entered as a root directory: {cause}; {remedy}")
    })
}
