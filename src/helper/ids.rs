//! A user namespace with more ids than one's own: those of `/etc/subuid` and `/etc/subgid` by `newuidmap` and
//! `newgidmap`, or, for root, all that there are.
//!
//! Only a process outside of the namespace can map them. So a process of this program, that of [`Verb::MapIds`], stays
//! outside and waits until the namespace exists. See `user_namespaces(7)`, `subuid(5)` and `newuidmap(1)`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, User, getegid, geteuid};

use crate::helper::{Verb, end_of};
use crate::kernel::process;
use crate::kernel::user_namespace::{map_group, map_user, unshare_alone};
use crate::kernel::wording::not_started;

/// Enters a user namespace in which this user is root, and a mount namespace of it, with as many ids as the caller can get:
/// for root, all ids of the outer namespace, each as itself. Returns why there are none besides root's, which is the caller's
/// own, if so. The error is the kernel's refusal, which [`crate::kernel::user_namespace::Refused`] words.
pub fn enter_as_root() -> nix::Result<Option<String>> {
    Entry::prepare().enter(CloneFlags::empty())
}

/// What [`enter_as_root`] needs and can be prepared before this process changes its root directory: afterwards, it may not
/// be able to start itself.
#[derive(Debug)]
pub struct Entry(Result<Giver>);

impl Entry {
    /// Starts the process that stays outside.
    pub fn prepare() -> Self {
        Self(plan(geteuid()).and_then(|(how, maps)| Giver::start(how, &maps)))
    }

    /// Does what [`enter_as_root`] does, and enters the namespaces of `more`.
    pub fn enter(self, more: CloneFlags) -> nix::Result<Option<String>> {
        let outside = (geteuid(), getegid());
        unshare_alone(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | more)?;
        let Err(lack) = self.0.and_then(Giver::give) else {
            return Ok(None);
        };
        // one of the two maps may have been written
        if is_empty("/proc/self/uid_map") {
            map_user(Uid::from_raw(0), outside.0)?;
        }
        if is_empty("/proc/self/gid_map") {
            map_group(Gid::from_raw(0), outside.1)?;
        }
        Ok(Some(format!("{lack:#}")))
    }
}

fn is_empty(map: &str) -> bool {
    fs::read(map).is_ok_and(|map| map.is_empty())
}

/// The maps of users and of groups, each with lines `inside outside count`.
type Maps = [String; 2];

/// The first word for [`give`] if the maps are written to the kernel, which needs privilege.
const WRITTEN: &str = "written";
/// The first word for [`give`] if the maps are handed to `newuidmap` and `newgidmap`.
const ASKED_FOR: &str = "asked-for";

/// The first word for [`give`], and the maps.
fn plan(user: Uid) -> Result<(&'static str, Maps)> {
    if user.is_root() && may_give_all() {
        let all = |map| fs::read_to_string(map).map(|map| identity(&map));
        if let (Ok(users), Ok(groups)) = (all("/proc/self/uid_map"), all("/proc/self/gid_map")) {
            return Ok((WRITTEN, [users, groups]));
        }
    }
    let name = name_of(user);
    let owners = [Some(user.to_string()), name.clone()];
    let files = [("/etc/subuid", user.as_raw(), "--add-subuids"), ("/etc/subgid", getegid().as_raw(), "--add-subgids")];
    let texts = files.map(|(file, ..)| fs::read_to_string(file).unwrap_or_default());
    let maps = [0, 1].map(|at| subordinate(&texts[at], &owners, files[at].1));
    if let [Some(users), Some(groups)] = maps {
        return Ok((ASKED_FOR, [users, groups]));
    }
    let missing = files.iter().zip(&maps).filter(|(_, map)| map.is_none()).map(|(file, _)| file);
    let (first, last) = free_range(&texts.concat()).context("/etc/subuid and /etc/subgid have no free range")?;
    let named: Vec<_> = missing.clone().map(|(file, ..)| *file).collect();
    let options: Vec<_> = missing.map(|(.., option)| format!("{option} {first}-{last}")).collect();
    let (whose, command) = (named.join(" and "), format!("usermod {}", options.join(" ")));
    match name {
        Some(name) => bail!("{name} has no range in {whose}; as root: {command} {name}"),
        None => bail!("user {user} has no range in {whose}; as root: {command} NAME, with that user's name"),
    }
}

