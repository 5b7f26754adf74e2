//! The shell of a root file system, run apart from everything: in a mount namespace, so that what it needs mounted is
//! seen by nobody else, and in a PID namespace, so that whatever it starts ends with it.
//!
//! Three processes, since a PID namespace begins with a child: the one that takes the namespaces, this same program
//! started again as their first process, and the shell. See `pid_namespaces(7)`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::stdin;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;

use super::become_other::{NotStarted, Other};
use super::{BECOME, own_user_namespace};

/// The directory of search that shells are started with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes the namespaces and waits for what runs in them. Does not return but with an error: the process ends with the
/// shell's status.
pub(super) fn enter(root: &Path, script: &OsStr) -> Result<Infallible, NotStarted> {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        own_user_namespace().map_err(|_| Errno::EPERM)?;
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    let mut init = Command::new("/proc/self/exe");
    // its parent is in another PID namespace, which shows as 0
    init.args([BECOME, "0", Other::INIT]).arg(root).arg(script);
    let mut init = init.stdin(Stdio::piped()).spawn()?;
    // open for as long as this process lives
    let _lifeline = init.stdin.take();
    end_as(init.wait()?)
}

/// Whether the process that took the namespaces has ended. Only now does its end also end this one; it may have come
/// before, and who its parent is cannot be seen from another PID namespace.
fn is_orphan() -> Result<bool, Errno> {
    let stdin = stdin();
    let mut lifeline = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    poll(&mut lifeline, PollTimeout::ZERO)?;
    let events = lifeline[0].revents();
    Ok(events.is_some_and(|events| events.contains(PollFlags::POLLHUP)))
}

/// As the first process of the namespaces: mounts what programs expect, as far as there are directories for it, and
/// runs the shell.
pub(super) fn run_shell(root: &Path, script: &OsStr) -> Result<Infallible, NotStarted> {
    if is_orphan()? {
        return Err(Errno::ESRCH.into());
    }
    let nothing = None::<&str>;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    let flags = MsFlags::empty();
    // without one of these, what needs it fails and says so
    let _ = mount(Some("/dev"), &root.join("dev"), nothing, bind, nothing);
    let _ = mount(
        Some("proc"),
        &root.join("proc"),
        Some("proc"),
        flags,
        nothing,
    );
    let size = Some("size=64m,mode=1777");
    let _ = mount(Some("tmpfs"), &root.join("tmp"), Some("tmpfs"), flags, size);
    // the root file system need not have one
    let no_input = File::open("/dev/null")?;
    chroot(root)?;
    std::env::set_current_dir("/")?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).stdin(no_input).env_clear();
    end_as(shell.env("PATH", PATH).env("LC_ALL", "C").status()?)
}

#[expect(clippy::exit, reason = "the status of this process is that of another")]
fn end_as(status: ExitStatus) -> ! {
    let by_signal = || 128 + status.signal().unwrap_or_default();
    std::process::exit(status.code().unwrap_or_else(by_signal))
}
