//! `--hold`: what others take out of the table is put back, by itself, before anybody's patience ends; and
//! what cannot be put back is said once.
//!
//! Programs are started all the time while the table is wiped, `BINFMT_TEST_WIPES` times, 50 by default.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{BINFMT, Host, MOUNT_POINT, arch, emulators, old_emulators, tally, wait_for};
use binfmt_magic::rule::{Flags, Rule};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIST: &str = "arm64,riscv64";
/// For what is to happen at once, or at the next look at the latest.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a probe may take.
const PROBING: Duration = Duration::from_secs(20);
/// Longer than any test: what is repaired then, a change has told of.
const NEVER: &str = "1h";

/// A call that holds, and what it says.
#[derive(Debug)]
struct Holder {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Holder {
    /// One that has begun to hold [`LIST`].
    #[track_caller]
    fn start(host: &Host, args: &[&str]) -> Self {
        Self::start_with(host, args, &emulators())
    }

    #[track_caller]
    fn start_with(host: &Host, args: &[&str], folder: &Path) -> Self {
        let args = [&["--hold", "--install", LIST], args].concat();
        let mut holder = Self::call(host, &args, folder);
        holder.says("holding: ");
        holder
    }

    fn call(host: &Host, args: &[&str], folder: &Path) -> Self {
        let mut command = host.command("env");
        // the caller of the tests may ignore it, as nohup does
        command.args(["--default-signal=HUP", BINFMT]).args(args);
        Self::spawn(command, folder)
    }

    fn spawn(mut command: Command, folder: &Path) -> Self {
        command
            .env("QEMU_BINARY_PATH", folder)
            .env_remove("QEMU_BINARY_PREFIX")
            .env_remove("QEMU_PRESERVE_ARGV0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("util-linux's nsenter");
        let stderr = BufReader::new(child.stderr.take().expect("a piped stderr"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                // the test may be over
                let _ = sender.send(line.expect("lines"));
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a PID"))
    }

    /// Waits until it says a line with these words, and returns that.
    #[track_caller]
    fn says(&mut self, words: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(reason) => panic!("no {words:?}, {reason}: {:#?}", self.said),
            }
            if let Some(line) = self.said.last().filter(|line| line.contains(words)) {
                return line.clone();
            }
        }
    }

    /// The same, if it has not done so before.
    #[track_caller]
    fn has_said(&mut self, words: &str) {
        if !self.said.iter().any(|line| line.contains(words)) {
            self.says(words);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a process that lives");
    }

    /// Waits for its end; the exit status, and the lines from its beginning to its end.
    #[track_caller]
    fn ends(&mut self) -> (i32, Vec<String>) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.said),
            }
        }
        let status = self.child.wait().expect("a child");
        (status.code().unwrap_or(-1), self.said.clone())
    }

    /// Ends it with SIGTERM, as it should.
    #[track_caller]
    fn ends_well(&mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let (status, said) = self.ends();
        assert_eq!(status, 0, "{said:#?}");
        said
    }

    /// A number that `/proc/PID/status` has.
    fn number(&self, key: &str) -> usize {
        let value = self.field(key);
        value.parse().unwrap_or_else(|_| panic!("{key} {value}"))
    }

    /// What `/proc/PID/status` has of it first.
    fn field(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("proc");
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        value.and_then(|value| value.split_whitespace().next()).unwrap_or_else(|| panic!("no {key}")).to_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_until(otherwise: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < patience, "{otherwise}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_whole(host: &Host) -> bool {
    let mut entries = host.entries();
    entries.sort();
    entries == ["qemu-aarch64", "qemu-riscv64"]
        && entries.iter().all(|name| {
            let entry = host.entry(name);
            entry.is_some_and(|entry| entry.starts_with("enabled"))
        })
}

fn write(host: &Host, text: &str, file: &str) {
    host.sh(&format!("echo {text} >{MOUNT_POINT}/{file}")).ok();
}

fn wipe(host: &Host) {
    write(host, "-1", "status");
}

/// Everything that takes handlers away, one after the other, while programs are started.
#[test]
fn whatever_is_wiped_out_is_back_before_the_interval_is_over() {
    let interval = Duration::from_secs(10);
    let wipes =
        std::env::var("BINFMT_TEST_WIPES").map_or(50, |wipes| wipes.parse().expect("BINFMT_TEST_WIPES is a number"));
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "10s"]);
    let load = Load::default();
    let starts: usize = thread::scope(|scope| {
        let loops = [0, 1].map(|platform| {
            let (host, load) = (&host, &load);
            scope.spawn(move || load.start_until_stopped(host, platform))
        });
        let wiping = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for round in 1..=wipes {
                let began = Instant::now();
                wipe_somehow(&host, round);
                load.round.store(round, Ordering::SeqCst);
                wait_until(&format!("no program starts, wipe {round}"), || load.has_run(round));
                longest = longest.max(began.elapsed());
                wait_until(&format!("not whole, wipe {round}"), || is_whole(&host));
            }
            longest
        });
        // the loops end whatever became of the wipes
        let wiped_all = wiping.join();
        load.stop.store(true, Ordering::SeqCst);
        let starts = loops.map(|starts| starts.join().expect("a loop"));
        let longest = wiped_all.expect("every wipe repaired");
        assert!(longest < interval, "a platform was missing for {longest:?}");
        eprintln!("{wipes} wipes, the longest gap {longest:?}, programs started: {starts:?}");
        starts.iter().sum()
    });
    assert!(starts >= wipes * PLATFORMS.len(), "only {starts} programs started");
    let said = holder.ends_well();
    assert!(is_whole(&host));
    let repaired = said.iter().filter(|line| line.starts_with("repairing: "));
    // a wipe may fall into the repair of the one before
    let repaired = repaired.count();
    assert!(repaired >= wipes / 2 && repaired <= wipes * 2, "{repaired} lines about {wipes} wipes: {said:#?}");
    assert!(!said.iter().any(|line| line.contains("failed")), "{said:#?}");
    tally("wipes repaired while programs start", wipes);
}