/// The user's name. From `/etc/passwd` alone if glibc is linked in: there its own lookup would load libraries of the
/// system, which may be of another glibc.
fn name_of(user: Uid) -> Option<String> {
    if cfg!(all(target_env = "gnu", target_feature = "crt-static")) {
        let text = fs::read_to_string("/etc/passwd").ok()?;
        return name_in(&text, user.as_raw()).map(str::to_owned);
    }
    User::from_uid(user).ok().flatten().map(|user| user.name)
}

/// The name of the first line `name:password:number:…` of `text` that has the number (`passwd(5)`).
fn name_in(text: &str, number: u32) -> Option<&str> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then_some(name)
    })
}

/// `CAP_SETGID`, `CAP_SETUID`, and, to hand on root itself, `CAP_SETFCAP` (`include/uapi/linux/capability.h`).
fn may_give_all() -> bool {
    const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 31;
    process::mask("CapEff:").is_some_and(|held| held & NEEDED == NEEDED)
}

/// A map that gives everybody in `map` their own number.
fn identity(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace();
        let (inside, count) = (numbers.next()?, numbers.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    });
    lines.collect()
}

/// The range of a line `owner:first:count`: its first id, and the one after its last.
fn range(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.trim().split(':').skip(1).map(str::parse::<u32>);
    let (Ok(first), Ok(count)) = (numbers.next()?, numbers.next()?) else {
        return None;
    };
    Some((first, first.checked_add(count)?))
}

/// The first and the last id of a range that no line of `text` has a part of, as `useradd(8)` gives one by default.
pub fn free_range(text: &str) -> Option<(u32, u32)> {
    const MIN: u32 = 100_000;
    const COUNT: u32 = 65_536;
    let taken: Vec<_> = text.lines().filter_map(range).collect();
    let ends = taken.iter().map(|(_, end)| *end).filter(|end| *end > MIN);
    let is_free = |first: &u32| taken.iter().all(|(by, end)| *end <= *first || *first + COUNT <= *by);
    let first = ends.chain([MIN]).filter(|first| first.checked_add(COUNT).is_some()).filter(is_free).min()?;
    Some((first, first + COUNT - 1))
}

/// Root for `own`, and from 1 on all ranges that `text` (`owner:first:count`) has for one of `owners`. `None`: it has
/// none.
///
/// Leaves out a range for which the kernel would refuse the whole map: one that goes beyond the last number, or that has
/// an id of the map so far. A file may list a user's range twice, by name and by number.
pub fn subordinate(text: &str, owners: &[Option<String>], own: u32) -> Option<String> {
    let mut map = format!("0 {own} 1\n");
    let mut inside: u32 = 1;
    let mut taken = vec![(own, own.saturating_add(1))];
    for line in text.lines() {
        let Some((first, end)) = range(line) else {
            continue;
        };
        let (owner, count) = (line.trim().split(':').next().map(str::to_owned), end - first);
        let (Some(next), true) = (inside.checked_add(count), owners.contains(&owner) && count > 0) else {
            continue;
        };
        if taken.iter().any(|by| first < by.1 && by.0 < end) {
            continue;
        }
        taken.push((first, end));
        map = format!("{map}{inside} {first} {count}\n");
        inside = next;
    }
    (inside > 1).then_some(map)
}

/// The process that stays outside, and waits.
#[derive(Debug)]
struct Giver(Child);

impl Giver {
    fn start(how: &str, maps: &Maps) -> Result<Self> {
        let mut command = Verb::MapIds.command();
        let own = process::own_name().context("/proc does not show this process")?;
        command.arg(own).arg(how).args(maps);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn();
        let refused = |error| anyhow::anyhow!("no process that maps ids: {}", not_started(&error));
        let mut child = child.map_err(refused)?;
        // until it has its libraries, it needs this root directory; if it has ended, its stderr says why
        let _ = child.stdout.take().context("a pipe that was asked for")?.read(&mut [0])?;
        Ok(Self(child))
    }

