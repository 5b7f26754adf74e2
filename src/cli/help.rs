//! The text of `--help`, from the definition of the command line: short, by groups, in lines of 80 columns.

use clap::{Arg, CommandFactory};

use super::Cli;

/// What `--help` and the man page have besides the options: sections, each a title and lines of a term and its meaning.
pub const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "Examples",
        &[
            ("binfmt --install arm64,riscv64", "install two platforms"),
            ("binfmt --install all --dry-run", "what an install would do"),
            ("binfmt --status", "what runs, and through what"),
            ("binfmt --run arm64 -- ./program", "as any user"),
            ("binfmt --explain ./program", "why it runs, or does not"),
            ("binfmt --uninstall arm64", "remove a platform"),
        ],
    ),
    (
        "Environment",
        &[
            ("QEMU_BINARY_PATH", "directory of the emulators [default: /usr/bin]"),
            ("QEMU_BINARY_PREFIX", "prefix of the emulators' file names and of the entries' names"),
            ("QEMU_BINARY_REPLACE", "1: also replace a newer QEMU, and add flag C to handlers that lack it"),
            ("QEMU_PRESERVE_ARGV0", "0: programs get their path as argv[0] (no flag P)"),
            ("QEMU_TRANSPARENT", "0: the same as --transparent never"),
        ],
    ),
    (
        "Exit status",
        &[
            ("0", "everything asked for is in place"),
            ("1", "something is not in place; the last line on stderr says what to do"),
            ("2", "the command line is wrong"),
            ("with --run", "COMMAND's own, or:"),
            ("125", "nothing was started, or the command line is wrong"),
            ("126", "COMMAND cannot be run"),
            ("127", "COMMAND does not exist"),
        ],
    ),
];

/// The width of the text, in columns.
const WIDTH: usize = 80;
/// The column where the meanings of options begin.
const MEANING: usize = 24;
/// The column where the effects of examples begin.
const EFFECT: usize = 36;

pub fn help() -> String {
    let command = Cli::command();
    let about = command.get_about().map(ToString::to_string);
    // clap drops the full stop at the end of a doc comment
    let mut lines = wrapped(&(about.unwrap_or_default() + "."), WIDTH);
    let [options, command_line] = USAGE;
    lines.extend([
        String::new(),
        format!("Usage: {options}"),
        format!("       {command_line}"),
        String::new(),
        "Without options: what runs here, as JSON.".to_owned(),
    ]);
    let [examples, others @ ..] = SECTIONS;
    section(&mut lines, examples, EFFECT);
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| is_shown(arg)) {
        if heading != arg.get_help_heading() {
            heading = arg.get_help_heading();
            lines.extend([String::new(), format!("{}:", heading.unwrap_or_default())]);
        }
        let meaning = arg.get_help().map(ToString::to_string);
        row(&mut lines, &term(arg), &meaning.unwrap_or_default(), MEANING);
    }
    for other in others {
        section(&mut lines, other, MEANING);
    }
    lines.join("\n") + "\n"
}

/// The forms of a command line.
pub const USAGE: [&str; 2] = ["binfmt [OPTION]...", "binfmt --run PLATFORM [--root DIR] -- COMMAND [ARGUMENT]..."];

/// Whether the help shows `arg`. It leaves out the options of other tools.
pub(super) fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !arg.is_positional()
}

fn section(lines: &mut Vec<String>, (title, rows): (&str, &[(&str, &str)]), meanings_at: usize) {
    lines.extend([String::new(), format!("{title}:")]);
    for (term, meaning) in rows {
        row(lines, term, meaning, meanings_at);
    }
}

/// `-c, --credentials yes|no`
fn term(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("-{short}, "));
    let long = arg.get_long().unwrap_or_default();
    let value = value(arg).map(|value| match arg.get_num_args().map(|n| n.min_values()) {
        Some(0) => format!(" [{value}]"),
        _ => format!(" {value}"),
    });
    let (short, value) = (short.unwrap_or_default(), value.unwrap_or_default());
    format!("{short}--{long}{value}")
}

/// The name of an option's value, if it has one.
pub(super) fn value(arg: &Arg) -> Option<&str> {
    if !arg.get_action().takes_values() {
        return None;
    }
    arg.get_value_names()?.first().map(clap::builder::Str::as_str)
}

fn row(lines: &mut Vec<String>, term: &str, meaning: &str, at: usize) {
    let mut start = format!("  {term:0$}", at - 2);
    if start.chars().count() > at {
        lines.push(start);
        start = " ".repeat(at);
    }
    for line in wrapped(meaning, WIDTH - at) {
        lines.push(start + &line);
        start = " ".repeat(at);
    }
}

/// Breaks `text` into lines of at most `width` columns. A longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_breaks_no_word() {
        let text = help();
        let words: Vec<&str> = text.split_whitespace().collect();
        for arg in Cli::command().get_arguments().filter(|arg| is_shown(arg)) {
            let meaning = arg.get_help().expect("a meaning").to_string();
            let meaning: Vec<&str> = meaning.split_whitespace().collect();
            let mut there = words.windows(meaning.len());
            assert!(there.any(|words| words == meaning), "{meaning:?} in {text}");
        }
    }
}
