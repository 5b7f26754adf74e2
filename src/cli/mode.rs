//! From the flat options of [`Cli`] to what is done: a list of [`Mode`]s in the order in which they are carried out.
//! What the options mean together, and which of them make no sense together, is decided here, once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use binfmt_magic::platform::{Platform, Selection, UnknownPart, UnknownPlatform, items};
use binfmt_magic::rule::Flags;

use super::{Cli, Environment, Format, Shell};
use crate::kernel::mount::Lifetime;
use crate::kernel::wording::shown;
use crate::policy::install::Working;
use crate::policy::invocation::Invocation;

/// One thing to do.
#[derive(Debug)]
pub enum Mode {
    Completions(Shell),
    Version,
    /// `--run`: become a command.
    Run(Run),
    /// `--dry-run`: print what these would do.
    DryRun(Vec<Mode>),
    /// `--uninstall`: remove what this list names.
    Uninstall(String),
    /// `--unpersist`: remove what was written to this directory.
    Unpersist(PathBuf),
    Install(Install),
    Hold(Install, Stay),
    /// `--verify`: compare the handlers, or those of the list, with what an install would make.
    Verify(Option<Selection>),
    /// `--export`: write rules for the boot into this directory.
    Export(PathBuf),
    /// `root`: the root directory that the file is below, if not the caller's own.
    Explain {
        file: PathBuf,
        root: Option<PathBuf>,
    },
    List,
    /// `--status`: show whether the platforms, or those of the list, run.
    Status(Option<Selection>),
    /// No option that shows anything: show what runs here.
    Overview,
}

#[derive(Debug)]
pub struct Install {
    pub selection: Selection,
    /// Whether QEMU's other entries are removed afterwards.
    pub reset: bool,
    /// The root directory of the host that gets copies of the emulators.
    pub persist: Option<PathBuf>,
}

/// How to stay after an install.
#[derive(Debug)]
pub struct Stay {
    /// How often to look at the table, besides at each change.
    pub interval: Duration,
    pub uninstalls: bool,
}

#[derive(Debug)]
pub struct Run {
    pub platform: Platform,
    /// The root directory to run it in, if not the caller's own.
    pub root: Option<PathBuf>,
    /// The command: a path, or a name to search PATH for.
    pub name: OsString,
    pub args: Vec<OsString>,
}

#[derive(Debug)]
pub struct Settings {
    /// Where the kernel's table is mounted, if the caller says so.
    pub mount: Option<PathBuf>,
    /// The environment, with the options that override it.
    pub environment: Environment,
    pub flags: Flags,
    /// Whether flag C is to be set, if the caller says so.
    pub credentials: Option<bool>,
    /// Whether entries that are not QEMU's, and files that binfmt did not write, may be replaced and removed.
    pub force: bool,
    /// What an install does with handlers that work.
    pub working: Working,
    pub lifetime: Lifetime,
    pub format: Format,
    /// Whether tables have all columns, and explanations all bytes.
    pub verbose: bool,
    /// What every suggested command repeats.
    pub invocation: Invocation,
}

#[derive(Debug)]
pub struct Request {
    /// What is done, in this order.
    pub modes: Vec<Mode>,
    pub settings: Settings,
    /// Options with an empty list, which is no mistake: scripts pass variables that may be empty.
    pub empty: Vec<&'static str>,
}

/// Why a command line is no [`Request`].
#[derive(Debug)]
pub enum Mistake {
    /// clap does not accept it; or, with `DisplayHelp`, it asks for the help.
    Parse(clap::Error),
    /// Its options make no sense together, or a value means nothing.
    Usage(anyhow::Error),
}

impl Request {
    /// Reads `args`, the program's name first, and `environment`. Touches nothing.
    pub fn read(args: Vec<OsString>, environment: Environment) -> Result<Self, Mistake> {
        let cli = Cli::read(args).map_err(Mistake::Parse)?;
        let environment = environment.with(&cli);
        lower(cli, environment).map_err(Mistake::Usage)
    }
}

fn lower(cli: Cli, environment: Environment) -> Result<Request> {
    let install = to_install(&cli)?;
    check(&cli, install.as_ref())?;
    let settings = settings(&cli, environment);
    let mut empty = Vec::new();
    if !cli.install.is_empty() && install.is_none() {
        empty.push("--install");
    }
    if !cli.uninstall.is_empty() && to_uninstall(&cli).is_none() {
        empty.push("--uninstall");
    }
    let modes = modes(cli, install)?;
    Ok(Request { modes, settings, empty })
}

