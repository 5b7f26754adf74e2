//! The anchor: what keeps a `binfmt_misc` superblock, and so its handlers, alive after the mount namespace that
//! mounted it is gone.
//!
//! Since Linux 6.7 (and stable kernels of autumn 2024) the table dies with its last mount. A uprobe *definition* on a
//! file of that mount holds the file's path, hence the mount, hence the superblock, until it is deleted or the host
//! reboots. It is never enabled, so nothing is ever traced and no program pays for it.
//!
//! Rests on `Documentation/trace/uprobetracer.rst`; `create_trace_uprobe` in `kernel/trace/trace_uprobe.c` takes the
//! path with `kern_path` and keeps it in the event.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::namespace;
use crate::wording::cause;

/// The event's name in tracefs.
const EVENT: &str = "binfmt/anchor";
/// Where tracefs is on hosts that mount it: since 4.1, and by way of debugfs.
const EVENTS: [&str; 2] = [
    "/sys/kernel/tracing/uprobe_events",
    "/sys/kernel/debug/tracing/uprobe_events",
];

/// Why the anchor could not be set, read or cleared.
#[derive(Debug)]
pub struct AnchorError {
    doing: &'static str,
    cause: io::Error,
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, cause(&self.cause))
    }
}

impl std::error::Error for AnchorError {}

/// Anchors the mount that `file` is on; `file` is a regular file of it. Anchoring again is fine.
///
/// # Errors
/// When tracefs is out of reach, the kernel has no uprobe events, lockdown forbids them, or privilege is missing.
pub fn set(file: &Path) -> Result<(), AnchorError> {
    let failed = |cause| AnchorError {
        doing: "set the anchor (a uprobe definition in tracefs)",
        cause,
    };
    let mut events = open().map_err(failed)?;
    if defined(&mut events).map_err(failed)? {
        return Ok(());
    }
    let path = file.as_os_str().as_bytes();
    if path.iter().any(u8::is_ascii_whitespace) {
        let blank = "the mount point's path has a blank or a line break, which tracefs takes for the end of a word";
        return Err(failed(io::Error::other(blank)));
    }
    let line = [format!("p:{EVENT} ").as_bytes(), path, b":0x0\n"].concat();
    events.write_all(&line).map_err(failed)?;
    match defined(&mut events) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(io::Error::other(
            "the kernel took it and does not list it",
        ))),
        Err(cause) => Err(failed(cause)),
    }
}

/// Whether there is an anchor on this host. `false` too where tracefs is out of reach.
#[must_use]
pub fn is_set() -> bool {
    seen().unwrap_or(false)
}

/// Whether there is an anchor on this host, `None` where tracefs is out of reach.
#[must_use]
pub fn seen() -> Option<bool> {
    open().and_then(|mut events| defined(&mut events)).ok()
}

/// Deletes the anchor, if there is one.
///
/// # Errors
/// When the kernel refuses to delete it.
pub fn clear() -> Result<(), AnchorError> {
    let Ok(mut events) = open() else {
        return Ok(());
    };
    let failed = |cause| AnchorError {
        doing: "delete the anchor (a uprobe definition in tracefs)",
        cause,
    };
    if !defined(&mut events).map_err(failed)? {
        return Ok(());
    }
    events
        .write_all(format!("-:{EVENT}\n").as_bytes())
        .map_err(failed)
}

/// Opens the list of uprobe definitions. Without `O_APPEND` the kernel would delete everybody's on open.
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
            return Err(io::Error::other(
                "kernel lockdown (confidentiality) forbids tracing",
            ));
        }
        mount_at("tracefs", "/sys/kernel/tracing")?;
        open(EVENTS[0])
    });
    mounted?
}

/// Whether lockdown is in its stricter mode. A tracefs without tracing must not even be mounted: kernels since 6.9 were
/// seen to crash when its last mount goes (`tracefs_destroy_inode`).
fn tracing_is_forbidden() -> bool {
    let look = || fs::read_to_string("/sys/kernel/security/lockdown");
    let mode = look().or_else(|_| {
        mount_at("securityfs", "/sys/kernel/security")?;
        look()
    });
    // where there is none, nothing is locked down
    mode.is_ok_and(|mode| mode.contains("[confidentiality]"))
}

fn mount_at(kind: &str, dir: &str) -> io::Result<()> {
    let nothing = None::<&str>;
    Ok(mount(
        Some(kind),
        dir,
        Some(kind),
        MsFlags::empty(),
        nothing,
    )?)
}

fn defined(events: &mut File) -> io::Result<bool> {
    let mut text = String::new();
    events.rewind()?;
    events.read_to_string(&mut text)?;
    let ours = format!("p:{EVENT} ");
    Ok(text.lines().any(|line| line.starts_with(&ours)))
}
