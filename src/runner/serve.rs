//! The process that starts probes and waits for them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;

use super::root::Programs;
use super::{FileId, Job, Outcome, Run};
use crate::wording::{cause, errno_of};

/// How long a probe may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
const LIMIT: Duration = Duration::from_secs(20);
/// A crash at start is retried: emulators have had races there, and one lost start in many is not "does not work".
const TRIES: u32 = 2;

/// The other side of [`run`](super::run): what the process does that was started with [`VERB`](super::VERB). `words`
/// follow the verb.
///
/// # Errors
/// When the probes cannot be written or started, or the answer cannot be written.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    let jobs = words
        .iter()
        .map(|word| parse_job(word))
        .collect::<Result<Vec<Job>>>()?;
    // told so, it ends its probes before itself
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    // a probe outlives this process only if that is killed; then this bounds it. A refusal means a tighter limit already
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let supplies = Supplies::open()?;
    let programs = Programs::write(&jobs)?;
    let mut runs = start_all(&programs.paths, &supplies)?;
    for _ in 1..TRIES {
        let crashed = |run: &&mut Run| matches!(run.outcome, Outcome::Killed(_));
        let (crashed, again): (Vec<&mut Run>, Vec<PathBuf>) = runs
            .iter_mut()
            .zip(&programs.paths)
            .filter(|(run, _)| crashed(run))
            .map(|(run, path)| (run, path.clone()))
            .unzip();
        for (first, second) in crashed.into_iter().zip(start_all(&again, &supplies)?) {
            *first = second;
        }
    }
    for run in &runs {
        answer.write_all(run.to_fields().as_bytes())?;
    }
    Ok(answer.flush()?)
}

/// What the process does that was started with [`BOUND`](super::BOUND): becomes the program that `words` name, after the
/// caller's process number. Returns why not.
#[must_use]
pub fn become_bound(words: &[OsString]) -> io::Error {
    let [caller, program, arguments @ ..] = words else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return errno.into();
    }
    if *caller != *nix::unistd::getppid().to_string() {
        return io::ErrorKind::BrokenPipe.into();
    }
    Command::new(program).args(arguments).exec()
}

fn parse_job(word: &OsStr) -> Result<Job> {
    let word = word.to_str().context("not a probe's name")?;
    let (marked, name) = word
        .strip_prefix('+')
        .map_or((false, word), |name| (true, name));
    let arch = Arch::by_qemu(name).with_context(|| format!("no probe {name}"))?;
    Ok(Job { arch, marked })
}

