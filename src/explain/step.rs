//! One file on the way, as `--explain` tells of it: `json.schema.json` says what each key means.

use std::path::Path;

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use binfmt_magic::rule::{Flags, Matcher, Rule};
use serde::Serialize;

use super::elf::{Ident, Image, LoadedBy};
use super::handler::{Byte, Handlers, compare};
use super::problem::Role;
use super::{Content, Visit};
use crate::kernel::wording::text;

/// A file that the kernel comes to.
#[derive(Debug, Serialize)]
pub struct Step {
    pub path: String,
    pub real: Option<String>,
    pub because: &'static str,
    pub is: String,
    pub platform: Option<String>,
    pub machine: Option<String>,
    pub bits: Option<u8>,
    pub byte_order: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub os_abi: Option<String>,
    pub linkage: Option<&'static str>,
    pub loader: Option<String>,
    pub loader_found: Option<String>,
    pub interpreter: Option<String>,
    pub argument: Option<String>,
    pub taken_by: &'static str,
    pub handler: Option<Matching>,
    pub handler_works: Option<bool>,
    pub shadowed: Vec<Matching>,
    pub disabled: Vec<Matching>,
    pub bytes: Option<Vec<Byte>>,
    #[serde(skip)]
    pub(super) visit: Visit,
    /// The file's first bytes, as many as the kernel looks at.
    #[serde(skip)]
    pub(super) head: Vec<u8>,
    #[serde(skip)]
    pub(super) handlers: Handlers,
    /// The architecture whose program it is.
    #[serde(skip)]
    arch: Option<&'static Arch>,
}

/// An entry that matches a file.
#[derive(Debug, Serialize)]
pub struct Matching {
    pub entry: String,
    pub flags: String,
    pub interpreter: Option<String>,
    pub extension: Option<String>,
}

impl Step {
    /// The file of `visit`, of which nothing is loaded yet.
    pub(super) fn new(
        visit: &Visit,
        real: Option<&Path>,
        content: &Content,
        head: Vec<u8>,
        handlers: Handlers,
    ) -> Self {
        let (ident, line) = match content {
            Content::Elf(ident) => (Some(ident), None),
            Content::Script(Ok(line)) => (None, Some(line)),
            _ => (None, None),
        };
        Self {
            path: text(&visit.path),
            real: real.map(text),
            because: match visit.role {
                Role::Handler(..) => "handler",
                Role::Interpreter(..) => "#!",
                Role::Program => "file",
            },
            is: what(content),
            platform: None,
            machine: ident.map(Ident::machine_name),
            bits: ident.and_then(Ident::bits),
            byte_order: ident.and_then(Ident::byte_order),
            kind: ident.map(Ident::kind_name),
            os_abi: ident.map(Ident::os_abi_name),
            linkage: None,
            loader: None,
            loader_found: None,
            interpreter: line.map(|line| text(&line.interpreter)),
            argument: line.and_then(|line| line.argument.as_ref()).map(text),
            taken_by: match (&handlers.taker, line) {
                (Some(_), _) => "handler",
                (None, Some(_)) => "kernel",
                (None, None) => "nobody",
            },
            handler: handlers.taker.as_ref().map(Matching::from),
            handler_works: None,
            shadowed: handlers.shadowed.iter().map(Matching::from).collect(),
            disabled: handlers.disabled.iter().map(Matching::from).collect(),
            bytes: None,
            visit: visit.clone(),
            head,
            handlers,
            arch: ident.and_then(Ident::arch),
        }
    }

    /// The kernel or an emulator loads it as a program of `arch`; its loader is really at `found`.
    pub(super) fn load(&mut self, arch: &'static Arch, by: LoadedBy, image: &Image, found: Option<&Path>) {
        if by == LoadedBy::Kernel {
            self.taken_by = "kernel";
        }
        self.arch = Some(arch);
        self.linkage = Some(match (&image.loader, image.is_position_independent()) {
            (Some(_), _) => "dynamic",
            (None, true) => "static-pie",
            (None, false) => "static",
        });
        self.loader = image.loader.as_ref().map(text);
        self.loader_found = found.map(text);
    }

    /// All is known of it. `verbose`: its bytes are shown beside the magic of its handler or, without one, of its
    /// architecture.
    pub(super) fn finish(mut self, verbose: bool) -> Self {
        let arch = self.arch;
        self.platform = arch.map(Arch::platform);
        let own = || Some(Rule::for_arch(arch?, "", Path::new("/"), Flags::default()).matcher);
        let handler = self.handlers.taker.as_ref().or(self.handlers.disabled.first());
        let matcher = || handler.and_then(|entry| entry.matcher.clone()).or_else(own);
        self.bytes = verbose.then(|| matcher().map_or_else(Vec::new, |matcher| compare(&matcher, &self.head)));
        self
    }
}

impl From<&Entry> for Matching {
    fn from(entry: &Entry) -> Self {
        Self {
            entry: text(&entry.name),
            flags: format!("{}{}", entry.flags, entry.unknown_flags),
            interpreter: entry.interpreter.as_ref().map(text),
            extension: match &entry.matcher {
                Some(Matcher::Extension(extension)) => Some(text(extension)),
                _ => None,
            },
        }
    }
}

fn what(content: &Content) -> String {
    match content {
        Content::Elf(ident) if ident.is_program() => match ident.arch() {
            Some(arch) => format!("a program for {}", arch.platform()),
            None => format!("a program for a machine called {}", ident.machine_name()),
        },
        Content::Elf(ident) => format!("an ELF file, {}", ident.kind_name()),
        Content::Script(_) => "a script".to_owned(),
        Content::Other(format) => format.name.to_owned(),
    }
}
