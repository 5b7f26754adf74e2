//! Completion scripts, from the definition of the command line: options, their values, and in lists every platform.

use binfmt_magic::arch::ARCHES;
use clap::{Arg, CommandFactory};

use super::help::{is_shown, value};
use super::{Cli, Shell};

/// The script for `shell`: to be read when the shell starts, or to be put where it looks for completions of `binfmt`.
pub fn completions(shell: Shell) -> String {
    let command = Cli::command();
    let args: Vec<&Arg> = command.get_arguments().filter(|arg| is_shown(arg)).collect();
    match shell {
        Shell::Bash => bash(&args),
        Shell::Zsh => zsh(&args),
        Shell::Fish => fish(&args),
    }
}

enum Value {
    None,
    /// Platforms, with commas between them.
    List,
    One(Vec<String>),
    Directory,
    File,
    Other,
}

impl Value {
    fn of(arg: &Arg) -> Self {
        let possible = arg.get_possible_values();
        match value(arg) {
            None => Self::None,
            _ if !possible.is_empty() => Self::One(possible.iter().map(|value| value.get_name().to_owned()).collect()),
            Some("LIST") => Self::List,
            Some("PLATFORM") => Self::One(platforms()),
            Some("DIR") => Self::Directory,
            Some("FILE") => Self::File,
            Some(_) => Self::Other,
        }
    }
}

fn platforms() -> Vec<String> {
    ARCHES.iter().map(|arch| arch.oci.to_owned()).collect()
}

/// All items that a list may have, separated by blanks.
fn items() -> String {
    format!("all {}", platforms().join(" "))
}

/// The names of an option: `--install`, and `-c` if it has a short one.
fn names(arg: &Arg) -> Vec<String> {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    long.into_iter().chain(short).collect()
}

fn bash(args: &[&Arg]) -> String {
    let case = |arg: &&Arg| {
        let complete = match Value::of(arg) {
            Value::None => return None,
            Value::List => format!(
                "[[ $cur == *,* ]] && before=${{cur%,*}},; words=(-P \"$before\" -W '{}'); cur=${{cur##*,}}",
                items()
            ),
            Value::One(values) => format!("words=(-W '{}')", values.join(" ")),
            Value::Directory => "words=(-d)".to_owned(),
            Value::File => "words=(-f)".to_owned(),
            Value::Other => "return".to_owned(),
        };
        Some(format!("    {}) {complete} ;;\n", names(arg).join(" | ")))
    };
    let cases: String = args.iter().filter_map(case).collect();
    let options: Vec<String> = args.iter().flat_map(|arg| names(arg)).collect();
    format!(
        "\
_binfmt() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} before= words=()
  COMPREPLY=()
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  case $prev in
{cases}  esac
  [[ $cur != -* ]] || words=(-W ' {} ')
  [[ ${{#words[@]}} == 0 ]] || mapfile -t COMPREPLY < <(compgen \"${{words[@]}}\" -- \"$cur\")
}}
complete -o bashdefault -o default -F _binfmt binfmt
",
        options.join(" ")
    )
}

fn zsh(args: &[&Arg]) -> String {
    let spec = |arg: &&Arg| {
        let meaning = meaning(arg).replace('[', "(").replace(']', ")").replace('\'', "'\\''");
        let after = match Value::of(arg) {
            Value::None => return format!("    '{}[{meaning}]'", names(arg)[0]),
            Value::List => format!(":LIST:_values -s , platform {}", items()),
            Value::One(values) => format!(":value:({})", values.join(" ")),
            Value::Directory => ":DIR:_files -/".to_owned(),
            Value::File => ":FILE:_files".to_owned(),
            Value::Other => ":value: ".to_owned(),
        };
        let optional = if is_optional(arg) { ":" } else { "" };
        format!("    '{}=[{meaning}]{optional}{after}'", names(arg)[0])
    };
    let specs: Vec<String> = args.iter().map(spec).collect();
    format!(
        "\
#compdef binfmt
_binfmt() {{
  _arguments -S \\
{} \\
    '*::command: _normal'
}}
if [ \"$funcstack[1]\" = _binfmt ]; then
  _binfmt \"$@\"
else
  compdef _binfmt binfmt
fi
",
        specs.join(" \\\n")
    )
}

fn fish(args: &[&Arg]) -> String {
    let line = |arg: &&Arg| {
        let short = arg.get_short().map(|short| format!(" -s {short}"));
        let long = arg.get_long().unwrap_or_default();
        let after = match Value::of(arg) {
            Value::None => String::new(),
            // if the value is left out, another option may follow
            Value::List if is_optional(arg) => format!(" -f -a '{}'", items()),
            Value::List => format!(" -x -a '(__fish_complete_list , \"string split \\\" \\\" \\\"{}\\\"\")'", items()),
            Value::One(values) => format!(" -x -a '{}'", values.join(" ")),
            Value::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::File => " -r -F".to_owned(),
            Value::Other => " -x".to_owned(),
        };
        let meaning = meaning(arg).replace('\\', "\\\\").replace('\'', "\\'");
        format!("complete -c binfmt{} -l {long} {after} -d '{meaning}'\n", short.unwrap_or_default())
    };
    args.iter().map(line).collect()
}

/// The first words of the help: shells show them beside the option.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let first = help.split([';', '[', ':']).next().unwrap_or_default();
    first.trim().to_owned()
}

fn is_optional(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|number| number.min_values() == 0)
}
