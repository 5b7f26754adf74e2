//! Calls at the same time, calls that are killed, and what changes between a call's look and its deed.
//!
//! Two kinds of test. Some let calls and programs loose on one another and look at the end. The others hold a call at
//! one exact system call ([`Traced`]) while something else happens, or kill it there, at each in turn; so no
//! interleaving is left to luck.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, old_emulators, program};
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Two platforms, as the tool calls them and, as it happens, Debian.
const LIST: &str = "arm64,riscv64";
const PLATFORMS: [&str; 2] = ["arm64", "riscv64"];

#[test]
fn installs_and_uninstalls_at_once_leave_every_platform_working() {
    let host = Host::new();
    host.binfmt(&["--install", LIST]).ok();
    let calls: [(&[&str], PathBuf); 8] = [
        (&["--install", "arm64"], emulators()),
        (&["--install", LIST], old_emulators()),
        (&["--install", "arm"], emulators()),
        (&["--install", "arm,s390x"], old_emulators()),
        (&["--uninstall", "ppc64le"], emulators()),
        (&["--install", "ppc64le"], emulators()),
        (&["--uninstall", "ppc64le,mips64le"], emulators()),
        (&["--install", "riscv64", "--credentials", "no"], emulators()),
    ];
    for round in 0..3 {
        for output in all_at_once(&host, &calls) {
            output.ok();
        }
        for debian in ["arm64", "riscv64", "armhf", "s390x"] {
            assert!(host.runs(debian).is_ok(), "{debian}, round {round}");
        }
        let ppc64le = host.entry("qemu-ppc64le").is_some();
        assert_eq!(host.runs("ppc64el").is_ok(), ppc64le, "round {round}");
        no_leftovers(&host);
        host.binfmt(&["--uninstall", "arm,s390x,ppc64le"]).ok();
    }
}

#[test]
fn first_installs_at_once_share_one_mount() {
    let (host, mount) = unmounted();
    let of = |list| (["--mount", &mount, "--install", list], emulators());
    let calls = ["arm64", "arm", "riscv64", LIST, "s390x", "arm64"].map(of);
    let calls = calls.each_ref().map(|(args, folder)| (&args[..], folder.clone()));
    for output in all_at_once(&host, &calls) {
        output.never_says("not installed");
    }
    for debian in ["arm64", "riscv64", "armhf", "s390x"] {
        assert!(host.runs(debian).is_ok(), "{debian}");
    }
    assert_eq!(mounts(&host, &mount), 1);
}

#[test]
fn programs_and_status_never_miss_a_handler_that_is_being_replaced() {
    let host = Host::new();
    host.binfmt(&["--install", LIST]).ok();
    let stop = host.scratch().join("stop");
    let until_stopped = |command: String| {
        let script =
            format!("runs=0; while [ ! -e {} ]; do {command}; runs=$((runs + 1)); done; echo $runs", stop.display());
        host.sh(&script)
    };
    let mut commands: Vec<String> = PLATFORMS.map(|debian| format!("{} true", program(debian).display())).into();
    commands.push(format!("{BINFMT} --status {LIST} >/dev/null"));
    let loops = thread::scope(|scope| {
        let start = |command| scope.spawn(|| until_stopped(command));
        let loops: Vec<_> = commands.into_iter().map(start).collect();
        for _ in 0..12 {
            for folder in [old_emulators(), emulators()] {
                let install = host.call(&["--install", LIST]).emulators(&folder);
                let install = install.env("QEMU_BINARY_REPLACE", "1").run();
                if install.status != 0 {
                    File::create(&stop).unwrap();
                }
                install.ok().says("graded qemu-aarch64");
            }
        }
        File::create(&stop).unwrap();
        loops.into_iter().map(|l| l.join().unwrap()).collect::<Vec<_>>()
    });
    for output in loops {
        let runs: u32 = output.clone().ok().stdout.trim().parse().unwrap();
        assert!(runs > 20, "only {runs} runs meanwhile: {output}");
    }
}

