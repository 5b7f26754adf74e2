//! Running probes through the kernel, all at once, and saying what came of each.
//!
//! The work is done by this same program, started again with a hidden first argument ([`VERB`]): that process takes a
//! mount namespace and an empty root directory for itself, writes the probes there and starts them. Because the root
//! is empty, a probe that runs proves its interpreter pinned (flag F). Because everything happens in that process's
//! own namespaces, nothing is left behind, however it ends.
//!
//! Which answer a probe must give is [`binfmt_magic::probe`]'s; what the answer means for a platform is
//! [`crate::survey`]'s.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use binfmt_magic::arch::Arch;
use binfmt_magic::probe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::mount::DEFAULT as MOUNT_POINT;

/// First argument of the process that runs probes. Not part of the command line.
pub const VERB: &str = "--run-probes";

/// How long a probe may take. Starting an emulator takes milliseconds, seconds on a machine under heavy load.
const LIMIT: Duration = Duration::from_secs(10);
/// A crash at start is retried: emulators have had races there, and one lost start in many is not "does not work".
const TRIES: u32 = 2;

/// Which handlers the probes meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handlers {
    /// Those of this host, or of this user namespace.
    Present,
    /// None: an empty table in a user namespace of the probes' own (Linux 6.7). What runs then, runs natively.
    None,
}

/// One probe to run.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// The architecture.
    pub arch: &'static Arch,
    /// Whether the probe is [`mark`]ed, so that only a trial entry takes it.
    pub marked: bool,
}

/// What came of starting one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended by itself with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It was still running at the limit.
    TimedOut,
    /// The kernel did not start it: an errno of `execve(2)`.
    Refused(i32),
}

/// The outcome of one [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// Processor time of one start, in microseconds.
    pub micros: u64,
    /// What the emulator complained of on stderr; at most a few kilobytes.
    pub complaint: String,
}

impl Run {
    /// Four fields, each ended by a NUL: kind, its number, time, complaint.
    fn to_fields(&self) -> String {
        let (kind, number) = match self.outcome {
            Outcome::Exited(status) => ("exited", status),
            Outcome::Killed(signal) => ("killed", signal),
            Outcome::TimedOut => ("timed out", 0),
            Outcome::Refused(errno) => ("refused", errno),
        };
        let complaint = self.complaint.replace('\0', " ");
        format!("{kind}\0{number}\0{}\0{complaint}\0", self.micros)
    }

    fn parse_all(answer: &str) -> Option<Vec<Self>> {
        let fields: Vec<&str> = answer.split_terminator('\0').collect();
        fields.chunks(4).map(Self::parse).collect()
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        let [kind, number, micros, complaint] = fields else {
            return None;
        };
        let number = number.parse().ok()?;
        let outcome = match *kind {
            "exited" => Outcome::Exited(number),
            "killed" => Outcome::Killed(number),
            "timed out" => Outcome::TimedOut,
            "refused" => Outcome::Refused(number),
            _ => return None,
        };
        Some(Self {
            outcome,
            micros: micros.parse().ok()?,
            complaint: (*complaint).to_owned(),
        })
    }
}

/// Marks a probe, or the magic that is to match nothing but marked probes, in the padding of `e_ident` (gABI, figure
/// 4-4): bytes that no loader reads and that every ordinary program leaves zero.
///
/// # Panics
/// When `start` is shorter than `e_ident`, 16 bytes.
pub fn mark(start: &mut [u8]) {
    const PADDING: std::ops::Range<usize> = 9..16;
    start[PADDING].copy_from_slice(b"binfmt!");
}

/// Runs `jobs` at the same time; the answer is in their order.
///
/// # Errors
/// When this process may not give itself an empty root directory, or cannot start itself again.
pub fn run(jobs: &[Job], handlers: Handlers) -> Result<Vec<Run>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let words = jobs
        .iter()
        .map(|job| format!("{}{}", if job.marked { "+" } else { "" }, job.arch.qemu));
    let output = Command::new("/proc/self/exe")
        .arg(VERB)
        .arg(if handlers == Handlers::None {
            "native"
        } else {
            "present"
        })
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("cannot start /proc/self/exe to run the probes; is /proc mounted?")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("cannot run the probes: {}", reason.trim_end());
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    let runs = Run::parse_all(&answer).filter(|runs| runs.len() == jobs.len());
    runs.context("cannot read what the probes answered")
}

