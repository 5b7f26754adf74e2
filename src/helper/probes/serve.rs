//! The process that starts programs, each in an empty root directory and without anything of its caller, and waits for
//! them.
//!
//! It is the first process of a PID namespace where that is allowed, and is held while it starts them
//! ([`super::watch`]). Its other threads start them ([`super::starter`]).

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use binfmt_magic::probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, gettid, pipe2};

use super::ProbeOutcome;
use super::protocol::{Answer, HELD, NOT_STARTED, Task};
use super::root::{Program, Programs};
use super::starter::Starters;
use crate::kernel::process::{close_inherited, signals};
use crate::kernel::wording::{cause, errno_of, not_started};

/// How long a program may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How much of what a program says is kept, in bytes: the end.
const KEPT: usize = 4096;
/// How much a pipe holds, in bytes (`pipe(7)`).
const PIPE: usize = 65536;

/// The other side of [`run`](super::run): what the process of [`Verb::RunProbes`](crate::helper::Verb) does. `words`
/// follow the verb: how long a program may take, in milliseconds, and the programs.
///
/// It says which files it will start, waits until it is told whether it is held, starts them, stops itself if it is,
/// and says what came of each.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    close_inherited();
    let (limit, words) = words.split_first().context("no limit")?;
    let limit = limit.to_str().and_then(|limit| limit.parse().ok());
    let limit = Duration::from_millis(limit.context("not a limit")?);
    let tasks = words.iter().map(|word| Task::parse(word));
    let tasks = tasks.collect::<Result<Vec<Task>>>()?;
    let is_first = getpid() == Pid::from_raw(1);
    // the kernel ends a PID namespace with its first process; another process gets SIGTERM, and ends the programs
    // itself
    prctl::set_pdeathsig(if is_first { Signal::SIGKILL } else { Signal::SIGTERM })?;
    let orphans = if is_first { None } else { Some(Orphans::adopt()?) };
    let signals = Signals(signals(&[Signal::SIGCHLD, Signal::SIGTERM])?);
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| cannot_start(&error))?;

    let programs = Programs::write(&tasks).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => anyhow!("cannot write them: {}", cause(&error)),
        Err(error) => error,
    })?;
    let files: Vec<&str> = programs.all.iter().map(|program| program.file.as_str()).collect();
    writeln!(answer, "{}", files.join(" "))?;
    answer.flush()?;
    let mut go = [0];
    stdin().read_exact(&mut go).context("the call that started it has ended")?;
    programs.enter()?;
    // ends a program even if no process is left to do so; refused only where a tighter limit exists
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // QEMU asks for huge pages for translated code. To clear one takes a twentieth of a start, and a probe fills no page.
    let _ = prctl::set_thp_disable(true);

    let total = programs.all.len();
    let starters = Starters::begin(total, Box::new(move |number| start(&programs.all[number], &null)));
    let starters = starters.map_err(|error| error.context("cannot start a probe"))?;
    let answers = run_all(total, starters, &signals, go == [HELD], limit);
    drop(orphans);
    for one in answers? {
        answer.write_all(one.encode().as_bytes())?;
    }
    Ok(answer.flush()?)
}

/// The signals that tell of the ends of children and of the caller, read from a descriptor so that one poll waits for
/// everything.
struct Signals(SignalFd);

impl Signals {
    /// Reads those that have come. Fails when the caller has ended.
    fn take(&self) -> Result<()> {
        while let Some(signal) = self.0.read_signal()? {
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                bail!("the call that started it has ended");
            }
        }
        Ok(())
    }
}

/// The processes that programs leave behind, where no PID namespace ends them: they become children of this process,
/// and are ended when this is dropped.
struct Orphans {
    children: Option<File>,
}

impl Orphans {
    /// How long to try to end processes that keep starting others.
    const PATIENCE: Duration = Duration::from_secs(2);

    fn adopt() -> Result<Self> {
        prctl::set_child_subreaper(true)?;
        let children = File::open(format!("/proc/self/task/{}/children", gettid())).ok();
        Ok(Self { children })
    }