#[test]
fn a_call_waits_for_the_one_that_holds_the_lock() {
    let host = Host::new();
    let lock = crate::harness::lock::of_call(&host.path(MOUNT_POINT).join("register"));
    thread::scope(|scope| {
        let install = scope.spawn(|| host.binfmt(&["--install", "arm64"]));
        let uninstall = scope.spawn(|| host.binfmt(&["--uninstall", "riscv64"]));
        host.binfmt(&["--status"]).ok();
        thread::sleep(Duration::from_millis(300));
        assert!(!install.is_finished() && !uninstall.is_finished());
        assert_eq!(host.table(), "", "nothing is changed while waiting");
        drop(lock);
        install.join().unwrap().ok();
        uninstall.join().unwrap().ok();
    });
    assert!(host.runs("arm64").is_ok());
}

#[test]
fn a_call_that_waits_says_for_whom() {
    let host = Host::new();
    let mut first = Traced::start(&host, &["--install", "arm64"], &emulators());
    first.until(Stop::is_change);
    let (pid, began) = (first.pid, Instant::now());
    thread::scope(|scope| {
        let second = scope.spawn(|| host.binfmt(&["--install", "riscv64"]));
        thread::sleep(Duration::from_millis(1500));
        first.output().ok();
        let second = second.join().unwrap().ok();
        let line = format!("waiting for process {pid} (binfmt) to unlock {MOUNT_POINT}/register\n");
        assert_eq!(second.stderr.matches(&line).count(), 1, "{second}");
        assert!(began.elapsed() < Duration::from_secs(20));
    });
    assert!(host.runs("riscv64").is_ok());
}

/// A file that can be opened can be locked, on a read-only mount too.
#[test]
fn nobody_who_may_only_read_the_table_keeps_a_call_waiting() {
    let host = Host::new();
    let register = host.path(MOUNT_POINT).join("register");
    let script =
        format!("exec 3<{MOUNT_POINT}; exec 4<{MOUNT_POINT}/status; flock 3; flock 4; flock 5; echo held; exec cat");
    let _flocks = Holder::start(&host, &format!("exec 5<>{MOUNT_POINT}/register; {script}"));
    let began = Instant::now();
    host.binfmt(&["--install", "arm64"]).ok().never_says("lock");
    let lock = crate::harness::lock::of_reader(&register);
    let install = host.binfmt(&["--install", "riscv64"]).ok();
    install.says(&format!("going on without the lock on {MOUNT_POINT}/register: "));
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(lock);
    host.binfmt(&["--uninstall", "all"]).ok().never_says("lock");
}

/// The first process of a container, which no signal ends that it has no handler for.
#[test]
fn a_signal_ends_a_call_that_waits() {
    let host = Host::new();
    let _lock = crate::harness::lock::of_call(&host.path(MOUNT_POINT).join("register"));
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut command = host.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", BINFMT, "--install", "arm64"]);
        command.env("QEMU_BINARY_PATH", emulators()).stderr(Stdio::piped());
        let mut unshare = command.stdout(Stdio::null()).spawn().expect("util-linux");
        let stderr = BufReader::new(unshare.stderr.take().expect("a pipe"));
        let line = stderr.lines().next().expect("a line").expect("a text");
        assert!(line.starts_with("waiting for "), "{line}");
        let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", unshare.id())).expect("proc");
        kill(Pid::from_raw(child.trim().parse().expect("one")), signal).expect("a process");
        let ended = unshare.wait().expect("a child");
        assert_eq!(ended.code(), Some(status), "{signal}");
    }
    assert_eq!(host.table(), "");
}

