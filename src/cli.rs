//! The command line: what may be written, and the help. No I/O, no policy.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, CommandFactory, Parser};

mod environment;
mod value;

pub use environment::Environment;
pub use value::{Anchor, Format, OnExit, Yes, YesNo};
use value::{interval, list};

/// Teach this Linux host to run programs of other CPU architectures, with QEMU's user emulators.
///
/// Without arguments: what runs here, as JSON.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[command(name = "binfmt", disable_version_flag = true,
    disable_help_flag = true, args_override_self = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// Install: all · arm64,arm · linux/arm/v7 · aarch64 · all,-riscv64
    #[arg(long, value_name = "LIST", action = ArgAction::Append, allow_hyphen_values = true, value_parser = list)]
    pub install: Vec<String>,
    /// Uninstall: architectures, entry names, patterns (qemu-*), all; QEMU's entries only
    #[arg(long, value_name = "LIST", action = ArgAction::Append, allow_hyphen_values = true, value_parser = list)]
    pub uninstall: Vec<String>,
    /// Install all again, and remove QEMU's entries that are not of this install
    #[arg(long)]
    pub reset: bool,
    /// With --install: stay, and put back what others take out of the table, until SIGTERM
    #[arg(long, requires = "install", conflicts_with_all = NO_HOLD)]
    pub hold: bool,
    /// With --hold: how often to look, besides at each change that the kernel tells of, 100ms to 24h [default: 30s]
    #[arg(long, value_name = "TIME", requires = "hold", default_value = "30s", hide_default_value = true,
        value_parser = interval, conflicts_with_all = NO_HOLD)]
    pub interval: Duration,
    /// With --hold: what becomes of the handlers at its end [default: keep]
    #[arg(
        long,
        value_name = "keep|uninstall",
        requires = "hold",
        conflicts_with_all = NO_HOLD,
        default_value = "keep",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub on_exit: OnExit,
    /// Show every architecture: native, registered, available, unavailable
    #[arg(long, conflicts_with = "status")]
    pub list: bool,
    /// Show whether each registered platform (or each of LIST) runs; exit 1 if one does not
    #[arg(long, value_name = "LIST")]
    pub status: Option<Option<String>>,
    /// Show whether each handler (or each of LIST) is what an install would make now; exit 1 if one is not
    #[arg(long, value_name = "LIST", conflicts_with_all = ["list", "status", "export"])]
    pub verify: Option<Option<String>>,
    /// With --verify: also run programs of the root file system DIR, with its own shell
    #[arg(long, value_name = "DIR", requires = "verify")]
    pub deep: Vec<PathBuf>,
    /// Write what works into DIR as files that systemd-binfmt registers at every boot (/etc/binfmt.d)
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// With --install: copy the emulators into the host whose root directory DIR is, for its systemd to register at boot
    #[arg(long, value_name = "DIR", requires = "install", conflicts_with_all = ["hold", "export", "run", "verify"])]
    pub persist: Option<PathBuf>,
    /// Remove what --persist wrote below DIR
    #[arg(long, value_name = "DIR", conflicts_with_all = ["persist", "run"])]
    pub unpersist: Option<PathBuf>,
    /// Show why FILE runs here, or does not; exit 1 if it does not
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "status"], group = "below_root")]
    pub explain: Option<PathBuf>,
    /// Run COMMAND, in a user namespace with a handler for PLATFORM where there is none; takes no privilege
    #[arg(long, value_name = "PLATFORM", requires = "command", group = "below_root", conflicts_with_all = [
        "install", "hold", "interval", "on_exit", "uninstall", "reset", "list", "status", "verify", "export", "mount", "format", "force", "keep", "persistent",
    ])]
    pub run: Option<String>,
    /// With --explain and --run: FILE, or COMMAND, is one below DIR, an image's root directory
    #[arg(long, value_name = "DIR", requires = "below_root")]
    pub root: Option<PathBuf>,
    /// With --explain: compare with the handler's magic byte by byte
    #[arg(long, requires = "explain", conflicts_with_all = ["list", "status"])]
    pub verbose: bool,
    /// Show the versions of binfmt and of its QEMU
    #[arg(long)]
    pub version: bool,
    /// Mount point; in a user namespace, naming one asks to mount it there [default: the kernel's own]
    #[arg(long, value_name = "DIR")]
    pub mount: Option<PathBuf>,
    /// Form of the output [default: text for --list, --status, --verify and --explain, else json];
    /// prometheus: metrics, for --status
    #[arg(long, value_name = "json|text|prometheus", hide_possible_values = true)]
    pub format: Option<Format>,
    /// Also take over from, or remove, handlers that are not QEMU's
    #[arg(long)]
    pub force: bool,
    /// Leave handlers that work as they are, even if their emulator is another than that to be installed
    #[arg(long, conflicts_with = "reset")]
    pub keep: bool,
    /// Honour setuid bits of foreign programs (flag C) [default: yes]
    #[arg(
        long,
        short = 'c',
        alias = "credential",
        value_name = "yes|no",
        default_value = "yes",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub credentials: YesNo,
    /// Keep the handlers alive beyond this container, where nothing else does [default: auto]
    #[arg(
        long,
        value_name = "auto|never",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub anchor: Anchor,
    /// Accepted for the sake of multiarch/qemu-user-static: handlers are always pinned; alone, installs all as there
    #[arg(long, short, value_name = "yes", hide_possible_values = true)]
    pub persistent: Option<Yes>,
    /// Show this
    #[arg(long, short, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
    /// With --run: the command, and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "run")]
    pub command: Vec<OsString>,
}

