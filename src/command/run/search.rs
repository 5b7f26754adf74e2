//! Finding a command as execvp(3) does, in a root directory that need not be this process's own.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::NotRun;
use crate::command::{NOT_FOUND, NOT_RUN};
use crate::explain::place::{Place, Purpose, Unopened};
use crate::kernel::root_directory::PATH;
use crate::kernel::wording::shown;

/// The path of the program `name`: itself if it has a slash, else in the first directory of `path` that has it as a
/// program. Relative paths are relative to `start`, which may be empty. Any error is a [`NotRun`].
pub(super) fn search(place: &Place, name: &OsStr, path: &OsStr, start: &Path) -> Result<PathBuf> {
    let open = |program: PathBuf| match place.open(&program, Purpose::Execute) {
        Ok(_) | Err(Unopened::Unreadable) => Ok(program),
        Err(unopened) => {
            let outside = place.outside(&program);
            let why = format!("{} {unopened}", shown(outside.as_os_str()));
            Err(match unopened {
                Unopened::Missing | Unopened::Dangling(_) => NotRun(NOT_FOUND, why),
                _ => NotRun(NOT_RUN, why),
            })
        }
    };
    if name.is_empty() {
        return Err(NotRun(NOT_FOUND, "the command has an empty name".to_owned()).into());
    }
    // `.` and `..` are no names of programs
    if name.as_encoded_bytes().contains(&b'/') || Path::new(name).file_name().is_none() {
        return Ok(open(start.join(name))?);
    }
    let mut unfit = None;
    for directory in env::split_paths(path) {
        // an empty directory means the current one; its path needs a slash, so that no second search begins
        let program = start.join(".").join(directory).join(name);
        // as execvp(3): a directory that this user may not search is skipped
        if place.real(&program).is_none() {
            continue;
        }
        match open(program) {
            Err(not_run) => unfit = unfit.or(Some(not_run)),
            Ok(program) => return Ok(program),
        }
    }
    let missing = || format!("there is no {} in any directory of PATH", shown(name));
    Err(unfit.unwrap_or_else(|| NotRun(NOT_FOUND, missing())).into())
}

/// The caller's search path, completed with the usual directories, for a root file system: the command runs there as root, and
/// users' paths often lack the directories of root's programs.
pub(super) fn completed(path: Option<&OsStr>) -> OsString {
    let mut all: Vec<PathBuf> = path.map(|path| env::split_paths(path).collect()).unwrap_or_default();
    for usual in env::split_paths(PATH) {
        if !all.contains(&usual) {
            all.push(usual);
        }
    }
    env::join_paths(all).unwrap_or_else(|_| PATH.into())
}

/// The path of the current directory below `dir`, if it is there.
pub(super) fn below(dir: &Path) -> Option<PathBuf> {
    let (here, root) = (env::current_dir().ok()?, dir.canonicalize().ok()?);
    Some(Path::new("/").join(here.strip_prefix(root).ok()?))
}
