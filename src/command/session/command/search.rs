//! Finding a command as execvp(3) does, in a root directory that need not be this process's own.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::NotRun;
use crate::explain::place::{Place, Purpose, Unopened};
use crate::kernel::root_directory::PATH;
use crate::kernel::wording::shown;

/// `name` as it is if it has a slash, else in the first directory of `path` that has it as a program. `start`: what
/// relative paths are relative to; it may be empty.
pub(super) fn search(
    place: &Place,
    name: &OsStr,
    path: &OsStr,
    start: &Path,
) -> Result<PathBuf, NotRun> {
    let open = |program: PathBuf| match place.open(&program, Purpose::Execute) {
        Ok(_) | Err(Unopened::Unreadable) => Ok(program),
        Err(unopened) => {
            let outside = place.outside(&program);
            let error = anyhow!("{} {unopened}", shown(outside.as_os_str()));
            Err(match unopened {
                Unopened::Missing | Unopened::Dangling(_) => NotRun::NotFound(error),
                _ => NotRun::CannotBeRun(error),
            })
        }
    };
    if name.is_empty() {
        return Err(NotRun::NotFound(anyhow!("the command has an empty name")));
    }
    if name.as_encoded_bytes().contains(&b'/') {
        return open(start.join(name));
    }
    let mut unfit = None;
    for directory in env::split_paths(path) {
        // the empty one is the current directory, and must not become a path without a slash
        let program = start.join(".").join(directory).join(name);
        // a directory that this user may not search has nothing for this user
        if place.real(&program).is_none() {
            continue;
        }
        match open(program) {
            Err(not_run) => unfit = unfit.or(Some(not_run)),
            found => return found,
        }
    }
    Err(unfit.unwrap_or_else(|| {
        let name = shown(name);
        NotRun::NotFound(anyhow!("there is no {name} in any directory of PATH"))
    }))
}

/// The search path that a root file system is searched by: the caller's, and what of the usual one it lacks.
/// Users' paths often lack the directories of root's programs, and root is who runs there.
pub(super) fn completed(path: Option<&OsStr>) -> OsString {
    let mut all: Vec<PathBuf> = path
        .map(|path| env::split_paths(path).collect())
        .unwrap_or_default();
    for usual in env::split_paths(PATH) {
        if !all.contains(&usual) {
            all.push(usual);
        }
    }
    env::join_paths(all).unwrap_or_else(|_| PATH.into())
}

/// The current directory as it is called below `dir`, if it is there.
pub(super) fn below(dir: &Path) -> Option<PathBuf> {
    let (here, root) = (env::current_dir().ok()?, dir.canonicalize().ok()?);
    Some(Path::new("/").join(here.strip_prefix(root).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_completed_in_its_order() {
        for (path, completed_path) in [
            (None, PATH),
            (Some(PATH), PATH),
            (
                Some("/opt/bin:/usr/bin:/bin"),
                "/opt/bin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin",
            ),
        ] {
            assert_eq!(completed(path.map(OsStr::new)), completed_path, "{path:?}");
        }
    }
}
