//! A shell that stays: commands go in one by one, and lines come out.
//!
//! That a command has ended, and how, is told by a line of the shell's own on both streams. They are pipes, since the shell
//! may be in a container.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::shown;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// How long what a job in the background prints is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing comes when all has come.
const QUIET: Duration = Duration::from_millis(300);
/// The start of the shell's own lines, which nobody prints.
const ENDED: char = '\u{1e}';

/// A shell, and all that it starts, until this goes.
#[derive(Debug)]
pub(crate) struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<(Stream, String)>,
    printed: [Vec<String>; 2],
    /// Whether some job is in the background.
    has_jobs: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) status: i32,
    /// How what it printed differs from what is shown.
    pub(crate) differs: Option<String>,
    /// Both streams.
    pub(crate) printed: String,
}

impl Shell {
    /// Starts it: a call of `bash` without arguments, wherever.
    pub(crate) fn start(mut bash: Command) -> Self {
        let bash = bash.process_group(0).stdin(Stdio::piped());
        let bash = bash.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = bash.spawn().expect("a shell");
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take(), Stream::Stdout, sender.clone());
        forward(child.stderr.take(), Stream::Stderr, sender);
        let stdin = child.stdin.take().expect("a piped stdin");
        Self { child, stdin, lines, printed: [Vec::new(), Vec::new()], has_jobs: false }
    }

    /// Runs commands that the page does not show; they end with the first that fails, and so does the test.
    pub(crate) fn prepare(&mut self, script: &str) {
        let status = self.end(&format!("set -e\n{script}\nset +e"));
        let printed = self.take();
        assert_eq!(status, Some(0), "{script}\n{printed}");
    }

    /// Runs a command that is shown with these lines.
    pub(crate) fn run(&mut self, command: &str, lines: &[String]) -> Found {
        let status = self.end(command);
        let status = status.unwrap_or_else(|| panic!("no end of {command}\n{}", self.take()));
        // a job's lines may be under way yet, and `…` would do without them
        let patience = Instant::now() + PATIENCE;
        while self.has_jobs && Instant::now() < patience {
            match self.lines.recv_timeout(QUIET) {
                Ok((stream, line)) => self.printed[stream as usize].push(line),
                Err(_) if self.difference(lines).is_none() => break,
                Err(_) => {}
            }
        }
        let differs = self.difference(lines);
        let printed = self.take();
        Found { status, differs, printed }
    }

    /// What jobs have printed since.
    pub(crate) fn rest(&mut self) -> Option<String> {
        while let Ok((stream, line)) = self.lines.try_recv() {
            self.printed[stream as usize].push(line);
        }
        self.difference(&[])
    }

    fn difference(&self, lines: &[String]) -> Option<String> {
        let [stdout, stderr] = &self.printed;
        shown::difference(lines, stdout, stderr)
    }

    /// Waits for the end of some commands. `None`: the shell has ended first, or the time has.
    fn end(&mut self, commands: &str) -> Option<i32> {
        // stdin is where the commands come from. `$?` is to be theirs for the next one
        let mark = "printf '\\036%s%s\\n' $ended ${jobs:+' and jobs'}";
        let script =
            format!("{{ {commands}\n}} </dev/null\nended=$?; jobs=$(jobs -rp); {mark}; {mark} >&2; (exit $ended)\n");
        self.stdin.write_all(script.as_bytes()).ok()?;
        let (patience, mut ends) = (Instant::now() + LIMIT, 0);
        loop {
            let left = patience.saturating_duration_since(Instant::now());
            let (stream, line) = self.lines.recv_timeout(left).ok()?;
            let Some((line, status)) = line.split_once(ENDED) else {
                self.printed[stream as usize].push(line);
                continue;
            };
            // a last line that the command has not ended
            if !line.is_empty() {
                self.printed[stream as usize].push(line.to_owned());
            }
            ends += 1;
            let (status, jobs) = status.split_once(' ').unwrap_or((status, ""));
            self.has_jobs = !jobs.is_empty();
            if ends == 2 {
                return status.parse().ok();
            }
        }
    }

    /// What was printed so far, as text.
    fn take(&mut self) -> String {
        let mut text = String::new();
        for (name, lines) in ["stdout", "stderr"].iter().zip(&mut self.printed) {
            for line in lines.drain(..) {
                let _ = writeln!(text, "{name}: {line}");
            }
        }
        text
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // also what a page has left in the background
        let group = self.child.id().try_into().expect("a process id");
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn forward(from: Option<impl Read + Send + 'static>, stream: Stream, to: Sender<(Stream, String)>) {
    let from = BufReader::new(from.expect("a piped stream"));
    thread::spawn(move || {
        for line in from.split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if to.send((stream, line)).is_err() {
                return;
            }
        }
    });
}

#[test]
fn state_and_status_carry_on() {
    let mut shell = Shell::start(Command::new("bash"));
    shell.prepare("cd /\nname=value");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (command, shown, status) in [
        ("pwd; echo $name >&2", "/\nvalue", 0),
        ("cat; printf unended; (exit 3)", "unended", 3),
        ("echo $?", "3", 0),
        ("{ sleep 0.2; echo later; } &", "later", 0),
        ("wait", "", 0),
    ] {
        let found = shell.run(command, &lines(shown));
        assert_eq!((found.differs, found.status), (None, status), "{command}");
    }
    assert_eq!(shell.rest(), None);
    let found = shell.run("echo more", &lines("less"));
    assert_eq!(found.differs.as_deref(), Some("not printed: less"));
}