#[test]
fn an_upgrade_killed_at_any_point_leaves_every_platform_working() {
    let host = Host::new();
    let install = |folder: &Path| host.call(&["--install", LIST]).emulators(folder);
    let before = || {
        install(&old_emulators()).env("QEMU_BINARY_REPLACE", "1").run().ok();
    };
    let after = |point: &str| {
        for platform in PLATFORMS {
            let runs = host.runs(platform);
            assert!(runs.is_ok(), "{platform}, killed {point}: {runs:?}");
        }
        let next = install(&emulators()).run();
        assert_eq!(next.status, 0, "the call after one killed {point}: {next}");
        assert_table(&host, point);
    };
    let points = kill_at_every_point(&host, &["--install", LIST], before, after);
    assert!(points > 15, "only {points} points");
}

#[test]
fn a_first_install_killed_at_any_point_is_completed_by_the_next() {
    let host = Host::new();
    let before = || {
        host.binfmt(&["--uninstall", "all"]).ok();
        assert_eq!(host.table(), "");
    };
    let after = |point: &str| {
        let next = host.binfmt(&["--install", LIST]);
        assert_eq!(next.status, 0, "the call after one killed {point}: {next}");
        assert_table(&host, point);
        for platform in PLATFORMS {
            let runs = host.runs(platform);
            assert!(runs.is_ok(), "{platform}, killed {point}: {runs:?}");
        }
    };
    let points = kill_at_every_point(&host, &["--install", LIST], before, after);
    assert!(points > 5, "only {points} points");
}

#[test]
fn a_killed_install_is_cleared_away_by_an_uninstall_too() {
    let host = Host::new();
    let before = || {
        host.call(&["--install", LIST]).emulators(&old_emulators()).run().ok();
    };
    let after = |point: &str| {
        host.binfmt(&["--uninstall", "arm64"]).ok();
        let riscv64 = host.runs("riscv64");
        assert!(riscv64.is_ok(), "killed {point}: {riscv64:?}");
        assert!(host.runs("arm64").is_err(), "killed {point}");
        host.binfmt(&["--uninstall", LIST]).ok();
        assert_eq!(host.table(), "", "killed {point}");
    };
    kill_at_every_point(&host, &["--install", LIST], before, after);
}

#[test]
fn an_uninstall_killed_at_any_point_is_completed_by_the_next() {
    let host = Host::new();
    let before = || {
        host.binfmt(&["--install", LIST]).ok();
    };
    let after = |point: &str| {
        let next = host.binfmt(&["--uninstall", "qemu-*"]);
        assert_eq!(next.status, 0, "the call after one killed {point}: {next}");
        assert_eq!(host.table(), "", "killed {point}");
    };
    let points = kill_at_every_point(&host, &["--uninstall", "all"], before, after);
    assert!(points >= 4, "only {points} points");
}

#[test]
fn a_killed_install_takes_an_emulator_that_hangs_with_it() {
    let host = Host::new();
    let folder = host.folder("hanging", &[]);
    host.compile_emulator(&folder.join("qemu-aarch64"), "for (;;) pause();");
    let mut install = Traced::start(&host, &["--install", "arm64"], &folder);
    install.until(Stop::is_change);
    install.until(|stop| stop.waits);
    let patience = Instant::now() + Duration::from_secs(5);
    let emulator = folder.join("qemu-aarch64");
    while !processes(&host).iter().any(|(_, program)| *program == emulator) {
        assert!(Instant::now() < patience, "no emulator starts");
    }
    install.kill();
    no_survivors(&host, "while an emulator hangs");
    host.binfmt(&["--uninstall", "all"]).ok();
    assert_eq!(host.table(), "");
}

/// The kernel lists the table at one moment and hands out its entries at others.
#[test]
fn a_status_that_reads_a_changing_table_misses_no_handler() {
    let host = Host::new();
    // as in the middle of an upgrade, when the old entry has gone and the new one does not have its name yet
    host.register("qemu-aarch64.next", "aarch64", &emulators().join("qemu-aarch64"), "POCF");
    for args in [&["--status", "arm64"][..], &[]] {
        let mut status = Traced::start(&host, args, &emulators());
        status.until(|stop| stop.after && stop.call == libc::SYS_getdents64);
        host.binfmt(&["--install", "arm64"]).ok().says("replaced qemu-aarch64.next");
        let status = status.output().ok();
        assert!(status.stdout.contains("linux/arm64"), "{args:?}: {status}");
        host.register("qemu-aarch64.next", "aarch64", &emulators().join("qemu-aarch64"), "POCF");
        host.sh(&format!("echo -1 >{MOUNT_POINT}/qemu-aarch64")).ok();
    }
}