fn wipe_somehow(host: &Host, round: usize) {
    let script = match round % 6 {
        0 => "echo -1 >status",
        1 => "echo -1 >qemu-aarch64",
        // as systemd-binfmt does when it is restarted
        2 => "echo -1 >status; echo ':other:E::binfmt-test::/bin/true:' >register; echo -1 >other",
        3 => "for entry in qemu-*; do echo -1 >$entry; done",
        4 => "echo 0 >qemu-riscv64",
        _ => {
            host.binfmt(&["--uninstall", "*"]).ok();
            return;
        }
    };
    host.sh(&format!("cd {MOUNT_POINT}; {script}")).ok();
}

const PLATFORMS: [&str; 2] = ["arm64", "riscv64"];

/// Programs that are started all the time.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    /// How many wipes there were.
    round: AtomicUsize,
    /// After how many of them a program was started that ran, for each platform.
    ran: [AtomicUsize; 2],
}

impl Load {
    /// How many ran.
    fn start_until_stopped(&self, host: &Host, platform: usize) -> usize {
        let mut starts = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let round = self.round.load(Ordering::SeqCst);
            if host.runs(PLATFORMS[platform]).is_ok() {
                self.ran[platform].store(round, Ordering::SeqCst);
                starts += 1;
            }
        }
        starts
    }

    fn has_run(&self, round: usize) -> bool {
        self.ran.iter().all(|ran| ran.load(Ordering::SeqCst) >= round)
    }
}

#[test]
fn a_repair_is_said_once_and_in_one_line() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", NEVER]);
    assert_eq!(
        holder.said.last().map(String::as_str),
        Some("holding: arm64, riscv64; looking at each change and every 1h")
    );
    wipe(&host);
    wait_until("not repaired", || is_whole(&host));
    let said = holder.ends_well();
    let repairing: Vec<&String> = said.iter().filter(|line| line.starts_with("repairing: ")).collect();
    assert_eq!(repairing, ["repairing: arm64, riscv64 OK (no handler was in effect)"]);
}

#[test]
fn where_the_kernel_gives_no_watch_the_interval_does() {
    let host = Host::new();
    host.sh("echo 0 >/proc/sys/user/max_inotify_instances").ok();
    let mut holder = Holder::start(&host, &["--interval", "500ms"]);
    assert_eq!(holder.said.last().map(String::as_str), Some("holding: arm64, riscv64; looking every 500ms"));
    for _ in 0..3 {
        wipe(&host);
        holder.says("repairing: arm64, riscv64 OK");
        host.runs_arm64();
    }
    holder.ends_well();
}

