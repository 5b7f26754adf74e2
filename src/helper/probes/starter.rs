//! The thread that starts programs, one after the other.
//!
//! `execve(2)` opens the handler's interpreter, and where that is on a file server that does not answer (NFS, FUSE), it waits, and
//! the thread that has started the program waits with it (`vfork(2)`). Then it is given up, with the rest: musl starts one program
//! at a time in a process (`posix_spawn`), so that no other thread could go on. [`super::start`] starts each of the rest in a process
//! of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// Enough to start a program.
const STACK: usize = 128 * 1024;

/// The thread, until it has started every program, or is given up: it starts no other program once this is dropped.
pub(super) struct Starter<T> {
    results: Receiver<T>,
    /// Can be read when there is a result.
    news: File,
    /// How many results are still to come.
    left: usize,
    /// When it began, or the last result came.
    since: Instant,
    patience: Duration,
}

impl<T: Send + 'static> Starter<T> {
    /// Begins to call `start` with each of `programs`. It is to be given up when no result has come for `patience`.
    pub(super) fn begin<P: Send + 'static>(
        programs: Vec<P>,
        patience: Duration,
        start: impl Fn(P) -> T + Send + 'static,
    ) -> Result<Self> {
        let (news, tells) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (sender, results) = channel();
        let left = programs.len();
        let work = move || {
            let mut tells = File::from(tells);
            for program in programs {
                if sender.send(start(program)).is_err() {
                    return;
                }
                // one that is full can be read
                let _ = tells.write(&[0]);
            }
        };
        thread::Builder::new().stack_size(STACK).spawn(work)?;
        Ok(Self { results, news: news.into(), left, since: Instant::now(), patience })
    }

    /// What can be read when there is a result.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// How long to wait for the next result.
    pub(super) fn patience(&self) -> Duration {
        self.patience.saturating_sub(self.since.elapsed())
    }

    /// The results that have come, in the order of the programs.
    pub(super) fn take(&mut self) -> Vec<T> {
        let mut seen = [0; 64];
        while (&self.news).read(&mut seen).is_ok_and(|length| length == seen.len()) {}
        let results: Vec<T> = self.results.try_iter().collect();
        if !results.is_empty() {
            self.left -= results.len();
            self.since = Instant::now();
        }
        results
    }

    /// Whether all results have come.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }
}
