//! A page as its test sees it: scenes, each with its setting and what is done there, in the page's order.
//!
//! Markdown is read by a parser, so that what counts as a block or a comment is what readers' programs take for one.

use std::fmt;
use std::fs;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use super::settings::Setting;
use crate::harness::machine::root;

/// Who runs what takes something that tests cannot have.
const NOBODY: &str = "nobody";

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    pub(crate) scenes: Vec<Scene>,
    claimed: Vec<Claim>,
}

/// What happens in one setting.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) setting: Setting,
    pub(crate) items: Vec<Item>,
    pub(crate) after: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Item {
    /// Shell commands that readers do not see.
    Before(String),
    Command(Command),
}

/// A command that is shown, with what it prints.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) place: Place,
    pub(crate) words: String,
    pub(crate) shown: Vec<String>,
    /// What it ends with; `None` where the next command shows it.
    pub(crate) status: Option<i32>,
}

/// Commands that are run elsewhere, and where.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) place: Place,
    pub(crate) by: String,
    pub(crate) commands: Vec<String>,
}

impl Claim {
    /// One that is made by nobody's page.
    #[cfg(test)]
    pub(crate) fn new(by: &str, commands: Vec<String>) -> Self {
        let (place, by) = (Place("page".to_owned(), 1), by.to_owned());
        Self { place, by, commands }
    }
}

/// `docs/hold.md:12`
#[derive(Debug, Clone)]
pub(crate) struct Place(String, usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl Page {
    /// Reads a page of the repository.
    pub(crate) fn read(file: &str) -> Self {
        let text = fs::read_to_string(root().join(file));
        let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
        Self::parse(file, &text).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// What is said to be run elsewhere.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claimed.iter()
    }

    fn parse(file: &str, text: &str) -> Result<Self, String> {
        let mut page = Self { text: text.to_owned(), scenes: Vec::new(), claimed: Vec::new() };
        let mut by = None;
        for (event, range) in blocks(text) {
            let place = Place(file.to_owned(), text[..range.start].lines().count() + 1);
            match event {
                Block::Comment(comment) => page.direct(&comment, &mut by, &place)?,
                Block::Console(text) => page.block(&text, by.take(), &place)?,
                // in a block of another kind, nobody would run it
                Block::Other(text) if text.lines().any(|line| line.starts_with("$ ")) => {
                    return Err(format!("{place}: commands in a block that is not `console`"));
                }
                Block::Other(_) => {}
            }
        }
        match by {
            Some(by) => Err(format!("{file}: no block is run by {by}")),
            None => Ok(page),
        }
    }

    /// Does as a comment says.
    fn direct(&mut self, comment: &str, by: &mut Option<String>, place: &Place) -> Result<(), String> {
        let (key, value) = comment.split_once(':').unwrap_or((comment, ""));
        let value = value.trim().to_owned();
        let scene = || format!("{place}: nothing is set for {key:?}");
        match key {
            "setting" => {
                let setting = Setting::by_name(&value);
                let setting = setting.ok_or_else(|| format!("{place}: no setting {value:?}"))?;
                self.scenes.push(Scene { setting, items: Vec::new(), after: Vec::new() });
            }
            "before" => {
                self.scenes.last_mut().ok_or_else(scene)?.items.push(Item::Before(value));
            }
            "after" => self.scenes.last_mut().ok_or_else(scene)?.after.push(value),
            "run by" => *by = Some(value),
            // the reader is told so, in bold
            "not run" if self.text.contains(&format!("**{value}**")) => {
                *by = Some(NOBODY.to_owned());
            }
            _ => {
                return Err(format!("{place}: a comment that says nothing to the tests: {key:?}"));
            }
        }
        Ok(())
    }

    /// Takes a block of commands.
    fn block(&mut self, text: &str, by: Option<String>, place: &Place) -> Result<(), String> {
        let commands = commands(text, place)?;
        if by.as_deref() == Some(NOBODY) {
            return Ok(());
        }
        if let Some(by) = by {
            let commands = commands.into_iter().map(|command| command.words).collect();
            let place = place.clone();
            self.claimed.push(Claim { place, by, commands });
            return Ok(());
        }
        let scene = self.scenes.last_mut();
        let scene = scene.ok_or_else(|| format!("{place}: a block without a setting, and run by nobody"))?;
        scene.items.extend(commands.into_iter().map(Item::Command));
        Ok(())
    }
}

/// The commands of a block, each with the lines that follow it.
fn commands(text: &str, place: &Place) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(words) = line.strip_prefix("$ ") else {
            let last = commands.last_mut();
            last.ok_or_else(|| format!("{place}: no command before {line:?}"))?.shown.push(line.to_owned());
            continue;
        };
        if words == "echo $?" {
            commands.last_mut().into_iter().for_each(|last| last.status = None);
        }
        commands.push(Command {
            place: Place(place.0.clone(), place.1 + 1 + number),
            words: words.to_owned(),
            shown: Vec::new(),
            status: Some(0),
        });
    }
    Ok(commands)
}