/// Nothing else has it mounted, and nobody's unmounting fails on the holder's account.
#[test]
fn the_table_lives_as_long_as_it_is_held() {
    let host = Host::new();
    let at = ["--mount", MOUNT_POINT, "--interval", NEVER];
    let mut holder = Holder::start(&host, &at);
    host.sh(&format!("umount {MOUNT_POINT}")).ok();
    host.runs_arm64();
    holder.signal(Signal::SIGKILL);
    holder.ends();
    wait_until("the table is kept by something else", || host.runs("arm64").is_err());
}

#[test]
fn a_table_that_was_unmounted_is_mounted_again_with_all_that_it_had() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--mount", MOUNT_POINT, "--interval", "200ms"]);
    let before = host.table();
    host.sh(&format!("umount {MOUNT_POINT}")).ok();
    let line = holder.says("repairing: ");
    assert_eq!(line, format!("repairing: {MOUNT_POINT} OK (it was not mounted)"));
    assert_eq!(host.table(), before);
    holder.ends_well();
}

/// In a user namespace nothing is mounted unasked.
#[test]
fn a_table_that_may_not_be_mounted_again_is_repaired_all_the_same() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "200ms"]);
    // a second way to it
    let other = host.scratch().join("other");
    fs::create_dir(&other).unwrap();
    host.sh(&format!("mount --bind {MOUNT_POINT} {0}; umount {MOUNT_POINT}", other.display())).ok();
    holder.says("repairing: failed, retrying every 200ms: this is a user namespace without a binfmt_misc of its own");
    host.sh(&format!("echo -1 >{}/status", other.display())).ok();
    holder.says("repairing: arm64, riscv64 OK");
    host.runs_arm64();
    host.sh(&format!("mount --bind {} {MOUNT_POINT}", other.display())).ok();
    holder.says("repairing: OK (all is as it was)");
    holder.ends_well();
    assert!(is_whole(&host));
}

#[test]
fn an_emulator_that_is_gone_is_said_once_and_its_platform_repaired_when_it_is_back() {
    let host = Host::new();
    let files = ["qemu-aarch64", "qemu-riscv64"].map(|file| (file, emulators()));
    let folder = host.folder("emulators", &files);
    let mut holder = Holder::start_with(&host, &["--interval", "100ms"], &folder);
    let (there, away) = (folder.join("qemu-aarch64"), folder.join("away"));
    fs::rename(&there, &away).unwrap();
    // the kernel has pinned it
    host.runs_arm64();
    wipe(&host);
    let line = holder.says("repairing: arm64 failed, retrying every ");
    assert!(line.contains("does not exist") && line.contains(" every 100ms: "), "{line}");
    holder.has_said("repairing: riscv64 OK (no handler was in effect)");
    let before = holder.number("voluntary_ctxt_switches:");
    wait_until("it does not look", || holder.number("voluntary_ctxt_switches:") > before + 100);
    fs::rename(&away, &there).unwrap();
    let line = holder.says("repairing: ");
    assert_eq!(line, "repairing: arm64 OK (the obstacle is gone)");
    host.runs_arm64();

    // the newer one counts from the next repair on
    host.copy(&old_emulators().join("qemu-aarch64"), &folder.join("new"));
    fs::rename(folder.join("new"), &there).unwrap();
    host.runs_arm64();
    wipe(&host);
    holder.says("repairing: arm64, riscv64 OK");
    let status = host.binfmt(&["--status", "arm64"]).ok();
    assert!(status.stdout.contains(&crate::harness::version(&old_emulators())), "{status}");
    holder.ends_well();
}