    fn list(&mut self) -> Option<String> {
        let (mut list, file) = (String::new(), self.children.as_mut()?);
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_to_string(&mut list).ok()?;
        (!list.is_empty()).then_some(list)
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        let deadline = Instant::now() + Self::PATIENCE;
        // one that is killed may leave others behind
        while let Some(list) = self.list().filter(|_| Instant::now() < deadline) {
            let children = list.split_ascii_whitespace().filter_map(|id| id.parse().ok());
            for child in children {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            while waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)).is_ok_and(|end| end.pid().is_some()) {}
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A program that was started.
struct Running {
    pid: Pid,
    /// The pipe for what it prints, until its other end is closed.
    said: Option<File>,
    text: Vec<u8>,
    /// Its outcome and its processor time in microseconds, once it has ended.
    end: Option<(ProbeOutcome, u64)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.end.is_none() {
            // it is reaped together with all others that are left
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// What has become of a program.
enum State {
    /// Its `execve(2)` has not returned.
    Starting,
    Running(Running),
    NotStarted(ProbeOutcome),
}

impl State {
    fn running(&mut self) -> Option<&mut Running> {
        match self {
            Self::Running(running) => Some(running),
            _ => None,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Starting => false,
            Self::Running(running) => running.end.is_some(),
            Self::NotStarted(_) => true,
        }
    }

    fn answer(self) -> Answer {
        let mut running = match self {
            Self::Starting => return Answer::without_words(ProbeOutcome::Stuck),
            Self::NotStarted(outcome) => return Answer::without_words(outcome),
            Self::Running(running) => running,
        };
        // the rest of the pipe; not up to its end, which other processes may keep open for ever
        for _ in 0..PIPE / KEPT {
            listen(&mut running);
        }
        let (outcome, micros) = running.end.unwrap_or((ProbeOutcome::TimedOut, 0));
        let said = String::from_utf8_lossy(&running.text).trim().to_owned();
        Answer { outcome, micros, said }
    }
}

/// A start's result. An inner error is the outcome of a program that is not started.
type Start = Result<Result<Running, ProbeOutcome>>;

fn run_all(
    total: usize,
    mut starters: Starters<Start>,
    signals: &Signals,
    held: bool,
    limit: Duration,
) -> Result<Vec<Answer>> {
    let deadline = Instant::now() + limit;
    let mut all: Vec<State> = (0..total).map(|_| State::Starting).collect();
    let mut starting = total;
    let mut early = Vec::new();
    while !all.iter().all(State::is_over) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        wait_for_news(signals, &starters, &mut all, if starting > 0 { left.min(starters.patience()) } else { left })?;
        if starting > 0 {
            for (number, result) in starters.take()? {
                starting -= 1;
                all[number] = result?.map_or_else(State::NotStarted, State::Running);
            }
            early.retain(|end| !record(&mut all, end));
            if starting == 0 && held {
                raise(Signal::SIGSTOP)?;
            }
        }
        reap(deadline, |end| {
            // of one whose start is not reported yet; or of an orphan
            if !record(&mut all, &end) && starting > 0 {
                early.push(end);
            }
        })?;
    }
    if starting > 0 && held {
        raise(Signal::SIGSTOP)?;
    }
    Ok(all.into_iter().map(State::answer).collect())
}

/// Starts it.
fn start(program: &Program, null: &File) -> Start {
    if program.file == NOT_STARTED {
        return Ok(Err(ProbeOutcome::Setuid(None)));
    }
    let (said, says) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| cannot_start(&errno.into()))?;
    fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut command = Command::new(&program.path);
    command.env_clear().stdin(null.try_clone()?);
    match &program.task {
        Task::Probe(_) => {
            let argv0 = char::from(probe::ARGV0).to_string();
            command.arg0(argv0).stdout(null.try_clone()?);
        }
        Task::Ask(_) => {
            command.arg0("qemu").arg("--version").stdout(says.try_clone()?);
        }
    }
    match command.stderr(Stdio::from(says)).spawn() {
        Ok(child) => Ok(Ok(Running {
            pid: Pid::from_raw(i32::try_from(child.id())?),
            said: Some(said.into()),
            text: Vec::new(),
            end: None,
        })),
        Err(error) => Ok(Err(ProbeOutcome::Refused(refusal(&error)?))),
    }
}

fn cannot_start(error: &std::io::Error) -> anyhow::Error {
    anyhow!("cannot start a probe: {}", not_started(error))
}

/// The errno of a refused `execve(2)`, unless it says nothing about a handler: then the whole run has failed.
fn refusal(error: &std::io::Error) -> Result<i32> {
    match errno_of(error) {
        Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EIO => Err(cannot_start(error)),
        errno => Ok(errno as i32),
    }
}

/// Waits until a program is started, has ended or prints something, and records what it prints.
fn wait_for_news(signals: &Signals, starters: &Starters<Start>, all: &mut [State], left: Duration) -> Result<()> {
    // rounded up, lest it waits in a circle
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    let running: Vec<&mut Running> = all.iter_mut().filter_map(State::running).collect();
    let talking = running.iter().filter_map(|running| running.said.as_ref());
    let mut news: Vec<PollFd> =
        [signals.0.as_fd(), starters.news()].map(|fd| PollFd::new(fd, PollFlags::POLLIN)).into();
    news.extend(talking.map(|said| PollFd::new(said.as_fd(), PollFlags::POLLIN)));
    match poll(&mut news, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    for running in running {
        listen(running);
    }
    signals.take()
}

/// Records some of what the program prints, of which the end counts.
fn listen(running: &mut Running) {
    let mut chunk = [0; KEPT];
    let Some(said) = &mut running.said else { return };
    match said.read(&mut chunk) {
        Ok(length @ 1..) => running.text.extend(&chunk[..length]),
        Err(error) if errno_of(&error) == Errno::EAGAIN => {}
        Ok(0) | Err(_) => running.said = None,
    }
    let excess = running.text.len().saturating_sub(KEPT);
    running.text.drain(..excess);
}

/// The end of a child: its outcome, and its processor time in microseconds.
struct End(Pid, ProbeOutcome, u64);

/// Whether it is the end of one of `all`, which then has it.
fn record(all: &mut [State], End(pid, outcome, micros): &End) -> bool {
    let mut running = all.iter_mut().filter_map(State::running);
    let ended = running.find(|running| running.pid == *pid && running.end.is_none());
    ended.is_some_and(|running| running.end.replace((*outcome, *micros)).is_none())
}

/// Calls `tell` with the ends of children, also of those that were left to this process.
fn reap(deadline: Instant, mut tell: impl FnMut(End)) -> Result<()> {
    while Instant::now() < deadline {
        let before = child_time()?;
        let (pid, outcome) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid, ProbeOutcome::Exited(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ProbeOutcome::Killed(signal as i32)),
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(Errno::ECHILD) => break,
            Err(errno) => return Err(errno.into()),
        };
        tell(End(pid, outcome, child_time()?.saturating_sub(before)));
    }
    Ok(())
}

/// Processor time of all children that were waited for, in microseconds.
fn child_time() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(u64::try_from(micros(usage.user_time()) + micros(usage.system_time()))?)
}
