//! `--run`: a foreign command, or one of a foreign root file system, with a handler of its own.
//!
//! Whoever runs it is an ordinary user, but where it says otherwise; the table that there is before is empty, and must be
//! so afterwards. `tests/harness/ordinary.rs` has that user, and the files that it can get at.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::harness::fake::needs_emulators;
use crate::harness::ordinary::{ARM64, Ordinary};
use crate::harness::turn::cannot_run;
use crate::harness::{MOUNT_POINT, arch};
use binfmt_magic::rule::{Flags, Matcher, Rule};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;

/// What only the emulated can say.
const UNAME: &str = "/mnt/programs/arm64/busybox uname -m";

#[test]
fn a_foreign_command_runs_and_the_table_is_as_before() {
    let user = Ordinary::new();
    user.run(ARM64, UNAME).ok().prints("aarch64");
    // what it starts runs too, and it may itself be the host's
    let output = user.run(ARM64, &format!("sh -c '{UNAME} | cat; exec {UNAME}'"));
    assert_eq!(output.ok().stdout, "aarch64\naarch64\n");
    let inside = user.run(ARM64, &format!("ls {MOUNT_POINT}")).ok();
    assert_eq!(inside.stdout, "qemu-aarch64\nregister\nstatus\n");
    assert_eq!(user.host.table(), "");
    user.host.runs("arm64").unwrap_err();
}

#[test]
fn nothing_is_said_and_nothing_left_open() {
    needs_emulators!();
    let user = Ordinary::new();
    let output = user.run(ARM64, "/mnt/programs/arm64/busybox ls /proc/self/fd").ok();
    assert_eq!(output.stderr, "");
    let native = user.run("--run amd64", "ls /proc/self/fd").ok();
    // the last is that of ls; those that this test was started with are not handed on either
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
    assert_eq!(native.stdout, output.stdout);
}

#[test]
fn what_the_caller_has_blocked_stays_blocked() {
    let user = Ordinary::new();
    let grep = "grep SigBlk /proc/self/status";
    let blocked = user.sh(&format!("exec env --block-signal=USR1,CHLD {grep}")).ok().stdout;
    assert_ne!(blocked, user.sh(grep).ok().stdout);
    for options in [ARM64, "--run amd64"] {
        let run = user.sh(&format!("exec env --block-signal=USR1,CHLD /mnt/binfmt {options} -- {grep}")).ok();
        assert_eq!(run.stdout, blocked, "{options}");
    }
}

#[test]
fn descriptors_of_the_caller_are_not_handed_on() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    for (options, list) in [
        (ARM64.to_owned(), "/mnt/programs/arm64/busybox ls"),
        (format!("{ARM64} --root {root}"), "ls"),
        ("--run amd64".to_owned(), "ls"),
    ] {
        let opened = "exec 7</mnt/home 9>/mnt/home/written; for ((fd = 10; fd < 1000; fd++)); do eval \"exec $fd</dev/null\"; done";
        let output = user.sh(&format!("exec bash -c '{opened}; exec /mnt/binfmt {options} -- {list} /proc/self/fd'"));
        assert_eq!(output.ok().stdout, "0\n1\n2\n3\n", "{options}");
    }
}

#[test]
fn the_caller_stays_who_it_is() {
    let user = Ordinary::new();
    let output = user.run(ARM64, "sh -c 'id -u; id -g; grep CapEff /proc/self/status'");
    let expected = format!("{0}\n{0}\nCapEff:\t0000000000000000\n", Ordinary::ID);
    assert_eq!(output.ok().stdout, expected);
}

#[test]
fn the_exit_status_is_the_commands_own() {
    let user = Ordinary::new();
    for status in [0, 1, 2, 7, 125, 127, 255] {
        for shell in ["sh", "/mnt/programs/arm64/busybox sh"] {
            user.run(ARM64, &format!("{shell} -c 'exit {status}'")).ends(status);
        }
    }
    // what follows -- is the command's, whatever it looks like
    let output = user.sh("exec /mnt/binfmt -run arm64 -- /mnt/programs/arm64/busybox echo -status -- --list");
    assert_eq!(output.ok().stdout, "-status -- --list\n");
}

#[test]
fn a_command_that_dies_of_a_signal_dies_of_that_signal() {
    let user = Ordinary::new();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV] {
        let number = signal as i32;
        let shell = "/mnt/programs/arm64/busybox";
        let suicide = format!("kill -{number} $$");
        let mut command = user.command(&["--run", "arm64", "--", shell, "sh", "-c", &suicide]);
        let status = command.stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(number), "{status}");
    }
}

