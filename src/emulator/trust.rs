//! Whether another user can put another file where an emulator is.
//!
//! One rule for every caller: each component of the path, links and their folders included, belongs to root or the
//! caller, and no other user may write to it. The path may lead through a sticky folder like `/tmp` if the next
//! component is a folder: other users cannot move that, or make a second name for it, as `link(2)` can for files and
//! links.
//!
//! The path is walked as the kernel does (`path_resolution(7)`), and each component judged by the descriptor that leads
//! to the next, so that a folder that is moved meanwhile changes nothing. An access control list that lets others write
//! shows in the mode of the group (`acl(5)`).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;

use crate::kernel::namespace::in_user_namespace;
use crate::kernel::process::sysctl;
use crate::kernel::wording::{errno_of, quoted};

/// Symbolic links on the way to a file, as the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// Another user, or a group, that decides which file is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    who: Who,
    /// Where.
    place: PathBuf,
    /// Who may write there besides the owner, as `chmod(1)` has it: `g`, `o`, `go`, or nobody.
    writers: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Owner(u32),
    Group(u32),
    All,
}

impl Stranger {
    /// The command that keeps them from it, where there is one: what a stranger has made is no better for another owner.
    pub fn remedy(&self) -> Option<String> {
        (!matches!(self.who, Who::Owner(_))).then(|| self.take_over())
    }

    /// The commands after which the place is root's alone.
    pub fn take_over(&self) -> String {
        let place = quoted(&self.place.to_string_lossy());
        let chown = format!("chown -h root: {place}");
        let chmod = format!("chmod {}-w {place}", self.writers);
        match self.who {
            Who::Owner(_) if self.writers.is_empty() => chown,
            Who::Owner(_) => format!("{chown} && {chmod}"),
            _ => chmod,
        }
    }

    /// The same, seen from outside of the root directory `dir`.
    pub fn below(mut self, dir: &Path) -> Self {
        self.place = dir.join(self.place.strip_prefix("/").unwrap_or(&self.place));
        self
    }

    /// `user 1000, the owner of /opt`
    pub fn named(&self) -> String {
        let place = self.place.display();
        match self.who {
            Who::Owner(user) => format!("user {user}, the owner of {place}"),
            Who::Group(group) => format!("group {group}, whose members may write to {place}"),
            Who::All => format!("any user, since all may write to {place}"),
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elsewhere = || "set QEMU_BINARY_PATH to a folder that belongs to root or to you".to_owned();
        write!(f, "{}; {}", self.named(), self.remedy().unwrap_or_else(elsewhere))
    }
}

/// Who else decides what is in `folder`, and what its file `name` is, if one is named. Links on the way to the folder are followed,
/// but not one that is the file. What does not exist yet is judged by the folder that it would be made in. Errors:
/// those of `open(2)`, except `ENOENT` and `ENOTDIR`.
pub fn stranger_in(folder: &Path, name: Option<&OsStr>) -> nix::Result<Option<Stranger>> {
    let mut walk = Walk::start()?;
    match walk.to(folder) {
        Ok(_) => {}
        // what is in the way is as far as anybody gets
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(walk.stranger),
        Err(errno) => return Err(errno),
    }
    if let Some(name) = name {
        match look_at(&walk.folder, name) {
            Ok((_, stat)) => walk.judge_in_folder(&stat, walk.place.join(name)),
            Err(Errno::ENOENT) => walk.judge_missing(),
            Err(errno) => return Err(errno),
        }
    }
    Ok(walk.stranger)
}

/// Whether somebody else decides what is in the open directory `folder`, which messages call `place`.
pub fn stranger_of(folder: impl AsFd, place: &Path) -> nix::Result<Option<Stranger>> {
    let stat = fstat(folder)?;
    let mut walk = Walk { stranger: None, ..Walk::start()? };
    walk.judge(&stat, place.to_owned());
    Ok(walk.stranger)
}

/// A file at the end of its path, opened by nothing but its name (`O_PATH`), so that a FIFO or a device is not touched.
pub(super) struct Found {
    folder: OwnedFd,
    name: OsString,
    pub(super) stat: FileStat,
    /// The first stranger on the path.
    pub(super) stranger: Option<Stranger>,
}

impl Found {
    /// Walks to `path`.
    pub(super) fn at(path: &Path) -> nix::Result<Self> {
        let mut walk = Walk::start()?;
        let (name, stat) = walk.to(path)?;
        Ok(Self { folder: walk.folder, name, stat, stranger: walk.stranger })
    }

    /// Opens it to be read. Errors: `ESTALE` when another file is there by now.
    pub(super) fn open(&self) -> nix::Result<File> {
        // one that has become a FIFO is not waited for
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, self.name.as_os_str(), flags, Mode::empty())?;
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(Errno::ESTALE);
        }
        Ok(file.into())
    }
}

/// A walk from the root directory.
struct Walk {
    folder: OwnedFd,
    place: PathBuf,
    /// Whether others may write to `folder`.
    open_to: Option<(Who, &'static str)>,
    stranger: Option<Stranger>,
}

impl Walk {
    fn start() -> nix::Result<Self> {
        let folder = folder(AT_FDCWD, OsStr::new("/"))?;
        let stat = fstat(&folder)?;
        let mut walk = Self { folder, place: PathBuf::from("/"), open_to: None, stranger: None };
        walk.judge(&stat, PathBuf::from("/"));
        Ok(walk)
    }

