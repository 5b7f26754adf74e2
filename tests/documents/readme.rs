//! What the README, the pages of `docs/` and SECURITY.md say in tables, links and by name, against what the
//! binary and the repository have. The commands that they show are run by `tests/documents/pages.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{BINFMT, Host, emulators, program};
use binfmt_magic::arch::ARCHES;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

const MAKEFILE: &str = include_str!("../../Makefile");

/// A document of the repository.
struct Document {
    file: PathBuf,
    text: String,
}

impl Document {
    /// All of them.
    fn all() -> Vec<Self> {
        let pages = fs::read_dir(root().join("docs")).expect("pages");
        let pages = pages.map(|page| page.expect("a page").path());
        let files = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|file| root().join(file));
        let files = files.into_iter().chain(pages);
        let read = |file: PathBuf| Self { text: fs::read_to_string(&file).expect("a document"), file };
        files.map(read).collect()
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES)
    }

    /// What is written as code within sentences and tables.
    fn code(&self) -> impl Iterator<Item = String> {
        self.events().filter_map(|event| match event {
            Event::Code(code) => Some(code.into_string()),
            _ => None,
        })
    }

    /// Where its links and pictures lead to.
    fn links(&self) -> impl Iterator<Item = String> {
        self.events().filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
            _ => None,
        })
    }

    /// What links may name after `#`: its headings, as GitHub writes them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        let mut heading: Option<String> = None;
        for event in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    anchors.extend(heading.take().map(|heading| anchor(&heading)));
                }
                _ => {}
            }
        }
        anchors
    }

    /// Its tables: the cells of the head, and those of each row.
    fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            if lines.next_if(|next| next.starts_with("| ---")).is_none() {
                continue;
            }
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|next| next.starts_with('|')) {
                rows.push(cells(row));
            }
            tables.push(Table { head: cells(line), rows });
        }
        tables
    }
}

#[derive(Debug)]
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim_start_matches('|').trim_end_matches('|');
    // a bar within a cell is written \|
    let line = line.replace("\\|", "\u{1}");
    let cells = line.split('|');
    cells.map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// The rows of the only table that has this head.
fn table(head: &[&str]) -> Vec<Vec<String>> {
    let documents = Document::all();
    let tables = documents.iter().flat_map(Document::tables);
    let mut tables: Vec<Table> = tables.filter(|table| table.head == head).collect();
    assert_eq!(tables.len(), 1, "tables {head:?}");
    tables.remove(0).rows
}

fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_option_table_is_that_of_the_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_binfmt")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = help.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with('-'));
    let long = |line: &str| -> Vec<String> {
        let words = line.split([' ', ',', '`', '=', '[']).filter(|word| word.starts_with("--"));
        words.map(str::to_owned).collect()
    };
    let mut helped: Vec<String> = options.filter_map(|line| long(line).into_iter().next()).collect();
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

/// What `make help` lists.
fn targets() -> BTreeSet<&'static str> {
    let targets = MAKEFILE.lines().filter(|line| line.contains(": ") && line.contains(" ## "));
    targets.filter_map(|line| line.split(':').next()).collect()
}

#[test]
fn the_time_and_disk_are_those_of_make_targets() {
    let rows = table(&["target", "time on two cores", "disk afterwards"]);
    let commands = rows.iter().flat_map(|row| code(&row[0]));
    let told = commands.filter_map(|command| command.split("make ").nth(1)?.split(' ').next());
    let told: BTreeSet<_> = told.collect();
    assert!(told.contains("check") && told.is_subset(&targets()), "{told:?}");
}

/// Of the targets that `make help` lists, all are somewhere in the documents, but for what is internal to tests and releases.
#[test]
fn the_make_targets_exist() {
    let targets = targets();
    let documents = Document::all();
    let said = documents.iter().flat_map(Document::code);
    let said = said.filter_map(|code| {
        let code = code.replace('\n', " ");
        let target = code.strip_prefix("make ")?.split(' ').next()?;
        Some(target.to_owned())
    });
    let shown = documents.iter().flat_map(|document| document.text.lines());
    let shown = shown.filter_map(|line| line.strip_prefix("$ make ")?.split(' ').next());
    let named: BTreeSet<String> = said.chain(shown.map(str::to_owned)).collect();
    for target in &named {
        // a setting alone is of the target that was named before
        let is_target = targets.contains(target.as_str()) || MAKEFILE.contains(&format!("\n{target}:"));
        assert!(is_target, "{target}");
    }
    for target in targets {
        let is_for_developers = ["build", "lint", "coverage", "clean"].contains(&target);
        assert!(is_for_developers || named.contains(target), "{target}");
    }
}

/// The names that whoever publishes sets in Cargo.toml.
const PUBLISHER: [(&str, &str); 6] = [
    ("security-contact", "cve@acme.test"),
    ("maintainer", "Acme <debian@acme.test>"),
    ("repository", "https://github.com/acme/emulation"),
    ("image", "ghcr.test/acme/emulation"),
    ("mirror", "hub.test/acme/emulation"),
    ("charts", "ghcr.test/acme/charts"),
];

