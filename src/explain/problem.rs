//! What keeps a file from running: the sentence that says so, and remedies that depend on where the file is.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use binfmt_magic::arch::Arch;
use binfmt_magic::entry::Entry;
use nix::errno::Errno;

use super::fault::{End, Fault, Fix, LoadedBy, Remedy};
use super::libc::Libc;
use super::place::{Place, Purpose, Unopened};
use super::{Context, Visit};
use crate::emulator::known_defects;
use crate::kernel::wording::{self, shown};
use crate::policy::survey::{PlatformStatus, qemu_in};

#[derive(Debug, Clone)]
pub enum Role {
    Program,
    /// The `#!` line of this file asks for it; the same file as this process reaches it.
    Interpreter(PathBuf, PathBuf),
    /// It is the interpreter of this entry, whose file in the table is this.
    Handler(OsString, PathBuf),
}

/// A fault, and the file that has it.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) sentence: String,
    pub end: End,
    /// Whether it is the loader that an emulator would load for a program.
    pub is_emulators_loader: bool,
    pub(super) remedy: Remedy,
}

impl Problem {
    /// The error of `execve(2)`. `None`: it does not fail, and the program ends all the same; or that is not known.
    pub fn errno(&self) -> Option<Errno> {
        match self.end {
            End::Refused(errno) | End::RefusedAsSaid(errno) => Some(errno),
            _ => None,
        }
    }

    /// A fault of a file that the kernel comes to.
    pub(super) fn of(visit: &Visit, fault: Fault) -> Self {
        let path = shown(visit.path.as_os_str());
        let subject = match &visit.role {
            Role::Program => "it".to_owned(),
            Role::Interpreter(..) if ends_in_return(&visit.path) => {
                format!("its #! line ends in a carriage return, so its interpreter is {path}, which")
            }
            Role::Interpreter(..) => format!("its interpreter {path}"),
            Role::Handler(entry, _) => format!("its handler {} starts {path}, which", shown(entry)),
        };
        Self::new(&subject, fault)
    }

    /// A fault of the loader at `path` that the program `asker` asks for. It is looked for where that program runs.
    pub(super) fn of_loader(path: &Path, by: LoadedBy, asker: &Visit, mut fault: Fault) -> Self {
        let (path, asks) = (shown(path.as_os_str()), shown(asker.path.as_os_str()));
        let subject = match &asker.role {
            Role::Program => format!("its loader {path}"),
            Role::Interpreter(..) => format!("its interpreter is {asks}, whose loader {path}"),
            Role::Handler(entry, _) => {
                format!("its handler {} starts {asks}, whose loader {path}", shown(entry))
            }
        };
        if by == LoadedBy::Emulator && !matches!(fault.end, End::Unknown | End::Waits) {
            fault.end = End::Emulator;
        }
        Self { is_emulators_loader: by == LoadedBy::Emulator, ..Self::new(&subject, fault) }
    }

    fn new(subject: &str, fault: Fault) -> Self {
        let what = format!("{subject} {}", fault.what);
        let sentence = match fault.end {
            End::Refused(errno) => {
                format!("{what} ({errno:?}: {})", errno.desc().to_ascii_lowercase())
            }
            End::Signal => format!("{what}; it is started, and a signal ends it at once"),
            End::Emulator => format!("{what}; its emulator starts, and ends at once"),
            End::Waits => format!("{what}; its emulator starts, and waits for another program to write to it"),
            End::RefusedAsSaid(_) | End::Told | End::Unknown => what,
        };
        Self { sentence, end: fault.end, is_emulators_loader: false, remedy: fault.remedy }
    }
}

/// Remedies that a walk treats as applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixes<'a>(pub(super) &'a [Fix]);

impl<'a> Fixes<'a> {
    /// Whether this entry is switched on, or, without a name, the table.
    pub(super) fn switch_on(self, wanted: Option<&OsStr>) -> bool {
        let mut fixes = self.0.iter();
        fixes.any(|fix| matches!(fix, Fix::On(name) if name.as_deref() == wanted))
    }

    /// The purpose for which a program's file is opened.
    pub(super) fn purpose(self, file: &Path) -> Purpose {
        let purpose = |fix: &Fix| match fix {
            Fix::Executable(path) if path == file => Some(Purpose::Read),
            Fix::Copied(path) if path == file => Some(Purpose::ExecuteElsewhere),
            _ => None,
        };
        let found = self.0.iter().rev().find_map(purpose);
        found.unwrap_or(Purpose::Execute)
    }

    /// How a file begins, if that is changed.
    pub(super) fn start(self, file: &Path) -> Option<&'a [u8]> {
        self.0.iter().rev().find_map(|fix| match fix {
            Fix::Start(path, start) if path == file => Some(&start[..]),
            _ => None,
        })
    }

    /// The architecture whose handler of an install takes a file that begins with `head`.
    pub(super) fn installed(self, head: &[u8]) -> Option<&'static Arch> {
        self.0.iter().find_map(|fix| match fix {
            Fix::Installed(arch) if arch.matches(head) => Some(*arch),
            _ => None,
        })
    }
}

/// Where a file is followed, and what was worth a note there.
pub(super) struct Explainer<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) place: &'a Place,
    pub(super) fixes: Fixes<'a>,
    pub(super) notes: Vec<String>,
}

