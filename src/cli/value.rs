//! The values of options: how each is written, and what it means.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Text,
    Prometheus,
}

/// `--completions`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU's.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// One of two words: whether it is `word`.
pub(super) fn is(word: &'static str, words: [&'static str; 2]) -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(words).map(move |value| value == word)
}

/// Reads the value of `--persistent`. A directory there is meant for `--persist`.
pub(super) fn yes(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        dir if dir.contains('/') => Err(format!("did you mean --persist {dir}?")),
        _ => Err("yes is the only value: handlers are always pinned".to_owned()),
    }
}

/// Refuses an option in place of a list. clap cannot: a list may begin with an exclusion (`-riscv64,all`).
pub(super) fn list(value: &str) -> Result<String, &'static str> {
    if value.starts_with("--") {
        return Err("this is an option, and a list is missing before it");
    }
    Ok(value.to_owned())
}

/// `500ms`, `30s`, `5m`, `1h`
pub(super) fn interval(value: &str) -> Result<Duration, &'static str> {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write it as 500ms, 30s, 5m or 1h"),
    };
    let number = value[..value.len() - unit.len()].parse::<u64>().ok();
    let interval = number.and_then(|number| number.checked_mul(millis));
    let interval = interval.map(Duration::from_millis);
    let fits = |interval: &Duration| (SHORTEST..=LONGEST).contains(interval);
    interval.filter(fits).ok_or("it must be from 100ms to 24h")
}

/// A shorter interval would be a busy loop.
const SHORTEST: Duration = Duration::from_millis(100);
/// A longer interval would leave handlers unrepaired for days.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
