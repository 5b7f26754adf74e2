//! What our emulators do otherwise than Debian's, for our guests' safety: the programs of `conformance/ours`.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::harness::turn::{self, Turn};
use crate::sandbox::Sandbox;
use crate::userland::{Userland, in_userlands};

/// What the kernel does about cores of privileged programs: 0 none, 1 as of any other, 2 for root only.
const SUID_DUMPABLE: &str = "/proc/sys/fs/suid_dumpable";

#[test]
fn a_guest_cannot_change_its_emulators_memory() {
    in_userlands(&["ours/fixed".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        let ran = userland.tested.run(&["env", "QEMU_TB_CACHE=1", &binary]);
        let right = ran.stdout.is_empty() || ran.stdout == "count >= 3: yes\nalive\n";
        if ran.succeeded() && right {
            return Ok(());
        }
        Err(format!("{}: {ran:#?}", userland.debian))
    });
}

/// Each line of `ours/cache` is a way to become another process than the parent, and says whose cache of translated blocks
/// it has then.
#[test]
fn the_cache_of_blocks_is_shared_by_equals_only() {
    // with 1, programs that must not be read can be traced all the same
    let dumpable = Dumpable::change();
    if geteuid().is_root() {
        Dumpable::set("0");
    }
    in_userlands(&["ours/cache".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        let script = format!(
            "for name in plain privileged unreadable; do cp {binary} /tmp/cache.$name; done
             chmod 4755 /tmp/cache.privileged; chmod 711 /tmp/cache.unreadable
             printf '#! /tmp/cache.plain wait\\n' >/tmp/cache.script; chmod 755 /tmp/cache.script
             export QEMU_TB_CACHE=1; /tmp/cache.plain; QEMU_TB_CACHE=0 /tmp/cache.plain | head -n 2
             export QEMU_TB_CACHE=auto
             kernel=/proc/sys/kernel; busybox mount -t tmpfs none $kernel; mkdir $kernel/yama; : >$kernel/ostype
             for scope in 0 1 2; do
               echo $scope >$kernel/yama/ptrace_scope; echo Yama $scope, $(/tmp/cache.plain | head -n 1)
             done
             echo Yama 2, asked for, $(QEMU_TB_CACHE=1 /tmp/cache.plain | head -n 1); busybox umount $kernel"
        );
        let ran = userland.tested.run(&["sh", "-c", &script]);
        let same = "fork, exec, script, same user";
        let none = "alone, privileged, unreadable, setuid, seteuid, setgid, setgroups, no_new_privs, bounding set, not dumpable, \
                    capset, ambient capability, unshare, chroot, table of a thread, close_range";
        let another = "native, new user, empty, read-only, of another, unsealed, small";
        let mut expected = vec!["own: yes".to_owned(), "own: none".into(), "fork: none".into()];
        expected.extend(["Yama 0, own: yes", "Yama 1, own: none", "Yama 2, own: none"].map(Into::into));
        expected.push("Yama 2, asked for, own: yes".into());
        for (cases, whose) in [(same, "the same"), (none, "none"), (another, "another")] {
            expected.extend(cases.split(", ").map(|case| format!("{case}: {whose}")));
        }
        let mut told: Vec<_> = ran.stdout.lines().map(str::to_owned).collect();
        told.sort();
        expected.sort();
        if told == expected {
            return Ok(());
        }
        Err(format!("{}: not {expected:?}: {ran:#?}", userland.debian))
    });
    drop(dumpable);
}

/// A process that gets the cache of another user, as the descriptor with its number, does not use it but makes a new one. So does
/// a process of the same user with another group, such as `sg` and `newgrp` start. A cache is made when a program starts another.
#[test]
fn the_cache_of_another_user_or_group_is_not_used() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let sandbox = &userland.tested;
        let soon = |ids| {
            let tries = std::iter::repeat_with(|| {
                thread::sleep(Duration::from_millis(20));
                sandbox.shared_blocks(ids)
            });
            tries.take(500).find_map(|found| found)
        };
        let waits = [shell, "-c", "sleep 15; :"];
        thread::scope(|scope| {
            scope.spawn(|| sandbox.run(&[&["env", "QEMU_TB_CACHE=1"], &waits[..]].concat()));
            let roots = soon((0, 0)).ok_or("root's program shares no blocks")?;
            scope.spawn(move || sandbox.run_with_blocks(&roots, (1000, 1000), &waits));
            let users = soon((1000, 1000));
            let users = users.ok_or_else(|| format!("{}: the user has no blocks of its own", userland.debian))?;
            scope.spawn(move || sandbox.run_with_blocks(&users, (1000, 42), &waits));
            soon((1000, 42)).map(drop).ok_or_else(|| format!("{}: the group has no blocks of its own", userland.debian))
        })
    });
}

