//! Single facts of a process, see `proc_pid_status(5)` and `proc_pid_stat(5)`, and the signals that this process
//! handles. The facts are read one by one, because parsers of these whole files would take more room in the program
//! than all other code about `/proc`.

use std::ffi::{CString, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::makedev;
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, close, execve};
use signal_hook::flag;

use crate::kernel::wording::printable;

/// The name that this process has in `/proc`: in that of another PID namespace, not its number. `None`: it has none there, or
/// nothing is mounted.
pub fn own_name() -> Option<String> {
    fs::read_link("/proc/self").ok()?.to_str().map(str::to_owned)
}

/// Whether `/proc` knows processes by the numbers that they have for this process. If not, `/proc/PID` is another one.
pub fn has_own_proc() -> bool {
    own_name().is_some_and(|name| name == Pid::this().to_string())
}

/// The effective user of a process. `None` where that cannot be seen.
pub fn effective_user(process: Pid) -> Option<u32> {
    let ids = value(&process.to_string(), "Uid:")?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A mask of this process, such as that of its effective capabilities, `CapEff:`, one bit each.
pub fn mask(key: &str) -> Option<u64> {
    u64::from_str_radix(value("self", key)?.trim(), 16).ok()
}

/// Whether a filter decides about this process's system calls (`seccomp(2)`).
pub fn is_filtered() -> bool {
    value("self", "Seccomp:").is_some_and(|mode| mode.trim() == "2")
}

/// Which signals this process ignores.
pub fn ignored() -> impl Fn(Signal) -> bool {
    let ignored = mask("SigIgn:").unwrap_or(0);
    move |signal| ignored & 1 << (signal as u32 - 1) != 0
}

/// The signals that the caller has blocked, for the program that this process may become.
static BLOCKED: OnceLock<SigSet> = OnceLock::new();

/// Sets handlers for signals that would otherwise hide a failure. `execve(2)` resets them, so started programs are not
/// affected.
///
/// - SIGCHLD: some supervisors ignore it for the processes that they start. The kernel then forgets children that have ended
///   (`sigaction(2)`).
/// - SIGXFSZ: without a handler, a write beyond the limit of a file's size ends this process; with one, it fails with EFBIG
///   (`setrlimit(2)`).
/// - SIGTERM and SIGINT: they do not end the first process of a container without a handler (`pid_namespaces(7)`).
pub fn hear_of_failures() -> io::Result<()> {
    let _ = BLOCKED.set(SigSet::thread_get_mask()?);
    let is_ignored = ignored();
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

/// Closes all descriptors that this process inherited, except its standard streams, so that programs that it starts do
/// not get them. Call it before this process opens anything itself.
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

/// Becomes `program`, which is a path, with the signals blocked that the caller had blocked, and none ignored because of this
/// process. Does not use execvp(3), which lets a shell try what the kernel refuses.
pub fn become_program(program: &Path, args: &[OsString], environment: &[OsString]) -> Errno {
    let start = || {
        let text = |text: &OsString| CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL);
        let texts = |texts: &[OsString]| texts.iter().map(text).collect::<nix::Result<Vec<_>>>();
        let (args, environment) = (texts(args)?, texts(environment)?);
        // Rust's runtime ignores it; a handler ends with execve(2)
        let _ = flag::register(Signal::SIGPIPE as i32, Arc::default());
        BLOCKED.get().copied().unwrap_or(SigSet::empty()).thread_set_mask()?;
        execve(&text(&program.into())?, &args, &environment)
    };
    match start() {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

/// Reaps children that have ended and that nobody waits for: the first process of a container inherits those of others.
/// Call it only while no child runs that somebody waits for.
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
    // not from /proc, which need not be the kernel's where this is called (`with_root_directory`)
    let release = uname().ok()?.release().to_string_lossy().into_owned();
    is_before(&release, version).then_some(release)
}

fn is_before(release: &str, version: (u32, u32)) -> bool {
    let numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut numbers = numbers.map_while(|number| number.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return false;
    };
    (major, minor) < version
}

/// The value of a setting of the kernel, such as `vm.mmap_min_addr`.
pub fn sysctl(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file that is mapped into a process, see `proc_pid_maps(5)` and `proc_pid_map_files(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Device and inode.
    pub id: (u64, u64),
    path: PathBuf,
    /// Its name in `map_files`.
    range: String,
    is_code: bool,
}

impl Mapped {
    /// All of `process`, the lowest address first. Fails when its maps cannot be read.
    pub fn of(process: Pid) -> io::Result<Vec<Self>> {
        Self::of_named(&process.to_string())
    }

    fn of_named(process: &str) -> io::Result<Vec<Self>> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
        Ok(maps.lines().filter_map(Self::parse).collect())
    }

    /// `401000-47b000 r-xp 00001000 00:03 12   /usr/bin/a b`; `None` for memory without a file.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (range, mode, _, device) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (inode, path) = (fields.next()?.parse().ok().filter(|inode| *inode != 0)?, fields.next()?);
        let (major, minor) = device.split_once(':')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(Self {
            id: (makedev(number(major)?, number(minor)?), inode),
            path: path.trim_start().into(),
            range: without_zeros(range)?,
            is_code: mode.contains('x'),
        })
    }

    /// Opens the file of the first code: that is the program that the kernel has started, for its loader is at a higher address.
    /// Follows `map_files`, which needs `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN` over the host; without it, the path, as long as
    /// it leads to the same file. Fails when neither does.
    pub fn open_first(process: Pid, mapped: &[Self]) -> io::Result<File> {
        let first = mapped.iter().find(|mapped| mapped.is_code).ok_or(Errno::ENOENT)?;
        File::open(format!("/proc/{process}/map_files/{}", first.range)).or_else(|refused| {
            let file = File::open(&first.path).ok();
            let is_same = |file: &File| file.metadata().is_ok_and(|there| (there.dev(), there.ino()) == first.id);
            file.filter(is_same).ok_or(refused)
        })
    }

    /// Whether this process may follow `map_files`: its own.
    pub fn can_be_opened() -> bool {
        let own = Self::of_named("self").unwrap_or_default();
        own.first().is_some_and(|first| File::open(format!("/proc/self/map_files/{}", first.range)).is_ok())
    }
}

/// The name that `map_files` has for a range of `maps`: the latter pads numbers with zeros.
fn without_zeros(range: &str) -> Option<String> {
    let (start, end) = range.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some(format!("{:x}-{:x}", number(start)?, number(end)?))
}

/// The path in `/proc` of an open file, by which it can be opened once more.
pub fn path_of(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Blocks these signals. They are read from the descriptor instead.
pub fn signals(signals: &[Signal]) -> nix::Result<SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// The first process that has a descriptor for which `is_it` accepts its link in `fd`, the first bytes of its text in
/// `fdinfo`, and the link's metadata: `process 123 (cp)`. Any user can make these many and long, so the search ends after
/// [`SEARCH`].
pub fn find_by_descriptor(is_it: impl Fn(&Path, &str, &Metadata) -> bool) -> Option<String> {
    let end = Instant::now() + SEARCH;
    find(|process| {
        let mut open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut open = open.by_ref().take_while(|_| Instant::now() < end);
        open.any(|item| {
            let Ok(link) = item.metadata() else { return false };
            let mut text = String::new();
            let info = File::open(process.join("fdinfo").join(item.file_name()));
            let read = info.and_then(|info| info.take(INFO).read_to_string(&mut text));
            read.is_ok() && is_it(&item.path(), &text, &link)
        })
    })
}

/// How long a search through all processes may take.
const SEARCH: Duration = Duration::from_secs(2);
/// How much of a text in `fdinfo` is read. What this program looks for stands at its beginning, except that other locks of
/// the same descriptor may precede one.
const INFO: u64 = 4096;

/// The first process whose directory in `/proc` is one that `is_it` accepts: `process 123 (cp)`.
pub fn find(mut is_it: impl FnMut(&Path) -> bool) -> Option<String> {
    let folders = fs::read_dir("/proc").ok()?.flatten().map(|item| item.path());
    let mut numbered = folders.filter_map(|folder| Some((folder.file_name()?.to_str()?.parse::<u32>().ok()?, folder)));
    let (id, folder) = numbered.find(|(_, folder)| is_it(folder))?;
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    Some(format!("process {id} ({})", printable(name.trim_end())))
}

fn value(process: &str, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_first_code_of_a_process_is_its_program() {
        let mapped = Mapped::of(Pid::this()).unwrap();
        let (first, exe) = (Mapped::open_first(Pid::this(), &mapped).unwrap(), File::open("/proc/self/exe").unwrap());
        let id = |file: File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).unwrap();
        assert_eq!(id(first), id(exe));
    }

    #[test]
    fn a_line_of_maps_is_read_with_whatever_path() {
        let line = "00400000-0047b000 r-xp 00001000 fe:01 12                                 /usr/bin/a  b (deleted)";
        let mapped = Mapped::parse(line).unwrap();
        assert_eq!((mapped.path.to_str(), &*mapped.range), (Some("/usr/bin/a  b (deleted)"), "400000-47b000"));
        assert_eq!(mapped.id, (makedev(0xfe, 1), 12));
        for line in
            ["", "7ffe5fd65000-7ffe5fd86000 rw-p 00000000 00:00 0                          [stack]", "a b c d e f"]
        {
            assert_eq!(Mapped::parse(line), None, "{line}");
        }
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
}
