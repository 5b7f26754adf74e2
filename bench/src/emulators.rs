//! Directories of QEMU's user emulators, side by side: how fast they start programs of an architecture and run them.
//!
//! All goes through the kernel, as it does for users: the emulator under test is the only entry of a table of the
//! bench's own ([`namespace`]), and programs run in a root directory of that architecture ([`root`]). Every run must
//! end as it ought to and print what it prints under the other emulators, or nothing is told at all.

mod emulator;
mod plot;
mod root;
mod rounds;
pub(crate) mod sample;
mod table;
mod workload;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use binfmt_magic::arch::Arch;
use binfmt_magic::platform::Platform;
use clap::Args;

use crate::{namespace, report};
use emulator::{Emulator, Named};
use plot::Chart;
use root::Root;
use rounds::{Bench, Rounds};
use sample::Sample;
use table::Row;
use workload::{PROBE, WORKLOADS, Workload};

/// Time, size and page faults of one directory's emulator of an architecture, and of those of others beside it
#[derive(Debug, Args)]
pub(crate) struct Emulators {
    /// The architecture, by any name that binfmt knows
    #[arg(long)]
    arch: Platform,
    /// An unpacked Debian userland of it, with gcc, libc6-dev, perl, python3, gzip and coreutils; stays as it is
    #[arg(long)]
    rootfs: PathBuf,
    /// How often everything is measured
    #[arg(long, default_value = "7")]
    rounds: NonZeroUsize,
    /// What is measured; by default, all
    #[arg(long, value_delimiter = ',', value_parser = workload::parser())]
    only: Vec<&'static Workload>,
    /// Tell processor time instead of elapsed time: steadier where others use the machine, blind to waiting
    #[arg(long)]
    processor_time: bool,
    /// Where to write ARCH.svg, a plot beside the second directory's emulator
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// Directories with a file qemu-ARCH, by QEMU's name for it, what to call them, and a variable for the programs that
    /// they run; ratios are the first's to others
    #[arg(value_name = "NAME=DIR[,VARIABLE=VALUE]", required = true)]
    directories: Vec<Named>,
}

/// Measures, and prints what was found.
///
/// # Errors
/// An emulator or the root directory is missing, no table can be mounted, or a program ends otherwise than it
/// ought to.
pub(crate) fn compare(cli: &Emulators) -> Result<()> {
    let arch = cli.arch.arch;
    let emulators = emulators(cli)?;
    let workloads: Vec<&Workload> = WORKLOADS
        .iter()
        .filter(|workload| cli.only.is_empty() || cli.only.iter().any(|only| only.name == workload.name))
        .collect();
    namespace::enter()?;
    let root = Root::mount(&cli.rootfs)?;
    workload::write_files(&root.work(), arch)?;
    for emulator in &emulators {
        report::say(&emulator.to_string())?;
    }
    let bench = Bench { root, emulators };
    let measured = bench.measure(&workloads, cli.rounds.into())?;
    let emulators = bench.emulators;
    let (clock, time): (_, fn(&Sample) -> f64) = if cli.processor_time {
        ("processor time", |sample| sample.processor)
    } else {
        ("elapsed time", |sample| sample.elapsed)
    };
    let mut rows = times(&workloads, &measured, time);
    rows.push(sizes(&emulators));

    let names: Vec<&str> = emulators.iter().map(|emulator| &*emulator.name).collect();
    let title = format!("linux/{}, {clock}, rounds: {}", arch.oci, cli.rounds);
    report::say(&format!("\n{title}"))?;
    report::print_table(&table::cells(&names, &rows))?;
    let Some(folder) = &cli.svg else {
        return Ok(());
    };
    let path = folder.join(format!("{}.svg", arch.oci));
    plot::write(&path, &Chart::of(arch, &emulators, clock, &rows))
}

/// A row of each workload, and one of the page faults of the probe.
fn times(workloads: &[&Workload], measured: &[Rounds], time: fn(&Sample) -> f64) -> Vec<Row> {
    let measured = workloads.iter().zip(measured);
    let times = measured.clone();
    let mut rows: Vec<Row> = times.map(|(workload, rounds)| Row::of(workload.title, "ms", rounds, time)).collect();
    let probe = measured.filter(|(workload, _)| workload.name == PROBE);
    rows.extend(probe.map(|(_, rounds)| {
        let title = "page faults of that start";
        Row::of(title, "", rounds, |sample| sample.minor_faults)
    }));
    rows
}

fn sizes(emulators: &[Emulator]) -> Row {
    let sizes = emulators.iter().map(|emulator| emulator.size).collect();
    Row::of("size of the emulator", "MB", &[sizes], |&bytes| report::thousandth(bytes) / 1000.0)
}

/// Those that were named, if they can be compared.
fn emulators(cli: &Emulators) -> Result<Vec<Emulator>> {
    let arch = cli.arch.arch;
    ensure!(
        Arch::of_host().is_none_or(|host| host != arch),
        "{} is this machine's own, and the bench itself would run under the emulator; choose another",
        arch.oci
    );
    let mut names = HashSet::new();
    for named in &cli.directories {
        let name = &named.name;
        ensure!(names.insert(name), "two directories are called {name}; rename one");
    }
    ensure!(cli.svg.is_none() || names.len() > 1, "a plot compares; name a second directory");
    let found = cli.directories.iter().map(|named| Emulator::find(named, arch));
    found.collect()
}