/// Held after each call of the kind that looks at a mount point, in turn, and before it mounts.
#[test]
fn a_mount_that_comes_up_in_between_is_joined() {
    const LOOKS: [c_long; 3] = [libc::SYS_openat, libc::SYS_statfs, libc::SYS_fstatfs];
    for point in 1.. {
        let (host, mount) = unmounted();
        let args = ["--mount", mount.as_str(), "--install", "arm64"];
        let mut slow = Traced::start(&host, &args, &emulators());
        let mut left = point;
        slow.until(|stop| {
            let looked = stop.after && LOOKS.contains(&stop.call);
            left -= usize::from(looked);
            left == 0 || stop.is_before(libc::SYS_mount)
        });
        host.binfmt(&["--mount", &mount, "--install", "riscv64"]).says("riscv64 OK (");
        slow.output().says("arm64 OK (");
        for platform in PLATFORMS {
            assert!(host.runs(platform).is_ok(), "{platform}, point {point}");
        }
        assert_eq!(mounts(&host, &mount), 1);
        if left > 0 {
            return;
        }
    }
}

#[test]
fn a_mount_that_goes_away_in_between_is_made_again() {
    let (host, mount) = unmounted();
    let uninstall = ["--mount", mount.as_str(), "--uninstall", "all"];
    let install = ["--mount", mount.as_str(), "--install", "arm64"];
    let first = ["--mount", mount.as_str(), "--install", "riscv64"];
    for call in [libc::SYS_mount, libc::SYS_fcntl] {
        if call == libc::SYS_fcntl {
            host.binfmt(&first).says("riscv64 OK (");
        }
        let mut slow = Traced::start(&host, &install, &emulators());
        slow.until(|stop| stop.is_before(call));
        if call == libc::SYS_mount {
            host.binfmt(&first).says("riscv64 OK (");
        }
        host.binfmt(&uninstall).says("qemu-riscv64 OK");
        slow.output().says("arm64 OK (");
        assert_eq!(mounts(&host, &mount), 1);
        let runs = host.runs("arm64");
        assert!(runs.is_ok(), "{runs:?}, held at system call {call}");
        host.binfmt(&uninstall).ok();
        assert_eq!(mounts(&host, &mount), 0);
    }
}

/// The kernel has the last word on an interpreter, and on a name.
#[test]
fn a_refusal_of_the_kernel_is_named_with_its_remedy() {
    type Change = fn(&Host, &Path);
    let changes: [(Change, &str); 4] = [
        (|_, emulator| fs::remove_file(emulator).expect("an emulator"), "does not exist (ENOENT)"),
        (
            |_, emulator| {
                let mode = Permissions::from_mode(0o644);
                fs::set_permissions(emulator, mode).expect("an emulator");
            },
            "may not be executed (EACCES)",
        ),
        (
            |_, emulator| {
                fs::remove_file(emulator).expect("an emulator");
                symlink(emulator, emulator).expect("a link");
            },
            "circle of symbolic links (ELOOP)",
        ),
        (|host, _| host.register_other("qemu-aarch64", b"nobody's magic"), "an entry of this name is there already"),
    ];
    for (change, words) in changes {
        let host = Host::new();
        let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
        let mut install = Traced::start(&host, &["--install", "arm64"], &folder);
        install.until(Stop::is_change);
        change(&host, &folder.join("qemu-aarch64"));
        let before = host.table();
        let remedy = "; ";
        install.output().ends(1).ends_saying(&["arm64 is not installed", "qemu-aarch64", words, remedy]);
        assert_eq!(host.table(), before, "{words}");
    }
}

