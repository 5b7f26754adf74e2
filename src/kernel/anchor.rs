//! The anchor: what keeps a `binfmt_misc` superblock, and so its handlers, alive after the mount namespace that
//! mounted it is gone.
//!
//! Since Linux 6.7 (and stable kernels of autumn 2024) the table dies with its last mount. A uprobe *definition* on a
//! file of that mount holds the file's path, hence the mount, hence the superblock, until it is deleted or the host
//! reboots. It is never enabled, so nothing is ever traced and no program pays for it.
//!
//! An event of this name may not be ours, and the kernel lists the path that was looked up when it was made, maybe in
//! another mount namespace. So [`set`] asks the kernel to add a file of the mount to the event. The kernel adds it
//! beside the files that the event has, and refuses one that the event has already (`EEXIST`).
//!
//! Rests on `Documentation/trace/uprobetracer.rst`; `create_trace_uprobe` in `kernel/trace/trace_uprobe.c` takes the
//! path with `kern_path` and keeps it in the event; `append_trace_uprobe` compares inodes (since 5.4; older kernels
//! replace the event).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::kernel::namespace;
use crate::kernel::wording::{cause, errno_of};

/// The event's name in tracefs.
const EVENT: &str = "binfmt/anchor";
/// Where hosts mount tracefs: since Linux 4.1, and through debugfs.
const EVENTS: [&str; 2] = ["/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/uprobe_events"];

/// Anchors the mount that the regular file `file` is on. Anchoring it again does nothing. Fails when tracefs is out of
/// reach, the kernel has no uprobe events, lockdown forbids them, or privilege is missing; and in a user namespace, even if
/// its root may write to the host's tracefs.
pub fn set(file: &Path) -> Result<()> {
    let failed = |error| failed("set", &error);
    if namespace::in_user_namespace() {
        return Err(failed(io::Error::other("tracefs is the host's, and this is a user namespace")));
    }
    let path = file.as_os_str().as_bytes();
    // a blank or a line break ends a word there, and a # begins a comment (`trace_parse_run_command`)
    if path.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'#') {
        let cut = "tracefs accepts no blank, line break or # in the mount point's path; name another with --mount";
        return Err(failed(io::Error::other(cut)));
    }
    let mut events = open().map_err(failed)?;
    let line = [format!("p:{EVENT} ").as_bytes(), path, b":0x0\n"].concat();
    let is_there = match events.write(&line) {
        Ok(_) => false,
        Err(error) if errno_of(&error) == Errno::EEXIST => true,
        Err(error) => return Err(failed(error)),
    };
    let defined = definitions(&mut events).map_err(failed)?;
    let why_not = if is_there && defined.iter().any(|words| !is_plain(words)) {
        "another kind of event has this name; delete it: echo -:binfmt/anchor >>/sys/kernel/tracing/uprobe_events"
    } else if defined.is_empty() {
        "the kernel accepted it and does not list it"
    } else {
        return Ok(());
    };
    Err(failed(io::Error::other(why_not)))
}

/// Whether there is an anchor on this host. False if tracefs cannot be read.
pub fn is_set() -> bool {
    seen().unwrap_or(false)
}

/// Whether there is an anchor on this host, judged by its path; `None` if tracefs cannot be read.
pub fn seen() -> Option<bool> {
    let defined = open().and_then(|mut events| definitions(&mut events)).ok()?;
    Some(defined.iter().any(|words| is_of_table(words)))
}

/// Deletes the anchor, and no other event of its name. Does nothing where tracefs is out of reach, or in a user namespace:
/// an anchor that can be seen from there is the host's. Fails when the list of events cannot be read, or the kernel
/// refuses to delete the anchor.
pub fn clear() -> Result<()> {
    if namespace::in_user_namespace() {
        return Ok(());
    }
    let Ok(mut events) = open() else {
        return Ok(());
    };
    let mut clear = || {
        let defined = definitions(&mut events)?;
        for words in defined.iter().filter(|words| is_of_table(words)) {
            let (_, place) = words.split_once(' ').unwrap_or_default();
            events.write_all(format!("-:{EVENT} {place}\n").as_bytes())?;
        }
        Ok(())
    };
    clear().map_err(|error| failed("delete", &error))
}

fn failed(verb: &str, error: &io::Error) -> anyhow::Error {
    let cause = cause(error);
    anyhow!("cannot {verb} the anchor (a uprobe definition in tracefs): {cause}")
}

/// The definitions of events of this name, one line each: `p:binfmt/anchor
/// /proc/sys/fs/binfmt_misc/register:0x0000000000000000`.
fn definitions(events: &mut File) -> io::Result<Vec<String>> {
    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    let named = |line: &&str| {
        let name = line.split_once(':').map(|(_, rest)| rest.split(' ').next());
        name == Some(Some(EVENT))
    };
    Ok(text.lines().filter(named).map(str::to_owned).collect())
}

/// Whether a definition is an ordinary uprobe that reads no arguments, as ours are.
fn is_plain(definition: &str) -> bool {
    definition.starts_with("p:") && definition.split_whitespace().count() == 2
}

/// Whether a definition names a file of a table.
fn is_of_table(definition: &str) -> bool {
    let path = definition.rsplit_once(':').map_or("", |(path, _)| path);
    let is_file = |name: &&str| path.ends_with(*name);
    is_plain(definition) && ["/register", "/status"].iter().any(is_file)
}

/// Opens the list of uprobe definitions. Without `O_APPEND`, opening it would delete all of them.
fn open() -> io::Result<File> {
    let open = |path| OpenOptions::new().read(true).append(true).open(path);
    for path in EVENTS {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    let mounted = namespace::with_private_mounts(Path::new("/sys"), || {
        if tracing_is_forbidden() {
            return Err(io::Error::other("kernel lockdown (confidentiality) forbids tracing"));
        }
        mount_at("tracefs", "/sys/kernel/tracing")?;
        open(EVENTS[0])
    });
    mounted?
}

/// Whether lockdown is in its stricter mode. Then tracefs must not even be mounted: kernels since 6.9 crashed in
/// `tracefs_destroy_inode` when its last mount ended.
fn tracing_is_forbidden() -> bool {
    let look = || fs::read_to_string("/sys/kernel/security/lockdown");
    let mode = look().or_else(|_| {
        mount_at("securityfs", "/sys/kernel/security")?;
        look()
    });
    // a kernel without lockdown forbids nothing
    mode.is_ok_and(|mode| mode.contains("[confidentiality]"))
}

fn mount_at(kind: &str, dir: &str) -> io::Result<()> {
    let nothing = None::<&str>;
    Ok(mount(Some(kind), dir, Some(kind), MsFlags::empty(), nothing)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_tracefs_would_cut_is_refused_before_it_is_written() {
        for path in ["/mnt/a b/register", "/mnt/a\nb/register", "/mnt/a#b/register"] {
            let error = set(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("name another with --mount"), "{path:?}: {error}");
        }
    }
}
