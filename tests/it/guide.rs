//! What docs/rules.md shows is what happens: its rules and tests are read, its commands are
//! run, and they print what stands there.
//!
//! A block's first line says what it is: `yaml rules/x.rule.yaml` is a file, `yaml when` (or
//! `detect`, `then`) a part of a rule, `console` commands with what they print, `sh`
//! commands that need a service and are only parsed. In what is printed, `…` stands for
//! anything: alone on a line, for any lines.

use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use doorward::cli::Cli;

const GUIDE: &str = include_str!("../../docs/rules.md");

struct Block<'a> {
    line: usize,
    info: &'a str,
    text: String,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block<'_>, usize)> = None;
    for (number, line) in page.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (open.as_mut(), fence) {
            (None, Some(info)) => {
                let indent = line.len() - line.trim_start().len();
                let (line, text) = (number + 1, String::new());
                open = Some((Block { line, info, text }, indent));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), None) => {
                block.text += line.get(*indent..).unwrap_or("");
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block has no end");
    blocks
}

/// What a command printed, and whether it went well.
fn run(folder: &Path, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_doorward"));
    let own = program.parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", format!("{own}:{path}"))
        .output()
        .expect("a shell");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether `printed` is what the page shows.
fn is_like(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        (["…", rest @ ..], _) => {
            (0..=printed.len()).any(|skipped| is_like(rest, &printed[skipped..]))
        }
        ([shown, more @ ..], [printed, others @ ..]) => {
            line_is_like(shown, printed) && is_like(more, others)
        }
        ([], []) => true,
        _ => false,
    }
}

fn line_is_like(shown: &str, printed: &str) -> bool {
    match shown.split_once('…') {
        None => shown == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_is_like(after, &rest[at..]))
        }),
    }
}

#[test]
fn a_page_that_shows_something_else_is_found_out() {
    assert!(is_like(&["a", "…", "z"], &["a", "b", "c", "z"]));
    assert!(is_like(&["1 rule, sha256:…", "…"], &["1 rule, sha256:abc"]));
    assert!(!is_like(&["a", "…", "z"], &["a", "b", "c"]));
    assert!(!is_like(&["1 rule, …, good"], &["1 rule, bad"]));
    let page = "x\n```yaml a.yaml\nb: 1\n```\n- y\n  ```sh\n  c\n  ```\n";
    let found = blocks(page);
    assert_eq!((found[0].line, found[0].info), (2, "yaml a.yaml"));
    assert_eq!((found[1].info, found[1].text.as_str()), ("sh", "c\n"));
}

#[test]
fn what_the_guide_shows_is_what_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut kinds = std::collections::BTreeMap::new();
    for block in blocks(GUIDE) {
        let place = format!("docs/rules.md:{}", block.line);
        let (kind, name) = block.info.split_once(' ').unwrap_or((block.info, ""));
        *kinds.entry(kind).or_insert(0) += 1;
        match (kind, name) {
            ("yaml", part @ ("when" | "detect" | "then")) => fragment(&place, part, &block.text),
            ("yaml", "exceptions") => {
                // The page's day will be over some day.
                let text = block.text.replace("2027", "2999");
                let path = folder.path().join("rules/exceptions.yaml");
                std::fs::write(path, text).expect("written");
                let said = run(folder.path(), "doorward check --rules rules");
                assert!(said.ends_with("nothing is wrong\n"), "{place}: {said}");
            }
            ("yaml" | "text", name) if !name.is_empty() => {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
                std::fs::write(path, &block.text).expect("written");
            }
            ("console", "") => console(&place, folder.path(), &block.text),
            ("sh", "") => parse(&place, &block.text),
            _ => panic!("{place}: a block of `{}` cannot be run", block.info),
        }
    }
    assert!(kinds["yaml"] > 8 && kinds["console"] > 5, "{kinds:?}");
}

fn console(place: &str, folder: &Path, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let command = lines[at].strip_prefix("$ ");
        let command = command.unwrap_or_else(|| panic!("{place}: begin with a command"));
        let end = lines[at + 1..]
            .iter()
            .position(|line| line.starts_with("$ "))
            .map_or(lines.len(), |more| at + 1 + more);
        let printed = run(folder, command);
        let shown = &lines[at + 1..end];
        let got: Vec<&str> = printed.lines().collect();
        assert!(
            is_like(shown, &got),
            "{place}: `{command}` printed\n{printed}\nand the page shows\n{}",
            shown.join("\n")
        );
        at = end;
    }
}

/// A part of a rule stands in one that is otherwise good.
fn fragment(place: &str, part: &str, text: &str) {
    let mut parts = [
        ("when", "type: login\n"),
        ("detect", "count: { at_least: 5, within: 5m }\n"),
        ("then", "- email_user: { template: was_this_you }\n"),
    ];
    for (name, own) in &mut parts {
        if *name == part {
            *own = text;
        }
    }
    let mut rule =
        "schema: 1\nid: example\ntitle: An example\nseverity: low\nmode: shadow\nby: account\n"
            .to_owned();
    for (name, text) in parts {
        rule += &format!("{name}:\n");
        for line in text.lines() {
            rule += &format!("  {line}\n");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    write("example.rule.yaml", &rule);
    write("malicious.txt", "198.51.100.7\n");
    write(
        "lists.yaml",
        "schema: 1\nlists: { malicious_ips: { file: malicious.txt, title: Bad ones } }\n",
    );
    let said = run(folder.path(), "doorward check --rules .");
    assert!(
        said.ends_with("nothing is wrong\n"),
        "{place}: {said}\n{rule}"
    );
}

/// Commands of doorward are ones that it has.
fn parse(place: &str, text: &str) {
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let quoted: Vec<&str> = line.split('"').collect();
        // A quoted text is one word.
        let words: Vec<&str> = quoted
            .iter()
            .enumerate()
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().collect::<Vec<_>>(),
                _ => vec![*part],
            })
            .collect();
        if words.first() == Some(&"doorward")
            && let Err(error) = Cli::try_parse_from(words)
        {
            panic!("{place}: {error}");
        }
    }
}
