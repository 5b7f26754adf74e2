//! What helps against each problem: a command, where one does.

use std::path::Path;

use super::{Culprit, Fault, Problem, Role, ends_in_return};
use crate::explain::elf::{Doomed, LoadedBy};
use crate::explain::libc::Libc;
use crate::explain::place::Unopened;
use crate::explain::shebang::Unusable;
use crate::wording;

impl Problem {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let file = quoted(&self.outside);
        match &self.fault {
            Fault::Unopened(unopened) => self.remedy_of_opening(unopened, &file),
            Fault::TooDeep(first, _) => {
                format!("name {file} itself in the first line of {}", quoted(first))
            }
            Fault::Shebang(Unusable::Cut) => {
                format!(
                    "name it by a shorter path in the first line of {file}, or write #!/usr/bin/env NAME there"
                )
            }
            Fault::Shebang(Unusable::Blank | Unusable::Nameless) => {
                format!("put an interpreter there: sed -i '1s|.*|#!/bin/sh|' {file}")
            }
            Fault::EnvReturn => format!("remove the carriage returns: sed -i 's/\\r$//' {file}"),
            Fault::Format(format) => format.remedy.replace("FILE", &file),
            Fault::NotAProgram("an object file") => format!("link it: cc {file}"),
            Fault::NotAProgram("a core dump") => {
                format!("look at it with a debugger: gdb --core={file}")
            }
            Fault::NotAProgram(_) => format!("see what it is: file {file}"),
            Fault::Machine(_) => "run it on such a machine, or build it for this one".to_owned(),
            Fault::Foreign(arch, failure) => failure.remedy(arch),
            Fault::NotTaken(..) => {
                format!("compare byte by byte: binfmt --explain {file} --verbose")
            }
            Fault::Disabled(_, switch) => format!("switch it on: echo 1 > {}", quoted(switch)),
            Fault::Doomed(Doomed::NoEntry, _) => "run the program that uses it".to_owned(),
            Fault::Malformed(..) | Fault::Doomed(..) => format!("fetch or build it again: {file}"),
            Fault::NoLoader(..) => self.remedy_of_loader(),
            Fault::Level(_, needs, _) => {
                format!("build it for less, or use a processor or an emulator with x86-64-v{needs}")
            }
        }
    }

    fn remedy_of_opening(&self, unopened: &Unopened, file: &str) -> String {
        let absent = matches!(unopened, Unopened::Missing | Unopened::Dangling(_));
        let role = match &self.culprit {
            Culprit::Loader(..) if absent => return self.remedy_of_loader(),
            Culprit::Visited(role) if absent => Some(role),
            _ => None,
        };
        match (unopened, role) {
            (_, Some(Role::Program)) => {
                format!("check the path: namei -l {file}")
            }
            (Unopened::Missing, Some(Role::Interpreter(_, script)))
                if ends_in_return(&self.path) =>
            {
                format!(
                    "remove the carriage returns: sed -i 's/\\r$//' {}",
                    quoted(script)
                )
            }
            (_, Some(Role::Interpreter(_, script))) => {
                format!(
                    "install it, or name another in the first line of {}",
                    quoted(script)
                )
            }
            (_, Some(Role::Handler(_, entry))) => {
                format!(
                    "put it there, or remove the entry: echo -1 > {}",
                    quoted(entry)
                )
            }
            (Unopened::NotExecutable, _) => format!("chmod +x {file}"),
            (Unopened::NoExec, _) => {
                format!(
                    "copy it elsewhere, or: mount -o remount,exec \"$(findmnt -n -o TARGET -T {file})\""
                )
            }
            (Unopened::Unreadable, _) => "ask again as root".to_owned(),
            (Unopened::BeingWritten(_), _) => "try again once that is done".to_owned(),
            (Unopened::NoFile(_), _) => "name a file".to_owned(),
            _ => format!("see what is in the way: namei -l {file}"),
        }
    }

    fn remedy_of_loader(&self) -> String {
        let Culprit::Loader(arch, by) = &self.culprit else {
            return format!("put another in its place: {}", quoted(&self.outside));
        };
        let native = *by == LoadedBy::Kernel;
        let package = Libc::of(&self.path).remedy(&self.path, arch, native);
        let package = package.unwrap_or_else(|| "build it statically".to_owned());
        if native || self.outside != self.path {
            return package;
        }
        // more often than not, such a program is at home in a root directory of its own
        format!(
            "explain it in its own root directory: binfmt --explain FILE --root DIR; or {package}"
        )
    }
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
