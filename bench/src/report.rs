//! The tables that the bench prints: medians, and the ratio of the first to the second. Nothing else prints.

use std::io::{Write, stderr, stdout};

use anyhow::Result;

use crate::measure::Sample;

/// Collects rows, then prints them.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Vec<String>>,
}

/// A number of a sample: what it is called, in which unit, and its value in that unit.
type Number = (&'static str, &'static str, fn(&Sample) -> f64);

const NUMBERS: [Number; 5] = [
    ("time", "ms", |sample| thousandth(sample.timed.microseconds)),
    ("processor time", "ms", |sample| thousandth(sample.timed.processor_microseconds)),
    ("own memory", "MB", |sample| megabytes(sample.weighed.own_kib)),
    ("largest process", "MB", |sample| megabytes(sample.timed.largest_process_kib)),
    ("together", "MB", |sample| megabytes(sample.weighed.together_kib)),
];

impl Report {
    /// A table with a column for each of one or two tools, and one for the ratio of two.
    pub(crate) fn new(tools: usize) -> Self {
        let columns = ["median", "", "ours", "rival", "ratio"];
        let shown = if tools == 2 { 5 } else { 3 };
        let header = columns[..shown].iter().map(|&title| title.to_owned());
        Self { rows: vec![header.collect()] }
    }

    /// Adds the rows of one case; `rounds` holds a sample of each tool for each round.
    pub(crate) fn samples(&mut self, case: &str, rounds: &[Vec<Sample>]) {
        for (name, unit, value) in NUMBERS {
            let rounds: Vec<Vec<f64>> = rounds.iter().map(|round| round.iter().map(value).collect()).collect();
            self.row(&format!("{case}: {name}"), unit, &rounds);
        }
    }

    /// Adds the row of the binaries' sizes.
    pub(crate) fn sizes(&mut self, bytes: &[u64]) {
        let sizes = bytes.iter().map(|&size| thousandth(size) / 1000.0).collect();
        self.row("size of the binary", "MB", &[sizes]);
    }

    fn row(&mut self, name: &str, unit: &str, rounds: &[Vec<f64>]) {
        let mut row = vec![name.to_owned(), unit.to_owned()];
        let tools = rounds.first().map_or(0, Vec::len);
        row.extend((0..tools).map(|tool| format!("{:.2}", median(rounds.iter().map(|round| round[tool])))));
        row.extend((tools == 2).then(|| format!("{:.2}", median(rounds.iter().map(|round| round[0] / round[1])))));
        self.rows.push(row);
    }

    /// Prints the table, aligned.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn print(&self) -> Result<()> {
        print_table(&self.rows)
    }
}

/// Prints rows of equally many cells, aligned.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print_table(rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).skip(1);
        let cells: Vec<String> = cells.map(|(cell, &width)| format!("  {cell:>width$}")).collect();
        say(&format!("{:<1$}{2}", row[0], widths[0], cells.concat()))?;
    }
    Ok(())
}

/// Prints a line.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn say(line: &str) -> Result<()> {
    Ok(writeln!(stdout(), "{line}")?)
}

/// Prints a line about the progress, apart from the results.
pub(crate) fn progress(line: &str) {
    complain(line);
}

/// Prints a line of error; a failure of that is ignored.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Exact for all that a bench can see: 2^53 microseconds are 285 years.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn thousandth(number: u64) -> f64 {
    number as f64 / 1000.0
}

/// The kernel counts memory in units of 1024 bytes.
fn megabytes(kib: u64) -> f64 {
    thousandth(kib) * 1.024
}

/// A median and, in brackets, the range of the middle half: `412 (398-431)`.
pub(crate) fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len() / 4, sorted.len() * 3 / 4);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => {
            format!("{:.0} ({low:.0}-{high:.0})", median(sorted.iter().copied()))
        }
        _ => "-".to_owned(),
    }
}

/// The middle one, or the mean of the two in the middle; of nothing, no number.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[sorted.len() / 2],
        sorted => f64::midpoint(sorted[sorted.len() / 2 - 1], sorted[sorted.len() / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        for (values, expected) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5), (vec![7.0], 7.0)] {
            let found = median(values.iter().copied());
            assert!((found - expected).abs() < 1e-9, "{values:?}: {found}");
        }
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn spread_is_the_middle_half() {
        assert_eq!(spread(&[9.0, 1.0, 2.0, 3.0, 4.0]), "3 (2-4)");
        assert_eq!(spread(&[]), "-");
    }

    #[test]
    fn ratio_is_the_median_of_the_rounds_ratios() {
        let mut report = Report::new(2);
        report.row("time", "ms", &[vec![1.0, 2.0], vec![10.0, 40.0], vec![3.0, 3.0]]);
        assert_eq!(report.rows[1], ["time", "ms", "3.00", "3.00", "0.50"]);
    }
}