#[test]
fn an_emulator_that_is_being_written_is_refused_with_its_remedy() {
    let host = Host::new();
    let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
    let mut install = Traced::start(&host, &["--install", "arm64"], &folder);
    install.until(Stop::is_change);
    let script = format!("exec 3>>{}/qemu-aarch64; echo open; exec cat", folder.display());
    let writer = Holder::start(&host, &script);
    install.output().ends(1).ends_saying(&["is being written (ETXTBSY)", "try again"]);
    drop(writer);
    assert_eq!(host.table(), "");
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
}

/// Starts all calls at the same moment.
fn all_at_once(host: &Host, calls: &[(&[&str], PathBuf)]) -> Vec<Output> {
    let start = Barrier::new(calls.len());
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (args, folder) in calls {
            running.push(scope.spawn(|| {
                start.wait();
                // so that the older emulators take the newer ones' place, too
                host.call(args).env("QEMU_BINARY_REPLACE", "1").emulators(folder).run()
            }));
        }
        let ended = |call: ScopedJoinHandle<Output>| call.join().expect("a call that runs");
        running.into_iter().map(ended).collect()
    })
}

/// A user namespace that has no table yet, and a folder to mount one at. Calls come from outside of it, and so say that
/// what they mount there may not last.
fn unmounted() -> (Host, String) {
    let host = Host::with(&["--user", "--map-root-user", "--mount"], "");
    let mount = host.scratch().join("table");
    fs::create_dir(&mount).expect("a folder");
    let mount = mount.to_str().expect("a path that is text").to_owned();
    (host, mount)
}

fn mounts(host: &Host, mount: &str) -> usize {
    let mounts = host.sh("cat /proc/self/mountinfo").ok().stdout;
    let here = format!(" {mount} ");
    mounts.lines().filter(|line| line.contains(&here)).count()
}

#[track_caller]
fn no_leftovers(host: &Host) {
    let left = host.entries();
    let left = left.iter().filter(|name| !name.starts_with("qemu-") || name.contains(".next"));
    assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
}

/// Exactly what an install of [`LIST`] makes.
#[track_caller]
fn assert_table(host: &Host, point: &str) {
    let mut entries = host.entries();
    entries.sort();
    assert_eq!(entries, ["qemu-aarch64", "qemu-riscv64"], "killed {point}");
    for name in entries {
        let entry = host.entry(&name).expect("an entry");
        let interpreter = emulators().join(&name);
        let interpreter = format!("interpreter {}\n", interpreter.display());
        assert!(entry.contains(&interpreter), "killed {point}: {entry}");
    }
}

/// Runs the call again and again, and kills it at the first, the second, … point that matters: before each change of
/// the table and at the very end, which are all states that the table is ever in, and while it waits for processes that
/// it started. Returns how many points there are.
fn kill_at_every_point(host: &Host, args: &[&str], before: impl Fn(), after: impl Fn(&str)) -> usize {
    for point in 0.. {
        before();
        let mut call = Traced::start(host, args, &emulators());
        let mut left = point + 1;
        let stopped = call.next_where(|stop| {
            let matters = stop.is_change() || stop.is_before(libc::SYS_exit_group);
            left -= usize::from(matters || stop.waits);
            left == 0
        });
        let Some(stopped) = stopped else { return point };
        // what it waits for gets some way
        thread::sleep(Duration::from_millis(point as u64 % 4 * 2));
        call.kill();
        let point = format!("at point {point}, {stopped:?}");
        no_survivors(host, &point);
        after(&point);
    }
    unreachable!()
}

