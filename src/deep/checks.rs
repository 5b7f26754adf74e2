//! What is tried with a root file system: scripts of a POSIX shell, and what each prints if all is well.

/// What a script says when the root file system is not made for it; what follows says why.
pub(super) const UNTRIED: &str = "untried: ";

/// One thing to try.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// The programs that it needs besides the shell.
    pub(super) programs: &'static [&'static str],
    /// The directories that it needs.
    pub(super) folders: &'static [&'static str],
    /// Whether it needs a handler that honours the setuid bit.
    pub(super) credentials: bool,
    pub(super) script: &'static str,
    /// What it prints if all is well.
    pub(super) expected: &'static str,
}

const fn check(name: &'static str, script: &'static str, expected: &'static str) -> Check {
    Check {
        name,
        programs: &[],
        folders: &[],
        credentials: false,
        script,
        expected,
    }
}

/// What all others rest on.
pub(super) const START: Check = check("start", "echo ok", "ok");

pub(super) const CHECKS: &[Check] = &[
    check("fork and exec", "/bin/sh -c 'exit 7'; echo $?", "7"),
    check(
        "pipes",
        "echo abc | while read -r x; do echo \"<$x>\"; done",
        "<abc>",
    ),
    check(
        "signals",
        "trap 'echo caught' USR1; kill -USR1 $$; /bin/sh -c 'kill -TERM $$'; echo $?",
        "caught\n143",
    ),
    check(
        "memory",
        "x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do x=$x$x; done; echo ${#x}",
        "1048576",
    ),
    // a 32-bit program does not get the offsets of a 64-bit file system as they are
    check(
        "directories",
        "for f in /bin/*; do [ \"$f\" != /bin/sh ] || echo found; done",
        "found",
    ),
    Check {
        folders: &["dev"],
        ..check(
            "background jobs",
            "/bin/sh -c 'exit 3' & wait $!; echo $?; while :; do :; done & kill -KILL $!; wait $! 2>/dev/null; echo $?",
            "3\n137",
        )
    },
    Check {
        programs: &["chmod"],
        folders: &["tmp"],
        ..check(
            "scripts",
            "printf '#!/bin/sh\\necho $0 $1\\n' >/tmp/s; chmod +x /tmp/s; /tmp/s one",
            "/tmp/s one",
        )
    },
    // coreutils' sort makes a thread for half of more than 131072 lines (SUBTHREAD_LINES_HEURISTIC in its sort.c)
    Check {
        programs: &["sort", "seq", "tail"],
        folders: &["dev"],
        ..check(
            "threads",
            "case $(sort --version 2>/dev/null) in *coreutils*) ;; *) echo 'untried: its sort is not coreutils'\\'''; exit ;; esac
             seq 200000 -1 1 | sort -n --parallel=2 -S 50M | tail -n 1",
            "200000",
        )
    },
    Check {
        programs: &["id", "cp", "chmod", "chown"],
        folders: &["dev", "tmp"],
        credentials: true,
        ..check(
            "setuid",
            "cp \"$(command -v id)\" /tmp/id; chown 65534 /tmp/id 2>/dev/null || { echo 'untried: there is no other user here'; exit; }
             chmod 4755 /tmp/id; /tmp/id -u",
            "65534",
        )
    },
];
