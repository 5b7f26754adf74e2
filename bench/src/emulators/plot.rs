//! A table of emulators as a plot: for each row a bar for each emulator, as long as its ratio to the second one.
//!
//! Owns words and colours; where they stand is [`layout`]'s. The second directory is the one that the first is compared
//! with, so its bars are all 1 long. The same numbers are the same file. A card of its own, in the colours of the
//! reader's theme, keeps it legible on whatever page it is put.

mod layout;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use binfmt_magic::arch::Arch;
use svg::Document;
use svg::node::element::{Group as Section, Line, Rectangle, Style, Text, Title};

use super::emulator::Emulator;
use super::table::{Row, number};
use layout::{ASCENT, BAR, LEFT, LINE, Layout, MARGIN, Place, RATIOS, WIDTH};

/// Width and height of a legend's sample of colour, in CSS pixels.
const SWATCH: f64 = 12.0;
/// Between words and what they belong to, in CSS pixels.
const BEHIND: f64 = 8.0;
/// How many emulators have a colour of their own.
const COLOURS: usize = 4;
/// GitHub's colours of text and background; those of bars are told apart on either, also by readers who see no red or green.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328;\
font-variant-numeric:tabular-nums}\
.title{font-size:17px;font-weight:600}.minor{fill:#59636e}.end{text-anchor:end}\
.card{fill:#fff;stroke:#d1d9e0}.base{stroke:#59636e;stroke-dasharray:3 3}\
.e0{fill:#0969da}.e1{fill:#afb8c1}.e2{fill:#d4a72c}.e3{fill:#8250df}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.minor{fill:#9198a1}\
.card{fill:#0d1117;stroke:#3d444d}.base{stroke:#9198a1}\
.e0{fill:#4493f8}.e1{fill:#656c76}.e2{fill:#e3b341}.e3{fill:#ab7df8}}";

/// What a plot shows.
#[derive(Debug)]
pub(super) struct Chart {
    title: String,
    /// What the length of a bar means.
    note: String,
    /// One line for each emulator.
    legend: Vec<String>,
    groups: Vec<Group>,
}

/// The bars of one row of the table.
#[derive(Debug)]
struct Group {
    title: String,
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    /// To the second emulator.
    ratio: f64,
    /// With its unit.
    median: String,
}

impl Chart {
    /// The plot of `rows`, with at least two emulators; `clock` is what their times are.
    pub(super) fn of(arch: &Arch, emulators: &[Emulator], clock: &str, rows: &[Row]) -> Self {
        let legend = |emulator: &Emulator| format!("{}: {}", emulator.name, emulator.what());
        Self {
            title: format!("linux/{} programs under QEMU", arch.oci),
            note: format!("{} = 1; shorter is better; {clock}", emulators[1].name),
            legend: emulators.iter().map(legend).collect(),
            groups: rows.iter().map(|row| Group::of(row, emulators.len())).collect(),
        }
    }
}

impl Group {
    fn of(row: &Row, emulators: usize) -> Self {
        let bar = |emulator| {
            let median = format!("{} {}", number(row.median(emulator)), row.unit);
            Bar { ratio: row.ratio(emulator, 1), median: median.trim_end().to_owned() }
        };
        Self { title: row.title.to_owned(), bars: (0..emulators).map(bar).collect() }
    }
}

/// Writes a plot to a file, whose directory is made if there is none.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(path: &Path, chart: &Chart) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, format!("{}\n", draw(chart))))
        .with_context(|| format!("cannot write the plot {}", path.display()))
}

fn draw(chart: &Chart) -> Document {
    let ratios = |group: &Group| group.bars.iter().map(|bar| bar.ratio).collect();
    let ratios: Vec<Vec<f64>> = chart.groups.iter().map(ratios).collect();
    let layout = Layout::of(chart.legend.len(), &ratios);
    let mut document = Document::new()
        .set("width", WIDTH)
        .set("height", layout.height)
        .set("viewBox", (0.0, 0.0, WIDTH, layout.height))
        .set("role", "img")
        .add(Title::new(&chart.title))
        .add(Style::new(STYLE))
        .add(card(layout.height))
        .add(text(&chart.title, MARGIN, MARGIN).set("class", "title"))
        .add(text(&chart.note, MARGIN, MARGIN + LINE).set("class", "minor"));
    for (emulator, (line, &top)) in chart.legend.iter().zip(&layout.legend).enumerate() {
        let swatch = rectangle(emulator, MARGIN, top, SWATCH, SWATCH);
        let words = text(line, MARGIN + SWATCH + BEHIND, top - 2.0);
        document = document.add(swatch).add(words);
    }
    for (group, places) in chart.groups.iter().zip(&layout.bars) {
        document = document.add(section(group, places));
    }
    document.add(base(&layout))
}

/// Rounded, half a pixel inside, or its border is cut.
fn card(height: f64) -> Rectangle {
    Rectangle::new()
        .set("class", "card")
        .set("x", 0.5)
        .set("y", 0.5)
        .set("width", WIDTH - 1.0)
        .set("height", height - 1.0)
        .set("rx", 6)
}

/// A title, and its bars with their numbers.
fn section(group: &Group, places: &[Place]) -> Section {
    let top = places.first().map_or(0.0, |place| place.top);
    let mut section = Section::new().add(end(&group.title, LEFT - BEHIND, top));
    for (emulator, (bar, place)) in group.bars.iter().zip(places).enumerate() {
        let ratio = format!("{:.2}", bar.ratio);
        section = section
            .add(rectangle(emulator, LEFT, place.top, place.length, BAR))
            .add(end(&ratio, RATIOS, place.top))
            .add(end(&bar.median, WIDTH - MARGIN, place.top));
    }
    section
}

/// The line that bars of the second emulator end at.
fn base(layout: &Layout) -> Line {
    let x = tenths(LEFT + layout.one);
    Line::new().set("class", "base").set("x1", x).set("x2", x).set("y1", layout.top).set("y2", layout.height - MARGIN)
}

/// In the colour of an emulator; those behind the last one begin again.
fn rectangle(emulator: usize, x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("class", format!("e{}", emulator % COLOURS))
        .set("x", x)
        .set("y", y)
        .set("width", tenths(width))
        .set("height", height)
}

/// Words that end there.
fn end(words: &str, x: f64, top: f64) -> Text {
    text(words, x, top).set("class", "end")
}

fn text(words: &str, x: f64, top: f64) -> Text {
    Text::new(words).set("x", tenths(x)).set("y", top + ASCENT)
}

/// No eye sees less than a tenth of a pixel, and the file is smaller.
fn tenths(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let row = Row { title: "start", unit: "ms", rounds: vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![1.0, 4.0]] };
        Chart {
            title: "linux/arm64 programs under QEMU".to_owned(),
            note: "debian = 1; shorter is better; elapsed time".to_owned(),
            legend: vec!["ours: QEMU 10.0.13".to_owned(), "a<b>: QEMU & Co".to_owned()],
            groups: vec![Group::of(&row, 2)],
        }
    }

    #[test]
    fn a_bar_tells_ratio_and_median() {
        let chart = chart();
        let bars = chart.groups[0].bars.iter();
        let bars: Vec<_> = bars.map(|bar| (bar.ratio, &*bar.median)).collect();
        assert_eq!(bars, [(0.5, "1.00 ms"), (1.0, "4.00 ms")]);
    }

    #[test]
    fn a_plot_is_always_the_same_and_escapes_what_it_shows() {
        let text = draw(&chart()).to_string();
        assert_eq!(text, draw(&chart()).to_string());
        assert!(text.contains("a&lt;b&gt;: QEMU &amp; Co"), "{text}");
        for shown in ["linux/arm64", "debian = 1", "start", "ours: QEMU 10.0.13"] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        assert!(text.len() < 3000, "{}", text.len());
    }
}