/// The other side of [`run`]: what the process does that was started with [`VERB`]. `words` follow the verb.
///
/// # Errors
/// When no empty root directory is to be had, or the answer cannot be written.
pub fn serve(words: &[OsString], mut answer: impl Write) -> Result<()> {
    let (handlers, jobs) = words.split_first().context("nothing to run")?;
    let jobs = jobs
        .iter()
        .map(|word| parse_job(word))
        .collect::<Result<Vec<Job>>>()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // a probe outlives this process only if that is killed; then this ends it. A refusal means a tighter limit already
    let seconds = LIMIT.as_secs();
    let _ = setrlimit(Resource::RLIMIT_CPU, seconds, seconds);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    let root = Root::enter(handlers == "native", &jobs)?;
    let mut runs = start_all(&root, &jobs, &null)?;
    for _ in 1..TRIES {
        let crashed: Vec<usize> = (0..jobs.len())
            .filter(|&i| matches!(runs[i].outcome, Outcome::Killed(_)))
            .collect();
        let again: Vec<Job> = crashed.iter().map(|&i| jobs[i]).collect();
        for (i, run) in crashed.into_iter().zip(start_all(&root, &again, &null)?) {
            runs[i] = run;
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

/// The directory that holds the probes, and what undoes it.
struct Root {
    /// Where the probes are, as this process sees it now.
    dir: PathBuf,
}

impl Root {
    /// Writes the probes into a new directory and makes it this process's root.
    ///
    /// With the privilege to mount, or a user namespace that has it, that is a tmpfs nobody else sees. It is laid over
    /// `/proc`, which is there for certain (this process was started from it) and not needed any more.
    fn enter(native: bool, jobs: &[Job]) -> Result<Self> {
        let proc = Path::new("/proc");
        if native {
            own_user_namespace().context("no user namespace to be had")?;
            let nothing = None::<&str>;
            mount(
                nothing,
                MOUNT_POINT,
                Some("binfmt_misc"),
                MsFlags::empty(),
                nothing,
            )
            .context("no binfmt_misc for a user namespace (needs Linux 6.7)")?;
        } else if unshare(CloneFlags::CLONE_NEWNS).is_err() && own_user_namespace().is_err() {
            return Self::temporary(jobs);
        }
        let (nothing, quiet) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        mount(
            nothing,
            proc,
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .context("cannot keep mounts private")?;
        mount(
            Some("probes"),
            proc,
            Some("tmpfs"),
            quiet,
            Some("size=1m,mode=755"),
        )
        .context("cannot mount a tmpfs for the probes")?;
        write_probes(proc, jobs)?;
        nix::unistd::chroot(proc).context("cannot change the root directory")?;
        env::set_current_dir("/")?;
        Ok(Self { dir: "/".into() })
    }

    /// Where nothing may be mounted: a directory on disk. As root of a container that may still be made the root; a
    /// plain user sees the probes run, but not that the interpreter is pinned.
    fn temporary(jobs: &[Job]) -> Result<Self> {
        let candidates = [
            env::temp_dir(),
            "/run".into(),
            "/var/tmp".into(),
            "/".into(),
        ];
        let name = format!(".binfmt-{}", std::process::id());
        let made = candidates
            .iter()
            .map(|parent| parent.join(&name))
            .find(|dir| fs::create_dir(dir).is_ok());
        let dir = made.context(
            "no privilege to mount a tmpfs for the probes, and no directory to write them to; run with --privileged, or \
             give the container a writable /tmp",
        )?;
        let root = Self { dir };
        write_probes(&root.dir, jobs)?;
        Ok(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.dir != Path::new("/") {
            // best effort: what cannot be removed is a few hundred bytes in a temporary directory
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Enters a user namespace in which this user is root, and a mount namespace of it.
fn own_user_namespace() -> Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    // files cannot be made by a user whom the namespace does not know
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    Ok(())
}

fn write_probes(dir: &Path, jobs: &[Job]) -> Result<()> {
    for job in jobs {
        let path = dir.join(file_name(job));
        let mut file = probe::elf(job.arch);
        if job.marked {
            mark(&mut file);
        }
        fs::write(&path, file)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn file_name(job: &Job) -> String {
    format!("{}{}", job.arch.qemu, if job.marked { "+" } else { "" })
}

/// A probe that was started.
struct Running {
    child: Child,
    stderr: ChildStderr,
}

fn start_all(root: &Root, jobs: &[Job], null: &File) -> Result<Vec<Run>> {
    // the ends of children are read from a descriptor, so that one poll waits for all of them and the time limit
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.thread_block()?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let deadline = Instant::now() + LIMIT;
    let mut runs = vec![None; jobs.len()];
    let mut running: Vec<Option<Running>> = Vec::with_capacity(jobs.len());
    for (job, run) in jobs.iter().zip(&mut runs) {
        running.push(match start(root, job, null) {
            Ok(started) => Some(started),
            Err(error) => {
                let errno = error
                    .raw_os_error()
                    .with_context(|| format!("cannot start a probe: {error}"))?;
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

fn start(root: &Root, job: &Job, null: &File) -> io::Result<Running> {
    let mut child = Command::new(root.dir.join(file_name(job)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_way_between_the_processes() {
        let run = |outcome, complaint: &str| Run {
            outcome,
            micros: 4100,
            complaint: complaint.to_owned(),
        };
        let runs = [
            run(Outcome::Exited(81), ""),
            run(Outcome::Killed(11), "two\nlines"),
            run(Outcome::TimedOut, "ünïcode"),
            run(Outcome::Refused(8), ""),
        ];
        let answer: String = runs.iter().map(Run::to_fields).collect();
        assert_eq!(Run::parse_all(&answer).unwrap(), runs);
        assert_eq!(Run::parse_all(&answer[..answer.len() - 3]), None);
        assert_eq!(Run::parse_all("exited\0many\0\x31\0\0"), None);
    }

    #[test]
    fn the_mark_is_no_magic_of_any_architecture() {
        for arch in &binfmt_magic::arch::ARCHES {
            let mut marked = probe::elf(arch);
            mark(&mut marked);
            assert!(!arch.matches(&marked), "{}", arch.qemu);
        }
    }
}
