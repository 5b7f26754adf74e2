//! Tier: documents. What the README says, against what the binary does.

use std::path::Path;
use std::process::Command;

use binfmt_magic::arch::ARCHES;

const README: &str = include_str!("../README.md");

/// The cells of the rows of the table whose head has these cells.
fn table(head: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches('|').trim_end_matches('|');
        // a bar within a cell is written \|
        let line = line.replace("\\|", "\u{1}");
        let cells = line
            .split('|')
            .map(|cell| cell.trim().replace('\u{1}', "|"));
        cells.collect()
    };
    let mut lines = README.lines().skip_while(|line| cells(line) != head);
    assert!(lines.next().is_some(), "no table {head:?} in the README");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(cells).collect()
}

fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_option_table_is_that_of_the_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_binfmt"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('-'));
    let long = |line: &str| -> Vec<String> {
        let words = line
            .split([' ', ',', '`', '=', '['])
            .filter(|word| word.starts_with("--"));
        words.map(str::to_owned).collect()
    };
    let mut helped: Vec<String> = options
        .filter_map(|line| long(line).into_iter().next())
        .collect();
    let rows = table(&["option", "meaning"]);
    let mut documented: Vec<String> = rows.iter().flat_map(|row| long(&row[0])).collect();
    helped.sort();
    documented.sort();
    assert_eq!(documented, helped);
}

#[test]
fn the_architecture_table_is_that_of_the_program() {
    let rows = table(&["platform", "QEMU", "also called"]);
    assert_eq!(rows.len(), ARCHES.len());
    for (row, arch) in rows.iter().zip(&ARCHES) {
        assert_eq!(code(&row[0]), [format!("linux/{}", arch.oci)], "{row:?}");
        assert_eq!(code(&row[1]), [arch.qemu], "{row:?}");
        assert_eq!(code(&row[2]), arch.aliases, "{row:?}");
    }
}

#[test]
fn the_make_targets_exist() {
    let makefile = include_str!("../Makefile");
    for target in [
        "run",
        "test",
        "fuzz",
        "image",
        "test-image",
        "bench",
        "bench-image",
        "deb",
        "dist",
        "install",
        "uninstall",
        "help",
    ] {
        assert!(README.contains(&format!("make {target}")), "{target}");
        assert!(makefile.contains(&format!("\n{target}:")), "{target}");
    }
}

#[test]
fn the_files_it_links_to_exist() {
    let links = README.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with('#') && !link.contains("://")) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(file.exists(), "{link}");
    }
}

#[test]
fn the_tests_it_names_exist() {
    let docker = concat!(
        include_str!("docker.rs"),
        include_str!("docker/snippets.rs")
    );
    let privileges = [
        "to do what",
        "options of `docker run`",
        "test in `tests/docker.rs`",
    ];
    let what_is_left = [
        "installed by",
        "after the container's exit",
        "after `systemctl restart systemd-binfmt`",
        "after a reboot",
        "what to do",
        "test in `tests/systemd.rs`",
    ];
    let rows_of = |head: &[&str], tests: &str| {
        for row in table(head) {
            for name in code(row.last().expect("cells")) {
                assert!(tests.contains(&format!("fn {name}()")), "{name}");
            }
        }
    };
    rows_of(&privileges, docker);
    rows_of(&what_is_left, include_str!("systemd.rs"));
    let of_a_package = [
        "when",
        "what becomes of the handlers",
        "test in `tests/package.rs`",
    ];
    rows_of(&of_a_package, include_str!("package.rs"));
}