#[test]
fn what_cannot_be_repaired_at_the_end_fails() {
    let host = Host::new();
    let files = ["qemu-aarch64", "qemu-riscv64"].map(|file| (file, emulators()));
    let folder = host.folder("emulators", &files);
    let mut holder = Holder::start_with(&host, &["--interval", NEVER], &folder);
    fs::remove_file(folder.join("qemu-aarch64")).unwrap();
    wipe(&host);
    holder.says("repairing: arm64 failed, retrying every ");
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert_eq!(status, 1, "{said:#?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("binfmt: arm64 is not installed: ") && last.contains("does not exist"), "{last}");
}

/// What keeps a last repair from being tried is told at the end, before what was told already.
#[test]
fn the_last_line_speaks_of_lines_above_only_where_they_are() {
    let host = Host::new();
    let mut command = host.command("sh");
    // nothing else holds the table of this mount namespace
    let script = format!("umount {MOUNT_POINT}; exec unshare --mount \"$@\"");
    command.args([
        "-c",
        &script,
        "sh",
        BINFMT,
        "--mount",
        MOUNT_POINT,
        "--hold",
        "--interval",
        NEVER,
        "--install",
        "arm64",
    ]);
    let mut holder = Holder::spawn(command, &emulators());
    holder.says("these handlers may end with this container or mount namespace");
    holder.says("holding: arm64");
    let hide = format!("umount {MOUNT_POINT}; mount -t tmpfs none {MOUNT_POINT}; : >{MOUNT_POINT}/file");
    let namespace = format!("--mount=/proc/{}/ns/mnt", holder.pid());
    host.program("nsenter").args([&namespace, "sh", "-c", &hide]).run().ok();
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert_eq!(status, 1, "{said:#?}");
    let last = said.last().map(String::as_str).unwrap_or_default();
    assert!(
        last.contains("holds something else than binfmt_misc") && last.ends_with(" (and 1 more, above)"),
        "{said:#?}"
    );
}

#[test]
fn a_table_that_is_switched_off_is_left_off_and_said_once() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "100ms"]);
    write(&host, "0", "status");
    let line = holder.says("repairing: failed, retrying every ");
    assert!(line.contains("switched off") && line.contains("echo 1 > "), "{line}");
    let before = holder.number("voluntary_ctxt_switches:");
    wait_until("it does not look", || holder.number("voluntary_ctxt_switches:") > before + 20);
    write(&host, "1", "status");
    assert_eq!(holder.says("repairing: "), "repairing: OK (all is as it was)");
    host.runs_arm64();
    holder.ends_well();
}

/// One platform fails, then the table is switched off and on again.
#[test]
fn nothing_is_called_well_while_anything_fails() {
    let host = Host::new();
    let files = ["qemu-aarch64", "qemu-riscv64"].map(|file| (file, emulators()));
    let folder = host.folder("emulators", &files);
    let mut holder = Holder::start_with(&host, &["--interval", "200ms"], &folder);
    fs::remove_file(folder.join("qemu-riscv64")).unwrap();
    write(&host, "-1", "qemu-riscv64");
    let fails = "repairing: riscv64 failed, retrying every 200ms: ";
    holder.says(fails);
    write(&host, "0", "status");
    holder.says("repairing: failed, retrying every 200ms: binfmt_misc is switched off");
    write(&host, "1", "status");
    holder.says(fails);
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert_eq!(status, 1, "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("all is as")), "{said:#?}");
}

/// All is in place, and could not be put back.
#[test]
fn a_table_that_cannot_be_written_is_not_held() {
    let host = Host::new();
    host.binfmt(&["--install", LIST]).ok();
    host.sh(&format!("mount -o remount,bind,ro {MOUNT_POINT}")).ok();
    host.binfmt(&["--hold", "--install", LIST])
        .ends(1)
        .never_says("holding: ")
        .ends_saying(&["read-only mount", "remount,rw"]);
}

/// For the lock, while another call has it: to repair, and to uninstall at the end.
#[test]
fn a_signal_ends_its_wait() {
    for on_exit in ["keep", "uninstall"] {
        let host = Host::new();
        let mut holder = Holder::start(&host, &["--interval", NEVER, "--on-exit", on_exit]);
        let lock = crate::harness::lock::of_call(&host.path(MOUNT_POINT).join("register"));
        if on_exit == "keep" {
            wipe(&host);
            holder.says("waiting for another call, which cannot be seen from here, to unlock ");
        }
        let began = Instant::now();
        holder.signal(Signal::SIGTERM);
        let (status, said) = holder.ends();
        assert!(began.elapsed() < PROBING, "{said:#?}");
        assert_eq!(status, 1, "{said:#?}");
        let last = said.last().map(String::as_str).unwrap_or_default();
        assert!(last.contains("told to end while another call held the lock"), "{last}");
        drop(lock);
    }
}

/// With the same and with different wishes: what works is nobody's to fight over.
#[test]
fn two_that_hold_do_not_fight() {
    let host = Host::new();
    let mut first = Holder::start(&host, &["--interval", "200ms"]);
    let same = ["--interval", "200ms"];
    let mut second = Holder::start(&host, &same);
    let other = ["--interval", "200ms", "--credentials", "no"];
    let mut third = Holder::start_with(&host, &other, &old_emulators());
    for _ in 0..5 {
        wipe(&host);
        wait_until("not repaired", || is_whole(&host));
    }
    // each has had the time to look, and to change its mind
    let table = host.table();
    let looked: Vec<usize> = [&first, &second, &third].map(|h| h.number("voluntary_ctxt_switches:")).into();
    wait_until("they do not look", || {
        let holders = [&first, &second, &third].into_iter().zip(&looked);
        holders.into_iter().all(|(holder, before)| holder.number("voluntary_ctxt_switches:") > before + 5)
    });
    assert_eq!(host.table(), table);
    host.runs_arm64();
    for holder in [&mut first, &mut second, &mut third] {
        let said = holder.ends_well();
        let lines = said.iter().filter(|line| line.starts_with("repairing: ")).count();
        assert!(lines <= 5 * 4, "they fight: {said:#?}");
    }
    assert_eq!(host.table(), table);
}

#[test]
fn a_handler_that_something_else_has_registered_and_that_works_is_left() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "200ms"]);
    host.call(&["--install", "arm64"]).emulators(&old_emulators()).env("QEMU_BINARY_REPLACE", "1").run().ok();
    let line = holder.says("repairing: ");
    assert_eq!(line, "repairing: arm64 left to qemu-aarch64, which is not of this install and runs it");
    // one that does not is not
    host.register("broken", "aarch64", Path::new("/bin/false"), "F");
    let line = holder.says("repairing: ");
    assert_eq!(line, "repairing: arm64 OK (another handler took its programs and did not run them)");
    host.runs_arm64();
    holder.ends_well();
}

