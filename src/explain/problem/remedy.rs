//! What helps against each problem: a command, where one does, and what it changes, so that what comes after it is known.

use std::ffi::OsStr;
use std::path::Path;

use binfmt_magic::arch::Arch;

use super::{Culprit, Fault, Problem, Role, ends_in_return};
use crate::explain::Here;
use crate::explain::elf::{Doomed, LoadedBy};
use crate::explain::fix::{Fix, Remedy};
use crate::explain::libc::Libc;
use crate::explain::place::{Opened, Place, Purpose, Unopened};
use crate::explain::shebang::Unusable;
use crate::kernel::wording;
use crate::policy::survey::{Failure, may_be_native, takes};

impl Problem {
    /// What to do about it.
    pub(in crate::explain) fn remedy(&self, here: &Here, place: &Place) -> Remedy {
        let file = quoted(&self.outside);
        let start = |change: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
            let opened = place.open(&self.path, Purpose::Read).ok()?;
            Some(Fix::Start(self.path.clone(), change(&opened.head)?))
        };
        match &self.fault {
            Fault::Unopened(unopened) => self.remedy_of_opening(unopened, &file, here, place),
            Fault::TooDeep(first, _) => advice(format!(
                "name {file} itself in the first line of {}",
                quoted(first)
            )),
            Fault::Shebang(Unusable::Cut) => advice(format!(
                "name it by a shorter path in the first line of {file}, or write #!/usr/bin/env NAME there"
            )),
            Fault::Shebang(Unusable::Blank | Unusable::Nameless) => Remedy {
                text: format!("put an interpreter there: sed -i '1s|.*|#!/bin/sh|' {file}"),
                fix: start(&|_| Some(b"#!/bin/sh\n".to_vec())),
            },
            Fault::EnvReturn => Remedy {
                text: without_returns(&file),
                fix: start(&|head| Some(unix_lines(head))),
            },
            Fault::Format(format) => Remedy {
                text: format
                    .remedy
                    .replace("FILE", &file)
                    .replace("TABLE", &quoted(here.table)),
                fix: start(&|head| format.repaired(head)),
            },
            Fault::NotAProgram("an object file", Some(arch)) => advice(format!(
                "link it into a program, with a compiler for linux/{}",
                arch.oci
            )),
            Fault::NotAProgram("a core dump", _) => {
                advice(format!("look at it with a debugger: gdb --core={file}"))
            }
            Fault::NotAProgram(..) => advice(format!("see what it is: file {file}")),
            Fault::Machine(_) => {
                advice("run it on such a machine, or build it for this one".to_owned())
            }
            Fault::X32 => advice(
                "build it for amd64 or 386 (gcc -m64, gcc -m32), or boot a kernel with CONFIG_X86_X32_ABI (some need \
                 syscall.x32=y on its command line)"
                    .to_owned(),
            ),
            Fault::Foreign(..) | Fault::NotTaken(..) | Fault::Unproven(_) => {
                self.remedy_of_handler(&file, here, place)
            }
            Fault::Disabled(entry, switch, is_table) => Remedy {
                text: format!("switch it on: echo 1 > {}", quoted(switch)),
                fix: Some(Fix::On((!is_table).then(|| entry.clone()))),
            },
            Fault::Doomed(Doomed::NoEntry, _) => advice("run the program that uses it".to_owned()),
            Fault::Malformed(..) | Fault::Doomed(..) => {
                advice("fetch or build it again".to_owned())
            }
            Fault::NoLoader(..) => self.remedy_of_loader(here),
            Fault::Level(_, needs, _) => advice(format!(
                "build it for a lower level, or use a processor or an emulator with x86-64-v{needs}"
            )),
        }
    }

    /// Of a program that the handler of its architecture does not run, or does not take.
    fn remedy_of_handler(&self, file: &str, here: &Here, place: &Place) -> Remedy {
        let opened = place.open(&self.path, Purpose::Read).ok();
        let head = opened.map(|opened| opened.head);
        match &self.fault {
            Fault::Foreign(arch, failure) => {
                let is_there = here.means.survey.of(arch).handler.is_some();
                let only_off = matches!(failure, Failure::SwitchedOff { table: Some(_) });
                Remedy {
                    text: here.means.against(failure, arch),
                    fix: Some(if only_off && is_there {
                        Fix::On(None)
                    } else {
                        Fix::Installed(arch)
                    }),
                }
            }
            // the magic of an install takes the file as it is
            Fault::NotTaken(arch, ..) if head.as_ref().is_some_and(|head| arch.matches(head)) => {
                installed(arch, here)
            }
            Fault::NotTaken(_, _, unmatched) => Remedy {
                text: format!(
                    "make a copy without that, and run it: {}",
                    unmatched.command(file)
                ),
                fix: head.map(|head| Fix::Start(self.path.clone(), unmatched.repaired(&head))),
            },
            Fault::Unproven(entry) => match arch_of(entry, here) {
                Some(arch) => installed(arch, here),
                None => advice("start it, to see".to_owned()),
            },
            _ => advice(format!("see what it is: file {file}")),
        }
    }

    fn remedy_of_opening(
        &self,
        unopened: &Unopened,
        file: &str,
        here: &Here,
        place: &Place,
    ) -> Remedy {
        let absent = matches!(unopened, Unopened::Missing | Unopened::Dangling(_));
        let role = match &self.culprit {
            Culprit::Loader(..) if absent => return self.remedy_of_loader(here),
            Culprit::Visited(role) if absent => Some(role),
            _ => None,
        };
        let fix = |fix: fn(_) -> Fix| Some(fix(self.path.clone()));
        let (text, fix) = match (unopened, role) {
            (_, Some(Role::Program)) => (self.remedy_of_absence(file, here, place), None),
            (Unopened::Missing, Some(Role::Interpreter(script, outside)))
                if ends_in_return(&self.path) =>
            {
                let opened = place.open(script, Purpose::Read).ok();
                let start = |opened: Opened| Fix::Start(script.clone(), unix_lines(&opened.head));
                (without_returns(&quoted(outside)), opened.map(start))
            }
            (_, Some(Role::Interpreter(_, script))) => {
                let script = quoted(script);
                let text = format!("install it, or name another in the first line of {script}");
                (text, None)
            }
            (_, Some(Role::Handler(entry, switch))) => {
                if let Some(arch) = arch_of(entry, here) {
                    return installed(arch, here);
                }
                let switch = quoted(switch);
                let text = format!("put it there, or remove the entry: echo -1 > {switch}");
                (text, None)
            }
            (Unopened::NotExecutable, _) => (format!("chmod +x {file}"), fix(Fix::Executable)),
            (Unopened::NoExec, _) => {
                let remount =
                    format!("mount -o remount,exec \"$(findmnt -n -o TARGET -T {file})\"");
                (
                    format!("copy it elsewhere, or: {remount}"),
                    fix(Fix::Copied),
                )
            }
            (Unopened::Unreadable, _) => ("ask again as root".to_owned(), None),
            (Unopened::BeingWritten(_), _) => ("try again once that is done".to_owned(), None),
            (Unopened::NoFile(_), _) => ("name a file".to_owned(), None),
            _ => (format!("see what is in the way: namei -l {file}"), None),
        };
        Remedy { text, fix }
    }

    /// Of the file that was asked for: below another root directory, what was meant may be told.
    fn remedy_of_absence(&self, file: &str, here: &Here, place: &Place) -> String {
        let Some(root) = here.root else {
            return format!("check the path: namei -l {file}");
        };
        let below = quoted(root);
        let meant = |inside: &Path| place.real(inside).is_some();
        match place.inside(&self.path).filter(|inside| meant(inside)) {
            Some(inside) => {
                let words = format!("{} --root {below}", quoted(&inside));
                let again = here.means.invocation.explain(&words);
                format!("FILE is looked up below {below}; name it as it is called there: {again}")
            }
            None if self.path.exists() => {
                let again = here.means.invocation.explain(&quoted(&self.path));
                format!("FILE is looked up below {below}; the one of this host: {again}")
            }
            None => format!("FILE is looked up below {below}; check the path: namei -l {file}"),
        }
    }

    fn remedy_of_loader(&self, here: &Here) -> Remedy {
        let Culprit::Loader(arch, by, asker) = &self.culprit else {
            return advice(format!(
                "put another in its place: {}",
                quoted(&self.outside)
            ));
        };
        // what the kernel starts as a handler's interpreter is to need no loader
        if let Some((_, Role::Handler(entry, _))) = asker {
            if let Some(arch) = arch_of(entry, here) {
                return installed(arch, here);
            }
        }
        let native = *by == LoadedBy::Kernel;
        let package = Libc::of(&self.path).remedy(&self.path, arch, native);
        let package = package.unwrap_or_else(|| "build it statically".to_owned());
        match here.root {
            Some(root) => advice(format!("in {}, {package}", quoted(root))),
            None if native => advice(package),
            // more often than not, such a program is at home in a root directory of its own
            None => {
                let explain = here.means.invocation.explain("FILE --root DIR");
                advice(format!(
                    "explain it in its own root directory: {explain}; or {package}"
                ))
            }
        }
    }
}

