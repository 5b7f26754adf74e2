//! Programs in a root directory without any handler, started as BuildKit starts them: our emulator starts their children itself,
//! by the name that it has there (`docs/recipes.md`).

use std::path::Path;

use crate::sandbox::Sandbox;
use crate::userland::{Userland, in_userlands};
use crate::{both, told};

/// The userland without a handler.
fn without_handler(userland: &Userland, emulator: &Path) -> Sandbox {
    Sandbox::without_handler(&userland.root, &userland.binaries, emulator)
}

/// Does this with each program in every userland, without a handler.
fn in_builds(programs: &[&str], run: impl Fn(&Userland, &Sandbox, &str) -> Result<(), String> + Sync) {
    let programs: Vec<_> = programs.iter().map(ToString::to_string).collect();
    in_userlands(&programs, |userland, program| {
        let build = without_handler(userland, &userland.pair.tested);
        run(userland, &build, program).map_err(|defect| format!("{} {defect}", userland.debian))
    });
}

/// What a shell script says in there, line by line.
fn says(build: &Sandbox, script: &str, expected: &[&str]) -> Result<(), String> {
    let ran = build.run(&["sh", "-c", script]);
    if ran.succeeded() && ran.stdout.lines().eq(expected.iter().copied()) {
        return Ok(());
    }
    Err(format!("not {expected:#?}: {ran:#?}"))
}

/// They are the first programs of their steps, too, as scripts.
#[test]
fn programs_do_the_same_as_with_a_handler() {
    in_builds(&["programs/processes.sh", "programs/shell.sh"], |userland, build, program| {
        let command = format!("/conformance/{program}");
        let (with, without) = both(|| userland.tested.run(&[&command]), || build.run(&[&command]));
        if with.succeeded() && with == without {
            return Ok(());
        }
        Err(format!("{program}: with a handler {with:#?}, without {without:#?}"))
    });
}

#[test]
fn programs_are_executed_as_by_the_kernel() {
    in_builds(&["kernel/exec", "kernel/execveat"], |userland, build, program| {
        let binary = userland.compile(program)?;
        told(program, &build.run(&[&binary]))
    });
}

/// This is what shows that there is no handler.
#[test]
fn debians_emulator_starts_no_child() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let build = without_handler(userland, &userland.pair.debians);
        let ran = build.run(&[&format!("/bin/{shell}"), "-c", "echo begun; /bin/true"]);
        match (ran.stdout.as_str(), ran.status) {
            ("begun\n", 126) => Ok(()),
            _ => Err(format!("{}: {ran:#?}", userland.debian)),
        }
    });
}

/// A real handler has the name of the script there, as the kernel has.
#[test]
fn a_program_finds_the_name_it_was_started_by() {
    in_builds(&["sh"], |_, build, _| {
        let script = "printf '#!/bin/true\\n' >/tmp/script; chmod +x /tmp/script; cd /tmp
            for program in ./script /bin/true; do LD_SHOW_AUXV=1 $program | sed -n 's/AT_EXECFN: *//p'; done";
        says(build, script, &["./script", "/bin/true"])
    });
}

/// With a handler, one script less may follow another, and the program's name is an option to the emulator.
#[test]
fn programs_are_executed_that_a_handler_does_not_start() {
    in_builds(&["sh"], |_, build, _| {
        let script = "cd /tmp; cp /bin/echo ./-strace; PATH=: -strace alive
            printf '#!/bin/echo\\n' >0
            for i in 0 1 2 3 4 5; do chmod +x $i; printf '#!/tmp/%s\\n' $i >$((i + 1)); done
            ./4; perl -e 'exec \"./5\"; print $!{ELOOP} ? \"ELOOP\" : $!'";
        says(build, script, &["alive", "/tmp/0 /tmp/1 /tmp/2 /tmp/3 ./4", "ELOOP"])
    });
}

/// The command of a step is looked for as runc would.
#[test]
fn the_command_of_a_step_is_found_by_path() {
    in_builds(&["sh"], |userland, build, _| {
        let ran = build.run(&["printf", "%s", "-0"]);
        let refused = build.run(&["/etc/passwd"]);
        let missing = build.run(&["missing"]);
        if ran.stdout == "-0" && refused.stdout.contains("Permission denied") && !missing.succeeded() {
            return Ok(());
        }
        Err(format!("{}: {ran:?} {refused:?} {missing:?}", userland.debian))
    });
}

#[test]
fn no_privilege_is_gained_from_a_file() {
    in_builds(&["sh"], |_, build, _| {
        let script = "cp /usr/bin/id /tmp/privileged; chmod 4755 /tmp/privileged
            setpriv --reuid=1000 --regid=1000 --clear-groups /tmp/privileged -u";
        says(build, script, &["1000"])
    });
}

/// In a root directory without procfs the emulator has to be where BuildKit has it.
#[test]
fn another_root_directory_needs_procfs_or_the_emulator() {
    in_builds(&["sh"], |_, build, _| {
        let script = "cd /tmp; mkdir -p root/dev root/proc root/usr; busybox mount --rbind /usr root/usr
            for name in bin lib lib64; do ln -s usr/$name root/$name; done
            try='chroot root /bin/sh -c \"/bin/echo alive\"'
            eval $try 2>/dev/null || echo failed
            busybox mount --bind /proc root/proc; eval $try; busybox umount root/proc
            cp /dev/.buildkit_qemu_emulator root/dev/; eval $try";
        says(build, script, &["failed", "alive", "alive"])
    });
}

/// As a program that the kernel has started: it has the blocks of the one that started it.
#[test]
fn blocks_are_shared_without_a_handler() {
    in_builds(&["ours/cache"], |userland, build, program| {
        let binary = userland.compile(program)?;
        let script = format!(
            "cp {binary} /tmp/cache.plain; printf '#! /tmp/cache.plain wait\n' >/tmp/cache.script; chmod 755 /tmp/cache.script
             QEMU_TB_CACHE=1 /tmp/cache.plain | grep -E '^(exec|script):'"
        );
        says(build, &script, &["exec: the same", "script: the same"])
    });
}
