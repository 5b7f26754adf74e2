//! How this call was made: the words that a command which it suggests must repeat.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::kernel::wording::quoted;

#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Assignments of the environment: `QEMU_BINARY_PATH=/opt/qemu`.
    pub environment: Vec<(&'static str, OsString)>,
    /// Options: `--credentials no`.
    pub options: Vec<String>,
    /// The mount point, if the caller named it.
    pub mount: Option<PathBuf>,
}

impl Invocation {
    /// `binfmt` with `words`, as a line for a shell.
    pub fn command(&self, words: &str) -> String {
        let assignments = self.environment.iter();
        let mut line: Vec<String> = assignments.map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        line.extend(["binfmt".to_owned(), words.to_owned()]);
        let repeated = self.options.iter();
        line.extend(repeated.filter(|option| !words.contains(*option)).cloned());
        if let Some(dir) = &self.mount {
            line.push(format!("--mount {}", quoted(dir)));
        }
        line.join(" ")
    }

    /// `binfmt` with `words` for a mode that has no use for emulators: of the caller's words, it repeats the mount point.
    pub fn without_emulators(&self, words: &str) -> String {
        let invocation = Self { mount: self.mount.clone(), ..Self::default() };
        invocation.command(words)
    }

    /// `binfmt --explain WORDS`
    pub fn explain(&self, words: &str) -> String {
        self.without_emulators(&format!("--explain {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_repeats_the_callers_words() {
        let invocation = Invocation {
            environment: vec![("QEMU_BINARY_PATH", "/opt/q e".into())],
            options: vec!["--credentials no".to_owned(), "--force".to_owned()],
            mount: Some("/m".into()),
        };
        assert_eq!(
            invocation.command("--install arm64 --force"),
            "QEMU_BINARY_PATH='/opt/q e' binfmt --install arm64 --force --credentials no --mount /m"
        );
        assert_eq!(invocation.explain("./f --verbose"), "binfmt --explain ./f --verbose --mount /m");
        assert_eq!(Invocation::default().command("--status"), "binfmt --status");
    }
}