#[test]
fn told_to_uninstall_it_leaves_what_is_not_its_own() {
    let host = Host::new();
    host.binfmt(&["--install", "arm"]).ok();
    host.register_other("other", b"binfmt-test");
    let before = host.table();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut holder = Holder::start(&host, &["--on-exit", "uninstall"]);
        host.runs_arm64();
        holder.signal(signal);
        let (status, said) = holder.ends();
        assert_eq!(status, 0, "{said:#?}");
        assert!(said.contains(&"uninstalling: qemu-aarch64 OK".to_owned()), "{said:#?}");
        assert_eq!(host.table(), before);
    }
}

/// Other calls must not take it for something that keeps the table for good.
#[test]
fn it_marks_the_table_with_the_time_at_which_it_began() {
    let host = Host::new();
    let marked = || crate::harness::lock::first_read_locked(&host.path(MOUNT_POINT).join("status"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    host.binfmt(&["--install", LIST]).ok();
    assert_eq!(marked(), None);
    let before: i64 = now();
    let mut holder = Holder::start(&host, &[]);
    let began = marked().expect("a mark");
    assert!((before..=now()).contains(&began), "{before} {began}");
    holder.ends_well();
    assert_eq!(marked(), None);
}

/// The owner of a handler that another tool may have registered is found by starting it, without the lock.
#[test]
fn told_to_uninstall_it_lets_other_calls_work_while_a_handler_takes_its_time() {
    let host = Host::new();
    let slow = host.scratch().join("slow");
    // it answers as an emulator that is installed without flag P
    host.compile(&slow, "sleep(3); return '/';");
    let mut holder = Holder::start(&host, &["--on-exit", "uninstall", "--interval", NEVER]);
    host.register("slow", "riscv64", &slow, "F");
    holder.says("repairing: riscv64 left to slow");
    holder.signal(Signal::SIGTERM);
    wait_for(&slow);
    host.binfmt(&["--uninstall", "jar", "--force"]).ok().never_says("to unlock");
    let (status, said) = holder.ends();
    assert_eq!(status, 0, "{said:#?}");
    assert_eq!(host.entries(), ["slow"]);
}

/// Told to end while it repairs, it ends what it has begun.
#[test]
fn a_signal_at_any_moment_of_a_repair_leaves_the_table_whole() {
    let host = Host::new();
    for delay in [0, 5, 20, 40, 80, 160] {
        let mut holder = Holder::start(&host, &["--interval", NEVER]);
        wipe(&host);
        thread::sleep(Duration::from_millis(delay));
        // as systemd does, to all that the service has started
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.pid()));
        for child in children.unwrap_or_default().split_whitespace() {
            let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGTERM);
        }
        let said = holder.ends_well();
        assert!(is_whole(&host), "after {delay} ms: {said:#?}");
        host.runs_arm64();
    }
}

