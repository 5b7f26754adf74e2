//! Whether what a page says to be run elsewhere is run there.

use std::fs;

use super::page::Claim;
use crate::harness::machine::root;

/// What is wrong with the claim. Where several have the commands between them, they are set apart by `;`: a test, and what it
/// calls.
pub(crate) fn refute(claim: &Claim) -> Option<String> {
    let (mut texts, mut is_run) = (String::new(), false);
    for by in claim.by.split(';').map(str::trim) {
        match code(by) {
            Ok(code) => {
                texts.push_str(&code.text);
                is_run |= code.is_run;
            }
            Err(wrong) => return Some(format!("{}: {wrong}", claim.place)),
        }
    }
    if !is_run {
        return Some(format!("{}: no test among {}", claim.place, claim.by));
    }
    let commands = claim.commands.iter();
    let mut words = commands.flat_map(|command| essential(command));
    let there = texts.split(|c: char| !is_of_a_word(c));
    let there: Vec<&str> = there.map(|word| word.trim_matches('.')).collect();
    let missing = words.find(|word| !there.contains(word));
    missing.map(|word| format!("{}: there is no {word:?} in {}", claim.place, claim.by))
}

/// What is said to run something.
#[derive(Debug)]
struct Code {
    text: String,
    /// It is a test, or continuous integration itself.
    is_run: bool,
}

/// The code that is named: `tests/x.rs function` or `make NAME of .ci/run`.
fn code(by: &str) -> Result<Code, String> {
    let words: Vec<&str> = by.split_whitespace().collect();
    let read = |file: &str| fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"));
    match words[..] {
        ["make", target, "of", file] => {
            let text = read(file)?;
            let call = format!("make {target}");
            let calls: Vec<&str> = text.lines().filter(|line| calls(line, &call)).collect();
            if calls.is_empty() {
                return Err(format!("{file} has no {call}"));
            }
            Ok(Code { text: calls.join("\n"), is_run: true })
        }
        [file, function] => {
            let text = read(file)?;
            body(&text, function).ok_or_else(|| format!("{file} has no {function}"))
        }
        _ => Err(format!("whom does {by:?} mean?")),
    }
}

/// Whether a line of a script makes this call.
fn calls(line: &str, call: &str) -> bool {
    let line = line.trim_start().trim_start_matches("exec ");
    let rest = line.strip_prefix(call);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A function from its name to its end, which is indented as it is.
fn body(text: &str, function: &str) -> Option<Code> {
    let starts = ['(', '<'].map(|after| text.find(&format!("fn {function}{after}")));
    let before = &text[..starts.into_iter().flatten().next()?];
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let indent: String = text[line..].chars().take_while(|&c| c == ' ').collect();
    let end = text[line..].find(&format!("\n{indent}}}\n"))?;
    Some(Code { text: text[line..line + end].to_owned(), is_run: text[..line].trim_end().ends_with("#[test]") })
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The words by which a command can be told: not paths, which may be others there, nor settings.
fn essential(command: &str) -> Vec<&str> {
    let words = command.split_whitespace();
    let is_essential = |word: &&str| !word.contains(['/', '=', '$', '|', '&', '>']);
    words.filter(is_essential).collect()
}

#[test]
fn a_claim_is_taken_at_its_word() {
    let test = "tests/documents/pages/shell.rs state_and_status_carry_on";
    let helper = "tests/documents/pages/shell.rs forward";
    let both = format!("{test}; {helper}");
    let refuted = |by: &str, command: &str| refute(&Claim::new(by, vec![command.to_owned()]));
    for (by, command) in
        [(test, "unended  sleep ./any/path A=b"), ("make test of .ci/run", "make test"), (&both, "unended spawn")]
    {
        assert_eq!(refuted(by, command), None, "{by}");
    }
    for (by, command, says) in [
        (test, "unended spawn", "\"spawn\""),
        (&both, "unended spaw", "\"spaw\""),
        (helper, "spawn", "no test among"),
        ("tests/documents/pages/shell.rs forwar", "spawn", "has no forwar"),
        ("tests/nowhere.rs any", "spawn", "tests/nowhere.rs"),
        ("make tes of .ci/run", "make tes", "has no make tes"),
        ("somebody", "spawn", "whom"),
    ] {
        let said = refuted(by, command).unwrap_or_default();
        assert!(said.contains(says), "{said} of {by} {command}");
    }
}