fn modes(cli: Cli, install: Option<Selection>) -> Result<Vec<Mode>> {
    if let Some(shell) = cli.completions {
        return Ok(vec![Mode::Completions(shell)]);
    }
    if cli.version {
        return Ok(vec![Mode::Version]);
    }
    let uninstall = to_uninstall(&cli);
    let mut command = cli.command.into_iter();
    if let (Some(platform), Some(name)) = (cli.run, command.next()) {
        let platform = platform.parse::<Platform>().map_err(|e| unknown(&e))?;
        return Ok(vec![Mode::Run(Run { platform, root: cli.root, name, args: command.collect() })]);
    }
    let mut modes = Vec::new();
    modes.extend(uninstall.map(Mode::Uninstall));
    modes.extend(cli.unpersist.map(Mode::Unpersist));
    if let Some(selection) = install {
        let install = Install { selection, reset: cli.reset, persist: cli.persist };
        if cli.hold {
            let stay = Stay {
                interval: cli.interval.unwrap_or(Duration::from_secs(30)),
                uninstalls: cli.uninstalls_on_exit == Some(true),
            };
            modes.push(Mode::Hold(install, stay));
            return Ok(modes);
        }
        modes.push(Mode::Install(install));
    }
    modes.extend(cli.export.map(Mode::Export));
    if cli.dry_run {
        return Ok(vec![Mode::DryRun(modes)]);
    }
    let list = |list: Option<String>| list.as_deref().map(selection).transpose();
    modes.push(match (cli.verify, cli.explain, cli.status) {
        (Some(listed), ..) => Mode::Verify(list(listed)?),
        (_, Some(file), _) => Mode::Explain { file, root: cli.root },
        (.., Some(listed)) => Mode::Status(list(listed)?),
        _ if cli.list => Mode::List,
        _ => Mode::Overview,
    });
    Ok(modes)
}

/// What to install. multiarch/qemu-user-static registers everything when told `--persistent yes`, and with `--reset`.
fn to_install(cli: &Cli) -> Result<Option<Selection>> {
    let list = cli.install.join(",");
    let multiarch = cli.reset || cli.persistent.is_some() && !asks_for_something_else(cli);
    let install = match (cli.install.is_empty(), multiarch) {
        (false, false) if is_empty(&list) && !cli.hold && cli.persist.is_none() => None,
        (false, _) => Some(selection(&list)?),
        (true, true) => Some(selection("all")?),
        (true, false) => None,
    };
    // an install goes on without an unknown platform; holding would wait for it forever
    let unknowns = install.iter().flat_map(|selection| &selection.unknown);
    match unknowns.take(usize::from(cli.hold)).next() {
        Some(platform) => Err(unknown(platform)),
        None => Ok(install),
    }
}

fn to_uninstall(cli: &Cli) -> Option<String> {
    Some(cli.uninstall.join(",")).filter(|list| !is_empty(list))
}

fn is_empty(list: &str) -> bool {
    items(list).next().is_none()
}

/// Whether `cli` says what to do, other than to install.
fn asks_for_something_else(cli: &Cli) -> bool {
    cli.looks || cli.version || cli.export.is_some() || cli.unpersist.is_some() || !cli.uninstall.is_empty()
}

/// A list with an unknown exclusion is refused: the rest of it would include what was to be left out.
fn selection(list: &str) -> Result<Selection> {
    let selection = Selection::parse(list)?;
    let is_exclusion = |unknown: &&UnknownPlatform| unknown.item.starts_with(['-', '!']);
    match selection.unknown.iter().find(is_exclusion) {
        Some(platform) => Err(unknown(platform)),
        None => Ok(selection),
    }
}

fn unknown(platform: &UnknownPlatform) -> anyhow::Error {
    anyhow!("{}", describe_unknown(platform))
}

/// What is wrong with the name of a platform, and what to do.
pub fn describe_unknown(unknown: &UnknownPlatform) -> String {
    if unknown.part == UnknownPart::Name && unknown.closest.is_empty() {
        return format!("{unknown}; binfmt --list shows all platforms");
    }
    unknown.to_string()
}

