//! What a wrong command line was meant to be: another one, which parses.
//!
//! Each rule repairs one mistake. They are tried in turn, and again on their result, until the line parses. If no rule
//! fits, nothing is proposed.

use std::ffi::OsString;

use binfmt_magic::platform::Platform;
use clap::error::{ContextKind, ContextValue};

use super::Cli;
use crate::kernel::wording::quoted;

/// The command line that was meant by `args`, which have the program's name first and fail with `error`.
pub fn suggest(args: &[OsString], error: clap::Error) -> Option<String> {
    // one for each mistake in a line
    const STEPS: usize = 4;
    let words = args.iter().skip(1).map(|arg| arg.to_str().map(str::to_owned));
    let mut words: Vec<String> = words.collect::<Option<_>>()?;
    let mut error = error;
    for _ in 0..STEPS {
        words = RULES.iter().find_map(|rule| rule(&words, &error))?;
        let line = ["binfmt".to_owned()].into_iter().chain(words.clone());
        match Cli::read(line.map(OsString::from).collect()) {
            Ok(_) => {
                let words = words.iter().map(quoted);
                return Some(words.fold("binfmt".to_owned(), |line, word| line + " " + &word));
            }
            Err(next) => error = next,
        }
    }
    None
}

/// Repairs the mistake of the error; `None` if it is another mistake.
type Rule = fn(&[String], &clap::Error) -> Option<Vec<String>>;

const RULES: [Rule; 5] = [command, verb, similar, joined, listed];

/// Our options, each with the words that people and other tools have for it.
const VERBS: [(&str, &str); 12] = [
    ("--install", "install add register enable i platform"),
    ("--uninstall", "uninstall remove rm delete unregister disable u"),
    ("--reset", "reset"),
    ("--status", "status check s"),
    ("--list", "list ls l"),
    ("--verify", "verify"),
    ("--explain", "explain why"),
    ("--run", "run exec"),
    ("--version", "version v"),
    ("--format=json", "json"),
    ("--format=text", "text"),
    ("--format=prometheus", "prometheus"),
];

/// Options that take a list of platforms.
const LISTS: [&str; 4] = ["--install", "--uninstall", "--status", "--verify"];

/// The word that the parser refuses, and its position.
fn wrong<'a>(words: &'a [String], error: &clap::Error) -> Option<(usize, &'a str)> {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_wrong = |word: &&String| option(word) == wrong || *word == wrong;
    let at = words.iter().position(|word| is_wrong(&word))?;
    Some((at, &words[at]))
}

/// An option without its value.
fn option(word: &str) -> &str {
    word.split_once('=').map_or(word, |(option, _)| option)
}

fn inserted(words: &[String], at: usize, word: &str) -> Vec<String> {
    [&words[..at], &[word.to_owned()], &words[at..]].concat()
}

fn replaced(words: &[String], at: usize, with: &str) -> Vec<String> {
    let mut words = words.to_vec();
    let value = words[at].split_once('=').map(|(_, value)| format!("={value}"));
    words[at] = with.to_owned() + &value.unwrap_or_default();
    words
}

/// `status` and `--remove` for `--status` and `--uninstall`.
fn verb(words: &[String], error: &clap::Error) -> Option<Vec<String>> {
    let (at, word) = wrong(words, error)?;
    let plain = option(word).trim_start_matches('-');
    let mut verbs = VERBS.iter();
    let (option, _) = verbs.find(|(_, verbs)| verbs.split(' ').any(|verb| verb == plain))?;
    (*option != word).then(|| replaced(words, at, option))
}

/// `--run arm64 ls -l` for `--run arm64 -- ls -l`.
fn command(words: &[String], error: &clap::Error) -> Option<Vec<String>> {
    let (at, word) = wrong(words, error)?;
    let runs = words[..at].iter().any(|word| option(word) == "--run");
    let is_command = runs && !word.starts_with('-') && !words.iter().any(|word| word == "--");
    is_command.then(|| inserted(words, at, "--"))
}

