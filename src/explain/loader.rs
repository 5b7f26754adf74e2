//! The loader that a program asks for (`PT_INTERP`): opened where the kernel, or an emulator, looks for it, and read as they do.

use std::path::Path;

use binfmt_magic::arch::Arch;
use nix::errno::Errno;

use super::Visit;
use super::elf::{Ident, Image, LoadedBy, refused};
use super::fault::{Fault, Remedy};
use super::format;
use super::libc::Libc;
use super::place::{Opened, Purpose, Unopened};
use super::problem::{Explainer, quoted};
use super::program::page_size;

/// Where QEMU's emulators look first for a program's loader and libraries (`interp_prefix`, `-L`): by QEMU's own build,
/// and by Debian's since 2025.
const SYSROOTS: [&str; 2] = ["/usr/gnemul/qemu-", "/etc/qemu-binfmt/"];

impl Explainer<'_> {
    /// How many bytes of the loader are missing without harm.
    pub(super) fn check_loader(
        &self,
        path: &Path,
        loader: Result<Opened, Unopened>,
        arch: &'static Arch,
        by: LoadedBy,
        asker: &Visit,
    ) -> Result<u64, Fault> {
        let remedy = || self.remedy_of_loader(path, arch, by, asker);
        let mut loader = loader.map_err(|unopened| {
            let file = quoted(&self.reach(path, false));
            let end = if by == LoadedBy::Emulator { unopened.end_of_loader() } else { unopened.end() };
            let (mut what, mut remedy_of_it) = (unopened.to_string(), unopened.remedy(path, &file));
            if unopened.is_no_program() && Libc::of(path).is_some() {
                remedy_of_it = Remedy::advice(format!("put the loader in its place: {file}"));
            } else if unopened.is_absent() || unopened.is_no_program() {
                remedy_of_it = remedy();
            } else if let Some(flaw) = self.flaw_besides(&unopened, path, arch, by) {
                (what, remedy_of_it) = (format!("{what}, and it {flaw}"), remedy());
            }
            Fault::new(what, end, remedy_of_it)
        })?;
        let image = read_loader(&mut loader, arch, by).map_err(|flaw| Fault { remedy: remedy(), ..flaw.by(by) })?;
        match image.fatal_flaw(loader.metadata.len(), page_size()) {
            Some(flaw) => Err(flaw.by(by)),
            None => Ok(image.missing(loader.metadata.len())),
        }
    }

    /// Why a file that may not be executed would be no loader either.
    fn flaw_besides(&self, unopened: &Unopened, path: &Path, arch: &'static Arch, by: LoadedBy) -> Option<String> {
        if *unopened != Unopened::NotExecutable {
            return None;
        }
        let mut file = self.place.open(path, Purpose::Read).ok()?;
        read_loader(&mut file, arch, by).err().map(|flaw| flaw.what)
    }

    /// The loader, open. QEMU looks in its sysroots before it takes the path as it is.
    pub(super) fn open_loader(&self, path: &Path, arch: &Arch, by: LoadedBy) -> Result<Opened, Unopened> {
        let purpose = match by {
            LoadedBy::Kernel => self.fixes.purpose(path),
            LoadedBy::Emulator => Purpose::Read,
        };
        let open = |path: &Path| self.place.open(path, purpose);
        if by == LoadedBy::Kernel {
            // an empty path is the current directory to the kernel
            let is_directory = path.as_os_str().is_empty();
            return open(path).map_err(|unopened| match unopened {
                _ if is_directory => Unopened::NoFile("a directory"),
                unopened => unopened,
            });
        }
        let inside = path.strip_prefix("/").unwrap_or(path);
        let sysroots = SYSROOTS.iter().rev();
        let mut found =
            sysroots.filter_map(|root| open(&Path::new(&format!("{root}{}", arch.interpreter)).join(inside)).ok());
        found.next().map_or_else(|| open(path), Ok)
    }
}

/// The kernel reads a whole header of its own class, then looks at the machine; an emulator looks at class and byte
/// order too.
fn read_loader(opened: &mut Opened, arch: &'static Arch, by: LoadedBy) -> Result<Image, Fault> {
    let (header, length) = (arch.header().len() as u64, opened.metadata.len());
    if length < header {
        let what = format!("is too short for a loader: {length} bytes");
        return Err(refused(what, Errno::EIO));
    }
    let none = |what: String| refused(what, Errno::ELIBBAD);
    let ident = Ident::read(&opened.head).ok_or_else(|| {
        let is = format::recognize(&opened.head).name;
        none(format!("is not a loader, but {is}"))
    })?;
    let same = match by {
        LoadedBy::Kernel => ident.machine == arch.machine,
        LoadedBy::Emulator => ident.arch().is_some_and(|other| other == arch),
    };
    if !same {
        let other = ident.arch().map_or_else(|| ident.machine_name(), Arch::platform);
        return Err(none(format!("is for {other}, not for linux/{}", arch.oci)));
    }
    let image = Image::read_loader(&mut opened.file, arch, by).map_err(|flaw| none(flaw.what))?;
    Ok(if ident.is_program() { image } else { image.without_segments() })
}