impl Explainer<'_> {
    /// `visit`'s file for a shell of this process's user.
    pub(super) fn file(&self, visit: &Visit) -> String {
        quoted(&self.reach(&visit.path, visit.pinned))
    }

    /// `path` for a command of this process's user: the links of another root directory lead elsewhere from here.
    pub(super) fn reach(&self, path: &Path, pinned: bool) -> PathBuf {
        if self.context.root.is_none() || pinned {
            return path.to_owned();
        }
        let real = self.place.real(path);
        real.unwrap_or_else(|| self.place.outside(path))
    }

    /// Notes the known defects of the emulator that runs a program of this architecture, which `entry` takes, unless it
    /// complains. Of one that is not seen, or does not state its version, none is known.
    pub(super) fn note_defects(&mut self, status: &PlatformStatus, entry: Option<&Entry>, complaint: Option<&Problem>) {
        // the probe went through this one; the emulator of another entry is not seen
        let is_seen = status.handler.as_ref().map(|handler| &handler.name) == entry.map(|entry| &entry.name);
        let interpreter = status.interpreter().filter(|_| is_seen && complaint.is_none());
        let Some(qemu) = interpreter.and_then(qemu_in) else {
            return;
        };
        let (platform, version) = (status.arch.platform(), &qemu.version);
        let note = |defect| format!("{platform} runs through QEMU {version}, which has a known defect: {defect}");
        self.notes.extend(known_defects(version, status.arch).iter().map(note));
    }

    /// The problem of a file that the kernel could not open.
    pub(super) fn unopened(&self, visit: &Visit, unopened: &Unopened) -> Problem {
        let file = self.file(visit);
        let remedy = match &visit.role {
            Role::Interpreter(_, script) if unopened.is_no_program() => {
                Remedy::advice(format!("name a program in the first line of {}", quoted(script)))
            }
            Role::Handler(entry, switch) if unopened.is_no_program() => self.replacing(entry, switch),
            _ if !unopened.is_absent() => unopened.remedy(&visit.path, &file),
            Role::Program => Remedy::advice(self.remedy_of_absence(&visit.path, &file)),
            Role::Interpreter(script, outside) if *unopened == Unopened::Missing && ends_in_return(&visit.path) => {
                let opened = self.place.open(script, Purpose::Read).ok();
                let start = self.fixes.start(script).map(<[u8]>::to_vec);
                let start = start.or_else(|| opened.map(|opened| opened.head));
                let fix = start.map(|start| Fix::Start(script.clone(), unix_lines(&start)));
                let text = without_returns(&quoted(outside));
                Remedy { text, fix }
            }
            Role::Interpreter(_, script) => {
                Remedy::advice(format!("install it, or name another in the first line of {}", quoted(script)))
            }
            Role::Handler(entry, switch) => self.replacing(entry, switch),
        };
        Problem::of(visit, Fault::new(unopened.to_string(), unopened.end(), remedy))
    }

    /// What to do about an entry whose interpreter is not there. `switch`: its file in the table.
    fn replacing(&self, entry: &OsStr, switch: &Path) -> Remedy {
        Remedy::replace(entry, self.context).unwrap_or_else(|| {
            let switch = quoted(switch);
            Remedy::advice(format!("put a program there, or remove the entry: echo -1 > {switch}"))
        })
    }

    /// What to do if the file that was asked for does not exist. Below another root directory, the intended path may be
    /// known.
    fn remedy_of_absence(&self, path: &Path, file: &str) -> String {
        // namei would follow a link below another root directory to the host's own file
        let is_link = self.context.root.is_some() && self.place.outside(path).is_symlink();
        let check = format!("check the path: {} -l {file}", if is_link { "ls" } else { "namei" });
        let Some(root) = self.context.root else { return check };
        let below = quoted(root);
        let explain = |words: &str| self.context.remedies.order.invocation.explain(words);
        let is_there = |inside: &PathBuf| self.place.real(inside).is_some();
        let advice = match self.place.inside(path).filter(is_there) {
            Some(inside) => {
                let again = explain(&format!("{} --root {below}", quoted(&inside)));
                format!("name it as it is called there: {again}")
            }
            None if path.exists() => {
                format!("the one of this host: {}", explain(&quoted(path)))
            }
            None => check,
        };
        format!("FILE is looked up below {below}; {advice}")
    }

    /// How to get the loader at `path` to where the program `asker` of `arch` runs.
    pub(super) fn remedy_of_loader(&self, path: &Path, arch: &Arch, by: LoadedBy, asker: &Visit) -> Remedy {
        // a handler's interpreter should need no loader
        if let Role::Handler(entry, _) = &asker.role {
            if let Some(remedy) = Remedy::replace(entry, self.context) {
                return remedy;
            }
        }
        let native = by == LoadedBy::Kernel;
        let package = Libc::of(path).and_then(|libc| libc.remedy(path, arch, native));
        let package = package.unwrap_or_else(|| "build it statically".to_owned());
        Remedy::advice(match self.context.root.or(self.context.entered) {
            Some(root) => format!("in {}, {package}", quoted(root)),
            None if native => package,
            // more often than not, such a program belongs to a root directory of its own
            None => {
                let explain = self.context.remedies.order.invocation.explain("FILE --root DIR");
                format!("explain it in its own root directory: {explain}; or {package}")
            }
        })
    }
}

fn ends_in_return(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"\r")
}

pub(super) fn without_returns(file: &str) -> String {
    format!("remove the carriage returns: sed -i 's/\\r$//' {file}")
}

pub(super) fn unix_lines(head: &[u8]) -> Vec<u8> {
    let lines = head.split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    lines.join(&b'\n')
}

/// `path` as a shell takes it for one word, and no command takes it for an option.
pub(super) fn quoted(path: &Path) -> String {
    let here = Path::new(".").join(path);
    let is_option = path.as_os_str().as_encoded_bytes().starts_with(b"-");
    wording::quoted(if is_option { &here } else { path })
}
