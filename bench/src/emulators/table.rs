//! The table of emulators side by side: what was measured of each, and what that comes to.

use crate::report::median;

/// One line: a number of every emulator in every round.
#[derive(Debug)]
pub(super) struct Row {
    /// What is measured.
    pub(super) title: &'static str,
    /// `ms`, `MB`, or nothing for what is counted.
    pub(super) unit: &'static str,
    /// By round, then by emulator, in that unit.
    pub(super) rounds: Vec<Vec<f64>>,
}

impl Row {
    /// A row of one number of each of the samples, which are by round, then by emulator.
    pub(super) fn of<T>(
        title: &'static str,
        unit: &'static str,
        rounds: &[Vec<T>],
        number: impl Fn(&T) -> f64,
    ) -> Self {
        let rounds = rounds.iter();
        let rounds = rounds.map(|round| round.iter().map(&number).collect());
        Self { title, unit, rounds: rounds.collect() }
    }

    /// The median of an emulator's rounds, in the row's unit.
    pub(super) fn median(&self, emulator: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[emulator]))
    }

    /// The median of the rounds' ratios of one emulator to another: below 1 the first one takes less.
    pub(super) fn ratio(&self, emulator: usize, other: usize) -> f64 {
        let ratios = self.rounds.iter();
        median(ratios.map(|round| round[emulator] / round[other]))
    }
}

/// The cells, a header first: medians of all, and the ratios of the first to each other one.
pub(super) fn cells(names: &[&str], rows: &[Row]) -> Vec<Vec<String>> {
    let mut header = vec!["median".to_owned(), String::new()];
    header.extend(names.iter().map(|&name| name.to_owned()));
    let others = names.iter().skip(1);
    header.extend(others.map(|other| format!("{} / {other}", names[0])));
    let mut cells = vec![header];
    cells.extend(rows.iter().map(|row| {
        let medians = (0..names.len()).map(|emulator| number(row.median(emulator)));
        let ratios = (1..names.len()).map(|other| format!("{:.2}", row.ratio(0, other)));
        let title = [row.title.to_owned(), row.unit.to_owned()];
        title.into_iter().chain(medians).chain(ratios).collect()
    }));
    cells
}

/// A positive number with three digits or more, none of which is idle: `1.93`, `19.3`, `1930`.
pub(super) fn number(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            title: "start",
            unit: "ms",
            rounds: vec![vec![1.0, 2.0, 4.0], vec![10.0, 40.0, 10.0], vec![300.0, 400.0, 100.0]],
        }
    }

    #[test]
    fn ratio_is_the_median_of_the_rounds_ratios() {
        let table = cells(&["ours", "debian", "other"], &[row()]);
        let header = ["median", "", "ours", "debian", "other", "ours / debian", "ours / other"];
        assert_eq!(table[0], header);
        assert_eq!(table[1], ["start", "ms", "10.0", "40.0", "10.0", "0.50", "1.00"]);
    }

    #[test]
    fn one_emulator_has_no_ratio() {
        let table = cells(&["ours"], &[row()]);
        assert_eq!(table[0], ["median", "", "ours"]);
        assert_eq!(table[1], ["start", "ms", "10.0"]);
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, expected) in [(0.123, "0.12"), (1.934, "1.93"), (19.34, "19.3"), (193.4, "193"), (19340.2, "19340")]
        {
            assert_eq!(number(value), expected);
        }
    }
}
