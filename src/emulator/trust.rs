//! Whether another user can put another file where an emulator is.
//!
//! One rule for every caller: each component of the path, links and their folders included, belongs to root or the
//! caller, and no other user may write to it. The path may lead through a sticky folder like `/tmp` if the next
//! component is a folder: other users cannot move that, or make a second name for it, as `link(2)` can for files and
//! links.
//!
//! The path is walked as the kernel does (`path_resolution(7)`), and each component judged by the descriptor that leads
//! to the next, so that a folder that is moved meanwhile changes nothing. The links of a process in procfs (`root`,
//! `cwd`) lead where their text does not say, so the kernel follows those; their folder belongs to the user of that
//! process. An access control list that lets others write shows in the mode of the group (`acl(5)`).
//!
//! The server of a FUSE file system decides which owners, modes and bytes its files show, even of a file that the kernel has
//! pinned. So such a file system belongs to the user who mounted it (`user_id` of `Documentation/filesystems/fuse.rst`).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;

use crate::kernel::mount::mountinfo::{device, mounts};
use crate::kernel::namespace::is_outsider;
use crate::kernel::pseudo::file_system;
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
    /// Whether it is a sticky folder, such as `/tmp`: many users are meant to write there, so its mode has to stay.
    is_shared: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Owner(u32),
    /// The user who mounted a FUSE file system.
    Mounter(u32),
    Group(u32),
    All,
}

impl Stranger {
    /// The command that keeps them from it, where there is one: what a stranger has made is no better for another owner,
    /// and a folder that many users share stays theirs.
    pub fn remedy(&self) -> Option<String> {
        (!matches!(self.who, Who::Owner(_) | Who::Mounter(_)) && !self.is_shared).then(|| self.take_over())
    }

    /// The sticky folder that the users of this machine share, if that is the place.
    pub fn shared_folder(&self) -> Option<&Path> {
        self.is_shared.then_some(&*self.place)
    }

    /// The commands after which the place is root's alone.
    pub fn take_over(&self) -> String {
        let place = quoted(&self.place);
        let chown = format!("chown -h root: {place}");
        let chmod = format!("chmod {}-w {place}", self.writers);
        match self.who {
            Who::Owner(_) if self.writers.is_empty() => chown,
            Who::Owner(_) => format!("{chown} && {chmod}"),
            Who::Mounter(_) => format!("umount {place}"),
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
            Who::Mounter(user) => format!("user {user}, the owner of the FUSE file system at {place}"),
            Who::Group(group) => format!("group {group}, whose members may write to {place}"),
            Who::All => format!("any user, since all may write to {place}"),
        }
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elsewhere = || {
            let instead = if self.is_shared {
                "move the emulators to a folder of your own, and set QEMU_BINARY_PATH to that"
            } else {
                "set QEMU_BINARY_PATH to a folder that belongs to root or to you"
            };
            instead.to_owned()
        };
        write!(f, "{}; {}", self.named(), self.remedy().unwrap_or_else(elsewhere))
    }
}

/// Who else decides what is in `folder`, and what its file `name` is, if one is named. Links on the way to the folder are followed,
/// but not one that is the file. What does not exist yet is judged by the folder that it would be made in. Errors:
/// those of `open(2)`, except `ENOENT` and `ENOTDIR`.
pub fn stranger_in(folder: &Path, name: Option<&OsStr>) -> nix::Result<Option<Stranger>> {
    let mut walk = Walk::start()?;
    match (walk.to(folder), name) {
        (Ok(_), Some(name)) => walk.judge_named(name)?,
        // what is in the way is as far as anybody gets
        (Ok(_), None) | (Err(Errno::ENOENT | Errno::ENOTDIR), _) => {}
        (Err(errno), _) => return Err(errno),
    }
    Ok(walk.stranger)
}

/// A folder at the end of its path: the one that was judged, whatever is at the path by now.
#[derive(Debug)]
pub struct Folder(Walk);