#[test]
fn the_command_is_the_process_that_was_started() {
    let user = Ordinary::new();
    let script = "trap 'echo caught; exit 3' TERM; echo $$; while :; do read -r line || sleep 1; done";
    let shell = "/mnt/programs/arm64/busybox";
    let mut command = user.command(&["--run", "arm64", "--", shell, "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, format!("{}\n", child.id()));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    // the shell is woken from its read
    drop(child.stdin.take());
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "caught\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn input_environment_and_directory_pass_through() {
    let user = Ordinary::new();
    let script = "cat; echo $WORD $HOME $PATH; pwd";
    let output = user.sh(&format!(
        "cd /mnt/home; export WORD=mine HOME=/mnt/home PATH=/usr/bin:/bin; echo typed |
         /mnt/binfmt {ARM64} -- /mnt/programs/arm64/busybox sh -c '{script}'"
    ));
    let expected = "typed\nmine /mnt/home /usr/bin:/bin\n/mnt/home\n";
    assert_eq!(output.ok().stdout, expected);
}

#[test]
fn the_terminal_is_the_callers() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    let asks = "test -t 0 && test -t 1 && : </dev/tty && tty";
    for (options, terminal) in [
        (ARM64.to_owned(), "/dev/pts/"),
        // there it has no name among the terminals that are made inside
        (format!("{ARM64} --root {root}"), "/dev/console"),
    ] {
        let command = format!("/mnt/binfmt {options} -- sh -c '{asks}'");
        user.sh(&format!("script -qec \"{command}\" /dev/null")).ok().prints(terminal);
    }
}

#[test]
fn a_root_file_system_has_what_programs_expect() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    // none of the places to mount on is there
    let before = user.sh(&format!("ls {root}")).ok();
    assert_eq!(before.stdout, "bin\netc\n");
    let script = "id -u; uname -m; pwd; echo \\$HOME
        test -d /proc/self; test -d /sys/kernel; ls /dev | tr '\\n' ' '; echo
        echo word >/dev/null; head -c 4 /dev/urandom | wc -c; : >/dev/shm/file; test -e /dev/fd/0
        ls /proc/sys/fs/binfmt_misc | head -n 1; cat /etc/resolv.conf";
    let options = format!("{ARM64} --root {root}");
    let output = user.run(&options, &format!("sh -e -c \"{script}\"")).ok();
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let expected = format!(
        "0\naarch64\n/\n/root\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero \n4\n\
         qemu-aarch64\n{resolver}"
    );
    assert_eq!(output.stdout, expected);
    assert_eq!(user.host.table(), "");
    // what it writes is there, and nothing else is
    user.run(&options, "sh -c 'echo word >/written'").ok();
    let after = user.sh(&format!("cd {root}; find . -path ./bin -prune -o -print | sort"));
    let after = after.ok().stdout;
    assert_eq!(after, ".\n./dev\n./etc\n./etc/resolv.conf\n./proc\n./sys\n./written\n");
}

/// As systemd leaves it, and as an archive that means ill has it.
#[test]
fn names_are_looked_up_as_outside_whatever_is_in_the_place_of_the_resolvers_file() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    let expected = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for place in ["ln -sf ../run/systemd/resolve/stub-resolv.conf", "rm -f etc/resolv.conf; mkfifo"] {
        user.sh(&format!("cd {root}; {place} etc/resolv.conf")).ok();
        let output = user.run(&format!("{ARM64} --root {root}"), "cat /etc/resolv.conf");
        assert_eq!(output.ok().stdout, expected, "{place}");
    }
}

#[test]
fn in_a_root_file_system_nothing_below_sys_can_be_written() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    let mounts = user.run(&format!("{ARM64} --root {root}"), "sh -c 'grep \" /sys\" /proc/self/mountinfo'");
    let mounts = mounts.ok().stdout;
    let is_open = |line: &&str| !line.split(' ').nth(5).unwrap_or_default().starts_with("ro");
    let open: Vec<_> = mounts.lines().filter(is_open).collect();
    assert!(!mounts.is_empty() && open.is_empty(), "{mounts}");
}

#[test]
fn in_a_root_file_system_the_directory_is_kept_where_it_can_be() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    for (directory, inside) in [("/mnt/home/root/etc", "/etc"), ("/mnt/home", "/"), ("/", "/")] {
        let output = user.sh(&format!("cd {directory}; exec /mnt/binfmt {ARM64} --root {root} -- pwd"));
        assert_eq!(output.ok().stdout, format!("{inside}\n"), "{directory}");
    }
    let relative = user.sh(&format!("cd {root}/bin; exec /mnt/binfmt {ARM64} --root .. -- ./busybox echo found"));
    assert_eq!(relative.ok().stdout, "found\n");
}

#[test]
fn the_usual_directories_of_programs_are_searched_last() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    user.sh(&format!(
        "cd {root}; mkdir sbin opt; for file in opt/my-first bin/my-first sbin/my-last; do ln -s /bin/busybox $file; done"
    ))
    .ok();
    for (command, found) in [("my-first", "/opt/my-first"), ("my-last", "/sbin/my-last")] {
        let output = user.sh(&format!("PATH=/opt:/usr/bin:/bin exec /mnt/binfmt {ARM64} --root {root} -- {command}"));
        // busybox knows no such program
        output.ends(127).says(&format!("{command}: applet not found"));
        let output = user.sh(&format!(
            "cd {root}; rm .{found}; PATH=/opt:/usr/bin:/bin exec /mnt/binfmt {ARM64} --root {root} -- {command}"
        ));
        let other = output.ends(127);
        let is_there = command == "my-first";
        assert_eq!(other.stderr.contains("applet not found"), is_there, "{other}");
    }
    let output =
        user.sh(&format!("PATH=/opt:/usr/bin:/bin exec /mnt/binfmt {ARM64} --root {root} -- sh -c 'echo $PATH'"));
    let expected = "/opt:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin\n";
    assert_eq!(output.ok().stdout, expected);
}

#[test]
fn links_of_a_root_file_system_do_not_lead_out_of_it() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    user.sh(&format!(
        "mkdir /mnt/home/outside; cd {root}; ln -s /mnt/home/outside dev; ln -s /mnt/home/outside/made etc/resolv.conf
         ln -s ../../../../mnt/home/outside sys"
    ))
    .ok();
    user.run(&format!("{ARM64} --root {root}"), "sh -c 'test ! -e /mnt/programs'").ok();
    assert_eq!(user.sh("ls /mnt/home/outside").ok().stdout, "");
}

