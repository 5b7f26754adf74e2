//! Whose loader it is that a program asks for, by its file name, and how it comes to be there. Pure.
//!
//! Rests on the psABIs' and musl's names of loaders, and on Debian's packages that hold them.

use std::path::Path;

use binfmt_magic::arch::Arch;

/// A C library's loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library's.
    Glibc,
    /// musl's, as on Alpine.
    Musl,
    /// Bionic's, as on Android.
    Bionic,
    /// One of the Nix store.
    Nix,
    /// An unknown one.
    Other,
}

/// Debian's names of the architectures that its archive has packages of, by QEMU's.
#[rustfmt::skip]
const DEBIAN: &[(&str, &str)] = &[
    ("x86_64", "amd64"), ("aarch64", "arm64"), ("arm", "armhf"), ("i386", "i386"), ("riscv64", "riscv64"),
    ("ppc64le", "ppc64el"), ("s390x", "s390x"),
];
/// Those of which it has no more than a C library for cross compilers, with the folder that this is in.
#[rustfmt::skip]
const CROSS: &[(&str, &str, &str)] = &[
    ("mips64el", "mips64el", "mips64el-linux-gnuabi64"), ("mipsel", "mipsel", "mipsel-linux-gnu"),
    ("mips64", "mips64", "mips64-linux-gnuabi64"), ("mips", "mips", "mips-linux-gnu"),
    ("ppc64", "ppc64", "powerpc64-linux-gnu"), ("ppc", "powerpc", "powerpc-linux-gnu"),
    ("sparc64", "sparc64", "sparc64-linux-gnu"), ("m68k", "m68k", "m68k-linux-gnu"),
    ("hppa", "hppa", "hppa-linux-gnu"), ("sh4", "sh4", "sh4-linux-gnu"), ("loongarch64", "loong64", "loongarch64-linux-gnu"),
];

impl Libc {
    /// By the loader's path.
    #[must_use]
    pub fn of(loader: &Path) -> Self {
        let name = loader.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            _ if loader.starts_with("/nix/store") => Self::Nix,
            "linker" | "linker64" => Self::Bionic,
            name if name.starts_with("ld-musl-") => Self::Musl,
            name if name.starts_with("ld-linux") => Self::Glibc,
            "ld64.so.1" | "ld64.so.2" | "ld.so.1" => Self::Glibc,
            _ => Self::Other,
        }
    }

    /// How `loader` comes to a system that runs programs of `arch`; `native` ones or others. `None` where no package has it at
    /// that path.
    #[must_use]
    pub fn remedy(self, loader: &Path, arch: &Arch, native: bool) -> Option<String> {
        let package = match self {
            Self::Glibc => "libc6",
            Self::Musl => "musl",
            _ => return None,
        };
        let folder = loader.parent()?;
        if folder != Path::new("/lib") && folder != Path::new("/lib64") {
            return None;
        }
        let gcompat = match (self, native) {
            (Self::Glibc, true) => "; on Alpine: apk add gcompat",
            _ => "",
        };
        // the two ARM float ABIs are two architectures to Debian
        let soft = arch.qemu == "arm" && loader.ends_with("ld-linux.so.3");
        let debian = DEBIAN.iter().find(|(qemu, _)| *qemu == arch.qemu);
        if let Some((_, debian)) = debian {
            let debian = if soft { "armel" } else { debian };
            let is_host = Arch::of_host().is_some_and(|host| host == arch);
            return Some(if is_host {
                format!("on Debian: apt-get install {package}{gcompat}")
            } else {
                format!(
                    "on Debian: dpkg --add-architecture {debian} && apt-get update && apt-get install {package}:{debian}{gcompat}"
                )
            });
        }
        let cross = CROSS.iter().find(|(qemu, ..)| *qemu == arch.qemu);
        let (_, debian, folder) = cross.filter(|_| self == Self::Glibc && !native)?;
        Some(format!(
            "on Debian: apt-get install libc6-{debian}-cross, and run it with QEMU_LD_PREFIX=/usr/{folder}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_are_known_by_their_names() {
        for (path, expected) in [
            ("/lib64/ld-linux-x86-64.so.2", Libc::Glibc),
            ("/lib/ld-linux.so.2", Libc::Glibc),
            ("/lib/ld64.so.1", Libc::Glibc),
            ("/lib/ld-musl-aarch64.so.1", Libc::Musl),
            ("/system/bin/linker64", Libc::Bionic),
            (
                "/nix/store/x-glibc-2.40/lib/ld-linux-x86-64.so.2",
                Libc::Nix,
            ),
            ("/opt/ld.so", Libc::Other),
            ("/", Libc::Other),
        ] {
            assert_eq!(Libc::of(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn debians_names_are_of_rows() {
        let crossed = CROSS.iter().map(|(qemu, ..)| qemu);
        for qemu in DEBIAN.iter().map(|(qemu, _)| qemu).chain(crossed) {
            assert!(Arch::by_qemu(qemu).is_some(), "{qemu}");
        }
    }

    #[test]
    fn the_package_is_that_of_the_programs_architecture() {
        let arm = Arch::by_qemu("arm").unwrap();
        for (loader, package) in [
            ("/lib/ld-linux-armhf.so.3", "libc6:armhf"),
            ("/lib/ld-linux.so.3", "libc6:armel"),
            ("/lib/ld-musl-armhf.so.1", "musl:armhf"),
        ] {
            let loader = Path::new(loader);
            let remedy = Libc::of(loader).remedy(loader, arm, false).unwrap();
            assert!(remedy.ends_with(package), "{remedy}");
        }
    }

    #[test]
    fn a_package_is_named_only_where_it_helps() {
        let remedy = |qemu: &str, loader: &str| {
            let (loader, arch) = (Path::new(loader), Arch::by_qemu(qemu).unwrap());
            Libc::of(loader).remedy(loader, arch, false)
        };
        assert_eq!(remedy("aarch64", "/opt/x/ld-linux-aarch64.so.1"), None);
        assert_eq!(remedy("m68k", "/lib/ld-musl-m68k.so.1"), None);
        let cross = remedy("m68k", "/lib/ld.so.1").unwrap();
        assert!(cross.contains("libc6-m68k-cross") && cross.ends_with("/usr/m68k-linux-gnu"));
    }
}