/// Nothing that a killed call started lives on.
#[track_caller]
fn no_survivors(host: &Host, point: &str) {
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        let alive = processes(host);
        if alive.is_empty() {
            return;
        }
        if Instant::now() > patience {
            for (pid, _) in &alive {
                let _ = kill(*pid, Signal::SIGKILL);
            }
            panic!("killed {point}, alive: {alive:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes of a host and their programs, but for the one that keeps it. The dead that nobody has waited for have
/// no program any more.
fn processes(host: &Host) -> Vec<(Pid, PathBuf)> {
    let namespace = host.sh("readlink /proc/self/ns/user").ok().stdout;
    let all = fs::read_dir("/proc").expect("proc").flatten();
    let inside = all.filter(|process| {
        let link = fs::read_link(process.path().join("ns/user"));
        link.is_ok_and(|link| link.as_os_str() == namespace.trim_end())
    });
    let programs = inside.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let program = fs::read_link(process.path().join("exe")).ok()?;
        Some((Pid::from_raw(pid), program))
    });
    programs.filter(|(_, program)| !program.ends_with("cat")).collect()
}

/// A call of the tool under ptrace: its first thread stops before and after every system call. Threads and processes
/// that it starts run freely.
struct Traced<'a> {
    host: &'a Host,
    child: Child,
    pid: Pid,
    /// Where it entered the system call that it is in.
    inside: Option<Stop>,
    /// Its exit status, or 128 and the signal that ended it.
    outcome: Option<i32>,
}

/// Before or after a system call.
#[derive(Debug, Clone, Copy)]
struct Stop {
    call: c_long,
    after: bool,
    /// Whether it writes to a file of the table.
    changes_table: bool,
    /// Before what may take as long as another process takes.
    waits: bool,
}

impl Stop {
    fn is_before(self, call: c_long) -> bool {
        !self.after && self.call == call
    }

    /// Before a change of the table: in an install that has nothing to clear away, the first is a registration.
    fn is_change(self) -> bool {
        self.changes_table && !self.after
    }
}

