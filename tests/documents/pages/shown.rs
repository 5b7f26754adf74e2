//! What a page shows against what was printed.
//!
//! A terminal shows two streams as they come, and who reads them apart, as an engine does, may get them in another order.
//! So the lines shown are to be those of stdout and of stderr, each in its order, all of them, and nothing else.
//!
//! A line that is `…` alone stands for any lines, also none; within a line `…` stands for anything. White space counts as
//! one blank, since columns are as wide as their numbers, and what moves a terminal's cursor is not shown. Numbers that are
//! not the same twice are compared by shape: with dots (versions, times), before a unit (`ms`, `kB`, `MB`), and beginnings
//! of digests.

use std::collections::BTreeSet;

const ANYTHING: &str = "…";
/// Units, set apart by a blank, before which a number may be any.
const UNITS: [&str; 4] = ["ms", "kB", "MB", "GB"];
/// As many hexadecimal digits as the beginning of a build id has.
const DIGEST: usize = 8;

/// The first line of `shown` that was not printed, or what was printed besides.
pub(crate) fn difference(shown: &[String], stdout: &[String], stderr: &[String]) -> Option<String> {
    let shape_all = |lines: &[String]| lines.iter().map(|line| shape(line)).collect::<Vec<_>>();
    let (out, err) = (shape_all(stdout), shape_all(stderr));
    // how many lines of each stream may be accounted for
    let mut reached = BTreeSet::from([(0, 0)]);
    for line in shown {
        let pattern = shape(line);
        let mut next = BTreeSet::new();
        for &(o, e) in &reached {
            if pattern == ANYTHING {
                next.extend((o..=out.len()).flat_map(|o| (e..=err.len()).map(move |e| (o, e))));
                continue;
            }
            if out.get(o).is_some_and(|line| fits(&pattern, line)) {
                next.insert((o + 1, e));
            }
            if err.get(e).is_some_and(|line| fits(&pattern, line)) {
                next.insert((o, e + 1));
            }
        }
        if next.is_empty() {
            return Some(format!("not printed: {line}"));
        }
        reached = next;
    }
    if reached.contains(&(out.len(), err.len())) {
        return None;
    }
    let &(o, e) = reached.last()?;
    let more = stdout.get(o).or_else(|| stderr.get(e));
    Some(format!("not shown: {}", more.map_or("", String::as_str)))
}

/// Whether the text is of a pattern with `…`.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once(ANYTHING) else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.any(|at| fits(rest, &text[at..]))
}

/// The line with a sign in place of each number that varies, and one blank for any white space.
fn shape(line: &str) -> String {
    let line = without_escapes(line);
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut shaped = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let unit = words.get(at + 1).map(|next| next.trim_end_matches(|c: char| !c.is_alphabetic()));
        let has_unit = unit.is_some_and(|unit| UNITS.contains(&unit));
        shaped.push(shape_word(word, has_unit));
    }
    shaped.join(" ")
}

/// The line without a terminal's control sequences, `ESC [ … letter`.
fn without_escapes(line: &str) -> String {
    let mut pieces = line.split("\u{1b}[");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text += piece.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default();
    }
    text
}

fn shape_word(word: &str, has_unit: bool) -> String {
    let mut shaped = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_of_a_number(c)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        let number = piece.trim_end_matches('.');
        let full_stops = &piece[number.len()..];
        shaped.push_str(if varies(number, has_unit) { "#" } else { number });
        shaped.push_str(full_stops);
        let other = after.find(is_of_a_number).unwrap_or(after.len());
        shaped.push_str(&after[..other]);
        rest = &after[other..];
    }
    shaped
}

fn is_of_a_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.'
}

fn varies(piece: &str, has_unit: bool) -> bool {
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let version = piece.strip_prefix('v').unwrap_or(piece);
    let has_dots = version.contains('.') && version.split('.').all(digits);
    let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let is_digest = piece.len() >= DIGEST && piece.chars().all(lower);
    has_dots || is_digest || (has_unit && digits(piece))
}

/// Lines of a text, as this file compares them.
#[cfg(test)]
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_is_printed_as_shown_does_not_differ() {
    for (shown, stdout, stderr) in [
        ("", "", ""),
        ("one\ntwo", "one\ntwo", ""),
        // either stream, however they are mixed
        ("one\ntwo\nthree", "one\nthree", "two"),
        ("one\none", "one", "one"),
        ("a  b", "a b  ", ""),
        ("arm64 OK (qemu-aarch64 10.0.13, 2.0 ms)", "", "arm64 OK (qemu-aarch64 11.1, 14.3 ms)"),
        ("linux/amd64, 43 MB", "linux/amd64, 147 MB", ""),
        ("POCF  2f72145e  /usr", "POCF  ed08d1aa  /usr", ""),
        ("…", "", ""),
        ("…\nlast", "one\ntwo\nlast", ""),
        ("done in red", "\u{1b}[2K\u{1b}[1Adone in \u{1b}[0;31mred\u{1b}[0m", ""),
        ("{\n…\n}", "{\n  1\n}", "said"),
        ("first\n…", "first", ""),
        ("Get:1 … trixie", "Get:1 anywhere at all trixie", ""),
        ("…b…", "abc", ""),
    ] {
        let differs = difference(&lines(shown), &lines(stdout), &lines(stderr));
        assert_eq!(differs, None, "{shown:?} {stdout:?} {stderr:?}");
    }
}

#[test]
fn whatever_else_is_printed_differs() {
    for (shown, stdout, stderr) in [
        // missing, of another order, too many
        ("one\ntwo", "one", ""),
        ("one\ntwo", "two\none", ""),
        ("one", "one\ntwo", ""),
        ("one", "one", "two"),
        ("", "one", ""),
        ("one\n\ntwo", "one\ntwo", ""),
        ("one\none", "one", ""),
        // another word, another number that does not vary, another shape
        ("arm64 OK", "arm64 ok", ""),
        ("4 findings", "5 findings", ""),
        ("every 30s", "every 20s", ""),
        ("status 1", "status 2", ""),
        ("(2.0 ms)", "(- ms)", ""),
        ("2.0 ms", "2.0 kB", ""),
        ("qemu 10.0.13", "qemu unknown", ""),
        ("linux/arm/v7", "linux/arm/v6", ""),
        ("loader /lib/ld.so.1", "loader /lib/ld.so.2", ""),
        ("BUILD 2f72145e", "BUILD -", ""),
        // what is around `…`
        ("…\nlast", "one\ntwo", ""),
        ("…\nlast", "last\nmore", ""),
        ("Get:1 … trixie", "Get:1 anywhere bookworm", ""),
        ("a … c", "b c", ""),
    ] {
        let differs = difference(&lines(shown), &lines(stdout), &lines(stderr));
        assert!(differs.is_some(), "{shown:?} {stdout:?} {stderr:?}");
    }
}

#[test]
fn what_differs_is_named() {
    let said = |shown: &str, out: &str, err: &str| difference(&lines(shown), &lines(out), &lines(err));
    assert_eq!(said("a\nb", "a", "").as_deref(), Some("not printed: b"));
    assert_eq!(said("a", "a", "1.5 b").as_deref(), Some("not shown: 1.5 b"));
}