impl Folder {
    /// Walks to `path`. Errors: those of `open(2)`; `ENOTDIR` if it is no folder.
    pub fn at(path: &Path) -> nix::Result<Self> {
        let mut walk = Walk::start()?;
        match walk.to(path)? {
            (_, stat) if kind(&stat) == SFlag::S_IFDIR => Ok(Self(walk)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The folder, opened with `O_PATH`.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.folder.as_fd()
    }

    /// The other user, if there is one, who decides what is in it.
    pub fn stranger(&self) -> Option<&Stranger> {
        self.0.stranger.as_ref()
    }

    /// The other user, if there is one, who decides what its file `name` is. The file need not exist; a link is not followed.
    /// Errors: those of `open(2)`, except `ENOENT`.
    pub fn stranger_of(&self, name: &OsStr) -> nix::Result<Option<Stranger>> {
        let mut walk = self.0.clone()?;
        walk.judge_named(name)?;
        Ok(walk.stranger)
    }
}

/// A file at the end of its path, opened by nothing but its name (`O_PATH`), so that a FIFO or a device is not touched.
pub(super) struct Found {
    folder: OwnedFd,
    name: OsString,
    pub(super) stat: FileStat,
    /// If the kernel makes its file up as it is read: the name of that file system.
    pub(super) pseudo: Option<&'static str>,
    /// The first stranger on the path.
    pub(super) stranger: Option<Stranger>,
}

impl Found {
    /// Walks to `path`.
    pub(super) fn at(path: &Path) -> nix::Result<Self> {
        let mut walk = Walk::start()?;
        let (name, stat) = walk.to(path)?;
        let (found, _) = look_at(&walk.folder, &name)?;
        Ok(Self { folder: walk.folder, name, stat, pseudo: file_system(&found), stranger: walk.stranger })
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
#[derive(Debug)]
struct Walk {
    folder: OwnedFd,
    place: PathBuf,
    /// Whether others may write to `folder`.
    open_to: Option<(Who, &'static str)>,
    stranger: Option<Stranger>,
    /// [`mounters`].
    mounters: HashMap<u64, u32>,
}

impl Walk {
    fn start() -> nix::Result<Self> {
        let folder = folder(AT_FDCWD, OsStr::new("/"))?;
        let stat = fstat(&folder)?;
        let mut walk = Self { folder, place: PathBuf::from("/"), open_to: None, stranger: None, mounters: mounters() };
        walk.judge(&stat, PathBuf::from("/"));
        Ok(walk)
    }

    fn clone(&self) -> nix::Result<Self> {
        let folder = self.folder.try_clone().map_err(|error| errno_of(&error))?;
        let (place, open_to, stranger) = (self.place.clone(), self.open_to.clone(), self.stranger.clone());
        Ok(Self { folder, place, open_to, stranger, mounters: self.mounters.clone() })
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
                if fstatfs(&found).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC) {
                    self.enter(open_folder(&self.folder, &name, OFlag::empty())?, &name)?;
                    continue;
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

    /// Judges the file `name` of the folder, or its place if there is none.
    fn judge_named(&mut self, name: &OsStr) -> nix::Result<()> {
        match look_at(&self.folder, name) {
            Ok((_, stat)) => self.judge_in_folder(&stat, self.place.join(name)),
            Err(Errno::ENOENT) => self.judge_missing(),
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Judges a name without a file: others may make one in a folder that they may write to.
    fn judge_missing(&mut self) {
        if let Some((who, writers)) = self.open_to.take() {
            let place = self.place.clone();
            self.stranger.get_or_insert(Stranger { who, place, writers, is_shared: true });
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
        let mounter = self.mounters.get(&stat.st_dev).filter(|user| !is_trusted(**user)).copied().map(Who::Mounter);
        let stranger = mounter.or(owner).or_else(|| writable.clone().filter(|_| !is_sticky));
        if let Some(who) = stranger {
            self.stranger.get_or_insert(Stranger { who, place, writers, is_shared: false });
        }
        self.open_to = writable.filter(|_| is_sticky).map(|who| (who, writers));
    }
}

/// The user who mounted each FUSE file system of this mount namespace, by its device number. Empty if /proc cannot be read.
fn mounters() -> HashMap<u64, u32> {
    let served = mounts().into_iter().flatten().filter_map(|mount| {
        let user = mount.super_options.get("user_id")?.as_deref()?.parse().ok()?;
        mount.fs_type.starts_with("fuse").then_some((device(&mount)?, user))
    });
    served.collect()
}

/// Root, the caller, and, in a user namespace, each user that it does not know.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw() || is_outsider(user)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn folder(from: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    open_folder(from, name, OFlag::O_NOFOLLOW)
}

/// With `O_DIRECTORY`, so that what is mounted on demand is mounted.
fn open_folder(from: impl AsFd, name: &OsStr, links: OFlag) -> nix::Result<OwnedFd> {
    openat(from, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | links, Mode::empty())
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

/// Opens the file at `path`, whoever owns it. Fails when it cannot be opened; `EINVAL` for what is no file, or one that the kernel
/// makes up.
pub(super) fn open_any(path: &Path) -> io::Result<File> {
    let found = Found::at(path)?;
    if kind(&found.stat) != SFlag::S_IFREG || found.pseudo.is_some() {
        return Err(Errno::EINVAL.into());
    }
    Ok(found.open()?)
}