/// Refuses options that say how to do what nothing asks for.
fn check(cli: &Cli, install: Option<&Selection>) -> Result<()> {
    let installs = install.is_some() || cli.verify.is_some() || !cli.install.is_empty();
    if let (Some(word), None) = (cli.command.first(), &cli.run) {
        let word = shown(word);
        bail!("{word} follows --, where only --run has a command; leave it out, or add --run PLATFORM");
    }
    ensure!(installs || !cli.keep, "--keep says how to install, but nothing is to be installed; add --install LIST");
    ensure!(
        installs || !cli.force || !cli.uninstall.is_empty() || cli.export.is_some(),
        "--force says how to install, uninstall or export; add --install LIST, --uninstall LIST or --export DIR"
    );
    ensure!(
        cli.status.is_some() || cli.format != Some(Format::Prometheus),
        "--format prometheus works with --status only"
    );
    // the value of multiarch's --persistent; a directory of that name is meant as one
    let is_word = |dir: &&PathBuf| ["yes", "no"].iter().any(|word| *dir == Path::new(word));
    if let Some(word) = cli.persist.as_ref().filter(is_word) {
        if !word.is_dir() {
            bail!(
                "--persist needs the host's root directory, as in --persist /host; multiarch's option is --persistent {}",
                word.display()
            );
        }
    }
    Ok(())
}

fn settings(cli: &Cli, environment: Environment) -> Settings {
    let default = if cli.looks { Format::Text } else { Format::Json };
    let replaces = cli.force || cli.reset || environment.replace;
    Settings {
        mount: cli.mount.clone(),
        invocation: invocation(cli, &environment),
        // without F no container finds the emulator; C brings O with it
        flags: Flags {
            preserve_argv0: environment.preserve_argv0,
            open_binary: cli.credentials != Some(false),
            credentials: cli.credentials != Some(false),
            fix_binary: true,
            transparent: environment.transparent,
        },
        environment,
        credentials: cli.credentials,
        force: cli.force,
        working: match (cli.keep, replaces) {
            (true, _) => Working::Keep,
            (false, true) => Working::Replace,
            (false, false) => Working::Upgrade,
        },
        lifetime: match cli.anchor {
            _ if cli.uninstalls_on_exit == Some(true) => Lifetime::OfThisCall,
            Some(false) => Lifetime::Unanchored,
            _ => Lifetime::Anchored,
        },
        format: cli.format.unwrap_or(default),
        verbose: cli.verbose,
    }
}

fn invocation(cli: &Cli, environment: &Environment) -> Invocation {
    let emulators = environment.emulators.clone().map(OsString::from);
    let prefix = Some(&environment.prefix).filter(|prefix| !prefix.is_empty());
    let switch = |on: bool, value: &str| on.then(|| value.to_owned());
    let variables = [
        ("QEMU_BINARY_PATH", emulators),
        ("QEMU_BINARY_PREFIX", prefix.cloned()),
        ("QEMU_PRESERVE_ARGV0", switch(!environment.preserve_argv0, "0").map(OsString::from)),
        ("QEMU_TRANSPARENT", switch(!environment.transparent && cli.transparent.is_none(), "0").map(OsString::from)),
        ("QEMU_BINARY_REPLACE", switch(environment.replace, "1").map(OsString::from)),
    ];
    let credentials = cli.credentials.map(|yes| format!("--credentials {}", if yes { "yes" } else { "no" }));
    let transparent = switch(cli.transparent == Some(false), "--transparent never");
    let anchor = switch(cli.anchor == Some(false), "--anchor never");
    let options = [credentials, transparent, anchor, switch(cli.force, "--force"), switch(cli.keep, "--keep")];
    let set = variables.into_iter();
    Invocation {
        environment: set.filter_map(|(name, value)| Some((name, value?))).collect(),
        options: options.into_iter().flatten().collect(),
        mount: cli.mount.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, Mistake> {
        let args = ["binfmt"].into_iter().chain(line.split_whitespace());
        Request::read(args.map(OsString::from).collect(), Environment::from(|_| None))
    }

    fn modes(line: &str) -> Vec<String> {
        let name = |mode: &Mode| {
            let text = format!("{mode:?}");
            text.split(['(', ' ']).next().map(str::to_owned)
        };
        read(line).expect(line).modes.iter().filter_map(name).collect()
    }

    #[test]
    fn things_are_done_in_one_order() {
        for (line, expected) in [
            ("", "Overview"),
            ("--status --install arm64", "Install Status"),
            ("--verify --install arm --uninstall arm64 --unpersist /", "Uninstall Unpersist Install Verify"),
            ("--list --export /x --reset", "Install Export List"),
            ("--hold --install arm64 --uninstall arm", "Uninstall Hold"),
            ("--explain /bin/sh", "Explain"),
            ("--persistent yes", "Install Overview"),
            ("--persistent yes --list", "List"),
            ("--version --install arm64", "Version"),
            ("--completions zsh", "Completions"),
            ("--run arm64 -- ls -l", "Run"),
            ("--dry-run --install arm64 --export /x", "DryRun"),
        ] {
            assert_eq!(modes(line).join(" "), expected, "{line}");
        }
    }
}
