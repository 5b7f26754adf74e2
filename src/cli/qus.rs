//! Translates command lines for `aptman/qus`. The options of QEMU's `qemu-binfmt-conf.sh`, which
//! `multiarch/qemu-user-static` accepts, are options of [`Cli`](super::Cli).
//!
//! qus accepts `-s -- -p aarch64 arm`, and older versions `-s -t aarch64 -- -p yes`. The words before `--` are for its
//! `register.sh`, the others for its `qemu-binfmt-conf.sh`. `-p` pins its handlers; ours are always pinned.

use std::ffi::OsString;

/// Translates `args`, which have the program's name first, if they are for qus.
pub(super) fn understood(args: Vec<OsString>) -> Vec<OsString> {
    let words: Option<Vec<&str>> = args.iter().skip(1).map(|arg| arg.to_str()).collect();
    match words.and_then(|words| translated(&words)) {
        Some(words) => args.into_iter().take(1).chain(words).collect(),
        None => args,
    }
}

/// `None`: qus does not accept this, or binfmt has no equivalent.
fn translated(words: &[&str]) -> Option<Vec<OsString>> {
    let at = words.iter().position(|word| *word == "--")?;
    let (before, after) = (&words[..at], &words[at + 1..]);
    let (mut targets, mut removes, mut credentials) = (Vec::new(), false, None);
    let mut before = before.iter();
    while let Some(word) = before.next() {
        match *word {
            "-s" | "--static" | "-static" => {}
            "-t" | "--targets" | "-targets" => targets.push(*before.next()?),
            _ => return None,
        }
    }
    let mut after = after.iter().peekable();
    let mut pins = false;
    while let Some(word) = after.next() {
        let choice = |choice: &&&str| matches!(**choice, "yes" | "no");
        match *word {
            "-p" | "--persistent" => {
                pins = true;
                if after.next_if(choice) == Some(&"no") {
                    return None;
                }
            }
            "-c" | "--credential" => credentials = Some(*after.next_if(choice).unwrap_or(&"yes")),
            "-r" | "--reset" => removes = true,
            option if option.starts_with('-') => return None,
            "NONE" if removes => {}
            target => targets.push(target),
        }
    }
    // with both, qus removes and then registers again; with neither it does nothing
    if pins == removes {
        return None;
    }
    let list = if targets.is_empty() { "all".to_owned() } else { targets.join(",") };
    let mut ours = vec![if removes { "--uninstall" } else { "--install" }, &*list];
    if let Some(credentials) = credentials {
        ours.extend(["--credentials", credentials]);
    }
    Some(ours.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_is_not_qus_is_left_alone() {
        for line in [
            "--run arm64 -- ls -p",
            "--run arm64 -- -p",
            "-- ls",
            "--",
            "-s --",
            "-s",
            "-s -- -p no",
            "-s -- -r -p",
            "-s -- -e /x -p",
            "--install arm64 -- -p",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(translated(&words), None, "{line}");
        }
    }
}