/// What an archive that means ill has in the place of whatever is mounted on; a descriptor of the caller is the way out of it.
#[test]
fn by_way_of_links_nothing_is_made_in_a_root_file_system_nor_outside() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    let state = format!("cd /mnt/home; find . -path ./root/bin -prune -o -print | sort; ls -l {root}");
    for link in [
        "ln -s / dev",
        "ln -s /etc dev",
        "ln -s /made dev",
        "ln -s / sys; ln -s . dev",
        "rm -rf etc; ln -s / etc",
        "rm -rf etc; ln -s /made etc",
        "rm -rf etc; ln -s /proc/self/fd/7 etc",
        "ln -s /proc/self/fd/7/made etc/resolv.conf",
        "ln -s /proc/self/cwd/made etc/resolv.conf",
        "ln -s ../../../../mnt/home/outside/made etc/resolv.conf",
        "ln -s /made etc/resolv.conf",
    ] {
        let prepare = format!(
            "rm -rf /mnt/home/outside {root}/dev {root}/sys {root}/etc; mkdir /mnt/home/outside
             cd {root}; mkdir -p proc sys dev etc; : >etc/resolv.conf"
        );
        // what is to be a link must not be there
        let names = ["dev", "sys", "etc/resolv.conf"];
        let gone =
            names.iter().filter(|name| link.ends_with(&format!(" {name}")) || link.contains(&format!(" {name};")));
        let gone: Vec<_> = gone.copied().collect();
        user.sh(&format!(
            "{prepare}; rm -rf {}; {link}",
            if gone.is_empty() { "none".to_owned() } else { gone.join(" ") }
        ))
        .ok();
        let before = user.sh(&state).ok().stdout;
        let output = user.sh(&format!(
            "umask 0; exec 7</mnt/home/outside; cd /mnt/home/outside; exec /mnt/binfmt {ARM64} --root {root} -- uname -m"
        ));
        assert_eq!(output.clone().ok().stdout, "aarch64\n", "{link}");
        assert_eq!(user.sh(&state).ok().stdout, before, "{link}");
        if link.contains(" dev") {
            output.says(&format!("{root}/dev is a symbolic link, so nothing is mounted there"));
        }
    }
    user.sh(&format!("cd {root}; rm -r proc; ln -s / proc")).ok();
    user.run(&format!("{ARM64} --root {root}"), "uname -m")
        .ends(125)
        .ends_saying(&[&format!("{root}/proc is a symbolic link")]);
    user.sh(&format!("cd {root}; rm proc; touch proc")).ok();
    let output = user.run(&format!("{ARM64} --root {root}"), "uname -m");
    output.ends(125).ends_saying(&[&format!("rm {root}/proc && mkdir {root}/proc")]);
    user.sh(&format!("cd {root}; rm -rf proc dev sys etc; mkdir -p proc etc/resolv.conf; touch dev; mkfifo sys")).ok();
    let output = user.run(&format!("{ARM64} --root {root}"), "uname -m").ok();
    for path in ["dev", "sys", "etc/resolv.conf"] {
        output.clone().says(&format!("{root}/{path} is of the wrong kind"));
    }
}

#[test]
fn without_ranges_root_is_alone_and_that_is_said() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    user.host.sh("echo another:100000:65536 >/mnt/subid; mountpoint -q /etc/subuid").ok();
    let output = user.run(&format!("{ARM64} --root {root}"), "cat /proc/self/uid_map").ok();
    let map: Vec<_> = output.stdout.split_whitespace().collect();
    assert_eq!(map, ["0", &Ordinary::ID.to_string(), "1"]);
    // the range is not the other user's
    let remedy = "has no range in /etc/subuid and /etc/subgid; as root: usermod --add-subuids 165536-231071 --add-subgids \
                  165536-231071 ";
    output.ends_saying(&["not all users and groups are known in there", remedy]);
}

#[test]
fn with_ranges_there_are_other_users() {
    needs_emulators!();
    let Some(user) = Ordinary::with_ids() else { return };
    let root = user.root("root", "arm64");
    let script = "cat /proc/self/uid_map; : >/file; chown 42:43 /file; ls -ln /file";
    let output = user.run(&format!("{ARM64} --root {root}"), &format!("sh -e -c '{script}'")).ok();
    assert_eq!(output.stderr, "");
    let words: Vec<_> = output.stdout.split_whitespace().collect();
    assert_eq!(words[..6], ["0", "1", "1", "1", "100000", "65536"]);
    assert_eq!(words[8..10], ["42", "43"], "{output}");
    let owner = user.sh(&format!("stat -c %u:%g {root}/file")).ok();
    assert_eq!(owner.stdout, "100041:100042\n");
}

#[test]
fn what_newuidmap_refuses_is_done_without_and_said() {
    needs_emulators!();
    let Some(user) = Ordinary::with_ids() else { return };
    let root = user.root("root", "arm64");
    user.sh("mkdir /mnt/home/bin").ok();
    let refuses = "echo no, not you >&2; exit 1";
    for (program, said) in
        [("newuidmap", "newuidmap refuses: no, not you"), ("newgidmap", "newgidmap refuses: no, not you")]
    {
        let output = user.sh(&format!(
            "cd /mnt/home/bin; rm -f *; printf '#!/bin/sh\n{refuses}\n' >{program}; chmod 755 {program}
             PATH=$PWD:$PATH exec /mnt/binfmt {ARM64} --root {root} -- id -u"
        ));
        let output = output.ok();
        assert_eq!(output.stdout, "0\n");
        output.ends_saying(&[said]);
    }
    let output = user.sh(&format!("PATH=/nowhere exec /mnt/binfmt {ARM64} --root {root} -- id -u"));
    output.ok().ends_saying(&["newuidmap is not installed"]);
    // as it does while it asks a server that does not answer
    let output = user.sh(&format!(
        "cd /mnt/home/bin; rm -f *; printf '#!/bin/sh\nexec sleep 60\n' >newuidmap; chmod 755 newuidmap
         PATH=$PWD:$PATH exec /mnt/binfmt {ARM64} --root {root} -- id -u"
    ));
    output.ok().says("waiting for newuidmap\n").ends_saying(&["newuidmap has not answered within 10 s"]);
}

