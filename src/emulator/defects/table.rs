//! The facts: one row per defect of QEMU's user emulators that people who build containers meet.
//!
//! To add a row, write what a user meets, the versions, and where that can be read; `tests` in `defects.rs` checks the rest. A
//! version is affected from the first number of a pair until just before the second, so the second is a release that is free of
//! the defect. Take the numbers from the announcements of QEMU's stable releases, not from the day of a report.
//!
//! Order: what no release is free of, then the newest affected version first.

use super::{ALL, Builds, Defect, Guests, before, between};

/// A row of the ordinary kind; what differs is set around it.
const ROW: Defect = Defect {
    name: "",
    effect: "",
    versions: ALL,
    guests: Guests::All,
    builds: Builds::All,
    fixed_packages: &[],
    patch: None,
    sources: &[],
};

pub(super) static DEFECTS: [Defect; 9] = [
    // linux-user/syscall.c, do_fork: CLONE_INVALID_FORK_FLAGS has the flags of all namespaces.
    Defect {
        name: "namespaces",
        effect: "bwrap and other programs that make namespaces fail (clone: Invalid argument)",
        patch: Some("25-namespaces-by-clone"),
        sources: &[
            "https://github.com/multiarch/qemu-user-static/issues/168",
            "https://github.com/systemd/systemd/issues/28901",
        ],
        ..ROW
    },
    // The kernel takes the emulator for a 64-bit program, and gives it positions of 64 bits.
    Defect {
        name: "readdir",
        effect: "cargo and others cannot list directories on ext4 (Value too large for defined data type)",
        guests: Guests::Of32Bits,
        patch: Some("26-positions-in-directories"),
        sources: &[
            "https://github.com/rust-lang/cargo/issues/8719",
            "https://bugzilla.kernel.org/show_bug.cgi?id=205957",
        ],
        ..ROW
    },
    // zero_bss in linux-user/elfload.c. In Debian's changelog for 10.0.10; the source of 10.2.2 does not have the repair.
    Defect {
        name: "read-only-bss",
        effect: "programs with zeroed data in a read-only segment, as packers make them, crash or are refused",
        versions: &[before("10.0.10"), between("10.1", "10.2.3")],
        sources: &[
            "https://gitlab.com/qemu-project/qemu/-/issues/1102",
            "https://gitlab.com/qemu-project/qemu/-/issues/3179",
        ],
        ..ROW
    },
    // O_LARGEFILE of musl is not glibc's, and aarch64's header did not say its own. QEMU has the repair from 10.0.8 on, the
    // incumbent's 10.1.3 has a patch.
    Defect {
        name: "openat2-flags",
        effect: "tar of Ubuntu, RHEL 10 and others cannot extract (openat2: Invalid argument)",
        versions: &[between("9.2", "10.0.8"), between("10.1", "10.1.3")],
        guests: Guests::Only(&["aarch64"]),
        builds: Builds::Incumbents,
        sources: &[
            "https://github.com/tonistiigi/binfmt/issues/285",
            "https://gitlab.com/qemu-project/qemu/-/issues/3262",
        ],
        ..ROW
    },
    // The lock came with commit c093364f4d91, the repair is e4e839b2eeea.
    Defect {
        name: "fork-lock",
        effect: "uv and other programs with threads hang now and then when they start another program",
        versions: &[between("6.1", "7.2.19"), between("8.0", "10.0.3")],
        sources: &[
            "https://gitlab.com/qemu-project/qemu/-/commit/e4e839b2eeea5745c48ce47144c7842eb7cd455f",
            "https://gitlab.com/qemu-project/qemu/-/issues/2846",
        ],
        ..ROW
    },
    // QARMA5, an algorithm for hardware, was the default of "-cpu max" until commit 132f8ec799ce.
    Defect {
        name: "pauth",
        effect: "programs of Debian 13 and others with pointer authentication run several times slower",
        versions: &[between("4.0", "10.0")],
        guests: Guests::Only(&["aarch64"]),
        sources: &[
            "https://github.com/docker-library/python/issues/1072",
            "https://github.com/armbian/build/pull/9371",
        ],
        ..ROW
    },
    // Commit aec338d63bc2, in 8.1.1; the repair is 4b7b20a3b72c.
    Defect {
        name: "ldconfig",
        effect: "ldconfig of Ubuntu 22.04 and Debian 11 crashes, and with it the setup of libc-bin",
        versions: &[between("8.1.1", "8.2.10"), between("9.0", "9.2.2")],
        guests: Guests::Only(&["aarch64"]),
        fixed_packages: &["Debian 1:8.2.2+ds-0ubuntu1.7", "Debian 1:9.0.2+ds-4ubuntu5.3"],
        sources: &[
            "https://gitlab.com/qemu-project/qemu/-/issues/1913",
            "https://bugs.launchpad.net/ubuntu/+source/qemu/+bug/2072564",
        ],
        ..ROW
    },
    // Commit 9651cead2f1b, in 9.2.
    Defect {
        name: "openat2",
        effect: "tar of Ubuntu 26.04 and others cannot extract (openat2: Function not implemented)",
        versions: &[before("9.2")],
        sources: &["https://github.com/abiosoft/colima/issues/1613", "https://github.com/armbian/build/issues/10713"],
        ..ROW
    },
    // pidfd_open works, and clone refuses CLONE_PIDFD.
    Defect {
        name: "go-1.23.0",
        effect: "programs built with Go 1.23.0 cannot start others (fork/exec: invalid argument)",
        versions: &[between("7.2", "8.0")],
        sources: &["https://github.com/golang/go/issues/69259", "https://github.com/golang/go/issues/68976"],
        ..ROW
    },
];
