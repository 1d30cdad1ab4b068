//! The documents hold together: every link leads somewhere, every page is in the book, and every piece of settings is one.

use crate::build::root;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use tollgate_rules::config::Config;

/// Directories that hold no documents of ours.
const SKIPPED: &[&str] = &["target", "build", "node_modules", ".git", "vendor", "corpus"];

/// All Markdown files below a directory, by their paths in the repository.
fn documents(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).expect("the repository can be read") {
        let entry = entry.expect("the repository can be read");
        let (path, name) = (entry.path(), entry.file_name());
        match entry.file_type().expect("it has a type") {
            kind if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) => {
                documents(&path, found);
            }
            kind if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") => {
                found.push(path.strip_prefix(root()).expect("it is in it").to_path_buf());
            }
            _ => {}
        }
    }
}

struct Document {
    /// The ids of its heads, as GitHub makes them.
    anchors: BTreeSet<String>,
    links: Vec<String>,
    /// Fenced blocks: what stands behind the fence, and the text.
    blocks: Vec<(String, String)>,
}

/// GitHub's id of a head: lower case, without punctuation, a hyphen for each space; `-1` … if it was there before.
fn anchor(head: &str, before: &mut BTreeMap<String, u32>) -> String {
    let kept = head.trim().to_lowercase();
    let kept: String = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect();
    let times = before.entry(kept.clone()).or_default();
    *times += 1;
    match *times {
        1 => kept,
        more => format!("{kept}-{}", more - 1),
    }
}

fn read(text: &str) -> Document {
    let mut document = Document {
        anchors: BTreeSet::new(),
        links: Vec::new(),
        blocks: Vec::new(),
    };
    let (mut head, mut block, mut before) = (None::<String>, None::<(String, String)>, BTreeMap::new());
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => head = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                if let Some(head) = head.take() {
                    document.anchors.insert(anchor(&head, &mut before));
                }
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push(dest_url.into_string());
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                block = Some((info.into_string(), String::new()));
            }
            Event::End(TagEnd::CodeBlock) => document.blocks.extend(block.take()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(head) = &mut head {
                    *head += &text;
                } else if let Some((_, lines)) = &mut block {
                    *lines += &text;
                }
            }
            _ => {}
        }
    }
    document
}

/// All documents of the repository.
fn all() -> BTreeMap<PathBuf, Document> {
    let mut paths = Vec::new();
    documents(&root(), &mut paths);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(root().join(&path)).expect("it can be read");
        (path, read(&text))
    };
    paths.into_iter().map(read).collect()
}

/// `a/b/../c` → `a/c`
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leads out of the repository", path.display()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

/// Where a link of a document leads, if that is in the repository: the file, and the anchor in it.
fn target(from: &Path, link: &str) -> Option<(PathBuf, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link
        .split_once('#')
        .map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let directory = from.parent().unwrap_or(Path::new(""));
    let path = match file.is_empty() {
        true => from.to_path_buf(),
        false => plain(&directory.join(file)),
    };
    Some((path, anchor.map(str::to_owned)))
}

#[test]
fn every_link_leads_somewhere() {
    let documents = all();
    let (mut checked, mut faults) = (0, Vec::new());
    for (path, document) in &documents {
        for link in &document.links {
            let Some((file, anchor)) = target(path, link) else {
                continue;
            };
            checked += 1;
            let fault = match (root().join(&file).exists(), anchor) {
                (false, _) => Some("there is no such file"),
                (true, Some(anchor))
                    if !documents
                        .get(&file)
                        .is_some_and(|to| to.anchors.contains(&anchor)) =>
                {
                    Some("there is no such head")
                }
                _ => None,
            };
            faults.extend(fault.map(|fault| format!("{}: {link}: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 100, "{checked}");
}

#[test]
fn every_page_is_in_the_book() {
    let documents = all();
    let summary = Path::new("docs/SUMMARY.md");
    let links = documents[summary].links.iter();
    let linked: BTreeSet<PathBuf> = links.filter_map(|link| Some(target(summary, link)?.0)).collect();
    let mut missing = documents
        .keys()
        .filter(|path| path.starts_with("docs") && *path != summary);
    assert_eq!(
        missing.find(|path| !linked.contains(*path)),
        None,
        "docs/SUMMARY.md lacks it"
    );
}

#[test]
fn settings_that_are_shown_are_settings() {
    let mut read = 0;
    for (path, document) in all() {
        let is_settings = |info: &str| info.split(' ').next() == Some("toml") && !info.contains("Cargo.toml");
        for (info, text) in document.blocks.iter().filter(|(info, _)| is_settings(info)) {
            let found = Config::read(text, "block");
            // A piece of a table may lack what the table needs.
            let fault = found
                .err()
                .filter(|error| !error.message.starts_with("missing field"));
            assert!(
                fault.is_none(),
                "{}, ```{info}: {}\n{text}",
                path.display(),
                fault.unwrap()
            );
            read += 1;
        }
    }
    assert!(read > 5, "{read}");
}

#[test]
fn anchors_are_as_github_makes_them() {
    let mut before = BTreeMap::new();
    let made = [
        "A `tollgate.toml`, twice",
        "In front of: x_y",
        "A `tollgate.toml`, twice",
    ]
    .map(|head| anchor(&head.replace('`', ""), &mut before));
    assert_eq!(
        made,
        [
            "a-tollgatetoml-twice",
            "in-front-of-x_y",
            "a-tollgatetoml-twice-1"
        ]
    );
}
