//! Single facts of a process, see `proc_pid_status(5)` and `proc_pid_stat(5)`, and which signals this one hears of. The facts are
//! read one by one: parsers of all that is in those files take more room in the program than everything else about `/proc`.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, close, execve};
use signal_hook::flag;

/// The effective user of a process. `None` where that cannot be seen.
pub fn effective_user(process: Pid) -> Option<u32> {
    let ids = value(process, "Uid:")?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The capabilities that a process, and what it starts, can ever have, one bit each.
pub fn bounding_capabilities(process: Pid) -> Option<u64> {
    u64::from_str_radix(value(process, "CapBnd:")?.trim(), 16).ok()
}

/// The capabilities that a process has now, one bit each.
pub fn effective_capabilities(process: Pid) -> Option<u64> {
    u64::from_str_radix(value(process, "CapEff:")?.trim(), 16).ok()
}

/// Whether a filter decides about this process's system calls (`seccomp(2)`).
pub fn is_filtered() -> bool {
    value(Pid::this(), "Seccomp:").is_some_and(|mode| mode.trim() == "2")
}

/// Sees to it that this process hears of what happens to it. Handlers end with `execve(2)`, so what it starts is none the wiser.
///
/// The kernel forgets the children of who ignores SIGCHLD, as some supervisors leave it to what they start; with any handler,
/// it does not (`sigaction(2)`). A write beyond the limit of a file's size fails with EFBIG (`setrlimit(2)`), and ends who neither
/// ignores SIGXFSZ nor has a handler for it. The first process of a container, as `docker run` starts this one, has no signal end it
/// without a handler (`pid_namespaces(7)`).
pub fn hear_of_failures() -> io::Result<()> {
    let ignored = value(Pid::this(), "SigIgn:");
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_ignored = |signal| ignored.is_some_and(|mask| mask & 1 << (signal as u32 - 1) != 0);
    if is_ignored(Signal::SIGCHLD) {
        flag::register(Signal::SIGCHLD as i32, Arc::default())?;
    }
    if !is_ignored(Signal::SIGXFSZ) {
        flag::register(Signal::SIGXFSZ as i32, Arc::default())?;
    }
    if Pid::this().as_raw() == 1 {
        for end in [Signal::SIGTERM as i32, Signal::SIGINT as i32] {
            flag::register_conditional_shutdown(end, 128 + end, Arc::new(true.into()))?;
        }
    }
    Ok(())
}

/// Closes whatever this process was started with, except its standard streams, so that nothing that it starts has it either. To
/// be called before it opens anything itself.
pub fn close_inherited() {
    let names = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = names.filter_map(|fd| fd.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers.collect::<Vec<_>>() {
        if number > 2 {
            // that of the listing itself is closed already
            let _ = close(number);
        }
    }
}

/// Becomes `program`, which is a path, with no signal ignored or blocked on the account of this process. Not by way of execvp(3),
/// which has a shell try what the kernel refuses.
pub fn become_program(program: &Path, args: &[OsString], environment: &[OsString]) -> Errno {
    let start = || {
        let text = |text: &OsString| CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL);
        let texts = |texts: &[OsString]| texts.iter().map(text).collect::<nix::Result<Vec<_>>>();
        let (args, environment) = (texts(args)?, texts(environment)?);
        // Rust's runtime ignores it; a handler ends with execve(2)
        let _ = flag::register(Signal::SIGPIPE as i32, Arc::default());
        SigSet::empty().thread_set_mask()?;
        execve(&text(&program.into())?, &args, &environment)
    };
    match start() {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

/// Lets go of the processes that have ended and that nobody waits for: in a container the first process inherits what
/// others there leave behind. For when none that are waited for can be running.
pub fn reap() {
    let any = Pid::from_raw(-1);
    while waitpid(any, Some(WaitPidFlag::WNOHANG)).is_ok_and(|ended| ended.pid().is_some()) {}
}

/// When a process started, in clock ticks since the host's boot.
pub fn start(process: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // of its fields the second, the name, may contain anything; this is the 22nd
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// This kernel's release, `6.1.0-40-amd64`, if it is before `version`.
pub fn release_before(version: (u32, u32)) -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    is_before(release, version).then(|| release.to_owned())
}

fn is_before(release: &str, version: (u32, u32)) -> bool {
    let numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.map_while(|number| number.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    (major, minor) < version
}

fn value(process: Pid, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_its_users() {
        let user = effective_user(Pid::this());
        assert_eq!(user, Some(nix::unistd::geteuid().as_raw()));
        assert!(bounding_capabilities(Pid::this()).is_some());
    }

    #[test]
    fn a_child_starts_after_this_process_whatever_its_name() {
        let script = "exec -a 'a) b (c' sleep 60";
        let mut child = std::process::Command::new("bash");
        let mut child = child.args(["-c", script]).spawn().unwrap();
        let started = start(Pid::from_raw(child.id().try_into().unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(start(Pid::this()).is_some());
        assert!(start(Pid::this()) <= started, "{started:?}");
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, older) in [
            ("6.6.30", true),
            ("6.7.0", false),
            ("6.7-rc1", false),
            ("6.12.1+deb13-amd64", false),
            ("5.10.0-30-amd64", true),
            ("10.0", false),
            ("unheard of", false),
        ] {
            assert_eq!(is_before(release, (6, 7)), older, "{release}");
        }
    }

    #[test]
    fn of_what_is_not_there_nothing_is_known() {
        let nobody = Pid::from_raw(i32::MAX);
        assert_eq!(effective_user(nobody), None);
        assert_eq!(bounding_capabilities(nobody), None);
        assert_eq!(start(nobody), None);
    }
}