#[test]
fn root_has_all_ids_and_stays_root() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    let is_root = nix::unistd::geteuid().is_root();
    let count = if is_root { crate::harness::USERS } else { 1 }.to_string();
    for options in [ARM64.to_owned(), format!("{ARM64} --root {root}")] {
        let output = user.host.sh(&format!(
            "QEMU_BINARY_PATH=/mnt/emulators exec /mnt/binfmt {options} -- sh -c 'id -u; cat /proc/self/uid_map'"
        ));
        let output = output.ok();
        let words: Vec<_> = output.stdout.split_whitespace().collect();
        assert_eq!(words, ["0", "0", "0", &count], "{output}");
        assert_eq!(output.stderr, "");
        assert_eq!(user.host.table(), "");
    }
}

/// The kernel looks at the number of a user alone when `/proc/sys`, the table or a device is opened.
#[test]
fn a_root_file_system_that_root_runs_gets_no_way_to_the_host() {
    needs_emulators!();
    let user = Ordinary::new();
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::turn::cannot_run("it needs root: no other user can write there");
    }
    let scratch = user.host.scratch().join("root");
    user.host.sh("chown 0:0 /mnt/home; mkdir /mnt/scratch").ok();
    let cgroups = user.host.scratch().join("cgroups");
    let source = "#define _GNU_SOURCE\n#include <sched.h>\nint main(void) { return unshare(CLONE_NEWCGROUP) != 0; }";
    user.host.compile_source(&cgroups, "", source);
    for (platform, debian) in [("arm64", "arm64"), ("amd64", "amd64")] {
        fs::create_dir_all(&scratch).unwrap();
        // a device that everybody may open: such a node is in an archive that means ill
        let node = scratch.join("node");
        let _ = fs::remove_file(&node);
        mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
        user.host
            .sh(&format!(
                "mount --bind '{0}' /mnt/scratch; cd /mnt/scratch; mkdir -p bin etc 'a place'; cp /mnt/programs/{debian}/busybox '{1}' bin
                 mount --bind '{0}' '/mnt/scratch/a place'
                 cd bin; for name in sh mount umount chmod; do ln -sf busybox $name; done; : </mnt/scratch/node",
                scratch.display(),
                cgroups.display()
            ))
            .ok();
        let script = r#"for file in sys/kernel/core_pattern sys/kernel/modprobe sysrq-trigger sys/fs/binfmt_misc/register; do
              if test ! -c /proc/$file && ( : >>/proc/$file ); then echo open: $file; fi
            done
            for place in /proc/sys /sys /; do
              mount -o remount,bind,rw,dev,suid,exec $place && echo remounted: $place; umount $place && echo removed: $place
            done
            busybox unshare -pf busybox mount -t proc proc /proc && echo a new proc
            for place in / '/a place/'; do ( : <>"${place}node" ) && echo a device; done
            chmod 666 /dev/null && echo a mode
            ( : </proc/kcore ) && test ! -c /proc/kcore && echo memory
            /bin/cgroups && echo control groups
            : >/made; echo word >/dev/null; test -d /proc/self/fd && echo done"#;
        fs::write(scratch.join("attack"), script).unwrap();
        let output = user.host.sh(&format!(
            "QEMU_BINARY_PATH=/mnt/emulators exec /mnt/binfmt --run {platform} --root /mnt/scratch -- sh /attack 2>/mnt/home/said"
        ));
        assert_eq!(output.ok().stdout, "done\n", "{platform}");
        user.host.sh("umount --recursive /mnt/scratch").ok();
    }
}

