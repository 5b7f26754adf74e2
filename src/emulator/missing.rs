//! Where to get emulators that are missing, by where they were looked for.

use std::fs;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// In a directory that was named.
    Named,
    /// Where packages have them.
    System,
    /// In the image, which has those that it was built with.
    Image,
}

impl Home {
    /// What to do where the emulator of this file name is missing; `has_others`: emulators of other architectures are there.
    pub(super) fn remedy_for_one(self, name: &str, has_others: bool) -> String {
        match self {
            Self::Image => {
                format!("build the image with it: make image TARGETS={},…", target_of(name))
            }
            _ if has_others => "set QEMU_BINARY_PATH to the directory that has it, or put it there".to_owned(),
            _ => self.remedy_for_all(),
        }
    }

    /// What to do where all emulators are missing.
    pub(super) fn remedy_for_all(self) -> String {
        const FETCH: &str = "make emulators fetches them into build/emulators";
        let set = "set QEMU_BINARY_PATH to the directory of the emulators";
        match self {
            Self::Image => "build the image with some: make image TARGETS=aarch64,…".to_owned(),
            Self::Named => format!("{set}; {FETCH}"),
            Self::System => {
                let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
                let install = install(&os_release);
                format!("{install}, use the image (make image), or {set}; {FETCH}")
            }
        }
    }
}

/// QEMU's target in the name of an emulator.
pub(super) fn target_of(name: &str) -> &str {
    name.rsplit("qemu-").next().unwrap_or(name)
}

/// How the distribution of this `os-release(5)` has static emulators installed. Debian's qemu-user is static since QEMU
/// 9.1, which Debian 13 and Ubuntu 25.04 have.
fn install(os_release: &str) -> String {
    let value = |name| {
        let mut lines = os_release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\''])
    };
    let before = |static_since: u32| {
        let major = value("VERSION_ID").split('.').next().unwrap_or_default();
        major.parse::<u32>().is_ok_and(|major| major < static_since)
    };
    let command = match value("ID") {
        "debian" if before(13) => "apt install qemu-user-static",
        "ubuntu" if before(25) => "apt install qemu-user-static",
        "debian" | "ubuntu" => "apt install qemu-user",
        // where qemu-user has the static emulators, this package depends on it
        _ if value("ID_LIKE").split(' ').any(|id| id == "debian") => "apt install qemu-user-static",
        "fedora" => "dnf install qemu-user-static",
        "arch" => "pacman -S qemu-user-static",
        _ => return "install your distribution's static QEMU user emulators".to_owned(),
    };
    format!("install them: {command}")
}
