//! The README and the pages of `docs/`: each command that they show is run, and shows what they say.
//!
//! Every fenced `console` block is run, line by line: `$ command`, and then what it prints, on stdout and stderr. Comments
//! of the page, each on lines of its own, have what its reader need not see:
//!
//! - `<!-- setting: NAME -->`: where the blocks from here on are run, [`settings`]. State carries on from block to block
//!   within it; a comment of the same name begins anew.
//! - `<!-- before: SCRIPT -->`: shell commands, run in that place of the setting, which must succeed.
//! - `<!-- after: SCRIPT -->`: the same at the end of the setting, in a shell of its own, also where something has failed.
//! - `<!-- run by: FILE FUNCTION -->`: the next block is not run here but by that test, or by the code of one; `run by: make
//!   NAME of .ci/run` by continuous integration. That it exists and has the commands' words is checked, [`run_by`].
//! - `<!-- not run: WHAT IT TAKES -->`: the next block is run nowhere, and the page says so: it has those words in bold.
//!
//! A block without a setting fails, as does one that is not marked `console`, or is named by a comment of another kind: no
//! command is left out silently. The exit status is that of the `echo $?` that follows, or 0.
//!
//! What is shown is compared line by line, [`shown`]: all of it, in the order of each stream. `…` is anything, and numbers
//! that vary are compared by their shape. While a job is in the background (`&`), its lines are waited for.
//!
//! Tables, and commands within sentences, are `tests/documents/readme.rs`'s. The pages show a machine with amd64.

mod page;
mod run_by;
mod settings;
mod shell;
mod shown;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use page::{Command, Item, Page, Scene};
use shell::Shell;

/// A test for each page: those in a setting of their own run side by side, those on the machine take turns.
macro_rules! pages {
    ($($test:ident: $file:literal,)*) => {
        const PAGES: &[&str] = &[$($file),*];
        $(
            #[test]
            fn $test() {
                run($file);
            }
        )*
    };
}

pages! {
    readme: "README.md",
    architecture: "docs/architecture.md",
    boot: "docs/boot.md",
    ci: "docs/ci.md",
    compared: "docs/compared.md",
    container: "docs/container.md",
    emulators: "docs/emulators.md",
    explain: "docs/explain.md",
    hold: "docs/hold.md",
    kubernetes: "docs/kubernetes.md",
    linux_7_3: "docs/linux-7.3.md",
    measurements: "docs/measurements.md",
    metrics: "docs/metrics.md",
    packages: "docs/packages.md",
    persist: "docs/persist.md",
    recipes: "docs/recipes.md",
    reference: "docs/reference.md",
    releases: "docs/releases.md",
    single_file: "docs/single-file.md",
    without_root: "docs/without-root.md",
}

#[test]
fn every_page_has_a_test() {
    let folder = crate::harness::machine::root().join("docs");
    let files = fs::read_dir(folder).expect("the pages");
    let names = files.map(|file| file.expect("a page").file_name());
    let names = names.map(|name| format!("docs/{}", name.to_string_lossy()));
    let names = names.filter(|name| Path::new(name).extension().is_some_and(|of| of == "md"));
    let unknown: Vec<String> = names.filter(|name| !PAGES.contains(&name.as_str())).collect();
    assert_eq!(unknown, [""; 0], "add them to the list in tests/documents/pages.rs");
}

/// Runs the blocks of a page, setting by setting. All that differs is told, not only the first.
fn run(file: &str) {
    let page = Page::read(file);
    let unfounded: Vec<String> = page.claims().filter_map(run_by::refute).collect();
    assert_eq!(unfounded, [""; 0], "in {file}");
    for scene in &page.scenes {
        scene.setting.with(|start| {
            let played = panic::catch_unwind(AssertUnwindSafe(|| play(scene, &mut start())));
            // the shell may have ended with what failed
            let mut shell = start();
            for script in &scene.after {
                shell.prepare(script);
            }
            match played {
                Ok(differences) => assert!(differences.is_empty(), "{}", differences.join("\n\n")),
                Err(panic) => panic::resume_unwind(panic),
            }
        });
    }
}

/// Does what there is to do in a setting. What is not as shown.
fn play(scene: &Scene, shell: &mut Shell) -> Vec<String> {
    let mut differences = Vec::new();
    for item in &scene.items {
        match item {
            Item::Before(script) => shell.prepare(script),
            Item::Command(command) => differences.extend(difference(command, shell)),
        }
    }
    let rest = shell.rest();
    differences.extend(rest.map(|rest| format!("after the last command: {rest}")));
    differences
}

/// Runs a command. How it differs from what is shown.
fn difference(command: &Command, shell: &mut Shell) -> Option<String> {
    let found = shell.run(&command.words, &command.shown);
    let expected = command.status.unwrap_or(found.status);
    let is_as_shown = found.differs.is_none() && found.status == expected;
    (!is_as_shown).then(|| {
        let differs = found.differs.as_deref().unwrap_or("as shown");
        format!(
            "{}: $ {}\nstatus {}, expected {expected}; {differs}\n{}",
            command.place, command.words, found.status, found.printed
        )
    })
}
