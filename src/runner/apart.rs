//! The shell of a root file system, run apart from everything: in a mount namespace, so that what it needs mounted is
//! seen by nobody else, and in a PID namespace, so that whatever it starts ends with it.
//!
//! Three processes, since a PID namespace begins with a child: the one that takes the namespaces, this same program
//! started again as their first process, and the shell. See `pid_namespaces(7)`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Write, stderr, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, stat};
use nix::unistd::{chdir, chroot, fchdir};

use super::BECOME;
use super::become_other::{NotStarted, Other};
use crate::root_directory::PATH;
use crate::user_namespace;
use crate::wording::errno_of;

/// Takes the namespaces and waits for what runs in them. Does not return but with an error: the process ends with the
/// shell's status.
pub(super) fn enter(root: &Path, script: &OsStr) -> Result<Infallible, NotStarted> {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        user_namespace::enter_as_root()?;
    }
    unshare(CloneFlags::CLONE_NEWPID)?;
    make_private()?;
    let mut init = Command::new("/proc/self/exe");
    // its parent is in another PID namespace, which shows as 0
    init.args([BECOME, "0", Other::INIT]).arg(root).arg(script);
    let mut init = init.stdin(Stdio::piped()).spawn()?;
    // open for as long as this process lives
    let _lifeline = init.stdin.take();
    end_as(init.wait()?)
}

/// Keeps what is mounted in this mount namespace from all others.
fn make_private() -> Result<(), Errno> {
    let nothing = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let private = || mount(nothing, "/", nothing, flags, nothing);
    match private() {
        Err(Errno::EINVAL) => {}
        result => return result,
    }
    // in a chroot / need not be where anything is mounted: outside of it there is such a directory (chroot(2), NOTES)
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let inside = open("/", directory, Mode::empty())?;
    let identity = |path: &str| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    chroot("/proc")?;
    fchdir(&inside)?;
    loop {
        let here = identity(".")?;
        chdir("..")?;
        if identity(".")? == here {
            break;
        }
    }
    chroot(".")?;
    private()?;
    fchdir(&inside)?;
    chroot(".")
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
    match shell.env("PATH", PATH).env("LC_ALL", "C").status() {
        Ok(status) => end_as(status),
        Err(error) => {
            let errno = errno_of(&error) as i32;
            write!(stderr(), "{REFUSED}{errno}")?;
            end_as(ExitStatus::from_raw(0))
        }
    }
}

/// What no program says. The shell's own failure to start is told apart from this process's.
const REFUSED: &str = "\0exec ";

/// Why the kernel did not start the shell, if that is what is said on stderr.
pub(crate) fn refusal(stderr: &str) -> Option<Errno> {
    let errno = stderr.strip_prefix(REFUSED)?;
    errno.parse().ok().map(Errno::from_raw)
}

#[expect(clippy::exit, reason = "the status of this process is that of another")]
fn end_as(status: ExitStatus) -> ! {
    let by_signal = || 128 + status.signal().unwrap_or_default();
    std::process::exit(status.code().unwrap_or_else(by_signal))
}