/// An option, or a value, that differs by a letter or two.
fn similar(words: &[String], error: &clap::Error) -> Option<Vec<String>> {
    let suggested = |kind| match error.get(kind)? {
        ContextValue::String(one) => Some(one.as_str()),
        ContextValue::Strings(some) => some.first().map(String::as_str),
        _ => None,
    };
    if let Some(suggested) = suggested(ContextKind::SuggestedArg) {
        let (at, _) = wrong(words, error)?;
        return Some(replaced(words, at, suggested));
    }
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else {
        return None;
    };
    let suggested = suggested(ContextKind::SuggestedValue)?;
    let at = words.iter().rposition(|word| word.ends_with(value.as_str()))?;
    let mut words = words.to_vec();
    words[at] = words[at].strip_suffix(value.as_str())?.to_owned() + suggested;
    Some(words)
}

/// `--install arm64 riscv64` for `--install arm64,riscv64`.
fn joined(words: &[String], error: &clap::Error) -> Option<Vec<String>> {
    let (at, _) = wrong(words, error)?;
    let is_item = |word: &String| !word.starts_with('-');
    let first = at - words[..at].iter().rev().take_while(|word| is_item(word)).count();
    let option_at = first.checked_sub(1)?;
    let (name, value) = match words[option_at].split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (words[option_at].as_str(), None),
    };
    let end = at + words[at..].iter().take_while(|word| is_item(word)).count();
    let items = value.into_iter().chain(words[first..end].iter().map(String::as_str));
    let items: Vec<&str> = items.map(|item| item.trim_matches(',')).collect();
    let names_platforms = LISTS.contains(&name) && items.iter().all(|item| is_platform(item));
    if !names_platforms && name != "--uninstall" {
        return None;
    }
    let list = items.join(",");
    let mut joined = words[..option_at].to_vec();
    joined.extend([name.to_owned(), list]);
    joined.extend_from_slice(&words[end..]);
    Some(joined)
}

/// `arm64` for `--install arm64`, and `--list arm64`, which only looks, for `--status arm64`.
fn listed(words: &[String], error: &clap::Error) -> Option<Vec<String>> {
    let (at, word) = wrong(words, error)?;
    if !is_platform(word) || words.iter().any(|word| LISTS.contains(&option(word))) {
        return None;
    }
    match words.iter().position(|word| word == "--list") {
        Some(list) => Some(replaced(words, list, "--status")),
        None => Some(inserted(words, at, "--install")),
    }
}

fn is_platform(item: &str) -> bool {
    item.split(',').all(|name| name.eq_ignore_ascii_case("all") || name.parse::<Platform>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries every combination of words that people write.
    #[test]
    fn every_proposal_parses() {
        let options = ["--install", "--status", "--run", "--hold", "--json", "--", "-p", "--force"];
        let verbs = VERBS.iter().flat_map(|(_, verbs)| verbs.split(' '));
        let verbs: Vec<&str> = verbs.collect();
        let words = [&verbs[..], &options, &["arm64", "riscv64,arm", "all", "qemu-*", "x y", "json"]].concat();
        let mut proposed = 0;
        for first in &words {
            for second in &words {
                for third in ["", "arm64", "--json", "ls"] {
                    let line = ["binfmt", first, second, third];
                    let args = line.iter().filter(|word| !word.is_empty());
                    let args: Vec<OsString> = args.map(OsString::from).collect();
                    let Err(error) = Cli::read(args.clone()) else {
                        continue;
                    };
                    let Some(proposal) = suggest(&args, error) else {
                        continue;
                    };
                    proposed += 1;
                    // what is quoted is one word
                    let words = proposal.split('\'').enumerate();
                    let words = words.flat_map(|(at, part)| match at % 2 {
                        0 => part.split_whitespace().map(OsString::from).collect(),
                        _ => vec![OsString::from(part)],
                    });
                    assert!(Cli::read(words.collect()).is_ok(), "{line:?}: {proposal}");
                }
            }
        }
        assert!(proposed > 500, "{proposed}");
    }
}