impl<'a> Traced<'a> {
    /// Starts it and stops it at its very beginning.
    fn start(host: &'a Host, args: &[&str], emulators: &Path) -> Self {
        let script = "exec >$0/stdout 2>$0/stderr; echo >$0/ready; read -r go; exec \"$@\"";
        let child = host
            .command("sh")
            .args(["-c", script])
            .arg(host.scratch())
            .arg(BINFMT)
            .args(args)
            .env("QEMU_BINARY_PATH", emulators)
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter");
        let ready = host.scratch().join("ready");
        while fs::remove_file(&ready).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).expect("ptrace of a process of ours");
        ptrace::interrupt(pid).expect("ptrace");
        let mut traced = Self { host, pid, inside: None, outcome: None, child };
        traced.wait();
        traced.child.stdin.take().expect("a pipe").write_all(b"go\n").expect("a shell that waits");
        traced.until(|stop| stop.after && stop.call == libc::SYS_execve);
        traced
    }

    fn wait(&mut self) -> WaitStatus {
        let status = waitpid(self.pid, None).expect("a process that is traced");
        self.outcome = match status {
            WaitStatus::Exited(_, status) => Some(status),
            WaitStatus::Signaled(_, by, _) => Some(128 + by as i32),
            _ => None,
        };
        status
    }

    /// Goes on to the next stop. `None`: it has ended.
    fn next(&mut self) -> Option<Stop> {
        let mut signal = None;
        while self.outcome.is_none() {
            ptrace::syscall(self.pid, signal.take()).expect("ptrace");
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => return Some(self.stop()),
                WaitStatus::Stopped(_, delivered) => signal = Some(delivered),
                _ => {}
            }
        }
        None
    }

    /// What it has stopped at. The argument is looked at before: on some machines the result takes its place.
    fn stop(&mut self) -> Stop {
        if let Some(entered) = self.inside.take() {
            return Stop { after: true, waits: false, ..entered };
        }
        let process = Path::new("/proc").join(self.pid.to_string());
        let text = fs::read_to_string(process.join("syscall")).expect("its system call");
        let mut words = text.split(' ');
        let call = words.next().and_then(|word| word.parse().ok());
        let file = words.next().and_then(|word| word.strip_prefix("0x"));
        let file = file.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let device = |path: &Path| fs::metadata(path).ok().map(|m| m.dev());
        let of_table = |file: u32| {
            let opened = device(&process.join("fd").join(file.to_string()));
            opened.is_some() && opened == device(&self.host.path(MOUNT_POINT))
        };
        let is_pipe = |file: u32| {
            let opened = fs::read_link(process.join("fd").join(file.to_string()));
            opened.is_ok_and(|opened| opened.to_string_lossy().starts_with("pipe:"))
        };
        let stop = Stop {
            call: call.unwrap_or(-1),
            after: false,
            changes_table: call == Some(libc::SYS_write) && file.is_some_and(of_table),
            waits: call == Some(libc::SYS_wait4)
                || call == Some(libc::SYS_poll)
                || call == Some(libc::SYS_ppoll)
                || call == Some(libc::SYS_read) && file.is_some_and(is_pipe),
        };
        self.inside = Some(stop);
        stop
    }

    fn next_where(&mut self, mut wanted: impl FnMut(Stop) -> bool) -> Option<Stop> {
        loop {
            let stop = self.next()?;
            if wanted(stop) {
                return Some(stop);
            }
        }
    }

    /// Goes on to the first stop that is wanted, and stays there.
    #[track_caller]
    fn until(&mut self, wanted: impl FnMut(Stop) -> bool) {
        let reached = self.next_where(wanted);
        assert!(reached.is_some(), "it ended before: {}", self.replayed());
    }

    fn kill(&mut self) {
        kill(self.pid, Signal::SIGKILL).expect("a process that lives");
        while self.outcome.is_none() {
            self.wait();
        }
    }

    /// Lets it run to its end.
    fn output(mut self) -> Output {
        while self.next().is_some() {}
        self.replayed()
    }

    /// What it has said, and how it ended.
    fn replayed(&self) -> Output {
        self.host.sh(&format!(
            "cd {}; cat stdout; cat stderr >&2; exit {}",
            self.host.scratch().display(),
            self.outcome.unwrap_or_default()
        ))
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            self.kill();
        }
    }
}

/// A process in a host that holds something until it dies.
struct Holder(Child);

impl Holder {
    /// Runs a script that prints a line once it holds what it is to hold, and then waits.
    fn start(host: &Host, script: &str) -> Self {
        let mut command = host.command("sh");
        let child = command.args(["-e", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("nsenter");
        let stdout = BufReader::new(child.stdout.as_mut().expect("a pipe"));
        assert!(stdout.lines().next().is_some(), "{script} ended");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Also one that had not asked for that yet when its caller was killed.
#[test]
fn a_rehearsal_ends_with_its_caller() {
    let host = Host::new();
    let log = host.scratch().join("log");
    let mut command = host.command("strace");
    let delayed = ["-e", "trace=execve,prctl", "-e", "inject=prctl:delay_enter=2000000:when=1"];
    command.args(["-f", "-qq", "-s", "200", "-o"]).arg(&log).args(delayed);
    command.args([BINFMT, "--status", "arm64"]).env("QEMU_BINARY_PATH", emulators());
    let mut strace = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let begun = |log: &str| log.contains("--rehearse");
    while !begun(&read()) && strace.try_wait().expect("a child").is_none() {
        thread::sleep(Duration::from_millis(10));
    }
    let caller =
        read().lines().find(|line| line.contains("--status")).and_then(|line| line.split(' ').next()?.parse().ok());
    kill(Pid::from_raw(caller.expect("a caller")), Signal::SIGKILL).expect("a caller that lives");
    strace.wait().expect("a child");
    let log = read();
    let (_, after) = log.split_once("--rehearse").expect("a rehearsal");
    assert!(!after.contains("--run-probes"), "{log}");
}
