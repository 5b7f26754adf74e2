//! The command line: what may be written, and the help. No I/O, no policy.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, CommandFactory, FromArgMatches, Parser};

mod completions;
mod environment;
mod help;
mod mode;
mod qus;
mod suggestion;
mod value;

pub use completions::completions;
pub use environment::Environment;
pub use help::{SECTIONS, USAGE, help};
pub use mode::{Install, Mistake, Mode, Request, Run, Settings, Stay, describe_unknown};
pub use suggestion::suggest;
pub use value::{Format, Shell};
use value::{interval, is, list, yes};

/// Teach this Linux host to run programs of other CPU architectures, with QEMU's user emulators.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(name = "binfmt", disable_version_flag = true, disable_help_flag = true, args_override_self = true,
    group = ArgGroup::new("changes").multiple(true), group = ArgGroup::new("looks").args(LOOKS))]
pub struct Cli {
    /// Whether one of `LOOKS` is among the options.
    #[arg(skip)]
    pub looks: bool,
    /// Install platforms: all · arm64,arm · linux/arm/v7 · aarch64 · all,-riscv64
    #[arg(long, value_name = "LIST", action = ArgAction::Append, allow_hyphen_values = true, value_parser = list,
        help_heading = INSTALL, group = "changes")]
    pub install: Vec<String>,
    /// Remove platforms, entry names, patterns (qemu-*) or all; QEMU's entries only
    #[arg(long, value_name = "LIST", action = ArgAction::Append, allow_hyphen_values = true, value_parser = list,
        help_heading = INSTALL, group = "changes")]
    pub uninstall: Vec<String>,
    /// Install all, or the LIST of --install, again; then remove QEMU's entries that are not part of this install
    #[arg(long, help_heading = INSTALL, group = "changes")]
    pub reset: bool,
    /// With options that install, remove or write files: show what would be done, and do nothing
    #[arg(long, help_heading = INSTALL, requires = "changes", conflicts_with_all = LOOKS, conflicts_with_all = NO_DRY_RUN)]
    pub dry_run: bool,
    /// Leave working handlers as they are, even if they use another emulator
    #[arg(long, conflicts_with = "reset", help_heading = INSTALL)]
    pub keep: bool,
    /// Also replace or remove handlers that do not belong to QEMU, and replace a newer QEMU
    #[arg(long, help_heading = INSTALL)]
    pub force: bool,
    /// Honour setuid bits of foreign programs (flag C) [default: yes, unless the existing handler lacks it]
    #[arg(long, short = 'c', alias = "credential", value_name = "yes|no", value_parser = is("yes", YES_NO),
        hide_possible_values = true, help_heading = INSTALL)]
    pub credentials: Option<bool>,
    /// Hide the emulator from ps, where kernel and emulator can (flag T) [default: auto]
    #[arg(long, value_name = "auto|never", value_parser = is("auto", ["auto", "never"]), hide_possible_values = true,
        help_heading = INSTALL)]
    pub transparent: Option<bool>,
    /// Keep the handlers alive after this container ends, if nothing else does [default: auto]
    #[arg(long, value_name = "auto|never", value_parser = is("auto", ["auto", "never"]), hide_possible_values = true,
        help_heading = INSTALL)]
    pub anchor: Option<bool>,
    /// Accepted, as in multiarch/qemu-user-static; handlers are always pinned. Without another option: install all
    #[arg(long, short, value_name = "yes", value_parser = yes, help_heading = INSTALL, group = "changes")]
    pub persistent: Option<bool>,
    /// Show whether each registered platform (or each of LIST) runs; exit 1 if one does not
    #[arg(long, value_name = "LIST", help_heading = LOOK)]
    pub status: Option<Option<String>>,
    /// Show every architecture: native, registered, available, unavailable
    #[arg(long, help_heading = LOOK)]
    pub list: bool,
    /// Show whether each handler (or each of LIST) is as an install would make it now; exit 1 if one is not
    #[arg(long, value_name = "LIST", conflicts_with = "export", help_heading = LOOK)]
    pub verify: Option<Option<String>>,
    /// Show why FILE runs here, or does not; exit 1 if it does not
    #[arg(long, value_name = "FILE", group = "below_root", help_heading = LOOK)]
    pub explain: Option<PathBuf>,
    /// Show the versions of binfmt and of its QEMU
    #[arg(long, short = 'V', help_heading = LOOK)]
    pub version: bool,
    /// Run COMMAND as any user, with a handler for PLATFORM in a private user namespace
    #[arg(long, value_name = "PLATFORM", requires = "command", group = "below_root", help_heading = RUN,
        conflicts_with_all = LOOKS, conflicts_with_all = ["install", "hold", "interval", "uninstalls_on_exit", "uninstall", "reset",
        "export", "mount", "format", "json", "force", "keep", "persistent"])]
    pub run: Option<String>,
    /// With --run and --explain: COMMAND or FILE is a path below DIR, the root directory of an unpacked image
    #[arg(long, value_name = "DIR", requires = "below_root", help_heading = RUN)]
    pub root: Option<PathBuf>,
    /// With --install: stay until SIGTERM, and put back handlers that others remove
    #[arg(long, requires = "install", conflicts_with_all = LOOKS, conflicts_with = "export", help_heading = STAY)]
    pub hold: bool,
    /// With --hold: how often to look, in addition to each change: 100ms to 24h [default: 30s]
    #[arg(long, value_name = "TIME", requires = "hold", value_parser = interval, help_heading = STAY)]
    pub interval: Option<Duration>,
    /// With --hold: whether the handlers stay when the call ends [default: keep]
    #[arg(long = "on-exit", value_name = "keep|uninstall", value_parser = is("uninstall", ["keep", "uninstall"]), requires = "hold",
        hide_possible_values = true, help_heading = STAY)]
    pub uninstalls_on_exit: Option<bool>,
    /// Write a rule for each working handler into DIR (/etc/binfmt.d); systemd-binfmt registers it at every boot
    #[arg(long, value_name = "DIR", help_heading = STAY, group = "changes")]
    pub export: Option<PathBuf>,
    /// With --install: copy the emulators to the host whose root directory is DIR; its systemd or OpenRC registers them at
    /// every boot
    #[arg(long, value_name = "DIR", requires = "install", conflicts_with_all = ["hold", "export", "run", "verify"],
        help_heading = STAY)]
    pub persist: Option<PathBuf>,
    /// Remove what --persist DIR or --export DIR wrote
    #[arg(long, value_name = "DIR", conflicts_with_all = ["persist", "run"], help_heading = STAY, group = "changes")]
    pub unpersist: Option<PathBuf>,
    /// Form of the output [default: text for --status, --list, --verify and --explain, else json];
    /// prometheus: metrics, for --status
    #[arg(long, value_name = "json|text|prometheus", hide_possible_values = true, help_heading = OPTIONS)]
    pub format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format", help_heading = OPTIONS)]
    pub json: bool,
    /// With --status, --list and --verify: all columns, even on a narrow terminal; with --explain: compare FILE with the
    /// handler's magic, byte by byte
    #[arg(long, requires = "looks", help_heading = OPTIONS)]
    pub verbose: bool,
    /// Mount point of the kernel's table; in a user namespace, the table is mounted only if this option is passed
    /// [default: the kernel's own]
    #[arg(long, value_name = "DIR", help_heading = OPTIONS)]
    pub mount: Option<PathBuf>,
    /// Print a completion script for this shell
    #[arg(long, value_name = "bash|zsh|fish", hide_possible_values = true, exclusive = true, help_heading = OPTIONS)]
    pub completions: Option<Shell>,
    /// Show this help
    #[arg(long, short, action = ArgAction::HelpShort, help_heading = OPTIONS)]
    pub help: Option<bool>,
    /// `qemu-binfmt-conf.sh`'s: sets `QEMU_PRESERVE_ARGV0`
    #[arg(long, short = 'g', value_name = "yes|no", value_parser = is("yes", YES_NO), hide = true)]
    pub preserve_argv0: Option<bool>,
    /// `qemu-binfmt-conf.sh`'s: sets `QEMU_BINARY_PATH`
    #[arg(long, short = 'Q', value_name = "DIR", hide = true)]
    pub qemu_path: Option<PathBuf>,
    /// `qemu-binfmt-conf.sh`'s: emulators of this name are found anyway
    #[arg(long, short = 'F', value_name = "-static", allow_hyphen_values = true, value_parser = ["-static"], hide = true)]
    pub qemu_suffix: Option<String>,
    /// With --run: the command, and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "run", help_heading = RUN)]
    pub command: Vec<OsString>,
}

