//! Aligned columns, as many as fit a terminal.

use std::io::{self, Write};

use crate::kernel::wording::printable;

/// A row, every cell safe for a terminal.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(printable).to_vec()
}

/// Columns of the terminal that the last column keeps at least: others are left out for it.
const LEAST: usize = 16;
const GAP: usize = 2;

/// Writes the rows, the columns two spaces apart. `colour`: whether states have one; they are the second column.
/// `width`: the columns of the terminal, if the lines must fit one; `spare` columns are left out first, in this order.
/// What does not fit the last column is cut off, except where the row says what is wrong: that continues in the next
/// line.
pub(super) fn write_columns(
    out: &mut dyn Write,
    rows: &[Vec<String>],
    colour: bool,
    width: Option<usize>,
    spare: &[usize],
) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let last = columns.saturating_sub(1);
    let (shown, room) = fitting(&widths, width, spare);
    for row in rows {
        let cell = |column: usize| row.get(column).map_or("", String::as_str);
        let state = state_colour(cell(1));
        let is_wrong = state.is_some_and(|state| state != GREEN);
        let mut lines = pieces(cell(last), room, is_wrong).into_iter();
        let mut start = String::new();
        for &column in shown.iter().filter(|column| **column != last) {
            let cell = format!("{:1$}", cell(column), widths[column]);
            let coloured = state.filter(|_| colour && column == 1);
            let coloured = coloured.map(|code| format!("\x1b[{code}m{cell}\x1b[0m"));
            start += &coloured.unwrap_or(cell);
            start += &" ".repeat(GAP);
        }
        let first = start + &lines.next().unwrap_or_default();
        writeln!(out, "{}", first.trim_end())?;
        let before = shown.iter().filter(|column| **column != last);
        let before: usize = before.map(|column| widths[*column] + GAP).sum();
        for line in lines {
            writeln!(out, "{:before$}{line}", "")?;
        }
    }
    Ok(())
}

/// The columns that are shown, and how much room the last one has.
fn fitting(widths: &[usize], width: Option<usize>, spare: &[usize]) -> (Vec<usize>, usize) {
    let mut shown: Vec<usize> = (0..widths.len()).collect();
    let (Some(width), Some((last, others))) = (width, widths.split_last()) else {
        return (shown, usize::MAX);
    };
    let mut spare = spare.iter();
    loop {
        let others = shown.iter().filter_map(|column| others.get(*column));
        let left = width.saturating_sub(others.map(|width| width + GAP).sum());
        if left >= LEAST.min(*last) {
            return (shown, left);
        }
        match spare.next() {
            Some(gone) => shown.retain(|column| column != gone),
            None => return (shown, left.max(1)),
        }
    }
}

/// `text` in pieces of at most `room` columns; unless `all` is wanted, only the first piece, which is cut.
pub(super) fn pieces(text: &str, room: usize, all: bool) -> Vec<String> {
    if text.chars().count() <= room {
        return vec![text.to_owned()];
    }
    if !all {
        let start: String = text.chars().take(room.saturating_sub(1)).collect();
        return vec![start + "…"];
    }
    let mut pieces = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let length = pieces.last().map_or(0, |piece| piece.chars().count());
        if length > 0 && length + 1 + word.len() > room {
            pieces.push(String::new());
        }
        while !word.is_empty() {
            let piece = pieces.last_mut().expect("one at least");
            if !piece.is_empty() {
                piece.push(' ');
            }
            let fits = word.len().min(room);
            piece.extend(word.drain(..fits));
            if !word.is_empty() {
                pieces.push(String::new());
            }
        }
    }
    pieces
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

fn state_colour(state: &str) -> Option<u8> {
    match state {
        "native" | "works" | "registered" | "in order" => Some(GREEN),
        "broken" | "drift" => Some(RED),
        "missing" => Some(YELLOW),
        _ => None,
    }
}