/// Runs shell commands in a folder. What they print.
#[track_caller]
fn sh(folder: &Path, script: &str) -> String {
    let ran = Command::new("sh").args(["-e", "-c", script]).current_dir(folder).output().expect("sh");
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn the_publishers_names_stand_in_one_file() {
    let contact = sh(root(), "deploy/release/publisher.sh security-contact");
    let security = fs::read_to_string(root().join("SECURITY.md")).expect("a file");
    assert!(security.contains(&format!("write to `{contact}` in private")), "{contact}");

    // the files as they are now, as a repository of their own
    let host = Host::new();
    let folder = host.scratch().join("repository");
    fs::create_dir(&folder).expect("a folder");
    let copy = "git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory=\"$0\"";
    sh(root(), &copy.replace("$0", folder.to_str().expect("UTF-8")));
    sh(&folder, "git init --quiet; git add --all; git -c user.name=a -c user.email=a@acme.test commit --quiet -m all");
    for (name, value) in PUBLISHER {
        let former = sh(&folder, &format!("deploy/release/publisher.sh {name}"));
        sh(&folder, &format!("sed -i 's|^{name} = .*|{name} = \"{value}\"|' Cargo.toml"));
        assert_ne!(former, value);
    }
    let former = PUBLISHER.map(|(name, _)| sh(root(), &format!("deploy/release/publisher.sh {name}")));
    sh(&folder, "deploy/release/publisher.sh apply");
    for (former, (name, value)) in former.iter().zip(PUBLISHER) {
        assert_eq!(sh(&folder, &format!("git grep -F '{former}' || :")), "", "{name}");
        assert_eq!(sh(&folder, &format!("deploy/release/publisher.sh {name}")), value);
    }
    let uses = sh(&folder, "git grep -h 'uses: acme/emulation@'");
    assert!(!uses.is_empty());
    // nothing is left to do
    assert_eq!(
        sh(
            &folder,
            "git -c user.name=a -c user.email=a@acme.test commit --quiet --all -m set; deploy/release/publisher.sh apply"
        ),
        ""
    );
}

/// Those that the tool is built for are those that releases are for, and docs/releases.md says how each was proven.
#[test]
fn the_hosts_of_releases_are_told() {
    let built = sh(root(), ". qemu/host.sh; for host in $hosts; do echo linux/$host; done");
    let rows = sh(root(), "deploy/release/hosts.sh");
    assert_eq!(rows, built);
    let told = table(&["host", "emulators", "built", "checked", "run"]);
    let told: Vec<_> = told.iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(told, rows.lines().collect::<Vec<_>>());
}

#[test]
fn the_actions_inputs_and_outputs_are_told() {
    let action = fs::read_to_string(root().join("action.yml")).expect("a file");
    let action: serde_json::Value = serde_yaml_ng::from_str(&action).expect("YAML");
    let keys = |key: &str| -> BTreeSet<String> { action[key].as_object().expect("a map").keys().cloned().collect() };
    let names =
        |rows: Vec<Vec<String>>| -> BTreeSet<String> { rows.iter().map(|row| code(&row[0]).concat()).collect() };
    let inputs = table(&["input", "default", "meaning"]);
    for row in &inputs {
        let default = code(&row[1]).concat();
        let actual = action["inputs"][&*code(&row[0]).concat()]["default"].as_str();
        assert_eq!(actual, Some(&*default), "{row:?}");
    }
    assert_eq!(names(inputs), keys("inputs"));
    assert_eq!(names(table(&["output", "value"])), keys("outputs"));
}

#[test]
fn what_they_link_to_exists() {
    let documents = Document::all();
    for document in &documents {
        let folder = document.file.parent().expect("a folder");
        for link in document.links().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let file = if file.is_empty() { document.file.clone() } else { folder.join(file) };
            let file = file.canonicalize();
            let file = file.unwrap_or_else(|error| panic!("{}: {link}: {error}", document.file.display()));
            let mut documents = documents.iter();
            let has_anchor = documents.any(|to| to.file == file && to.anchors().contains(anchor));
            assert!(anchor.is_empty() || has_anchor, "{}: {link}", document.file.display());
        }
    }
}

#[test]
fn the_readme_leads_to_every_page() {
    let documents = Document::all();
    let links: Vec<String> = documents[0].links().collect();
    for page in documents.iter().filter_map(|document| document.file.strip_prefix(root()).ok()) {
        let page = page.to_str().expect("UTF-8");
        assert!(!page.starts_with("docs/") || links.iter().any(|link| link == page), "{page}");
    }
}

