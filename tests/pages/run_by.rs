//! Whether what a page says to be run elsewhere is run there.

use std::fs;

use crate::machine::root;
use crate::page::Claim;

/// What is wrong with the claim. Several that run the commands between them are set apart by `;`.
pub(crate) fn refute(claim: &Claim) -> Option<String> {
    let mut texts = String::new();
    for by in claim.by.split(';').map(str::trim) {
        match text(by) {
            Ok(text) => texts.push_str(&text),
            Err(wrong) => return Some(format!("{}: {wrong}", claim.place)),
        }
    }
    let commands = claim.commands.iter();
    let mut words = commands.flat_map(|command| essential(command));
    let there = texts.split(|c: char| !is_of_a_word(c));
    let there: Vec<&str> = there.map(|word| word.trim_matches('.')).collect();
    let missing = words.find(|word| !there.contains(word));
    missing.map(|word| format!("{}: there is no {word:?} in {}", claim.place, claim.by))
}

/// The code that is named: `tests/x.rs function` or `make NAME of .ci/run`.
fn text(by: &str) -> Result<String, String> {
    let words: Vec<&str> = by.split_whitespace().collect();
    let read = |file: &str| {
        let text = fs::read_to_string(root().join(file));
        text.map_err(|error| format!("{file}: {error}"))
    };
    match words[..] {
        ["make", target, "of", file] => {
            let text = read(file)?;
            let call = format!("make {target}");
            let calls: Vec<&str> = text.lines().filter(|line| calls(line, &call)).collect();
            if calls.is_empty() {
                return Err(format!("{file} has no {call}"));
            }
            Ok(calls.join("\n"))
        }
        [file, function] => {
            let text = read(file)?;
            let body = body(&text, function);
            body.map(str::to_owned)
                .ok_or_else(|| format!("{file} has no {function}"))
        }
        _ => Err(format!("whom does {by:?} mean?")),
    }
}

/// Whether a line of a script, a comment or not, makes this call.
fn calls(line: &str, call: &str) -> bool {
    let line = line.trim_start().trim_start_matches("exec ");
    let rest = line.strip_prefix(call);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A function from its name to its end, which is indented as it is.
fn body<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    let starts = ['(', '<'].map(|after| text.find(&format!("fn {function}{after}")));
    let before = &text[..starts.into_iter().flatten().next()?];
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    let indent: String = text[line..].chars().take_while(|&c| c == ' ').collect();
    let end = text[line..].find(&format!("\n{indent}}}\n"))?;
    Some(&text[line..line + end])
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
    let file = "tests/pages/run_by.rs";
    let page = |by: &str, commands: &[&str]| {
        let commands = commands.iter().map(|&command| command.to_owned()).collect();
        refute(&Claim::new(by, commands))
    };
    assert_eq!(
        page(&format!("{file} calls"), &["exec  line ./any/path A=b"]),
        None
    );
    assert_eq!(page("make test of .ci/run", &["make test"]), None);
    assert_eq!(
        page(
            &format!("make image of .ci/run; {file} body"),
            &["make image", "find"]
        ),
        None
    );
    for (by, command, says) in [
        (format!("{file} calls"), "exec another", "\"another\""),
        (format!("{file} calls"), "exe", "\"exe\""),
        (format!("{file} cal"), "exec", "has no cal"),
        (
            "tests/nowhere.rs any".to_owned(),
            "exec",
            "tests/nowhere.rs",
        ),
        (
            "make tes of .ci/run".to_owned(),
            "make tes",
            "has no make tes",
        ),
        ("somebody".to_owned(), "exec", "whom"),
    ] {
        let said = page(&by, &[command]).unwrap_or_default();
        assert!(said.contains(says), "{said} of {by} {command}");
    }
}