    /// Has the ids mapped, now that the namespace exists.
    fn give(self) -> Result<()> {
        let Self(mut child) = self;
        let mut stdin = child.stdin.take().context("a pipe that was asked for")?;
        let told = stdin.write_all(b"\n");
        drop(stdin);
        let status = end_of(&mut child, "newuidmap")?;
        if status.success() && told.is_ok() {
            return Ok(());
        }
        let mut said = String::new();
        child.stderr.take().context("a pipe that was asked for")?.read_to_string(&mut said)?;
        bail!("{}", said.lines().next_back().unwrap_or("no answer"))
    }
}

/// What the process of [`Verb::MapIds`] does; `words` follow the verb. Fails when a map is refused.
pub fn give(words: &[OsString]) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let [whom, how, users, groups] = words[..] else {
        bail!("no maps");
    };
    // by its path it may be another one later: if the root directory changes, that of this process does, too
    let process = Path::new("/proc").join(whom);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(&process, flags, Mode::empty()).with_context(|| process.display().to_string())?;
    stdout().write_all(b"\n")?;
    stdout().flush()?;
    let mut go = [0];
    if stdin().read(&mut go)? == 0 {
        // there is no namespace
        return Ok(());
    }
    for (map, lines, program) in [("uid_map", users, "newuidmap"), ("gid_map", groups, "newgidmap")] {
        if how == WRITTEN {
            let file = openat(&opened, map, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            let written = file.map_err(io::Error::from).and_then(|file| File::from(file).write_all(lines.as_bytes()));
            written.with_context(|| format!("{}/{map} is refused", process.display()))?;
        } else {
            ask(program, whom, lines)?;
        }
    }
    Ok(())
}

fn ask(program: &str, whom: &str, lines: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(whom).args(lines.split_ascii_whitespace());
    let output = match command.output() {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {
            bail!("{program} is not installed (Debian's package uidmap)")
        }
        output => output.with_context(|| format!("{program} cannot be started"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} refuses: {}", said.trim().replace('\n', "; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_this_user_follow_root() {
        let owners = [Some("1000".to_owned()), Some("anna".to_owned())];
        let of = |text| subordinate(text, &owners, 1000);
        for (text, map) in [
            ("anna:100000:65536\n", Some("0 1000 1\n1 100000 65536\n")),
            ("otto:100000:65536\n1000:200000:10\nanna:300000:5\n", Some("0 1000 1\n1 200000 10\n11 300000 5\n")),
            ("otto:100000:65536\n", None),
            ("anna:100000:0\n", None),
            ("anna:100000\nanna:x:5\nanna\n:1:1\n\n#anna:1:1", None),
            ("anna:1:4294967295", None),
            ("anna:4294967290:6", None),
            ("anna:4294967290:5\n", Some("0 1000 1\n1 4294967290 5\n")),
            // twice, and with the user's own
            ("anna:100000:65536\n1000:100000:65536\nanna:165535:2\n", Some("0 1000 1\n1 100000 65536\n")),
            ("anna:900:200\n", None),
            ("anna:900:100\nanna:1001:1\n", Some("0 1000 1\n1 900 100\n101 1001 1\n")),
            ("", None),
        ] {
            assert_eq!(of(text).as_deref(), map, "{text:?}");
        }
    }

    #[test]
    fn a_user_has_the_name_of_the_first_line_with_the_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\n#anna:x\nanna:x:1000:100::/home/anna:/bin/sh\notto:x:1000:1000:::\n+::::::\n";
        for (number, name) in [(0, Some("root")), (1000, Some("anna")), (100, None), (1, None)] {
            assert_eq!(name_in(text, number), name, "{number}");
        }
    }

    #[test]
    fn a_free_range_has_nothing_of_another_users() {
        for (text, first) in [
            ("", 100_000),
            ("anna:100000:65536\n", 165_536),
            ("anna:165536:65536\nanna:100000:65536\notto:300000:1\n", 231_072),
            ("anna:165535:1\n", 165_536),
            ("anna:100000:65536\nanna:165537:65536\n", 231_073),
            ("anna:1000:1\nnonsense\nanna:1:4294967295\n", 100_000),
        ] {
            assert_eq!(free_range(text), Some((first, first + 65_535)), "{text:?}");
        }
        assert_eq!(free_range("anna:100000:4294867295"), None);
    }
}
