//! Two binaries of one command line, in a table of the bench's own: see [`namespace`] for that, [`measure`] for what each
//! number means, and [`stand_in`] for what is the second where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::measure::{self, Sample};
use crate::namespace;
use crate::report::{self, Report};
use crate::stand_in;

/// Time, memory and size of one binary, and of a second one beside it
#[derive(Debug, Args)]
pub(crate) struct Tools {
    /// The tool
    ours: PathBuf,
    /// Another binary of the same command line; without one, what tonistiigi/binfmt does is done by this program
    rival: Option<PathBuf>,
    /// How often everything is measured
    #[arg(long, default_value_t = 25)]
    rounds: usize,
    /// What is installed; the default is what tonistiigi/binfmt can install on amd64
    #[arg(long, default_value = "arm64,arm,s390x,ppc64le,riscv64,mips64le,mips64,loong64")]
    install: String,
    /// What is registered, by the first tool, while the status is measured
    #[arg(long, default_value = "arm64,arm,s390x,ppc64,ppc64le,riscv64,mips64le,mips64,loong64,sparc64")]
    registered: String,
    /// Where the emulators are, for both tools
    #[arg(long, env = "QEMU_BINARY_PATH")]
    emulators: PathBuf,
}

/// Measures, and prints what was found.
///
/// # Errors
/// A tool or the emulators are missing, a tool fails, or no table can be mounted.
pub(crate) fn compare(cli: &Tools) -> Result<()> {
    let emulators =
        cli.emulators.canonicalize().with_context(|| format!("no emulators in {}", cli.emulators.display()))?;
    let rival = cli.rival.as_ref();
    let rival = rival.map_or_else(|| Tool::stand_in(&emulators), |path| Tool::new(path, &emulators));
    let tools = [Tool::new(&cli.ours, &emulators)?, rival?];
    namespace::enter()?;

    report::say(&format!("ours: {}", tools[0].path.display()))?;
    match &cli.rival {
        Some(_) => report::say(&format!("rival: {}", tools[1].path.display()))?,
        None => report::say(
            "rival: none; in its place tonistiigi/binfmt's work alone, a start of each emulator in turn, without its runtime",
        )?,
    }
    let mut report = Report::new(tools.len());
    for case in [Case::Status, Case::Install, Case::InstallAgain, Case::Version] {
        report.samples(case.title(), &rounds(case, &tools, cli)?);
    }
    report.sizes(&tools.iter().map(|tool| tool.size).collect::<Vec<_>>());
    report.print()
}

/// One of the binaries that are compared.
#[derive(Debug)]
struct Tool {
    path: PathBuf,
    /// What comes before the arguments.
    verb: Option<&'static str>,
    emulators: PathBuf,
    size: u64,
}

impl Tool {
    fn new(path: &Path, emulators: &Path) -> Result<Self> {
        let path = path.canonicalize().with_context(|| format!("no tool at {}", path.display()))?;
        let size = path.metadata()?.len();
        Ok(Self { path, verb: None, emulators: emulators.to_owned(), size })
    }

    fn stand_in(emulators: &Path) -> Result<Self> {
        let verb = Some(stand_in::VERB);
        let own = Self::new(&std::env::current_exe()?, emulators)?;
        Ok(Self { verb, ..own })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(self.verb).args(arguments).env("QEMU_BINARY_PATH", &self.emulators);
        command
    }

    /// Registers `list` in an empty table, unmeasured; says how many entries that made.
    fn fill_table(&self, list: &str) -> Result<usize> {
        namespace::clear_table()?;
        let output = self.command(&["--install", list]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} --install {list}: {}\n{said}", self.path.display(), output.status);
        namespace::entries()
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Status,
    Install,
    InstallAgain,
    Version,
}

impl Case {
    fn title(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Install => "install",
            Self::InstallAgain => "install again",
            Self::Version => "--version",
        }
    }

    /// Brings the table into the state that the case starts from.
    fn prepare(self, tools: &[Tool], tool: &Tool, cli: &Tools) -> Result<()> {
        let (who, list) = match self {
            Self::Status => (&tools[0], &cli.registered),
            Self::Install | Self::Version => return namespace::clear_table(),
            Self::InstallAgain => (tool, &cli.install),
        };
        let (entries, wanted) = (who.fill_table(list)?, list.split(',').count());
        if entries != wanted {
            bail!("{} registered {entries} of {list}; choose what it knows", who.path.display());
        }
        Ok(())
    }

    fn arguments(self, cli: &Tools) -> Vec<&str> {
        match self {
            Self::Status => vec![],
            Self::Version => vec!["--version"],
            Self::Install | Self::InstallAgain => vec!["--install", &cli.install],
        }
    }
}

/// A sample of each tool, in the order of `tools`, for each round.
fn rounds(case: Case, tools: &[Tool], cli: &Tools) -> Result<Vec<Vec<Sample>>> {
    let one = |tool: &Tool| {
        let command = || tool.command(&case.arguments(cli));
        case.prepare(tools, tool, cli)?;
        let timed = measure::time(&command())?;
        case.prepare(tools, tool, cli)?;
        let weighed = measure::memory(&command())?;
        Ok(Sample { timed, weighed })
    };
    (0..cli.rounds)
        .map(|round| {
            if round % 2 == 0 {
                return tools.iter().map(one).collect();
            }
            let mut samples = tools.iter().rev().map(one).collect::<Result<Vec<_>>>()?;
            samples.reverse();
            Ok(samples)
        })
        .collect()
}