/// A repair takes some tens of milliseconds, so some of these fall into one.
#[test]
fn a_table_that_is_wiped_while_it_is_repaired_ends_whole() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "500ms"]);
    for round in 0..5 {
        host.sh(&format!("for wipe in $(seq 40); do echo -1 >{MOUNT_POINT}/status; sleep 0.01; done")).ok();
        wait_until(&format!("not repaired, round {round}"), || is_whole(&host));
        host.runs_arm64();
    }
    // what a wipe took from the last repair
    wait_until("not repaired", || is_whole(&host));
    holder.ends_well();
    assert!(is_whole(&host), "{}", host.table());
}

/// As after a suspended machine wakes up.
#[test]
fn what_happened_while_it_was_stopped_is_repaired_once_it_goes_on() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", "1h"]);
    holder.signal(Signal::SIGSTOP);
    wipe(&host);
    holder.signal(Signal::SIGCONT);
    holder.says("repairing: arm64, riscv64 OK");
    host.runs_arm64();
    holder.ends_well();
}

#[test]
fn while_all_is_well_it_sleeps_and_starts_nothing() {
    let host = Host::new();
    let mut holder = Holder::start(&host, &["--interval", NEVER]);
    // until it has looked at its own changes
    let woken = || holder.number("voluntary_ctxt_switches:");
    let settled = || {
        let before = woken();
        thread::sleep(Duration::from_millis(300));
        woken() == before && holder.field("State:").starts_with('S')
    };
    wait_until("it never sleeps", settled);
    let before = woken();
    for _ in 0..20 {
        host.runs_arm64();
        host.binfmt(&["--status"]).ok();
    }
    assert_eq!(woken(), before);
    holder.ends_well();
}

#[test]
fn it_needs_little_memory() {
    let host = Host::new();
    let mut holder = Holder::start_with(&host, &["--interval", NEVER], &emulators());
    for _ in 0..20 {
        wipe(&host);
        holder.says("repairing: arm64, riscv64 OK");
    }
    assert!(holder.number("RssAnon:") < 1024, "{} kB of its own", holder.number("RssAnon:"));
    // the call itself, and what ends it by force when a file system does not answer
    assert_eq!(holder.number("Threads:"), 2);
    // of the image's binary; Cargo's brings a C library along, and what debuggers want
    if option_env!("BINFMT_TEST_BINARY").is_some() {
        assert!(holder.number("VmRSS:") < 2048, "{} kB", holder.number("VmRSS:"));
    }
    holder.ends_well();
}

#[test]
fn it_goes_on_when_nobody_listens() {
    let host = Host::new();
    let script = format!("exec {BINFMT} --hold --install {LIST} --interval 200ms >&- 2>&-");
    let mut command = host.command("sh");
    command.args(["-c", &script]);
    let mut holder = Holder::spawn(command, &emulators());
    let files = || fs::read_dir(format!("/proc/{}/fd", holder.pid())).expect("proc");
    let watches = || {
        let mut files = files().flatten().flat_map(|file| fs::read_link(file.path()));
        files.any(|link| link.as_os_str() == "anon_inode:inotify")
    };
    wait_until("not held", watches);
    for _ in 0..2 {
        wipe(&host);
        wait_until("not repaired", || is_whole(&host));
    }
    assert_eq!(holder.ends_well(), [""; 0]);
    assert!(is_whole(&host));
}

#[test]
fn what_cannot_be_installed_at_first_is_tried_again_beside_what_can() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-riscv64", emulators())]);
    let mut holder = Holder::call(&host, &["--hold", "--install", LIST, "--interval", "100ms"], &folder);
    holder.says("installing: arm64 ");
    let line = holder.says("holding: ");
    assert_eq!(line, "holding: riscv64; retrying: arm64; looking at each change and every 100ms");
    host.copy(&emulators().join("qemu-aarch64"), &folder.join("new"));
    fs::rename(folder.join("new"), folder.join("qemu-aarch64")).unwrap();
    holder.says("repairing: arm64 OK (the obstacle is gone)");
    host.runs_arm64();
    holder.ends_well();
}

