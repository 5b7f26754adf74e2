//! The C library whose loader a program asks for, by its file name, and the package that has it. Pure.
//!
//! Rests on the psABIs' and musl's names of loaders, and on Debian's packages that hold them.

use std::path::Path;

use binfmt_magic::arch::Arch;

/// A C library that distributions package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Libc {
    Glibc,
    Musl,
}

/// Debian's names of the architectures that its archive has packages of, by QEMU's.
#[rustfmt::skip]
const DEBIAN: &[(&str, &str)] = &[
    ("x86_64", "amd64"), ("aarch64", "arm64"), ("arm", "armhf"), ("i386", "i386"), ("riscv64", "riscv64"),
    ("ppc64le", "ppc64el"), ("s390x", "s390x"),
];
/// Architectures of which it has only a C library for cross compilers, and the folder of that.
#[rustfmt::skip]
const CROSS: &[(&str, &str, &str)] = &[
    ("mips64el", "mips64el", "mips64el-linux-gnuabi64"), ("mipsel", "mipsel", "mipsel-linux-gnu"),
    ("mips64", "mips64", "mips64-linux-gnuabi64"), ("mips", "mips", "mips-linux-gnu"),
    ("ppc64", "ppc64", "powerpc64-linux-gnu"), ("ppc", "powerpc", "powerpc-linux-gnu"),
    ("sparc64", "sparc64", "sparc64-linux-gnu"), ("m68k", "m68k", "m68k-linux-gnu"),
    ("hppa", "hppa", "hppa-linux-gnu"), ("sh4", "sh4", "sh4-linux-gnu"), ("loongarch64", "loong64", "loongarch64-linux-gnu"),
];

impl Libc {
    /// The one whose loader has this path. `None`: another's, or one of the Nix store.
    pub(super) fn of(loader: &Path) -> Option<Self> {
        let name = loader.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            _ if loader.starts_with("/nix/store") => None,
            name if name.starts_with("ld-musl-") => Some(Self::Musl),
            name if name.starts_with("ld-linux") => Some(Self::Glibc),
            "ld64.so.1" | "ld64.so.2" | "ld.so.1" => Some(Self::Glibc),
            _ => None,
        }
    }

    /// How `loader` comes to a system that runs programs of `arch`; `native` ones or others. `None` where no package
    /// has it at that path.
    pub(super) fn remedy(self, loader: &Path, arch: &Arch, native: bool) -> Option<String> {
        let package = match self {
            Self::Glibc => "libc6",
            Self::Musl => "musl",
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
        Some(format!("on Debian: apt-get install libc6-{debian}-cross, and run it with QEMU_LD_PREFIX=/usr/{folder}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_names_are_of_rows() {
        let crossed = CROSS.iter().map(|(qemu, ..)| qemu);
        for qemu in DEBIAN.iter().map(|(qemu, _)| qemu).chain(crossed) {
            assert!(Arch::by_qemu(qemu).is_some(), "{qemu}");
        }
    }

    #[test]
    fn a_package_is_named_where_it_helps() {
        for (qemu, loader, package) in [
            ("arm", "/lib/ld-linux-armhf.so.3", Some("libc6:armhf")),
            ("arm", "/lib/ld-linux.so.3", Some("libc6:armel")),
            ("arm", "/lib/ld-musl-armhf.so.1", Some("musl:armhf")),
            ("ppc64le", "/lib64/ld64.so.2", Some("libc6:ppc64el")),
            ("m68k", "/lib/ld.so.1", Some("libc6-m68k-cross, and run it with QEMU_LD_PREFIX=/usr/m68k-linux-gnu")),
            ("m68k", "/lib/ld-musl-m68k.so.1", None),
            ("aarch64", "/opt/x/ld-linux-aarch64.so.1", None),
            ("aarch64", "/nix/store/x-glibc-2.40/lib/ld-linux-aarch64.so.1", None),
            ("aarch64", "/system/bin/linker64", None),
        ] {
            let (loader, arch) = (Path::new(loader), Arch::by_qemu(qemu).unwrap());
            let remedy = Libc::of(loader).and_then(|libc| libc.remedy(loader, arch, false));
            match package {
                Some(package) => assert!(remedy.unwrap().ends_with(package), "{package}"),
                None => assert_eq!(remedy, None),
            }
        }
        assert_eq!(Libc::of(Path::new("/")), None);
    }
}