/// A probe that was started.
struct Running {
    child: Child,
    interpreter: Option<FileId>,
    stderr: ChildStderr,
    complaint: Vec<u8>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What probes are started with, opened while it can still be reached.
struct Supplies {
    null: File,
    proc: File,
    /// This program.
    own: FileId,
}

impl Supplies {
    fn open() -> Result<Self> {
        Ok(Self {
            null: File::open("/dev/null").context("cannot open /dev/null")?,
            proc: File::open("/proc").context("cannot open /proc")?,
            own: FileId::from(
                &fs::metadata("/proc/self/exe").context("cannot see /proc/self/exe")?,
            ),
        })
    }
}

fn start_all(programs: &[PathBuf], supplies: &Supplies) -> Result<Vec<Run>> {
    // the ends of children, and of the caller, are read from a descriptor, so that one poll waits for all of them
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let deadline = Instant::now() + LIMIT;
    let mut runs = vec![None; programs.len()];
    let mut running: Vec<Option<Running>> = Vec::with_capacity(programs.len());
    for (program, run) in programs.iter().zip(&mut runs) {
        let started = start(program, supplies);
        if let Err(error) = &started {
            *run = Some(Run::refused(exec_errno(error)?));
        }
        running.push(started.ok());
    }
    while running.iter().any(Option::is_some) {
        let left = deadline.saturating_duration_since(Instant::now());
        wait_for_news(&ends, &mut running, left)?;
        for (slot, run) in running.iter_mut().zip(&mut runs) {
            let Some(probe) = slot else { continue };
            *run = reap(probe, left.is_zero())?;
            if run.is_some() {
                *slot = None;
            }
        }
    }
    Ok(runs.into_iter().flatten().collect())
}

/// The errno of a refused `execve(2)`; a refused fork says nothing about a handler and ends the whole run.
fn exec_errno(error: &io::Error) -> Result<i32> {
    match errno_of(error) {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO => {
            bail!("cannot start a probe: {}", cause(error))
        }
        errno => Ok(errno as i32),
    }
}

fn start(program: &Path, supplies: &Supplies) -> io::Result<Running> {
    let mut child = Command::new(program)
        .arg0(OsStr::from_bytes(&[probe::ARGV0]))
        .env_clear()
        .stdin(supplies.null.try_clone()?)
        .stdout(supplies.null.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let interpreter = executable_of(&child, supplies);
    Ok(Running {
        child,
        interpreter,
        stderr,
        complaint: Vec::new(),
    })
}

/// The file that the kernel runs for this child: for a handler's program, the pinned interpreter.
///
/// `spawn` returns once `execve` is past its point of no return, an instant before the child has its new memory, so it
/// may be this program still; then it is looked at again. An emulator takes milliseconds until the probe ends; whoever is
/// slower than that does not get to know.
fn executable_of(child: &Child, supplies: &Supplies) -> Option<FileId> {
    const LOOKS: u32 = 1000;
    let exe = format!("{}/exe", child.id());
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    for _ in 0..LOOKS {
        let file = File::from(openat(&supplies.proc, exe.as_str(), flags, Mode::empty()).ok()?);
        let file = FileId::from(&file.metadata().ok()?);
        if file != supplies.own {
            return Some(file);
        }
        thread::yield_now();
    }
    None
}

/// Waits until a child has ended or has something to say, and takes down what it says.
fn wait_for_news(ends: &SignalFd, running: &mut [Option<Running>], left: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let talking = running.iter().flatten().map(|probe| &probe.stderr);
    let mut news = vec![PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
    news.extend(talking.map(|stderr| PollFd::new(stderr.as_fd(), PollFlags::POLLIN)));
    match poll(&mut news, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let said = |fd: &PollFd| {
        fd.revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN))
    };
    let said: Vec<bool> = news[1..].iter().map(said).collect();
    for (probe, _) in running
        .iter_mut()
        .flatten()
        .zip(said)
        .filter(|(_, said)| *said)
    {
        listen(probe);
    }
    while let Some(signal) = ends.read_signal()? {
        if signal.ssi_signo == Signal::SIGTERM as u32 {
            bail!("the call that wanted to know has ended");
        }
    }
    Ok(())
}

/// Takes down some of what the emulator says, of which the end counts. False if there was nothing to be heard.
fn listen(probe: &mut Running) -> bool {
    const KEPT: usize = 4096;
    let mut chunk = [0; KEPT];
    let length = probe.stderr.read(&mut chunk).unwrap_or(0);
    probe.complaint.extend(&chunk[..length]);
    let excess = probe.complaint.len().saturating_sub(KEPT);
    probe.complaint.drain(..excess);
    length > 0
}

/// The run of a child that has ended, or that ends now because its time is up.
fn reap(probe: &mut Running, time_is_up: bool) -> Result<Option<Run>> {
    let before = child_time()?;
    let outcome = match probe.child.try_wait()? {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Outcome::Exited(code),
            (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
        },
        None if time_is_up => {
            probe.child.kill()?;
            probe.child.wait()?;
            Outcome::TimedOut
        }
        None => return Ok(None),
    };
    let micros = child_time()?.saturating_sub(before);
    // what is still in the pipe; whoever else holds its other end is not waited for
    if fcntl(probe.stderr.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() {
        while listen(probe) {}
    }
    let complaint = String::from_utf8_lossy(&probe.complaint).trim().to_owned();
    Ok(Some(Run {
        outcome,
        micros,
        interpreter: probe.interpreter,
        complaint,
    }))
}

/// Processor time of all children that were waited for, in microseconds; the difference is the last one's.
fn child_time() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(u64::try_from(
        micros(usage.user_time()) + micros(usage.system_time()),
    )?)
}
