//! Two images of one command line, as `docker run --privileged --rm` runs them, and what they are made of.
//!
//! Most of such a call is the engine's, so a third image is measured beside them that does nothing: the floor. What is
//! installed goes to the machine's own table: it must be empty, and it is empty afterwards. It is mounted for as long
//! as this takes, since an image that only mounts it for itself would lose what it installs with every container.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::fcntl::{Flock, FlockArg};

use crate::namespace;
use crate::report::{self, median, spread, thousandth};

/// Time of one image's calls under Docker, its size and its parts, and those of a second one beside it
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// The image
    ours: String,
    /// Another image of the same command line
    rival: Option<String>,
    /// An image that does nothing
    #[arg(long)]
    floor: String,
    /// How often everything is measured
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// The calls that are timed, in this order, from an empty table.
const CALLS: [(&str, &[&str]); 4] = [
    ("install all, first", &["--install", "all"]),
    ("install all, again", &["--install", "all"]),
    ("status, all installed", &[]),
    ("uninstall", &["--uninstall", "qemu-*"]),
];

/// Milliseconds of each of [`CALLS`].
type Times = [f64; CALLS.len()];

/// Measures, and prints what was found.
///
/// # Errors
/// No engine answers, an image is missing or fails, or the machine's table is not empty.
pub(crate) fn compare(cli: &Images) -> Result<()> {
    let mut images = vec![("ours", cli.ours.as_str())];
    images.extend(cli.rival.as_deref().map(|rival| ("rival", rival)));
    images.push(("floor", &cli.floor));
    for (name, image) in &images {
        report::say(&format!("{name}: {image} {}", identity(image)?))?;
    }
    let _turn = turn()?;
    let _table = namespace::Mounted::on_the_machine()?;
    let found = namespace::entries()?;
    ensure!(found == 0, "the machine's table has {found} entries; uninstall them first");
    let mut rounds = vec![Vec::new(); images.len()];
    for round in 0..cli.rounds {
        for turn in 0..images.len() {
            let at = (round + turn) % images.len();
            rounds[at].push(times(images[at].1)?);
        }
    }
    report::say("\nms: median (middle half)")?;
    report::print_table(&table(&images, &rounds))?;
    for (name, image) in images.iter().filter(|(name, _)| *name != "floor") {
        report::say(&format!("\n{name}: MB"))?;
        report::print_table(&parts(image)?)?;
    }
    Ok(())
}

/// The lock by which the tests of the image take turns: there is one table.
fn turn() -> Result<Flock<File>> {
    let file = File::open("/sys/kernel").context("cannot open /sys/kernel")?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).context("cannot lock /sys/kernel")
}

/// One call after the other.
fn times(image: &str) -> Result<Times> {
    let mut times = [0.0; CALLS.len()];
    for (time, (title, arguments)) in times.iter_mut().zip(CALLS) {
        let mut command = Command::new("docker");
        command.args(["run", "--privileged", "--rm", image]);
        command.args(arguments).stdin(Stdio::null());
        let start = Instant::now();
        let output = command.output().context("cannot run docker")?;
        *time = thousandth(start.elapsed().as_micros().try_into()?);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{image}: {title}: {}; {said}", output.status);
    }
    Ok(times)
}

fn table(images: &[(&str, &str)], rounds: &[Vec<Times>]) -> Vec<Vec<String>> {
    let floor = images.len() - 1;
    let mut header = vec![String::new()];
    header.extend(images.iter().map(|(name, _)| (*name).to_owned()));
    header.push("ours - floor".to_owned());
    header.extend((floor > 1).then(|| "ours / rival".to_owned()));
    let mut rows = vec![header];
    for (call, (title, _)) in CALLS.iter().enumerate() {
        let of = |image: usize| rounds[image].iter().map(move |times| times[call]);
        let mut row = vec![(*title).to_owned()];
        row.extend((0..images.len()).map(|image| spread(&of(image).collect::<Vec<_>>())));
        let differences = of(0).zip(of(floor)).map(|(ours, floor)| ours - floor);
        row.push(spread(&differences.collect::<Vec<_>>()));
        let ratios = of(0).zip(of(1)).map(|(ours, rival)| ours / rival);
        row.extend((floor > 1).then(|| format!("{:.2}", median(ratios))));
        rows.push(row);
    }
    rows
}

/// Which image a name means at this moment.
fn identity(image: &str) -> Result<String> {
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", image])?;
    Ok(id.trim().to_owned())
}

/// The files of the image by what they are for, the whole, and what a registry sends.
fn parts(image: &str) -> Result<Vec<Vec<String>>> {
    let container = docker(&["create", image])?;
    let container = container.trim();
    let listed = piped(&format!("docker export {container} | tar -tv"));
    docker(&["rm", "--volumes", container])?;
    // by a name alone, every tag of it would be saved
    let id = identity(image)?;
    let packed = piped(&format!("docker save {id} | gzip -c | wc -c"))?;

    let (mut parts, mut rest, mut all) = (Vec::new(), 0, 0);
    for line in listed?.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, _, size, _, _, path, ..] = columns.as_slice() else { bail!("tar printed {line}") };
        let size: u64 = size.parse().with_context(|| format!("tar printed {line}"))?;
        all += size;
        match path.strip_prefix("usr/bin/") {
            Some(program) if !program.is_empty() => parts.push((program.to_owned(), size)),
            _ => rest += size,
        }
    }
    parts.sort();
    parts.push(("everything else".to_owned(), rest));
    parts.push(("image".to_owned(), all));
    parts.push(("compressed".to_owned(), packed.trim().parse()?));
    let rows = parts.into_iter();
    let megabytes = |size| format!("{:.2}", thousandth(size) / 1000.0);
    Ok(rows.map(|(name, size)| vec![name, megabytes(size)]).collect())
}

fn docker(arguments: &[&str]) -> Result<String> {
    answer(Command::new("docker").args(arguments))
}

fn piped(script: &str) -> Result<String> {
    answer(Command::new("sh").args(["-c", script]))
}

/// What a command prints.
fn answer(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ends with {status}");
    Ok(text)
}
