//! How this call was made, as far as a command that it suggests must repeat it.

use std::path::PathBuf;

use crate::kernel::wording::quoted;

/// The words of the caller that every suggested command repeats.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Assignments of the environment: `QEMU_BINARY_PATH=/opt/qemu`.
    pub environment: Vec<(&'static str, String)>,
    /// Options: `--credentials no`.
    pub options: Vec<String>,
    /// The mount point, where it was named.
    pub mount: Option<PathBuf>,
}

impl Invocation {
    /// `binfmt` with `words`, as a line for a shell.
    #[must_use]
    pub fn command(&self, words: &str) -> String {
        let assignments = self.environment.iter();
        let mut line: Vec<String> = assignments
            .map(|(name, value)| format!("{name}={}", quoted(value)))
            .collect();
        line.extend(["binfmt".to_owned(), words.to_owned()]);
        let repeated = self.options.iter();
        line.extend(repeated.filter(|option| !words.contains(*option)).cloned());
        if let Some(dir) = &self.mount {
            line.push(format!("--mount {}", quoted(&dir.to_string_lossy())));
        }
        line.join(" ")
    }

    /// `binfmt --explain WORDS`: what explains has no use for emulators.
    #[must_use]
    pub fn explain(&self, words: &str) -> String {
        let looking = Self {
            mount: self.mount.clone(),
            ..Self::default()
        };
        looking.command(&format!("--explain {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_repeats_the_callers_words() {
        let invocation = Invocation {
            environment: vec![("QEMU_BINARY_PATH", "/opt/q e".to_owned())],
            options: vec!["--credentials no".to_owned(), "--force".to_owned()],
            mount: Some("/m".into()),
        };
        assert_eq!(
            invocation.command("--install arm64 --force"),
            "QEMU_BINARY_PATH='/opt/q e' binfmt --install arm64 --force --credentials no --mount /m"
        );
        assert_eq!(
            invocation.explain("./f --verbose"),
            "binfmt --explain ./f --verbose --mount /m"
        );
        assert_eq!(Invocation::default().command("--status"), "binfmt --status");
    }
}