#[test]
fn the_tests_they_name_exist() {
    let mut named = 0;
    for document in Document::all() {
        // a file, and after it, functions in it
        for table in document.tables() {
            let head = table.head.last().expect("cells");
            let Some(file) = head.strip_prefix("test in ").map(code) else { continue };
            let mut text = fs::read_to_string(root().join(file[0])).expect("a file of tests");
            let parts = Path::new(file[0]).with_extension("");
            for part in fs::read_dir(root().join(parts)).into_iter().flatten() {
                text += &fs::read_to_string(part.expect("a file").path()).unwrap_or_default();
            }
            for name in table.rows.iter().flat_map(|row| code(row.last().expect("cells"))) {
                assert!(text.contains(&format!("fn {name}()")), "{name}");
                named += 1;
            }
        }
        for code in document.code() {
            let is_file = code.starts_with("tests/") && !code.contains(' ');
            assert!(!is_file || root().join(&code).exists(), "{code}");
        }
    }
    assert!(named > 10, "{named} tests");
}

/// All that `make run` does besides building and fetching is this script, as the Makefile calls it.
#[test]
fn what_make_run_shows_is_what_runs() {
    let call = MAKEFILE.lines().find(|line| line.trim_start().starts_with("@qemu/demo.sh "));
    assert_eq!(call, Some("\t@qemu/demo.sh $(BINFMT) build/emulators build/programs"), "make run");
    let host = Host::new();
    let programs = program("arm64");
    let programs = programs.ancestors().nth(2).expect("a folder of programs");
    let demo = host.program(root().join("qemu/demo.sh"));
    let shown = demo.args([Path::new(BINFMT), &emulators(), programs]).run().ok();
    let mut shown = shown.prints("Installing on this host");
    for uname in ["aarch64", "armv7l", "riscv64", "s390x", "ppc64le"] {
        shown = shown.prints(&format!("uname -m\n{uname}\n"));
    }
    shown.prints("INTERPRETER");
}

/// `make lint` checks the language of the pages and of the code's comments. Each of its rules finds its own example, or it fails.
#[test]
fn a_phrase_that_is_hard_to_read_is_found() {
    let folder = std::env::temp_dir().join(format!("binfmt-style-{}", std::process::id()));
    fs::create_dir(&folder).expect("a folder");
    let is_fine = |text: &str| {
        let page = folder.join("page.md");
        fs::write(&page, text).expect("a page");
        let mut style = Command::new(root().join("tests/style.sh"));
        let output = style.arg(page).output().expect("tests/style.sh");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    // in two pieces, since this file is judged too
    let misspelt = ["platf", "rom"].concat();
    let found = [
        is_fine("The emulator timed out.\n\n```console\n$ echo in vain\n```\n"),
        is_fine("It was waited for in\nvain.\n"),
        is_fine(&format!("A new {misspelt}.\n")),
    ];
    fs::remove_dir_all(&folder).expect("the folder");
    let [fine, phrase, spelling] = found;
    assert_eq!(fine, (true, String::new()));
    assert!(!phrase.0 && phrase.1.contains("page.md:1: It was waited for in vain."), "{}", phrase.1);
    assert!(!spelling.0 && spelling.1.contains("should be `platform`"), "{}", spelling.1);
}

#[test]
fn a_workflow_that_is_unsafe_or_wrong_is_found() {
    let folder = std::env::temp_dir().join(format!("binfmt-workflow-{}", std::process::id()));
    fs::create_dir(&folder).expect("a folder");
    let said = |permissions: &str, uses: &str, needs: &str| {
        let file = folder.join("workflow.yml");
        let text = format!(
            "name: one\non: push\npermissions: {permissions}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    \
             steps:\n      - uses: {uses}\n        with: {{persist-credentials: false}}\n  b:\n    \
             runs-on: ubuntu-latest\n    needs: {needs}\n    steps: [{{run: 'true'}}]\n"
        );
        fs::write(&file, text).expect("a workflow");
        let output = Command::new(root().join("tests/workflows.sh")).arg(file).output().expect("tests/workflows.sh");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let pinned = "actions/checkout@9c091bb21b7c1c1d1991bb908d89e4e9dddfe3e0 # v7.0.0";
    let found = [
        said("{}", pinned, "a"),
        said("{}", "actions/checkout@v7", "a"),
        said("write-all", pinned, "a"),
        said("{}", pinned, "c"),
    ];
    fs::remove_dir_all(&folder).expect("the folder");
    let [fine, unpinned, permissions, needs] = found;
    assert!(fine.0, "{}", fine.1);
    assert!(!unpinned.0 && unpinned.1.contains("unpinned-uses"), "{}", unpinned.1);
    assert!(!permissions.0 && permissions.1.contains("excessive-permissions"), "{}", permissions.1);
    // where there is no node, nobody looks
    let looked = !needs.1.contains("DID NOT RUN");
    assert!(!looked || (!needs.0 && needs.1.contains("needs job \"c\"")), "{}", needs.1);
}