/// What of a page is of interest here.
#[derive(Debug)]
enum Block {
    /// What a comment says, without the signs around it.
    Comment(String),
    /// The text of a block of commands.
    Console(String),
    /// That of any other block of code.
    Other(String),
}

/// A comment without its end; whatever is on the same line after that is taken for a part of it, and told.
fn directions(comment: &str) -> Block {
    let comment = comment.strip_suffix("-->").unwrap_or(comment);
    Block::Comment(comment.trim().to_owned())
}

fn blocks(text: &str) -> Vec<(Block, Range<usize>)> {
    let mut blocks = Vec::new();
    let mut code: Option<(bool, String)> = None;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::HtmlBlock) => {
                let html = text[range.clone()].trim();
                let comment = html.strip_prefix("<!--").map(directions);
                blocks.extend(comment.map(|comment| (comment, range)));
            }
            // readers do not see it, and it would direct nothing
            Event::InlineHtml(html) if html.starts_with("<!--") => {
                blocks.push((Block::Comment(html.into_string()), range));
            }
            Event::Start(Tag::CodeBlock(kind)) => {
                let is_console = matches!(kind, CodeBlockKind::Fenced(info) if &*info == "console");
                code = Some((is_console, String::new()));
            }
            Event::Text(more) => code.iter_mut().for_each(|(_, text)| text.push_str(&more)),
            Event::End(TagEnd::CodeBlock) => {
                let (is_console, text) = code.take().unwrap_or_default();
                let block = if is_console { Block::Console(text) } else { Block::Other(text) };
                blocks.push((block, range));
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn a_page_is_scenes_of_commands() {
    let text = "# Page\n\n<!-- setting: namespace -->\n<!-- before: mkdir a\ncd a -->\n\nSee:\n\n```console\n$ false\nout\n\
                $ echo $?\n1\n```\n\n```text\nno command\n```\n\n<!-- run by: tests/x.rs y -->\n```console\n$ make it\n```\n\n\
                <!-- setting: user -->\n```console\n$ id\n```\n<!-- after: rm -->\n";
    let page = Page::parse("p.md", text).unwrap();
    let [first, second] = &page.scenes[..] else {
        panic!("{page:?}");
    };
    assert_eq!((first.setting, second.setting), (Setting::Namespace, Setting::User));
    let [Item::Before(script), Item::Command(one), Item::Command(two)] = &first.items[..] else {
        panic!("{first:?}");
    };
    assert_eq!(script, "mkdir a\ncd a");
    assert_eq!((one.words.as_str(), &one.shown[..], one.status), ("false", &["out".to_owned()][..], None));
    assert_eq!((two.words.as_str(), &two.shown[..], two.status), ("echo $?", &["1".to_owned()][..], Some(0)));
    assert_eq!(one.place.to_string(), "p.md:10");
    assert_eq!(second.after, ["rm"]);
    let claims: Vec<_> = page.claims().collect();
    assert_eq!((claims[0].by.as_str(), &claims[0].commands[..]), ("tests/x.rs y", &["make it".to_owned()][..]));
}

#[test]
fn nothing_is_left_out_silently() {
    let block = "```console\n$ true\n```\n";
    for (wrong, says) in [
        (block.to_owned(), "without a setting"),
        (format!("<!-- seting: namespace -->\n{block}"), "says nothing"),
        (format!("<!-- setting: nowhere -->\n{block}"), "no setting"),
        (format!("<!-- not run: a miracle -->\n{block}"), "says nothing"),
        (format!("<!-- before: true -->\n{block}"), "nothing is set"),
        ("<!-- run by: tests/x.rs y -->\n".to_owned(), "no block is run by"),
        (format!("<!-- setting: user --> here\n\n{block}"), "no setting"),
        (format!("See <!-- setting: user -->\n\n{block}"), "says nothing"),
        ("<!-- setting: user -->\n\n```\n$ true\n```\n".to_owned(), "not `console`"),
        ("<!-- setting: user -->\n\n    $ true\n".to_owned(), "not `console`"),
        ("<!-- setting: user -->\n\n```console\nout\n$ true\n```\n".to_owned(), "no command before"),
    ] {
        let said = Page::parse("p.md", &wrong).unwrap_err();
        assert!(said.contains(says), "{said} of {wrong}");
    }
}