/// What changes nothing that can be foreseen.
fn advice(text: String) -> Remedy {
    Remedy { text, fix: None }
}

/// What an install does for the programs of `arch`.
fn installed(arch: &'static Arch, here: &Here) -> Remedy {
    Remedy {
        text: here.means.install(arch),
        fix: Some(Fix::Installed(arch)),
    }
}

/// Whose programs the entry of this name takes, if an install may take them over.
fn arch_of(entry: &OsStr, here: &Here) -> Option<&'static Arch> {
    let survey = here.means.survey;
    let entry = survey.entries.iter().find(|e| e.name == entry)?;
    let arches = survey.statuses.iter().map(|status| status.arch);
    let mut foreign = arches.filter(|arch| !may_be_native(arch));
    foreign.find(|arch| takes(entry, arch))
}

fn without_returns(file: &str) -> String {
    format!("remove the carriage returns: sed -i 's/\\r$//' {file}")
}

fn unix_lines(head: &[u8]) -> Vec<u8> {
    let lines = head.split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    lines.join(&b'\n')
}

/// `path` as a shell takes it, and no command for an option.
fn quoted(path: &Path) -> String {
    let here = Path::new(".").join(path);
    let is_option = path.as_os_str().as_encoded_bytes().starts_with(b"-");
    let path = if is_option { &here } else { path };
    match path.to_str() {
        Some(text) if !text.chars().any(wording::is_control) => wording::quoted(text),
        _ => in_octal(path.as_os_str().as_encoded_bytes()),
    }
}

/// `$'…'`, of POSIX since 2024: the bytes that no terminal is to see by their numbers.
fn in_octal(bytes: &[u8]) -> String {
    let text = bytes.iter().map(|byte| match byte {
        b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => char::from(*byte).to_string(),
        byte => format!("\\{byte:03o}"),
    });
    format!("$'{}'", text.collect::<String>())
}
