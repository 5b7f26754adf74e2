//! What others put in the tool's way: file systems that are none, entries that are not what they seem,
//! emulators that anybody can replace, an environment that somebody else has set, and a machine that gives less and less.
//!
//! Input of the user's own that is wrong is in `bad_input.rs`, closed and full pipes in `cli.rs`, mount points in `mount.rs`,
//! single failures of system calls in `faults.rs`.

use std::fs::File;
use std::path::Path;
use std::thread;

use serde_json::Value;

use crate::harness::fake::needs_emulators;
use crate::harness::{BINFMT, Host, MOUNT_POINT, Output, emulators, old_emulators, program, tally};

/// Calls that would start an emulator as whoever calls, and what each says of one that is refused.
const STARTING: [(&[&str], &str); 4] = [
    (&["--install", "arm64"], "arm64 is not installed"),
    (&["--version"], "binfmt/"),
    (&["--verify", "arm64"], "qemu-aarch64"),
    (&["--run", "linux/arm64", "--", "true"], "programs for linux/arm64 do not run"),
];

/// None of these calls starts the emulator in `folder`, and each says why.
#[track_caller]
fn is_refused(host: &Host, folder: &Path, why: &[&str]) {
    for (args, words) in STARTING {
        let output = host.call(args).emulators(folder).run();
        let said = output.to_string();
        for word in why.iter().chain([&words]) {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
        assert!(output.status != 0 || args[0] == "--version", "{said}");
        assert_eq!(host.table(), "", "{said}");
    }
}

/// The remedy for a folder that users share, such as `/tmp`: its mode has to stay.
const SHARED: &str = "move the emulators to a folder of your own, and set QEMU_BINARY_PATH to that";

#[test]
fn an_emulator_that_others_can_replace_is_refused() {
    let host = Host::new();
    let files = [("qemu-aarch64", emulators()), ("qemu-riscv64", emulators())];
    for (open, mode, who, remedy) in [
        ("emulators/qemu-aarch64", "o+w", "any user", "chmod o-w"),
        ("emulators", "o+w", "any user", "chmod o-w"),
        (".", "o+w", "any user", "chmod o-w"),
        ("emulators/qemu-aarch64", "g+w", "group 0", "chmod g-w"),
        ("emulators", "g+w", "group 0", "chmod g-w"),
        // a link could be made there to a file of root's (fs.protected_hardlinks)
        ("emulators", "o+w,+t", "any user", SHARED),
        ("emulators", "g+w,+t", "group 0", SHARED),
    ] {
        let folder = host.folder("emulators", &files);
        let place = host.scratch().join(open);
        host.sh(&format!("chmod {mode} '{}'", place.display())).ok();
        is_refused(&host, &folder, &[&format!("replaced by {who}"), remedy]);
        if remedy == SHARED {
            let verified = host.call(&["--verify", "arm64"]).emulators(&folder).run();
            verified.ends(1).says(remedy).never_says("chmod");
        }
        host.sh(&format!("chmod go-w,-t '{}'", place.display())).ok();
        host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
        host.binfmt(&["--uninstall", "all"]).ok();
    }
}

/// Without flag C, whoever starts a foreign program would get the emulator's rights.
#[test]
fn an_emulator_that_gives_privileges_is_refused_and_named_where_it_is_registered() {
    let host = Host::new();
    for (give, what, take) in [
        ("chmod u+s", "is setuid", "chmod u-s,g-s"),
        ("chmod g+s", "is setgid", "chmod u-s,g-s"),
        ("setcap cap_net_raw=ep", "has file capabilities", "setcap -r"),
    ] {
        let folder = host.folder("emulators", &[("qemu-aarch64", emulators())]);
        let emulator = folder.join("qemu-aarch64");
        let binfmt = |args: &[&str]| host.call(args).emulators(&folder).run();
        host.sh(&format!("{give} '{}'", emulator.display())).ok();
        let take = format!("{take} {}", emulator.display());
        is_refused(&host, &folder, &[what, &take]);

        host.register("qemu-aarch64", "aarch64", &emulator, "OCF");
        binfmt(&["--status", "arm64"]).ok().prints_no(what);
        host.sh(&format!("echo -1 >{MOUNT_POINT}/qemu-aarch64")).ok();
        host.register("qemu-aarch64", "aarch64", &emulator, "F");
        binfmt(&["--status", "arm64"]).ok().prints(&format!("{what}, so programs that any user starts"));
        let verified = binfmt(&["--verify", "--credentials", "no"]).ends(1).prints(&format!("its emulator {what}"));
        let repair = verified.line("binfmt: ").split_once("repair: ").expect("a repair").1;
        binfmt(&["--install", "arm64", "--credentials", "no"]).ends(1).says(&take);
        host.sh(&format!("PATH=/usr/sbin:$PATH; {}", repair.replace(" binfmt ", &format!(" {BINFMT} ")))).ok();
        binfmt(&["--verify"]).ok();
        host.runs_arm64();
        host.sh(&format!("{give} '{}'", emulator.display())).ok();
        // a copy replaces it
        let copies = host.folder("copies", &[("qemu-aarch64", emulators())]);
        host.call(&["--install", "arm64"]).emulators(&copies).run().ok().says("arm64 OK");
        host.call(&["--verify"]).emulators(&copies).run().ok();
        host.binfmt(&["--uninstall", "all"]).ok();
        host.sh(&format!("rm '{}'", emulator.display())).ok();
    }
}

/// Nor are other translators left unmentioned, although an install leaves them.
#[test]
fn a_translator_of_others_that_gives_privileges_is_named() {
    let host = Host::new();
    let translator = host.scratch().join("translator");
    host.translator(&translator);
    host.sh(&format!("chmod u+s '{}'", translator.display())).ok();
    host.register("translator", "aarch64", &translator, "F");
    let verified = host.binfmt(&["--verify", "arm64"]).ends(1).prints("its emulator is setuid");
    verified.says(&format!("chmod u-s,g-s {}", translator.display()));
}

/// In a sticky folder such as /tmp: one's own folder there is safe, another user's is not, nor is what lies beside them.
#[test]
fn whoever_owns_a_place_on_the_way_is_trusted_only_if_root_or_the_caller() {
    let host = Host::of_many_users("");
    let sticky = host.scratch().join("sticky");
    let prepare = format!("mkdir '{0}'; chmod 1777 '{0}'", sticky.display());
    host.sh(&prepare).ok();
    let (own, theirs) = (sticky.join("own"), sticky.join("theirs"));
    for folder in [&own, &theirs] {
        host.folder(folder.to_str().unwrap(), &[("qemu-aarch64", emulators())]);
    }
    host.sh(&format!("chown 1000 '{}'", theirs.display())).ok();
    is_refused(&host, &theirs, &["replaced by user 1000", "QEMU_BINARY_PATH"]);
    host.sh(&format!(
        "ln -s '{0}/qemu-aarch64' '{1}/qemu-aarch64'; chown -h 1000 '{1}/qemu-aarch64'",
        own.display(),
        sticky.display()
    ))
    .ok();
    is_refused(&host, &sticky, &["replaced by any user"]);
    host.sh(&format!("chown 1000 '{}/qemu-aarch64'", own.display())).ok();
    is_refused(&host, &own, &["replaced by user 1000"]);
    host.sh(&format!("chown 0 '{}/qemu-aarch64'", own.display())).ok();
    host.call(&["--install", "arm64"]).emulators(&own).run().ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    // the caller may be somebody else than root
    host.sh(&format!("cp -r '{0}' '{1}/users'; chown -R 1000 '{1}/users'", own.display(), sticky.display())).ok();
    let folder = sticky.join("users");
    let user = ["--reuid=1000", "--regid=1000", "--clear-groups", BINFMT, "--version"];
    host.program("setpriv").args(&user).emulators(&folder).run().ok().never_says("qemu/none");
}

/// Its server decides which owners, modes and bytes the files show, even of a file that the kernel has pinned.
#[test]
fn an_emulator_on_another_users_fuse_file_system_is_refused() {
    let host = Host::of_many_users("");
    let scratch = host.scratch().display();
    let folder = host.folder("source", &[("qemu-aarch64", emulators())]);
    let mount = |user: &str, place: &str| {
        let capabilities = "--inh-caps=+sys_admin,+dac_override --ambient-caps=+sys_admin,+dac_override";
        let serve = format!(
            "cd '{scratch}'; mkdir {place}; setpriv --reuid={user} --regid={user} --clear-groups {capabilities} \
             bindfs -o allow_other --force-user=root --force-group=root --perms=0755 '{}' {place}; stat -c %u:%a {place}",
            folder.display()
        );
        host.sh(&serve).ok().prints("0:755\n");
        host.scratch().join(place)
    };
    let (theirs, own) = (mount("1000", "theirs"), mount("0", "own"));
    is_refused(&host, &theirs, &["replaced by user 1000, the owner of the FUSE file system at", "QEMU_BINARY_PATH"]);
    host.call(&["--install", "arm64"]).emulators(&own).run().ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    host.sh(&format!("umount '{}' '{}'", theirs.display(), own.display())).ok();
}

/// The kernel does not follow the text of a process's `root`, so neither may the look at the path.
#[test]
fn a_path_through_the_root_directory_of_a_process_leads_to_where_the_kernel_goes() {
    needs_emulators!();
    let host = Host::of_many_users("");
    host.folder("inside/emulators", &[("qemu-aarch64", emulators())]);
    let inside = host.scratch().join("inside");
    // a process whose root directory is `inside`, where the path /emulators is
    let busybox = program("amd64");
    let start = |user: &str| {
        let call = format!(
            "cp '{0}' '{1}/busybox'
             chroot --userspec={user}:{user} '{1}' /busybox sleep 100 >/dev/null 2>&1 & echo $!",
            busybox.display(),
            inside.display()
        );
        host.sh(&call).ok().stdout.trim().to_owned()
    };
    for (user, refused) in [("0", false), ("1000", true)] {
        let pid = start(user);
        let path = format!("/proc/{pid}/root/emulators");
        let output = host.call(&["--install", "arm64"]).emulators(Path::new(&path)).run();
        host.sh(&format!("kill {pid}")).ok();
        if refused {
            output.ends(1).says("replaced by user 1000");
        } else {
            output.ok();
            host.runs_arm64();
            host.binfmt(&["--uninstall", "all"]).ok();
        }
    }
}

/// By way of a link whose folder anybody may write to.
#[test]
fn a_link_to_an_emulator_is_as_safe_as_its_folder() {
    let host = Host::new();
    let folder = host.scratch().join("links");
    let prepare = format!(
        "mkdir -m 777 '{0}'; ln -s '{1}' '{0}/qemu-aarch64'",
        folder.display(),
        emulators().join("qemu-aarch64").display()
    );
    host.sh(&prepare).ok();
    let install = || host.call(&["--install", "arm64"]).emulators(&folder).run();
    install().ends(1).says("replaced by any user");
    host.sh(&format!("chmod +t '{}'", folder.display())).ok();
    install().ends(1).says("replaced by any user");
    host.sh(&format!("chmod 755 '{}'", folder.display())).ok();
    install().ok();
    host.binfmt(&["--uninstall", "all"]).ok();
    // a folder that is neither on the path that was given nor on the one that the file has
    let between = host.scratch().join("between");
    let detour = format!(
        "mkdir -m 777 '{0}'; ln -s '{1}' '{0}/next'; ln -s '{0}/next' '{1}/first'; ln -sf first/../links/../between/next/second '{1}/qemu-aarch64'; ln -s '{2}' '{1}/second'",
        between.display(),
        folder.display(),
        emulators().join("qemu-aarch64").display()
    );
    host.sh(&detour).ok();
    install().ends(1).ends_saying(&["replaced by any user", "between"]);
    host.sh(&format!("chmod go-w '{}'", between.display())).ok();
    install().ok();
}

/// What is said is what was looked at, and that is what the kernel has pinned, whatever the folder's owner does meanwhile: puts
/// another emulator there, or a FIFO, on which whoever opens it would wait.
#[test]
fn a_folder_that_changes_during_the_call_is_no_way_around_a_look() {
    let host = Host::new();
    for (name, make) in [("older", "cp"), ("fifo", "mkfifo -m 755")] {
        let folder = host.folder(name, &[("qemu-aarch64", emulators())]);
        let old = old_emulators().join("qemu-aarch64");
        let from = if make == "cp" { old.to_str().unwrap() } else { "" };
        let swapping = format!(
            "cd '{}'; mv qemu-aarch64 new; {make} {from} other
             while [ ! -e stop ]; do ln -f new a; mv a qemu-aarch64; ln -f other a; mv a qemu-aarch64; done",
            folder.display()
        );
        let mut swapper = host.command("sh").args(["-c", &swapping]).spawn().unwrap();
        let mut installed = 0;
        for _ in 0..20 {
            let output = host.call(&["--install", "arm64"]).emulators(&folder).run();
            assert!(output.status <= 1, "{output}");
            if output.status == 0 {
                installed += 1;
                let status = host.binfmt(&["--status", "arm64", "--format", "json"]).ok();
                let pinned = status.json()["platforms"][0]["emulator"]["version"].clone();
                let pinned = pinned.as_str().expect("a version").to_owned();
                output.says(&format!("qemu-aarch64 {pinned}"));
            } else {
                assert_eq!(host.table(), "", "{output}");
            }
            host.binfmt(&["--uninstall", "all"]).ok();
        }
        std::fs::write(folder.join("stop"), "").unwrap();
        swapper.wait().unwrap();
        tally("installs from a folder that changes", 20);
        tally("of them done", installed);
    }
}

/// Counts what an emulator is given, and leaves a process behind: what it says as its version is descriptors, variables,
/// whether there is anything in its root directory, and its parent.
const NOSY: &str = "
    extern char **environ;
    int open = 0, set = 0;
    for (int i = 3; i < 4096; i++) { int copy = dup(i); if (copy >= 0) open++, close(copy); }
    while (environ[set]) set++;
    printf(\"qemu-aarch64 version 1.%d.%d.%d\\n\", open, set, !access(\"/proc\", F_OK) || !access(\"/etc\", F_OK));
    fflush(stdout);
    if (!fork()) { setsid(); if (!fork()) for (;;) pause(); }
    return 0;";

#[test]
fn an_emulator_is_given_nothing_and_leaves_nothing_behind() {
    let host = with_its_own_processes();
    let folder = host.folder("nosy", &[]);
    host.compile(&folder.join("qemu-aarch64"), NOSY);
    let script = format!(
        "for i in $(seq 3 1000); do eval \"exec $i</dev/null\"; done; QEMU_BINARY_PATH='{}' exec {BINFMT} --version",
        folder.display()
    );
    host.program("bash").args(["-c", &script]).run().ok().says("qemu/v1.0.0.0\n");
    assert_eq!(processes(&host), 0);
    host.call(&["--install", "arm64"]).emulators(&folder).run().ends(1);
    assert_eq!(processes(&host), 0);
}

/// Each of its processes ends at once, having started the next, so that whoever ends them one by one comes too late.
#[test]
fn an_emulator_that_forks_all_the_time_ends_with_its_limit() {
    let host = with_its_own_processes();
    let folder = host.folder("forking", &[]);
    let storm = "if (!fork()) for (;;) if (fork()) _exit(0);";
    for body in [storm.to_owned(), format!("{storm} for (;;) pause();")] {
        host.compile_emulator(&folder.join("qemu-aarch64"), &body);
        let began = std::time::Instant::now();
        host.call(&["--install", "arm64"]).emulators(&folder).run().ends(1).ends_saying(&["arm64 is not installed"]);
        assert!(began.elapsed().as_secs() < 45, "{:?}", began.elapsed());
        assert_eq!(processes(&host), 0);
        assert_eq!(host.table(), "");
    }
}

#[test]
fn closed_descriptors_are_nobodys() {
    let host = Host::new();
    let closed =
        |args: &str| host.program("sh").args(["-c", &format!("{BINFMT} {args}")]).emulators(&emulators()).run().ok();
    closed("--install arm64 <&- >&- 2>&-");
    host.runs_arm64();
    closed("--status arm64 <&- 2>&-").prints("works");
}

/// A host whose processes can be counted.
fn with_its_own_processes() -> Host {
    let namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];
    let mount = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc";
    Host::with(&namespaces, &format!("{mount}; mount -t proc proc /proc; {mount}"))
}

/// Processes there but for the one that keeps it, and the shell that counts.
fn processes(host: &Host) -> usize {
    let numbers = host.sh("set -- /proc/[0-9]*; echo $#").ok().stdout;
    numbers.trim().parse::<usize>().expect("a number") - 2
}

#[test]
fn entries_that_pass_for_ours_are_seen_through() {
    let host = Host::new();
    let folder = host.folder("others", &[]);
    let liar = folder.join("qemu-aarch64");
    host.compile_emulator(&liar, "return 0;");
    // the right name, magic and flags, and something else behind it
    host.register("qemu-aarch64", "aarch64", &liar, "POCF");
    host.binfmt(&["--status", "arm64"]).ends(1);
    host.binfmt(&[]).ok().prints_no("linux/arm64");
    host.binfmt(&["--verify", "arm64"]).ends(1);
    host.binfmt(&["--install", "arm64"]).ok();
    host.runs_arm64();
    // our name for somebody else's magic
    host.register_other("qemu-riscv64", b"nobody's magic");
    let before = host.table();
    host.binfmt(&["--uninstall", "riscv64"]).ok().says("uninstalling: riscv64 not found");
    host.binfmt(&["--uninstall", "qemu-riscv64"]).ends(1).ends_saying(&["not one of QEMU's; --force removes it"]);
    host.binfmt(&["--install", "riscv64"]).ends(1).ends_saying(&["qemu-riscv64", "not QEMU's; --force replaces it"]);
    assert_eq!(host.table(), before);
    host.binfmt(&["--uninstall", "all"]).ok();
    assert_eq!(host.entries(), ["qemu-riscv64"], "all is all of QEMU's");
    host.binfmt(&["--install", "riscv64", "--force"]).ok();
    assert!(host.runs("riscv64").is_ok());
}

/// A translator that is not QEMU does not become QEMU's by the name of its entry. The name of its interpreter counts: that is how
/// wrappers and packed builds are named.
#[test]
fn an_entrys_name_does_not_make_it_qemus() {
    let host = Host::new();
    let folder = host.folder("translators", &[]);
    let (other, wrapper) = (folder.join("translator"), folder.join("qemu-aarch64"));
    host.translator(&other);
    host.translator(&wrapper);
    host.register("qemu-aarch64", "aarch64", &other, "POCF");
    let before = host.table();
    for args in [["--uninstall", "all"], ["--uninstall", "arm64"], ["--uninstall", "qemu-*"], ["--reset", "--verbose"]]
    {
        host.binfmt(&args);
        assert_eq!(host.table().matches("[qemu-aarch64]").count(), 1, "{args:?}");
        assert!(host.table().contains(before.trim()), "{args:?}: {}", host.table());
    }
    host.binfmt(&["--uninstall", "qemu-aarch64"]).ends(1).ends_saying(&["not one of QEMU's; --force removes it"]);
    host.binfmt(&["--install", "arm64"]).ok().says("left to qemu-aarch64");
    assert!(host.table().contains(before.trim()), "{}", host.table());
    host.binfmt(&["--install", "arm64", "--force"]).ok();
    host.runs_arm64();
    host.binfmt(&["--uninstall", "all"]).ok();
    assert_eq!(host.table(), "");
    host.register("of-a-wrapper", "aarch64", &wrapper, "POCF");
    host.binfmt(&["--uninstall", "all"]).ok().says("of-a-wrapper");
    assert_eq!(host.table(), "");
}

/// Nothing that a terminal acts on, and nothing invisible, comes out as it is. JSON has the same value all the same.
#[test]
fn names_are_shown_without_what_a_terminal_acts_on() {
    let host = Host::new();
    let long = "n".repeat(255 - "qemu-".len());
    let names = [
        "qemu-\n[31m",
        "qemu-\x1b]0;title\x07",
        "qemu-\r\x08\x08OK",
        "qemu-\u{202e}46mra",
        "qemu-\u{9b}31m",
        "qemu-\u{200b}aarch64",
        "qemu-\u{e0041}",
        &format!("qemu-{long}"),
    ];
    for (number, name) in names.iter().enumerate() {
        host.register_other(name, format!("magic {number}").as_bytes());
    }
    host.binfmt(&["--install", "arm64"]).ok();
    for args in [
        &[][..],
        &["--status"],
        &["--status", "--format", "json"],
        &["--list"],
        &["--verify"],
        &["--verify", "arm64"],
        &["--uninstall", "qemu-*", "--force"],
    ] {
        let output = host.binfmt(args);
        for text in [&output.stdout, &output.stderr] {
            assert!(!text.contains(acts_or_hides), "{args:?}: {text:?}");
        }
        if args.is_empty() {
            let listed = output.list("emulators");
            assert!(names.iter().all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");
        }
    }
    assert_eq!(host.entries(), [""; 0], "even these can be uninstalled");
}

/// Asked for its version, an emulator is started out of reach of the caller's descriptors.
#[test]
fn without_privilege_an_emulator_is_asked_for_its_version_too() {
    let host = Host::of_many_users("");
    let folder = host.folder("printed", &[]);
    host.compile(&folder.join("qemu-aarch64"), "puts(\"qemu-aarch64 version 9.9\"); return 0;");
    let user = ["--reuid=1000", "--regid=1000", "--clear-groups", BINFMT, "--version"];
    host.program("setpriv").args(user).emulators(&folder).run().ok().says("qemu/v9.9\n");
}

fn acts_or_hides(c: char) -> bool {
    let hides = ['\u{200b}', '\u{e0041}'].contains(&c) || ('\u{202a}'..='\u{202e}').contains(&c);
    c.is_control() && c != '\n' || hides
}

/// Neither the version in its bytes nor the one that it prints.
#[test]
fn an_emulator_cannot_write_to_the_terminal() {
    let host = Host::new();
    let (in_bytes, printed) = (host.folder("bytes", &[]), host.folder("printed", &[]));
    let version = r"qemu-aarch64 version 9.9\033[31m\033]0;title\007\302\2331m\342\200\256";
    let literal = format!(
        "static volatile char text[] = \"{version} (Debian 1\\033[2J)\\nCopyright (c) 2003-2024 F\"; return text[0] == 'x';"
    );
    host.compile(&in_bytes.join("qemu-aarch64"), &literal);
    host.compile(&printed.join("qemu-aarch64"), &format!("puts(\"{version}\"); return 0;"));
    for folder in [in_bytes, printed] {
        host.register("qemu-aarch64", "aarch64", &folder.join("qemu-aarch64"), "F");
        for args in [&["--version"][..], &["--status"], &["--status", "--format", "json"], &["--install", "arm64"]] {
            let output = host.call(args).emulators(&folder).run();
            let said = output.to_string();
            assert!(said.contains("9.9") || args[0] == "--install", "{said}");
            assert!(!said.contains(acts_or_hides), "{said:?}");
        }
        host.binfmt(&["--uninstall", "all"]).ok();
    }
}

#[test]
fn a_file_system_with_files_of_these_names_is_no_table() {
    let host = Host::new();
    let place = host.scratch().join("place");
    let path = place.to_str().expect("text");
    host.sh(&format!(
        "mkdir '{path}'; mount -t tmpfs none '{path}'; cd '{path}'; echo enabled >status; touch register"
    ))
    .ok();
    refuses(&host, path);
    let content = host.sh(&format!("cat '{path}/register'")).ok();
    assert_eq!(content.stdout, "", "nothing was written");
}

/// Of a user's own, in a user namespace, as any user may mount one.
#[test]
fn a_fuse_file_system_is_no_table() {
    let host = Host::new();
    let scratch = host.scratch().display();
    let mounted = host.sh(&format!(
        "cd '{scratch}'; mkdir from place; touch from/register; echo enabled >from/status; \
         bindfs --no-allow-other from place"
    ));
    mounted.ok();
    let place = host.scratch().join("place");
    let seen = host.sh(&format!("stat -f -c %T '{}'", place.display())).ok();
    assert_eq!(seen.stdout.trim(), "fuseblk");
    refuses(&host, place.to_str().expect("text"));
    let content = host.sh(&format!("cat '{}/register'", place.display()));
    assert_eq!(content.ok().stdout, "", "nothing was written");
    host.sh(&format!("umount '{}'", place.display())).ok();
}

/// A sparse file may claim terabytes: its digest is not worth the hours.
#[test]
fn an_emulator_of_terabytes_holds_nobody_up() {
    let host = Host::new();
    let folder = host.folder("sparse", &[("qemu-aarch64", emulators())]);
    let file = File::options().write(true).open(folder.join("qemu-aarch64"));
    file.expect("a copy").set_len(8 << 40).expect("a sparse file");
    host.call(&["--install", "arm64"]).emulators(&folder).run().ok();
    let status = host.binfmt(&["--status", "arm64", "--json"]).ok().json();
    let platforms = status["platforms"].as_array().expect("a list");
    let emulator = platforms.iter().find(|it| it["platform"] == "linux/arm64");
    let emulator = &emulator.expect("it was asked for")["emulator"];
    assert_eq!(emulator["size"], 8_u64 << 40, "{status:#}");
    assert_eq!(emulator["sha256"], Value::Null);
}

/// What it does with a program is known then, so it is neither asked for its version nor tried again.
#[test]
fn an_emulator_that_hangs_is_waited_for_once() {
    let host = Host::new();
    let emulator = host.folder("hanging", &[]).join("qemu-aarch64");
    host.compile(&emulator, "for (;;) pause();");
    host.register("qemu-aarch64", "aarch64", &emulator, "F");
    let (program, others, same) = (program("arm64"), emulators(), emulator.parent().unwrap());
    let explain = ["--explain", program.to_str().unwrap()];
    let calls: [(&[&str], &Path); 5] = [
        (&["--status", "arm64"], &others),
        (&["--verify"], &others),
        (&["--verify"], same),
        (&["--status", "arm64", "--json"], same),
        (&explain, same),
    ];
    thread::scope(|scope| {
        for (args, folder) in calls {
            let host = &host;
            scope.spawn(move || {
                let output = host.call(args).emulators(folder).run().ends(1);
                assert!(output.to_string().contains("timed out"), "{output}");
                assert_eq!(output.stderr.matches("waiting for an emulator to end").count(), 1, "{output}");
            });
        }
    });
}

/// The handler has no flag F, so the path decides when a program starts.
#[test]
fn an_interpreter_that_a_stranger_owns_is_not_started() {
    let host = Host::of_many_users("");
    let (folder, program) = (host.folder("theirs", &[]), program("arm64"));
    let (interpreter, trace) = (folder.join("interpreter"), folder.join("trace"));
    host.compile(&interpreter, &format!("return !fopen(\"{}\", \"w\") || puts(\"ran\") < 0;", trace.display()));
    host.register("mine", "aarch64", &interpreter, "");
    let explain = || host.binfmt(&["--explain", program.to_str().unwrap()]);
    host.sh(&format!("chown 1000 '{}'", interpreter.display())).ok();
    explain().ends(1).ends_saying(&["mine", "was not tried"]);
    assert!(!trace.exists());
    // nor behind a link of root's
    let link = host.scratch().join("link");
    host.sh(&format!("ln -s '{}' '{}'; echo -1 >{MOUNT_POINT}/mine", interpreter.display(), link.display())).ok();
    host.register("mine", "aarch64", &link, "");
    explain().ends(1).ends_saying(&["mine", "was not tried"]);
    assert!(!trace.exists());
    // nor by way of a file of root's that leads to it: as a script, its loader, its library, another entry's interpreter
    for (what, make) in [
        ("script", "printf '#!%s\\n' $theirs >$own; chmod 755 $own"),
        ("loader", "echo 'int main() { return 0; }' | cc -x c -o $own - -Wl,--dynamic-linker=$theirs"),
        ("library", "echo 'int main() { return 0; }' | cc -x c -o $own - -Wl,-rpath,${theirs%/*}"),
    ] {
        let own = host.scratch().join(what);
        let variables = format!("own='{}'; theirs='{}'", own.display(), interpreter.display());
        host.sh(&format!("{variables}; {make}; echo -1 >{MOUNT_POINT}/mine")).ok();
        host.register("mine", "aarch64", &own, "");
        explain().ends(1).ends_saying(&["mine", "was not tried", what, "is not a static program of this host"]);
        assert!(!trace.exists(), "{what}");
    }
    let taken = host.scratch().join("own.taken");
    host.compile(&taken, "return 0;");
    host.sh(&format!("echo -1 >{MOUNT_POINT}/mine")).ok();
    host.register("mine", "aarch64", &taken, "");
    host.register_line(format!(":takes:E::taken::{}:", interpreter.display()).as_bytes());
    explain().ends(1).ends_saying(&["mine", "was not tried: takes takes its interpreter"]);
    assert!(!trace.exists());
    host.sh(&format!("echo -1 >{MOUNT_POINT}/mine; chown 0 '{}'", interpreter.display())).ok();
    host.register("mine", "aarch64", &interpreter, "");
    explain().ends(1);
    assert!(trace.exists());
}

/// An anchor that root of a user namespace may be able to change is the host's.
#[test]
fn the_anchor_of_the_host_stays_when_a_user_namespace_has_no_handlers_left() {
    let host = Host::with(&["--user", "--map-root-user", "--mount"], "");
    let events = "p:binfmt/anchor /proc/sys/fs/binfmt_misc/register:0x0000000000000000\n";
    host.sh(&format!(
        "mount -t tmpfs none /sys/kernel/tracing; printf '{events}' >/sys/kernel/tracing/uprobe_events
         mount -t binfmt_misc none {MOUNT_POINT}"
    ))
    .ok();
    for args in [&["--install", "arm64"][..], &["--install", "amd64"], &["--uninstall", "all"], &["--install", "amd64"]]
    {
        host.binfmt(args).ok();
        host.sh("cat /sys/kernel/tracing/uprobe_events").ok().prints(events);
    }
}

/// A process that waits in a system call for a FUSE server gets no signal but one that kills it.
#[test]
fn told_to_end_a_call_that_holds_waits_for_no_file_system() {
    let host = Host::new();
    let scratch = host.scratch().display();
    let emulators = emulators();
    let emulators = emulators.display();
    let held = host.sh(&format!(
        "cd '{scratch}'; mkdir place
         bindfs -f --no-allow-other '{emulators}' place & server=$!
         until mountpoint -q place; do sleep 0.1; done
         kill -STOP $server
         QEMU_BINARY_PATH=$PWD/place '{BINFMT}' --hold --install arm64 & call=$!
         sleep 1; kill -TERM $call
         status=0; wait $call || status=$?
         kill -KILL $server; umount --lazy place
         echo $status"
    ));
    assert_eq!(held.ok().says("does not answer").stdout, "1\n");
}

/// Whoever was to read its lines does not.
#[test]
fn told_to_end_a_call_that_holds_waits_for_no_reader() {
    let host = Host::new();
    let scratch = host.scratch().display();
    let emulators = emulators();
    let emulators = emulators.display();
    let held = host.sh(&format!(
        "cd '{scratch}'; mkfifo lines; sleep 100 <>lines & reader=$!
         dd if=/dev/zero of=lines bs=4096 count=16 2>/dev/null
         QEMU_BINARY_PATH='{emulators}' '{BINFMT}' --hold --install arm64 2>lines & call=$!
         sleep 1; kill -TERM $call
         status=0; wait $call || status=$?
         kill $reader; echo $status"
    ));
    assert_eq!(held.ok().stdout, "1\n");
}

#[track_caller]
fn refuses(host: &Host, place: &str) {
    for args in [&["--install", "arm64"][..], &["--uninstall", "all"], &["--status"]] {
        let refused = host.binfmt(&[&["--mount", place], args].concat());
        refused.ends(1).ends_saying(&["something else than binfmt_misc", place]);
    }
}

#[test]
fn an_environment_that_somebody_else_has_set_changes_nothing() {
    let host = Host::new();
    let log = host.scratch().join("log");
    let call = |args: &[&str]| {
        let call = host.program("env").args([
            "QEMU_LOG=page,strace",
            "QEMU_STRACE=1",
            "QEMU_LD_PREFIX=/nowhere",
            "QEMU_CPU=none",
            "QEMU_GDB=1234",
            "QEMU_RESERVED_VA=1",
            "LD_PRELOAD=/nowhere",
            "RUST_BACKTRACE=full",
            "PATH=.",
            "IFS=/",
        ]);
        call.args([format!("QEMU_LOG_FILENAME={}", log.display())]).args([BINFMT]).args(args).emulators(&emulators())
    };
    call(&["--install", "arm64"]).run().ok().says("arm64 OK (qemu-aarch64 ");
    let status = call(&["--status", "arm64"]).run().ok();
    let table = status.stdout.lines().take_while(|line| !line.is_empty());
    assert_eq!(table.count(), 2, "{status}");
    call(&["--verify", "arm64"]).run().ok();
    assert!(!log.exists(), "an emulator wrote a log");
    host.runs_arm64();
}

/// From what is plenty down to nothing: whatever comes of it, it is said, and what works goes on.
#[test]
fn limits_down_to_nothing_are_honest() {
    let host = Host::new();
    for (limit, values, least) in [
        ("nofile", &[64, 24, 16, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0][..], 1),
        ("as", &[1_u64 << 33, 1 << 29, 1 << 27, 1 << 26, 1 << 25, 1 << 24, 1 << 23], 1),
        ("fsize", &[1 << 20, 4096, 100, 1, 0], 1),
        // a static program makes do with little
        ("stack", &[1 << 23, 1 << 18, 1 << 16, 1 << 14], 0),
        ("data", &[1 << 26, 1 << 22, 1 << 20, 1 << 16, 0], 1),
        ("cpu", &[1], 0),
    ] {
        let failed = values.iter().filter(|value| !is_done_with(&host, "", limit, **value));
        assert!(failed.count() >= least, "no {limit} was too little");
    }
}

/// The host's root may have as many as it likes, so it is somebody else with all of root's privileges.
#[test]
fn a_limit_of_processes_is_honest() {
    let host = Host::of_many_users("");
    let who = "setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=+all --ambient-caps=+all --";
    assert!(is_done_with(&host, who, "nproc", 64));
    let failed = [8, 4, 3, 2, 1, 0].map(|value| !is_done_with(&host, who, "nproc", value));
    assert!(failed[1..].contains(&true), "none was too little");
}

/// Whether an upgrade under this limit of resources does what it is to do. Either way, its status says so, and no program is
/// lost.
#[track_caller]
fn is_done_with(host: &Host, who: &str, limit: &str, value: u64) -> bool {
    host.call(&["--install", "arm64,riscv64"]).emulators(&old_emulators()).env("QEMU_BINARY_REPLACE", "1").run().ok();
    let limited = format!("{who} prlimit --{limit}={value} -- {BINFMT} --install arm64,riscv64");
    let output = host.program("sh").args(["-c", &limited]).emulators(&emulators()).run();
    let what = format!("{limit} {value}: {output}");
    let new = |name: &str| {
        let path = emulators().join(name);
        host.entry(name).unwrap_or_default().contains(&format!("interpreter {}\n", path.display()))
    };
    let done = ["qemu-aarch64", "qemu-riscv64"].map(new);
    assert!(output.status != 0 || done == [true; 2], "{what}");
    assert_ne!(output.status, 124, "{what}");
    let told = !output.stderr.trim().is_empty();
    assert!(output.status == 0 || told, "{what}");
    for debian in ["arm64", "riscv64"] {
        assert!(host.runs(debian).is_ok(), "{debian}: {what}");
    }
    host.binfmt(&["--install", "arm64,riscv64"]).ok();
    let mut entries = host.entries();
    entries.sort();
    assert_eq!(entries, ["qemu-aarch64", "qemu-riscv64"], "{what}");
    tally("limits tried", 1);
    output.status == 0
}

/// As container runtimes and services of systemd do it. C libraries differ in the calls by which they open a file and ask
/// about it, hence the names of several.
#[test]
fn filters_of_system_calls_are_honest() {
    let host = Host::new();
    let inject = host.injector();
    for names in ["ptrace", "chroot", "mount", "unshare", "prctl", "fcntl", "stat,newfstatat,statx", "open,openat"] {
        host.binfmt(&["--uninstall", "all"]).ok();
        let mut forbidden = false;
        for args in [&["--install", "arm64"][..], &["--status", "arm64"]] {
            let report = host.scratch().join("report");
            let call = host.program(&inject).args([&report]).args(["forbid", names, "0", BINFMT]).args(args);
            let output = call.emulators(&emulators()).run();
            let report = std::fs::read_to_string(&report).expect("a report");
            forbidden |= report.contains("is forbidden");
            let works = host.runs("arm64").is_ok();
            assert!(output.status != 0 || works, "{names}: {output}");
            let told = output.stderr.lines().next_back().unwrap_or_default();
            assert!(output.status == 0 || !told.is_empty(), "{names}: {output}");
            let stray = |entry: &String| entry != "qemu-aarch64";
            assert!(!host.entries().iter().any(stray), "{names}: {output}");
        }
        assert!(forbidden, "{names} was never called");
    }
}

/// There, its own number is another process's, and so are those of the programs that it starts.
#[test]
fn nothing_is_read_of_other_processes_where_proc_is_of_another_pid_namespace() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    let there = |args: &str| host.sh(&format!("exec unshare --pid --fork --kill-child {BINFMT} {args}"));
    let remedy = "/proc is of another PID namespace; mount it: mount -t proc proc /proc";
    there("--status arm64").ok().prints(remedy);
    there("--run arm64 -- true").ends(125).ends_saying(&[remedy]);
    // the last line says the same as the finding
    there("--verify arm64").ends(1).prints(remedy).ends_saying(&["mount -t proc proc /proc"]).never_says("strace");
}

#[test]
fn the_first_process_of_a_container_without_proc_says_what_is_missing() {
    let host = Host::new();
    host.binfmt(&["--install", "arm64"]).ok();
    for args in ["--install riscv64", "--uninstall arm64", "--status arm64", ""] {
        let script = format!(
            "exec unshare --mount --pid --fork --kill-child sh -c 'mount -t tmpfs none /proc && exec {BINFMT} {args}'"
        );
        let output: Output = host.sh(&script);
        output.ends(1).ends_saying(&["/proc"]);
    }
    host.runs_arm64();
}