impl Cli {
    /// Reads a command line, the program's name first. It may be one for a Go program, for QEMU's script or for qus.
    /// The error is clap's, which for `--help` is `DisplayHelp`.
    pub fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let args = accept_single_dash(qus::understood(args));
        let matches = Self::command().try_get_matches_from(args)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.looks = matches.contains_id("looks");
        if cli.json {
            cli.format = Some(Format::Json);
        }
        Ok(cli)
    }
}

/// The options that show something and change nothing. A command line has one of them at most.
const LOOKS: [&str; 4] = ["status", "list", "verify", "explain"];

/// What else a dry run cannot be combined with: options that change nothing, and forms of output that have no room for its lines.
const NO_DRY_RUN: [&str; 5] = ["hold", "run", "format", "json", "version"];

const YES_NO: [&str; 2] = ["yes", "no"];

const INSTALL: &str = "Install";
const LOOK: &str = "Look";
const RUN: &str = "Run";
const STAY: &str = "Stay, or come back at boot";
const OPTIONS: &str = "Options";

/// Reads `-install x` and `-install=x` as `--install x`: Go programs, the incumbent among them, accept flags like this. Words after `--`
/// are left as they are.
fn accept_single_dash(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let long = |arg: &OsStr| {
        let name = arg.to_str()?.strip_prefix('-')?.split('=').next()?;
        let is_word = name.len() > 1 && !name.starts_with('-');
        let known = is_word && is_long_option(name);
        known.then(|| format!("-{}", arg.to_string_lossy()))
    };
    let mut args = args.into_iter();
    let own = args.by_ref().take_while(|arg| arg != "--");
    let mut accepted: Vec<_> = own.map(|arg| long(&arg).map_or(arg, OsString::from)).collect();
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