/// A mount point can be renamed by its owner in another mount namespace, and what is mounted there is gone then. Here, a false `/proc`
/// takes the place of the true one as soon as the directory `sys` is made, and says that all is mounted elsewhere.
#[test]
fn whoever_renames_proc_of_the_root_file_system_gets_no_way_to_the_host() {
    needs_emulators!();
    let user = Ordinary::new();
    if !nix::unistd::geteuid().is_root() {
        return crate::harness::turn::cannot_run("it needs root: no other user can write there");
    }
    let renamer = user.host.scratch().join("renamer");
    user.host.compile(
        &renamer,
        "char path[64], to[64];
         pid_t other = atoi(argv[2]);
         chdir(argv[1]);
         snprintf(to, sizeof to, \"%d\", other); symlink(to, \"false/self\");
         snprintf(path, sizeof path, \"false/%d\", other); rename(\"false/process\", path);
         while (access(\"sys\", F_OK)) if (kill(other, 0)) return 1;
         return rename(\"false\", \"proc\");",
    );
    let script = format!(
        "mkdir -p /mnt/home/root/bin && cd /mnt/home && cp /mnt/programs/amd64/busybox root/bin && ln -s busybox root/bin/sh
         for round in $(seq 15); do
           rm -rf root/proc root/sys root/false; mkdir -p root/proc root/false/process/fd
           echo '648 573 0:22 / /elsewhere rw - sysfs sysfs rw' >root/false/process/mountinfo
           for fd in $(seq 0 60); do ln -s / root/false/process/fd/$fd; done
           sh -c 'echo $$ >call; exec env QEMU_BINARY_PATH=/mnt/emulators /mnt/binfmt --run amd64 --root root -- \
             sh -c \": >/sys/made\"' 2>>said & call=$!
           '{}' root $call || :
           wait $call || :
         done
         cat said",
        renamer.display()
    );
    let output = user.host.sh(&script).ok();
    // what can be written to refuses the name
    assert!(!output.stdout.contains("ermission denied") && !output.stdout.contains("not permitted"), "{output}");
}

#[test]
fn what_runs_already_is_just_run() {
    needs_emulators!();
    let user = Ordinary::new();
    // no namespace, no emulator
    for options in ["--run linux/amd64", "--run 386"] {
        let output = user.sh(&format!(
            "readlink /proc/self/ns/user
             QEMU_BINARY_PATH=/nowhere exec /mnt/binfmt {options} -- readlink /proc/self/ns/user"
        ));
        let output = output.ok();
        let namespaces: Vec<_> = output.stdout.lines().collect();
        assert_eq!(namespaces[0], namespaces[1], "{options}");
    }
    let root = user.root("native", "amd64");
    let output = user.sh(&format!("QEMU_BINARY_PATH=/nowhere exec /mnt/binfmt --run amd64 --root {root} -- uname -m"));
    assert_eq!(output.ok().stdout, "x86_64\n");
    user.host.binfmt(&["--install", "arm64"]).ok();
    let root = user.root("root", "arm64");
    for options in [ARM64.to_owned(), format!("{ARM64} --root {root}")] {
        let command = format!(
            "QEMU_BINARY_PATH=/nowhere exec /mnt/binfmt {options} -- cat /proc/sys/fs/binfmt_misc/qemu-aarch64"
        );
        // by its path, another file could come to be pinned
        user.sh(&command).ok().prints("flags: POCF").prints("interpreter /proc/self/fd/");
    }
}

/// It ends with the status that it gets from a socket: nothing else leads out of the empty root directory.
const TOLD: &str = r#"
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un address = {AF_UNIX, "\0binfmt-test-status"};
    unsigned char status = 1;
    int end = socket(AF_UNIX, SOCK_STREAM, 0);
    connect(end, (struct sockaddr *)&address, sizeof address.sun_family + sizeof "\0binfmt-test-status" - 1);
    return read(end, &status, 1) == 1 ? status : 98;
}
"#;

/// A command that is the host's own would start, and the programs that it starts would fail.
#[test]
fn a_handler_that_fails_in_a_table_of_its_own_is_told() {
    let user = Ordinary::new();
    let (emulator, seen) = (user.host.scratch().join("emulator"), "/mnt/home/emulator");
    user.host.compile_source(&emulator, "-O1", TOLD);
    user.host.sh(&format!("cp '{}' {seen}; chmod 755 {seen}", emulator.display())).ok();
    user.host.register("qemu-aarch64", "aarch64", Path::new(seen), "F");
    let address = SocketAddr::from_abstract_name("binfmt-test-status").unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let statuses = std::thread::spawn(move || {
        // '/' is the first character of the probe's path: it works
        [b'/', 99].map(|status| listener.accept().unwrap().0.write_all(&[status]).unwrap())
    });
    let refused = user.run(ARM64, "true").ends(125);
    refused.ends_saying(&["programs for linux/arm64 do not run", "wrong answer (exit status 99)"]);
    statuses.join().unwrap();
}

/// Of the handler that was there the command has a copy. So it does where the emulator is gone from its path, and it is the same.
#[test]
fn a_handler_that_others_uninstall_is_still_the_commands() {
    let user = Ordinary::new();
    for is_gone in [false, true] {
        let folder = user.host.folder("own", &[("qemu-aarch64", crate::harness::emulators())]);
        user.host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
        if is_gone {
            fs::remove_dir_all(&folder).unwrap();
        }
        user.sh("mkfifo /mnt/home/go /mnt/home/gone").ok();
        let script = format!("{UNAME}; echo >/mnt/home/go; read -r go </mnt/home/gone || :; {UNAME}");
        std::thread::scope(|scope| {
            let output = scope.spawn(|| {
                user.sh(&format!("QEMU_BINARY_PATH=/nowhere exec /mnt/binfmt {ARM64} -- sh -e -c '{script}'"))
            });
            user.host.sh("read -r go </mnt/home/go || :").ok();
            user.host.binfmt(&["--uninstall", "all"]).ok();
            assert_eq!(user.host.entries(), [""; 0]);
            user.host.sh("echo >/mnt/home/gone").ok();
            assert_eq!(output.join().unwrap().ok().stdout, "aarch64\naarch64\n");
        });
        user.sh("rm /mnt/home/go /mnt/home/gone").ok();
    }
}

/// A user namespace does not show whose a file is: a second look from there would see the other emulator in another light.
#[test]
fn the_emulator_that_was_judged_is_the_one_that_is_used() {
    let user = Ordinary::new();
    if !nix::unistd::geteuid().is_root() {
        return cannot_run("it needs root, for a file of another user");
    }
    user.host
        .sh("mkdir /mnt/two; cp /mnt/emulators/qemu-aarch64 /mnt/two/qemu-aarch64-static
             cp /mnt/emulators/qemu-aarch64 /mnt/two/; chown 1000 /mnt/two/qemu-aarch64")
        .ok();
    let run = |options: &str| user.sh(&format!("export QEMU_BINARY_PATH=/mnt/two; exec /mnt/binfmt {ARM64} {options}"));
    let entry = format!("-- cat {MOUNT_POINT}/qemu-aarch64");
    run(&entry).ok().prints("interpreter /mnt/two/qemu-aarch64-static\n");
    user.host.sh("rm /mnt/two/qemu-aarch64-static").ok();
    run(&entry).ends(125).ends_saying(&["programs for linux/arm64 do not run", "can be replaced by user 1000"]);
}

/// What may have no user namespace runs through the handler that is there.
#[test]
fn where_no_table_can_be_ones_own_the_hosts_handler_serves() {
    let user = Ordinary::new();
    user.host.binfmt(&["--install", "arm64"]).ok();
    let injector = user.host.injector();
    let copy = format!("cp '{}' /mnt/inject; chmod 755 /mnt/inject", injector.display());
    user.host.sh(&copy).ok();
    for calls in ["unshare", "fsopen"] {
        let output = user.sh(&format!(
            "readlink /proc/self/ns/user; QEMU_BINARY_PATH=/nowhere exec /mnt/inject /dev/null forbid {calls} 0 /mnt/binfmt {ARM64} -- sh -c '{UNAME}; readlink /proc/self/ns/user'"
        ));
        let output = output.ok();
        let lines: Vec<_> = output.stdout.lines().collect();
        assert_eq!(lines, [lines[0], "aarch64", lines[0]], "{calls}");
        assert_eq!(output.stderr, "", "{calls}");
    }
}

/// Whether there is a handler or not, and whatever the C library makes of `ENOEXEC`.
#[test]
fn what_no_handler_takes_is_explained_and_no_shell_is_given_it() {
    needs_emulators!();
    let user = Ordinary::new();
    user.sh(
        "cd /mnt/home; cp /mnt/programs/arm64/busybox marked; printf 'AI\\2' | dd of=marked bs=1 seek=8 conv=notrunc status=none
         printf 'echo given to a shell\n' >text; chmod 755 text",
    )
    .ok();
    let mut said = Vec::new();
    for install in [false, true] {
        if install {
            user.host.binfmt(&["--install", "arm64"]).ok();
        }
        for file in ["/mnt/home/marked", "/mnt/home/text", "/mnt/rootfs/arm64/bin/dash"] {
            let output = user.run(ARM64, file).ends(126);
            assert_eq!(output.stdout, "", "{output}");
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            said.push(output.stderr);
        }
    }
    assert!(said[1].contains("/bin/sh"), "{}", said[1]);
    let with = said.split_off(3);
    assert_eq!(said, with);
}

#[test]
fn what_is_asked_for_wrongly_gets_its_own_sentence() {
    needs_emulators!();
    let user = Ordinary::new();
    let (arm64, amd64) = (user.root("root", "arm64"), user.root("native", "amd64"));
    user.sh("cd /mnt/home; printf 'echo hello\n' >text; cp text plain; chmod 755 text; mkdir empty; : >file").ok();
    user.host.sh("mkdir --mode=700 /mnt/home/closed; chown 0:0 /mnt/home/closed").ok();
    for (words, status, said) in [
        // nothing was started
        ("--run arm64", 125, "the command to run follows --"),
        ("--run arm64 --", 125, "the command to run follows --"),
        ("--run arm64 ls", 125, "binfmt --run arm64 -- ls"),
        ("--run=arm64 ls -l", 125, "binfmt"),
        ("--run arm64 --bogus -- ls", 125, "--bogus"),
        ("--run -- ls", 125, "PLATFORM"),
        ("--run arm64 --list -- ls", 125, "cannot be used with"),
        ("--run arm46 -- ls", 125, "arm46, did you mean arm64"),
        ("--run windows/arm64 -- ls", 125, "windows/arm64"),
        ("--run all -- ls", 125, "all"),
        ("--run riscv64/rva24u64 -- ls", 125, "rva22u64"),
        ("--run s390x --root /nowhere -- ls", 125, "cannot open the root directory /nowhere"),
        ("--run arm64 --root /mnt/home/file -- ls", 125, "ENOTDIR"),
        (
            "--run arm64 --root /mnt/home/closed -- ls",
            125,
            "cannot open the root directory /mnt/home/closed: Permission denied",
        ),
        // not there
        ("--run arm64 -- no-such-program", 127, "there is no no-such-program in any directory of PATH"),
        ("--run arm64 -- /mnt/home/missing", 127, "/mnt/home/missing does not exist"),
        ("--run arm64 --root /mnt/home/root -- /bin/missing", 127, "/mnt/home/root/bin/missing does not exist"),
        ("--run arm64 --root /mnt/home/empty -- sh", 127, "there is no sh"),
        ("--run arm64 -- ''", 127, "the command has an empty name"),
        // cannot be run
        ("--run arm64 -- /mnt/home", 126, "is a directory"),
        ("--run arm64 -- .", 126, "binfmt: / is a directory"),
        ("--run arm64 -- /mnt/home/plain", 126, "its mode has no x"),
        ("--run arm64 -- /mnt/home/text", 126, "ENOEXEC"),
        (
            "--run riscv64 -- /mnt/programs/arm64/busybox",
            126,
            "is a program for linux/arm64, not for linux/riscv64; name that: --run linux/arm64",
        ),
        (
            "--run riscv64 --root /mnt/home/root -- sh",
            126,
            "/mnt/home/root is a program for linux/arm64, not for linux/riscv64; name that: --run linux/arm64",
        ),
        ("--run arm64 --root /mnt/home/native -- sh", 126, "linux/amd64, not for linux/arm64"),
        ("--run amd64 --root /mnt/home/root -- sh", 126, "linux/arm64, not for linux/amd64"),
        ("--run amd64 -- /mnt/programs/arm64/busybox", 126, "linux/arm64, not for linux/amd64"),
        ("--run amd64/v9 -- true", 125, "known are v1, v2, v3, v4"),
    ] {
        let output = user.binfmt(words).ends(status);
        assert_eq!(output.stdout, "", "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        output.ends_saying(&["binfmt: ", said]);
    }
    let none = user.sh("QEMU_BINARY_PATH=/nowhere exec /mnt/binfmt --run arm64 -- true");
    none.ends(125).ends_saying(&["/nowhere/qemu-aarch64 does not exist", "QEMU_BINARY_PATH"]);
    // a program of this host in a root file system of another, which its shell tells
    user.sh(&format!("cp {amd64}/bin/busybox {arm64}/bin/busybox.native")).ok();
    user.run(&format!("{ARM64} --root {arm64}"), "/bin/busybox.native uname -m").ok().prints("x86_64");
}

#[test]
fn a_program_without_its_loader_is_told_before_it_is_started() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = "/mnt/rootfs/arm64";
    let shell = format!("{root}/bin/dash");
    let missing = user.run(ARM64, &format!("{shell} -c 'echo hello'")).ends(126);
    missing.ends_saying(&["its loader /lib/ld-linux-aarch64.so.1 does not exist", "--root DIR", "QEMU_LD_PREFIX"]);
    let found = user.sh(&format!("QEMU_LD_PREFIX={root} exec /mnt/binfmt {ARM64} -- {shell} -c 'echo hello'"));
    assert_eq!(found.ok().stdout, "hello\n");
}

/// Its remedy is for the root directory that it is in already.
#[test]
fn a_loader_that_is_none_is_not_looked_for_in_another_root_directory() {
    needs_emulators!();
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    user.sh(&format!(
        "cd {root}; mkdir -p lib; cp /mnt/rootfs/arm64/bin/dash bin/dash
         head -c 9999 /dev/zero >lib/ld-linux-aarch64.so.1; chmod +x lib/ld-linux-aarch64.so.1"
    ))
    .ok();
    let refused = user.run(&format!("{ARM64} --root {root}"), "/bin/dash -c true").ends(126);
    refused.never_says("--root DIR").ends_saying(&["is not a loader", &format!("in {root}, ")]);
}

#[test]
fn where_user_namespaces_are_forbidden_the_setting_is_named() {
    let user = Ordinary::new();
    let injector = user.host.injector();
    user.host.sh(&format!("cp '{}' /mnt/inject; chmod 755 /mnt/inject", injector.display())).ok();
    let forbidden_by = |start: &str, calls: &str| {
        user.sh(&format!("exec {start} /mnt/inject /dev/null forbid {calls} 0 /mnt/binfmt {ARM64} -- true")).ends(125)
    };
    let forbidden = |calls: &str| forbidden_by("", calls);
    forbidden("unshare").ends_saying(&[
        "cannot enter a user namespace",
        "a filter of system calls",
        "seccomp=unconfined",
    ]);
    forbidden("fsopen").ends_saying(&["cannot mount /proc/sys/fs/binfmt_misc", "a filter of system calls"]);

    // the kernel says that it is an old one
    let old = forbidden_by("setarch --uname-2.6", "fsconfig");
    old.ends_saying(&["Linux 2.6.", " has no binfmt_misc per user namespace", "needs 6.7"]);

    for (setting, said) in [
        ("kernel/unprivileged_userns_clone 0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns 1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ] {
        // which of them there is depends on the kernel
        let (file, value) = setting.split_once(' ').unwrap();
        let settings =
            format!("mount -t tmpfs none /proc/sys/kernel; echo {value} >/proc/sys/{file}; chmod 644 /proc/sys/{file}");
        user.host.sh(&settings).ok();
        forbidden("unshare").ends_saying(&["cannot enter a user namespace", said]);
        user.host.sh("umount /proc/sys/kernel").ok();
    }
    // who has set that there, since a user need not have a namespace there either
    let run = |platform: &str| {
        let command = format!("/mnt/binfmt --run {platform} -- true");
        user.host.sh(&format!("QEMU_BINARY_PATH=/mnt/emulators exec {command}"))
    };
    for limit in ["max_mnt_namespaces", "max_user_namespaces"] {
        let set = |number: u32| {
            user.host.sh(&format!("echo {number} >/proc/sys/user/{limit}")).ok();
        };
        set(0);
        run("arm64").ends(125).ends_saying(&["cannot enter a user namespace", &format!("user.{limit} is 0")]);
        if limit == "max_mnt_namespaces" {
            set(1000);
        }
    }
    // what runs already takes none
    run("amd64").ok();
}

#[test]
fn where_a_root_directory_cannot_be_changed_that_is_said() {
    needs_emulators!();
    let user = Ordinary::new();
    let injector = user.host.injector();
    let root = user.root("root", "arm64");
    user.host.sh(&format!("cp '{}' /mnt/inject; chmod 755 /mnt/inject", injector.display())).ok();
    let with = |calls: &str| {
        user.sh(&format!("exec /mnt/inject /dev/null forbid {calls} 0 /mnt/binfmt {ARM64} --root {root} -- id -u"))
    };
    for (calls, refused) in [("open_tree", "open_tree"), ("pivot_root,chroot", "chroot")] {
        with(calls).ends(125).ends_saying(&["cannot make", &root, refused, "EPERM"]);
    }
    // one of the two is enough
    assert_eq!(with("pivot_root").ok().stdout, "0\n");
    let readable = user.root("full", "arm64");
    user.sh(&format!("chmod 555 {readable}")).ok();
    let output = user.sh(&format!("exec /mnt/binfmt {ARM64} --root {readable} -- id -u"));
    assert_eq!(output.ok().stdout, "0\n", "who is root may write all the same");
}

#[test]
fn a_debian_works() {
    needs_emulators!();
    let Some(user) = Ordinary::with_ids() else { return };
    let Some(root) = user.debian("arm64") else { return };
    let options = format!("{ARM64} --root {root}");
    let run = |command: &str| user.run(&options, command).ok();
    run("dpkg --print-architecture").prints("arm64");
    run("dpkg -l").prints("ii  bash ");
    run("apt-get --version").prints("arm64");
    let word = run("perl -MPOSIX -e 'print join q( ), map { $_ * $_ } 1 .. 4; print q( ), (POSIX::uname)[4]'");
    assert_eq!(word.stdout, "1 4 9 16 aarch64");
    let sandboxed = run("setpriv --reuid=42 --regid=65534 --clear-groups id -un");
    assert_eq!(sandboxed.stdout, "_apt\n");
    // a package of one's own: installed by the package manager, its script run, and removed
    let package = "set -e; mkdir -p /tmp/own/DEBIAN
        printf 'Package: own\\nVersion: 1\\nArchitecture: arm64\\nMaintainer: nobody <nobody@example.org>\\nDescription: one\\n' >/tmp/own/DEBIAN/control
        printf '#!/bin/sh\\nuname -m >/made-by-own\\n' >/tmp/own/DEBIAN/postinst; chmod 755 /tmp/own/DEBIAN/postinst
        dpkg-deb --build /tmp/own /tmp/own.deb; dpkg --install /tmp/own.deb; cat /made-by-own; dpkg --purge own";
    user.host.sh(&format!("cat >/mnt/home/package <<'end'\n{package}\nend\ncp /mnt/home/package {root}/package")).ok();
    run("sh /package").prints("Setting up own").prints("aarch64\n").prints("Removing own");
}

#[test]
fn apt_reaches_its_mirror() {
    needs_emulators!();
    let Some(user) = Ordinary::with_ids() else { return };
    let Some(root) = user.debian("arm64") else { return };
    let mirror = user.host.sh(
        "apt-get update --print-uris -o Dir::State::lists=/mnt/lists | sed -nE \"s#^'(http:.*/debian)/dists/[^/]*/InRelease'.*#\\1#p\" | head -n 1",
    );
    let mirror = mirror.stdout.trim();
    let release = user.host.sh(&format!(". {root}/etc/os-release; echo $VERSION_CODENAME")).ok();
    let release = release.stdout.trim();
    if user.host.sh(&format!("perl -MIO::Socket::INET -e '
        my ($host) = q({mirror}) =~ m(^http://([^/]+)); exit !IO::Socket::INET->new(PeerAddr => $host, PeerPort => 80, Timeout => 5)'")).status != 0 {
        crate::harness::turn::cannot_run("it needs a mirror of Debian's in the machine's apt configuration, within reach by http");
        return;
    }
    user.host.sh(&format!(
        "cd {root}/etc; rm -f apt/sources.list apt/sources.list.d/*; echo 'deb {mirror} {release} main' >apt/sources.list
         sed -i 's/^hosts:.*/hosts: files dns/' nsswitch.conf"
    )).ok();
    let options = format!("{ARM64} --root {root}");
    // what its sandboxed half fetches belongs to another user
    let output = user
        .run(
            &options,
            "apt-get -o Acquire::Languages=none -o Acquire::IndexTargets::deb::Packages::DefaultEnabled=false update",
        )
        .ok();
    output.prints("InRelease").never_says("W:");
}

/// A command that may not attach a mount by its path, and so cannot have a table of its own.
const NO_OWN_TABLE: &str = "
#include <errno.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sock_filter steps[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_move_mount, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MOVE_MOUNT_F_EMPTY_PATH, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof steps / sizeof *steps, steps};
  if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 99;
  execv(argv[1], argv + 1);
  return 99;
}";

/// The emulator that would be installed is looked for where the caller is, not in the root file system.
#[test]
fn a_remedy_is_not_looked_for_in_the_root_file_system() {
    let user = Ordinary::new();
    let root = user.root("root", "arm64");
    // takes programs of type ET_EXEC alone
    let mut rule = Rule::for_arch(arch("aarch64"), "", Path::new("/mnt/emulators"), Flags::parse("F").0);
    if let Matcher::Magic { mask: Some(mask), .. } = &mut rule.matcher {
        mask[16] = 0xff;
    }
    user.host.register_rule(&rule);
    user.sh(&format!("cd {root}/bin; cp busybox pie; printf '\\003' | dd of=pie bs=1 seek=16 conv=notrunc 2>&1")).ok();
    let filter = "/mnt/home/filter";
    user.host.compile_source(&user.host.path(filter), "-O1", NO_OWN_TABLE);
    let output = user.sh(&format!("exec {filter} /mnt/binfmt {ARM64} --root {root} -- /bin/pie"));
    output
        .ends(126)
        .ends_saying(&[
            "its handler qemu-aarch64 does not take it",
            "belongs to another user namespace",
            "binfmt --install arm64",
        ])
        .never_says("does not exist");
}