/// It is waited for, up to its limit, before it is given up. The others, and who ends it, do not wait for it again.
#[test]
fn an_emulator_that_hangs_does_not_hold_up_the_others() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-riscv64", emulators())]);
    host.compile(&folder.join("qemu-aarch64"), "pause();");
    let mut holder = Holder::start_with(&host, &["--interval", NEVER], &folder);
    // each time that it was waited for would take 20 seconds
    let began = Instant::now();
    for _ in 0..2 {
        wipe(&host);
        holder.says("repairing: riscv64 OK");
        assert!(host.runs("riscv64").is_ok(), "{:#?}", holder.said);
    }
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert_eq!(status, 1, "{said:#?}");
    let last = said.last().map(String::as_str).unwrap_or_default();
    assert!(last.starts_with("binfmt: arm64 is not installed: "), "{said:#?}");
    assert!(began.elapsed() < Duration::from_secs(35), "it was tried again");
}

/// An emulator that starts, and hangs with programs, is waited for at each try. What is wiped out meanwhile is repaired as soon as
/// that is over, not at the next try.
#[test]
fn what_is_lost_while_another_one_hangs_is_repaired() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    host.compile_emulator(&folder.join("qemu-riscv64"), "pause();");
    let mut holder = Holder::start_with(&host, &["--interval", "1s"], &folder);
    assert_eq!(
        holder.said.last().map(String::as_str),
        Some("holding: arm64; retrying: riscv64; looking at each change and every 1s")
    );
    let patience = Instant::now() + PATIENCE;
    while host.entry("qemu-riscv64").is_none() {
        assert!(Instant::now() < patience, "it is not tried again");
        thread::sleep(Duration::from_millis(20));
    }
    host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-aarch64").ok();
    holder.says("repairing: arm64 OK (no handler was in effect)");
    host.runs_arm64();
    // by then it waits again
    holder.says("waiting for the emulators of riscv64, for 20 s at most");
    let began = Instant::now();
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert!(began.elapsed() < PROBING, "{said:#?}");
    assert_eq!(status, 1, "{said:#?}");
    assert_eq!(host.entries(), ["qemu-aarch64"]);
}

/// A handler that was registered anew reads as before, but may have another emulator.
#[test]
fn what_was_registered_again_is_looked_at_again() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    host.copy(&emulators().join("qemu-riscv64"), &folder.join("qemu-riscv64"));
    host.compile_emulator(&host.scratch().join("broken"), "return 3;");
    let mut holder = Holder::start_with(&host, &["--interval", NEVER], &folder);
    let before = host.entry("qemu-aarch64");
    let path = folder.join("qemu-aarch64");
    let rule =
        Rule { name: "qemu-aarch64".into(), ..Rule::for_arch(arch("aarch64"), "", &folder, Flags::parse("POCF").0) };
    // the lock keeps it from repairing in between
    let lock = crate::harness::lock::of_call(&host.path(MOUNT_POINT).join("register"));
    let again = format!(
        "cd /proc/sys/fs/binfmt_misc
         mv {0} {0}.whole; cp {1}/broken {0}; echo -1 >qemu-aarch64; cat >register; mv {0}.whole {0}; cat qemu-aarch64",
        path.display(),
        host.scratch().display()
    );
    let after = host.sh_with(&again, &rule.encode().expect("a rule")).ok();
    drop(lock);
    assert_eq!(Some(after.stdout), before);
    holder.says("repairing: arm64 OK (another handler took its programs and did not run them)");
    host.runs_arm64();
    holder.ends_well();
}

/// A try that fails as a whole, with the table whole, is told once, however often it is made; and so is its end.
#[test]
fn what_keeps_everything_from_being_tried_is_told_once() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    let mut holder = Holder::start_with(&host, &["--interval", "200ms"], &folder);
    let pid = holder.pid().to_string();
    let limit_files = |soft: usize| {
        let limit = format!("--nofile={soft}:");
        let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.is_ok_and(|status| status.success()), "util-linux's prlimit");
    };
    // between two tries: in a try it has more of them open
    let open = (0..100).map(|_| {
        thread::sleep(Duration::from_millis(10));
        fs::read_dir(format!("/proc/{pid}/fd")).expect("a process that lives").count()
    });
    let open = open.min().expect("a number");
    // enough to read the table, and too few to start a probe
    limit_files(open + 3);
    holder.says("repairing: failed, retrying every ");
    thread::sleep(Duration::from_secs(1));
    limit_files(1024);
    // the same failure as before, after nothing could be tried
    holder.says("repairing: riscv64 failed, retrying every ");
    holder.signal(Signal::SIGTERM);
    let said = holder.ends().1;
    assert!(!said.iter().any(|line| line.contains("all is as it was")));
    for words in ["repairing: failed, ", "repairing: riscv64 failed, "] {
        let times = said.iter().filter(|line| line.contains(words)).count();
        assert_eq!(times, 1, "{words}: {said:#?}");
    }
}