/// Programs see no trace of the cache among their descriptors.
#[test]
fn the_cache_of_blocks_is_not_seen() {
    in_userlands(&["kernel/unseen".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        let ran = userland.tested.run(&["env", "QEMU_TB_CACHE=1", &binary]);
        if ran.succeeded() {
            return Ok(());
        }
        Err(format!("{}: {ran:#?}", userland.debian))
    });
}

/// Debian's emulator writes the core as root, where the kernel keeps such cores for root.
#[test]
fn no_core_of_a_privileged_program_goes_where_its_caller_wants() {
    let Some(turn) = Turn::take(turn::unfit) else { return };
    let dumpable = Dumpable::change();
    // the userlands are tried at the same time, except here
    let one_at_a_time = Mutex::new(());
    in_userlands(&["ours/privileged".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        let _alone = one_at_a_time.lock();
        let died = "setrlimit(RLIMIT_CORE, &unlimited) == 0: yes\n\
             waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV: yes\n";
        let untouched = format!("{died}untouched\n");
        for value in ["0", "1", "2"] {
            Dumpable::set(value);
            attempt(&userland.tested, userland, &binary, "attack", &untouched)?;
        }
        attempt(&userland.debians, userland, &binary, "attack", &format!("{died}overwritten\n"))
    });
    drop((dumpable, turn));
}

#[test]
fn neither_a_privileged_program_nor_what_it_starts_takes_settings_from_its_caller() {
    in_userlands(&["ours/privileged".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        let expected = "geteuid() == 0: yes\nsetuid(0) == 0: yes\nsettings() = 0\n\
             passed = 0\nuntouched\n";
        attempt(&userland.tested, userland, &binary, "start", expected)
    });
}

#[test]
fn the_path_of_a_privileged_program_is_not_its_callers() {
    in_userlands(&["ours/privileged".to_owned()], |userland, program| {
        let binary = userland.compile(program)?;
        attempt(&userland.tested, userland, &binary, "exchange", "wrong = 0\nuntouched\n")
    });
}

/// As for any program of Linux: no link is followed, nothing replaced, and others read nothing.
#[test]
fn the_core_of_an_ordinary_program_is_a_new_file_of_its_users() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let dies = "cd /tmp; umask 0; ulimit -c unlimited; sh -c 'kill -SEGV $$'; stat -c %a qemu_sh_*.core";
        let ran = userland.tested.run(&[shell, "-c", dies]);
        if ran.stdout == "600\n" {
            return Ok(());
        }
        Err(format!("{}: {ran:#?}", userland.debian))
    });
}

/// Debian's emulator says that a core was dumped also where a limit forbids it.
#[test]
fn a_core_is_spoken_of_only_if_there_is_one() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let as_user = "setpriv --reuid=1000 --regid=1000 --clear-groups";
        for (limit, caller, written) in
            [("unlimited", "", true), ("1", "", false), ("0", "", false), ("unlimited", as_user, false)]
        {
            let dies = format!(
                "rm -rf /tmp/dies; mkdir -m 777 /tmp/dies; cd /tmp/dies; cp /bin/sh privileged; chmod 4755 privileged
                 ulimit -c {limit}; {caller} ./privileged -c 'kill -SEGV $$'; ls | grep core"
            );
            let ran = userland.tested.run(&[shell, "-c", &dies]);
            let is_told = ran.stderr.contains("uncaught target signal 11");
            if !is_told || ran.stderr.contains("core dumped") != written || ran.stdout.is_empty() == written {
                return Err(format!("{} {limit} {caller}: {ran:#?}", userland.debian));
            }
        }
        Ok(())
    });
}

/// What a user's attempts with a privileged program of root's leave of root's file.
fn attempt(sandbox: &Sandbox, userland: &Userland, binary: &str, what: &str, expected: &str) -> Result<(), String> {
    let script = format!(
        "rm -rf /tmp/theirs; mkdir /tmp/theirs; cd /tmp/theirs
         cp {binary} plain; cp {binary} privileged; chmod 4755 privileged; chown 1000 .
         echo untouched >/root/of-root
         setpriv --reuid=1000 --regid=1000 --clear-groups ./plain {what} $PWD/privileged
         find . -name '*core*' -type f
         head -n 1 /root/of-root | grep -a untouched || echo overwritten"
    );
    let ran = sandbox.run(&["sh", "-c", &script]);
    if ran.stdout == expected {
        return Ok(());
    }
    let debian = userland.debian;
    Err(format!("{debian} {what}: not {expected:?}: {ran:#?}"))
}

/// The right to change a setting of the machine, which is taken back in the end.
struct Dumpable {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl Dumpable {
    fn change() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: fs::read_to_string(SUID_DUMPABLE).expect("a kernel with cores"), _alone: alone }
    }

    fn set(value: &str) {
        fs::write(SUID_DUMPABLE, value).expect("root may");
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        let _ = fs::write(SUID_DUMPABLE, &self.before);
    }
}