impl Cli {
    /// Whether it says what to do, other than to install.
    #[must_use]
    pub fn asks_otherwise(&self) -> bool {
        let shows = self.list || self.status.is_some() || self.version;
        let files = self.export.is_some() || self.explain.is_some() || self.unpersist.is_some();
        shows || self.verify.is_some() || !self.uninstall.is_empty() || files
    }
}

/// What shows, and so ends, is nothing to stay for.
const NO_HOLD: [&str; 5] = ["list", "status", "verify", "export", "explain"];

const AFTER_HELP: &str = "\
Environment:
  QEMU_BINARY_PATH     directory of the emulators [default: /usr/bin]
  QEMU_BINARY_PREFIX   put before the file names of emulators and the names of entries
  QEMU_PRESERVE_ARGV0  0: programs get their path as argv[0] (no flag P)

Exit status:
  0  everything asked for is in place
  1  something is not; the last line on stderr says what to do
  2  the command line is wrong
  with --run, COMMAND's own, or 125: nothing was run, 126: COMMAND cannot be run, 127: there is none of that name";

/// Reads `-install x` and `-install=x` as `--install x`, which is how Go programs, the incumbent among them, take
/// their flags. What follows `--` is somebody else's.
pub fn accept_single_dash(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let long = |arg: &OsStr| {
        let name = arg.to_str()?.strip_prefix('-')?.split('=').next()?;
        let is_word = name.len() > 1 && !name.starts_with('-');
        let known = is_word && is_long_option(name);
        known.then(|| format!("-{}", arg.to_string_lossy()))
    };
    let mut args = args.into_iter();
    let own = args.by_ref().take_while(|arg| arg != "--");
    let mut accepted: Vec<_> = own
        .map(|arg| long(&arg).map_or(arg, OsString::from))
        .collect();
    let others: Vec<_> = args.collect();
    if !others.is_empty() {
        accepted.push("--".into());
        accepted.extend(others);
    }
    accepted
}

fn is_long_option(name: &str) -> bool {
    let command = Cli::command();
    let mut options = command.get_arguments().filter_map(Arg::get_long);
    options.any(|long| long == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        let args = ["binfmt"].iter().chain(args).map(OsString::from);
        Cli::try_parse_from(accept_single_dash(args))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn go_style_flags_are_the_same_flags() {
        for args in [
            &["--install", "arm64"][..],
            &["--install=arm64"],
            &["-install", "arm64"],
            &["-install=arm64"],
        ] {
            assert_eq!(parse(args).unwrap().install, ["arm64"], "{args:?}");
        }
        assert!(parse(&["-version"]).unwrap().version);
        assert_eq!(parse(&["-mount=/x"]).unwrap().mount, Some("/x".into()));
    }

    #[test]
    fn multiarchs_words_are_understood() {
        let cli = parse(&["--reset", "-p", "yes", "-c", "yes"]).unwrap();
        assert!(cli.reset && cli.persistent.is_some() && cli.credentials == YesNo::Yes);
        let cli = parse(&["--reset", "--persistent", "yes", "--credential", "no"]).unwrap();
        assert_eq!(cli.credentials, YesNo::No);
        assert!(
            parse(&["--reset", "-p", "no"]).is_err(),
            "handlers are always pinned"
        );
    }

    #[test]
    fn status_takes_a_list_or_none() {
        assert_eq!(parse(&["--status"]).unwrap().status, Some(None));
        assert_eq!(
            parse(&["--status", "arm64"]).unwrap().status,
            Some(Some("arm64".into()))
        );
        assert_eq!(parse(&[]).unwrap().status, None);
    }

    #[test]
    fn what_follows_two_dashes_is_the_commands() {
        let words = ["ls", "-status", "--", "--list"];
        let cli = parse(&[&["-run", "arm64", "--"], &words[..]].concat()).unwrap();
        assert_eq!(cli.run.as_deref(), Some("arm64"));
        assert_eq!(cli.command, words);
    }

    #[test]
    fn wrong_command_lines_are_wrong() {
        for args in [
            &["--bogus"][..],
            &["arm64"],
            &["--install"],
            &["--list", "--status"],
            &["--credentials", "maybe"],
            &["--hold"],
            &["--interval", "5s", "--install", "arm64"],
            &["--on-exit", "keep", "--install", "arm64"],
            &["--hold", "--install", "arm64", "--status"],
            &["--interval", "5s", "--list"],
            &["--on-exit", "keep", "--verify"],
            &["--verbose", "--list"],
            &["--run", "arm64"],
            &["--run", "arm64", "--"],
            &["--run", "arm64", "--hold", "--", "ls"],
            &["--run", "arm64", "ls"],
            &["--run", "--", "ls"],
            &["--run", "arm64", "--install", "arm64", "--", "ls"],
            &["--run", "arm64", "--explain", "ls", "--", "ls"],
            &["--root", "/", "--", "ls"],
            &["--", "ls"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn holding_has_defaults() {
        let held = parse(&["--hold", "--install", "arm64"]).unwrap();
        assert_eq!((held.interval.as_secs(), held.on_exit), (30, OnExit::Keep));
    }
}