/// What could not be done before it held is not in place at its end either.
#[test]
fn what_was_refused_before_counts_at_the_end() {
    let host = Host::new();
    host.register_other("jar", b"PK\x03\x04");
    let args = ["--uninstall", "jar", "--hold", "--install", "arm64"];
    let mut holder = Holder::call(&host, &args, &emulators());
    holder.says("holding: arm64");
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    assert_eq!(status, 1, "{said:#?}");
    let last = said.last().map(String::as_str).unwrap_or_default();
    assert!(last.contains("cannot uninstall jar"), "{said:#?}");
}

/// Handlers of somebody else are waited for when holding begins, for as long as any probe may take, and then no more; one for
/// what the kernel runs by itself, too.
#[test]
fn a_handler_of_somebody_else_that_hangs_does_not_hold_up_repairs() {
    let host = Host::new();
    let hangs = host.scratch().join("hangs");
    host.compile(&hangs, "pause();");
    host.register("other", "s390x", &hangs, "F");
    host.register("another", "i386", &hangs, "F");
    let mut holder = Holder::start(&host, &["--interval", NEVER]);
    for _ in 0..2 {
        let begin = Instant::now();
        host.sh("echo -1 >/proc/sys/fs/binfmt_misc/qemu-riscv64").ok();
        holder.says("repairing: riscv64 OK");
        assert!(begin.elapsed() < PROBING, "{:#?}", holder.said);
    }
    holder.ends_well();
    assert!(host.table().contains("other"), "{}", host.table());
}

#[test]
fn what_cannot_be_held_at_all_ends_at_once() {
    let host = Host::new();
    let empty: PathBuf = host.folder("empty", &[]);
    let call = |args: &[&str]| host.call(args).emulators(&empty).run();
    call(&["--hold", "--install", LIST]).ends(1).ends_saying(&["riscv64", "does not exist"]);
    call(&["--hold", "--install", "all"]).ends(1).ends_saying(&["no emulators in"]);
    for args in [
        &["--hold"][..],
        &["--hold", "--install", "arm64,arm65"],
        &["--hold", "--install", "arm64", "--interval", "0s"],
        &["--hold", "--install", "arm64", "--interval", "soon"],
        &["--hold", "--install", "arm64", "--on-exit", "maybe"],
        &["--hold", "--install", "arm64", "--status"],
        &["--interval", "5s", "--install", "arm64"],
    ] {
        host.binfmt(args).ends(2);
    }
    assert_eq!(host.table(), "");
}

/// What the kernel runs by itself needs no holding, and is no reason to end: a fleet has machines of both kinds.
#[test]
fn a_host_that_needs_nothing_is_held_too() {
    let host = Host::new();
    let native = binfmt_magic::arch::Arch::of_host().expect("a host that QEMU knows").oci;
    let mut holder = Holder::call(&host, &["--hold", "--install", native], &emulators());
    assert_eq!(holder.says("holding: "), "holding: nothing; looking at each change and every 30s");
    holder.ends_well();
}

/// The last look starts no wait of its own.
#[test]
fn told_to_end_while_a_probe_hangs_it_says_so() {
    let host = Host::new();
    let hanging = host.scratch().join("hanging");
    host.compile(&hanging, "pause();");
    let mut holder = Holder::start(&host, &["--interval", "1s"]);
    host.register("newer", "aarch64", &hanging, "F");
    thread::sleep(Duration::from_secs(2));
    holder.signal(Signal::SIGTERM);
    let (status, said) = holder.ends();
    let last = said.last().map(String::as_str).unwrap_or_default();
    assert!(status == 1 && last.contains("told to end"), "{said:#?}");
}
