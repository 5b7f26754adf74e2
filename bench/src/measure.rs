//! How long one run of a command takes, and how much memory.
//!
//! Each run is made by a fresh copy of this program (the hidden verb [`VERB`]), since the kernel counts what children
//! used for the whole life of their parent. Time and memory are taken from different runs: tracing costs time.
//!
//! - **time**: from before the process is made until it has been waited for.
//! - **processor time**: of it and of all that it has started and waited for, in user and in kernel mode.
//! - **own memory**: the peak of the tool's process alone. `getrusage` cannot tell: it counts what the process was
//!   before its `execve`, and its children. So the process is traced with `PTRACE_O_TRACEEXIT` and its `VmHWM` is read
//!   at its last moment (ptrace(2), proc(5)). Only this process is traced: its children may have tracers of their own.
//! - **largest process**: the peak of whichever process was the largest, the emulators that it started included.
//!   It is `ru_maxrss` of the waited-for children (getrusage(2)), what `time -v` calls maximum resident set size.
//!   It cannot be less than this program's own, some 2 MB.
//! - **together**: the most that all processes held at one moment, pages that they share counted for each. It is
//!   sampled without pause while the traced run lasts, so it may miss the very top.

use std::ffi::OsString;
use std::fs;
use std::io::{Write, stdout};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// First argument of the copy that makes one run.
pub(crate) const VERB: &str = "measure-one-run";

/// One run timed, one run weighed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) timed: Timed,
    pub(crate) weighed: Weighed,
}

/// What the timed run tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    pub(crate) microseconds: u64,
    pub(crate) processor_microseconds: u64,
    pub(crate) largest_process_kib: u64,
}

/// What the traced run tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighed {
    pub(crate) own_kib: u64,
    pub(crate) together_kib: u64,
}

/// Times one run of `command`.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn time(command: &Command) -> Result<Timed> {
    let [microseconds, processor_microseconds, largest_process_kib] = ask("time", command)?;
    Ok(Timed { microseconds, processor_microseconds, largest_process_kib })
}

/// Weighs one run of `command`.
///
/// # Errors
/// It cannot be started or traced, or fails.
pub(crate) fn memory(command: &Command) -> Result<Weighed> {
    let [own_kib, together_kib] = ask("memory", command)?;
    Ok(Weighed { own_kib, together_kib })
}

/// Has a fresh copy of this program run `command`; so many numbers come back.
fn ask<const N: usize>(what: &str, command: &Command) -> Result<[u64; N]> {
    let mut copy = Command::new(std::env::current_exe()?);
    copy.args([VERB, what]).arg(command.get_program()).args(command.get_args());
    copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = copy.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} cannot be measured");
    let numbers = String::from_utf8(output.stdout)?;
    let numbers = numbers.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    numbers.try_into().ok().with_context(|| format!("a measurement is {N} numbers"))
}

/// The copy's whole work: run the command in `arguments`, print the numbers.
///
/// # Errors
/// The command cannot be started or traced, or fails.
pub(crate) fn answer(arguments: &[OsString]) -> Result<()> {
    let [what, command @ ..] = arguments else { bail!("{VERB} needs an argument") };
    let numbers = if what == "time" {
        timed_run(command)?.to_vec()
    } else {
        let (own, together) = traced_run(command)?;
        vec![own, together]
    };
    let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
    Ok(writeln!(stdout(), "{}", words.join(" "))?)
}

/// The command in `arguments`, silent.
fn silent(arguments: &[OsString]) -> Result<Command> {
    let [program, arguments @ ..] = arguments else { bail!("{VERB} needs a command") };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn timed_run(arguments: &[OsString]) -> Result<[u64; 3]> {
    let mut command = silent(arguments)?;
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = start.elapsed();
    ensure!(status.success(), "it ends with {status}");
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let processor = micros(used.user_time()) + micros(used.system_time());
    Ok([elapsed.as_micros().try_into()?, processor.try_into()?, used.max_rss().try_into()?])
}

fn traced_run(arguments: &[OsString]) -> Result<(u64, u64)> {
    // The shell waits until it is traced, then becomes the command; memory is counted anew from there.
    let mut shell = vec!["sh".into(), "-c".into(), r#"kill -STOP $$; exec "$@""#.into(), "sh".into()];
    shell.extend_from_slice(arguments);
    let child = silent(&shell)?.spawn()?;
    let pid = Pid::from_raw(child.id().try_into()?);
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| most_together(pid, &done));
        let own = follow(pid);
        done.store(true, Ordering::Relaxed);
        let together = sampler.join().ok().context("the sampling thread is gone")?;
        Ok((own?, together))
    })
}

/// Lets the stopped `pid` run to its end; returns its peak memory.
fn follow(pid: Pid) -> Result<u64> {
    let mut peak = 0;
    kill(pid, Signal::SIGCONT)?;
    loop {
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXIT) => {
                peak = status_kib(pid, "VmHWM").context("no VmHWM in its status")?;
                ptrace::cont(pid, None)?;
            }
            WaitStatus::PtraceEvent(..) => ptrace::cont(pid, None)?,
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal)?,
            WaitStatus::Exited(_, 0) => return Ok(peak),
            end => bail!("it ends with {end:?}"),
        }
    }
}

/// A line of /proc/PID/status that counts kilobytes; nothing when the process is gone.
fn status_kib(pid: Pid, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The most memory that `pid` and its descendants were seen to hold at one moment, until `done`.
fn most_together(pid: Pid, done: &AtomicBool) -> u64 {
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        most = most.max(together(pid));
    }
    most
}

/// What `pid` and its descendants hold now. Those that end meanwhile count as nothing.
fn together(pid: Pid) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>());
    status_kib(pid, "VmRSS").unwrap_or(0) + children.map(|child| together(Pid::from_raw(child))).sum::<u64>()
}
