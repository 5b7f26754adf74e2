//! The process that starts probes and waits for them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::root::Programs;
use super::{Job, Outcome, Run};
use crate::wording::{cause, errno_of};

/// How long a probe may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
const LIMIT: Duration = Duration::from_secs(10);
/// A crash at start is retried: emulators have had races there, and one lost start in many is not "does not work".
const TRIES: u32 = 2;

/// The other side of [`run`](super::run): what the process does that was started with [`VERB`](super::VERB). `words` follow the verb.
///
/// # Errors
/// When the probes cannot be written or started, or the answer cannot be written.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    let jobs = words
        .iter()
        .map(|word| parse_job(word))
        .collect::<Result<Vec<Job>>>()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // a probe outlives this process only if that is killed; then this bounds it. A refusal means a tighter limit already
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    let programs = Programs::write(&jobs)?;
    let mut runs = start_all(&programs.paths, &null)?;
    for _ in 1..TRIES {
        let crashed = |run: &&mut Run| matches!(run.outcome, Outcome::Killed(_));
        let (crashed, again): (Vec<&mut Run>, Vec<PathBuf>) = runs
            .iter_mut()
            .zip(&programs.paths)
            .filter(|(run, _)| crashed(run))
            .map(|(run, path)| (run, path.clone()))
            .unzip();
        for (first, second) in crashed.into_iter().zip(start_all(&again, &null)?) {
            *first = second;
        }
    }
    for run in &runs {
        answer.write_all(run.to_fields().as_bytes())?;
    }
    Ok(answer.flush()?)
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
    stderr: ChildStderr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // fails only for one that has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_all(programs: &[PathBuf], null: &File) -> Result<Vec<Run>> {
    // the ends of children are read from a descriptor, so that one poll waits for all of them and the time limit
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.thread_block()?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let deadline = Instant::now() + LIMIT;
    let mut runs = vec![None; programs.len()];
    let mut running: Vec<Option<Running>> = Vec::with_capacity(programs.len());
    for (program, run) in programs.iter().zip(&mut runs) {
        running.push(match start(program, null) {
            Ok(started) => Some(started),
            Err(error) => {
                let errno = exec_errno(&error)?;
                *run = Some(Run {
                    outcome: Outcome::Refused(errno),
                    micros: 0,
                    complaint: String::new(),
                });
                None
            }
        });
    }
    while running.iter().any(Option::is_some) {
        let left = deadline.saturating_duration_since(Instant::now());
        wait_for_one(&ends, left)?;
        for (slot, run) in running.iter_mut().zip(&mut runs) {
            if let Some(done) = slot
                .as_mut()
                .map(|r| reap(r, left.is_zero()))
                .transpose()?
                .flatten()
            {
                *run = Some(done);
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

fn start(program: &Path, null: &File) -> io::Result<Running> {
    let mut child = Command::new(program)
        .arg0(OsStr::new(
            std::str::from_utf8(&[probe::ARGV0]).unwrap_or_default(),
        ))
        .env_clear()
        .stdin(null.try_clone()?)
        .stdout(null.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Running { child, stderr })
}

fn wait_for_one(ends: &SignalFd, left: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(ends.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    while ends.read_signal()?.is_some() {}
    Ok(())
}

/// The run of a child that has ended, or that ends now because its time is up.
fn reap(running: &mut Running, time_is_up: bool) -> Result<Option<Run>> {
    let before = child_time()?;
    let status = match running.child.try_wait()? {
        Some(status) => status,
        None if time_is_up => {
            running.child.kill()?;
            running.child.wait()?;
            return Ok(Some(Run {
                outcome: Outcome::TimedOut,
                micros: 0,
                complaint: complaint(&mut running.stderr),
            }));
        }
        None => return Ok(None),
    };
    let outcome = match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
    };
    let micros = child_time()?.saturating_sub(before);
    Ok(Some(Run {
        outcome,
        micros,
        complaint: complaint(&mut running.stderr),
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

fn complaint(stderr: &mut ChildStderr) -> String {
    let mut text = [0; 4096];
    // whoever holds the other end may still be alive: take what is there
    let set = fcntl(stderr.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    let length = set.map_or(Ok(0), |_| stderr.read(&mut text)).unwrap_or(0);
    String::from_utf8_lossy(&text[..length]).trim().to_owned()
}