    /// Goes to the file at `path`: its name in the folder that was reached, and its status. `.` if the path is that of a folder.
    fn to(&mut self, path: &Path) -> nix::Result<(OsString, FileStat)> {
        let path = std::path::absolute(path).map_err(|error| errno_of(&error))?;
        let (mut ahead, mut links) = (names(&path), 0);
        while let Some(name) = ahead.pop() {
            let next = folder(&self.folder, &name);
            if let Ok(next) = next {
                self.enter(next, &name)?;
                continue;
            }
            // not a folder, or one that may not be searched
            let (found, stat) = look_at(&self.folder, &name).inspect_err(|_| self.judge_missing())?;
            let place = self.place.join(&name);
            self.judge_in_folder(&stat, place);
            if kind(&stat) == SFlag::S_IFLNK {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP);
                }
                let target = PathBuf::from(readlinkat(&found, "")?);
                if target.has_root() {
                    let stranger = self.stranger.take();
                    *self = Self::start()?;
                    self.stranger = stranger.or(self.stranger.take());
                }
                ahead.extend(names(&target));
                continue;
            }
            if !ahead.is_empty() {
                return Err(Errno::ENOTDIR);
            }
            return Ok((name, stat));
        }
        Ok((".".into(), fstat(&self.folder)?))
    }

    fn enter(&mut self, next: OwnedFd, name: &OsStr) -> nix::Result<()> {
        let stat = fstat(&next)?;
        self.folder = next;
        if name == ".." {
            self.place.pop();
        } else {
            self.place.push(name);
        }
        self.judge(&stat, self.place.clone());
        Ok(())
    }

    /// Judges a file or a link: others may replace it in a folder that they may write to.
    fn judge_in_folder(&mut self, stat: &FileStat, place: PathBuf) {
        self.judge_missing();
        self.judge(stat, place);
    }

    /// Judges a name without a file: others may make one in a folder that they may write to.
    fn judge_missing(&mut self) {
        if let Some((who, writers)) = self.open_to.take() {
            let place = self.place.clone();
            self.stranger.get_or_insert(Stranger { who, place, writers });
        }
    }

    fn judge(&mut self, stat: &FileStat, place: PathBuf) {
        let (is_link, is_folder) = (kind(stat) == SFlag::S_IFLNK, kind(stat) == SFlag::S_IFDIR);
        let mode = Mode::from_bits_truncate(stat.st_mode);
        let (group, all) = (mode.contains(Mode::S_IWGRP), mode.contains(Mode::S_IWOTH));
        let (writable, writers) = match (group, all) {
            _ if is_link => (None, ""),
            (false, true) => (Some(Who::All), "o"),
            (true, true) => (Some(Who::All), "go"),
            (true, false) => (Some(Who::Group(stat.st_gid)), "g"),
            (false, false) => (None, ""),
        };
        let is_sticky = is_folder && mode.contains(Mode::S_ISVTX);
        let owner = (!is_trusted(stat.st_uid)).then_some(Who::Owner(stat.st_uid));
        let stranger = owner.or_else(|| writable.clone().filter(|_| !is_sticky));
        if let Some(who) = stranger {
            self.stranger.get_or_insert(Stranger { who, place, writers });
        }
        self.open_to = writable.filter(|_| is_sticky).map(|who| (who, writers));
    }
}

/// Root, the caller, and, in a user namespace, each user that it does not know: the host's root, the owner of the
/// system's files, looks like every other user from outside.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw() || is_unknown(user)
}

/// Whether this is what the kernel shows in place of an owner from outside of this user namespace. The number may also
/// be a user of the namespace; only a user from outside owns its root directory.
fn is_unknown(user: u32) -> bool {
    let is_overflow = || sysctl("kernel.overflowuid") == Some(user.to_string());
    let map = || fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let owns_root = || fs::metadata("/").is_ok_and(|root| root.uid() == user);
    in_user_namespace() && is_overflow() && (owns_root() || !map().lines().any(|line| maps(line, user)))
}

/// Whether this line of a map of ids, `INSIDE OUTSIDE COUNT`, has this one (`user_namespaces(7)`).
fn maps(line: &str, user: u32) -> bool {
    let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
    match (numbers.next(), numbers.nth(1)) {
        (Some(first), Some(count)) => (first..first.saturating_add(count)).contains(&user.into()),
        _ => true,
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// With `O_DIRECTORY`, so that what is mounted on demand is mounted.
fn folder(from: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(from, name, flags, Mode::empty())
}

/// Opens it by its name alone.
fn look_at(folder: &OwnedFd, name: &OsStr) -> nix::Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = openat(folder, name, flags, Mode::empty())?;
    let stat = fstat(&found)?;
    Ok((found, stat))
}

/// The components, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().map(|name| name.as_os_str().to_owned());
    names.filter(|name| name != "/" && name != ".").collect()
}

/// Opens the file at `path`, whoever owns it. Fails when it cannot be opened; `EINVAL` for what is no file.
pub(super) fn open_any(path: &Path) -> io::Result<File> {
    let found = Found::at(path)?;
    if kind(&found.stat) != SFlag::S_IFREG {
        return Err(Errno::EINVAL.into());
    }
    Ok(found.open()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_map_has_are_known() {
        assert!(maps("         0       1000          1", 0));
        assert!(!maps("         0       1000          1", 65534));
        assert!(maps("         1     100000      65536", 65534));
        assert!(!maps("         1     100000      65533", 65534));
        assert!(maps("         0          0 4294967295", 65534));
        assert!(maps("nonsense", 65534));
    }
}
