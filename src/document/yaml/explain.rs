//! What a YAML parser's errors mean to somebody who writes rules, and what to write instead.

use std::ops::Range;

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

use crate::document::Kind;

/// Kind, place, message and help.
type Explained = (Kind, Range<usize>, String, Option<String>);

const QUOTE: &str = "put the value in quotes";

/// What is better said before a parser trips over it.
pub fn before_parsing(text: &str) -> Option<(Kind, Range<usize>, String, String)> {
    if text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('<')
    {
        let line = text.lines().next().map_or(0, str::len);
        let message = "this is HTML or XML, not YAML".to_owned();
        return Some((
            Kind::NotYaml,
            0..line,
            message,
            "look at what your download fetched".into(),
        ));
    }
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if let Some(tab) = line[..indent].find('\t')
            && !line.trim().is_empty()
        {
            let at = offset + tab;
            let message = "a tab indents this line, which YAML does not allow".to_owned();
            return Some((Kind::Tab, at..at + 1, message, "use spaces".into()));
        }
        offset += line.len();
    }
    None
}

/// What `error`, which the parser met at byte `at`, means.
pub fn error(error: &Error, text: &str, at: usize) -> Explained {
    let here = at..end_of_word(text, at);
    let (kind, span, message, help): (Kind, Range<usize>, &str, &str) = match error {
        Error::Budget { breach, .. } => return budget(breach, text, at),
        Error::UnknownAnchor { .. } => (
            Kind::Anchor,
            here,
            "a value cannot begin with `*`: YAML takes it for the name of an alias",
            "if `*` belongs to it, put the value in quotes; else write out what it stands for",
        ),
        Error::MultipleDocuments { .. } => {
            let separator = text[..at].rfind("---").unwrap_or(at);
            (
                Kind::Documents,
                separator..(separator + 3).min(text.len()),
                "a second document begins here; a file holds one",
                "put it into a file of its own",
            )
        }
        Error::MergeKeyNotAllowed { .. } => (
            Kind::Anchor,
            here,
            "merge keys (`<<`) are not part of these files",
            "write the fields out",
        ),
        Error::UnsupportedTag { tag, .. } => {
            let help = if tag.contains("include") {
                "files cannot include others: write out what stands there"
            } else {
                QUOTE
            };
            let message =
                format!("a value cannot begin with `!`: YAML takes `{tag}` for the name of a type");
            return (
                Kind::Anchor,
                last(text, at, '!'),
                message,
                Some(help.into()),
            );
        }
        other => return scanner(&message_of(other), text, here),
    };
    (kind, span, message.to_owned(), Some(help.to_owned()))
}

fn budget(breach: &BudgetBreach, text: &str, at: usize) -> Explained {
    match breach {
        BudgetBreach::Anchors { .. } => (
            Kind::Anchor,
            last(text, at, '&'),
            "anchors (`&name`) are not part of these files".into(),
            Some(format!(
                "write the value out; if `&` belongs to it, {QUOTE}"
            )),
        ),
        BudgetBreach::Aliases { .. } => (
            Kind::Anchor,
            last(text, at, '*'),
            "aliases (`*name`) are not part of these files".into(),
            Some(format!(
                "write the value out; if `*` belongs to it, {QUOTE}"
            )),
        ),
        BudgetBreach::Depth { .. } => (
            Kind::TooLarge,
            at..end_of_word(text, at),
            format!(
                "more than {} blocks and lists inside each other",
                super::MAX_DEPTH
            ),
            None,
        ),
        _ => (
            Kind::TooLarge,
            0..0,
            "this file is too large for what it is".into(),
            None,
        ),
    }
}

/// The scanner's errors have no variants, only words.
fn scanner(message: &str, text: &str, here: Range<usize>) -> Explained {
    let control = |c: char| c.is_control() && !c.is_whitespace();
    if message.starts_with("unexpected character")
        && message.contains("\\u{")
        && let Some((at, c)) = text[here.start..].char_indices().find(|(_, c)| control(*c))
    {
        let at = here.start + at;
        let message = format!("a control character (U+{:04X}) stands here", u32::from(c));
        let place = at..at + c.len_utf8();
        return (Kind::NotYaml, place, message, Some("remove it".into()));
    }
    let explained = if message.starts_with("unexpected character") {
        match text[here.start..].chars().next() {
            Some(c) => (
                format!("a value cannot begin with `{c}`"),
                Some(QUOTE.into()),
            ),
            None => (message.to_owned(), None),
        }
    } else if message.starts_with("mapping values are not allowed") && begins_line(text, here.start)
    {
        (
            "this line is indented further than the one above it, and so belongs to its value"
                .into(),
            Some("indent the fields of one block alike".into()),
        )
    } else if message.starts_with("mapping values are not allowed") {
        (
            "a colon and a space stand in the middle of a value".into(),
            Some(format!(
                "if they belong to the value, {QUOTE}; else begin a new line"
            )),
        )
    } else if message.contains("did not find expected key")
        || message.contains("did not find expected '-' indicator")
    {
        (
            "this line's indentation fits no block above it".into(),
            Some("indent the fields of one block alike".into()),
        )
    } else if message.contains("illegal placement of ':'") {
        (
            "a bracket above this line is not closed".into(),
            Some("write `[a, b]` and `{ name: value }`, each on one line if you can".into()),
        )
    } else if message.starts_with("expected string scalar") {
        (
            "a field's name must be text".into(),
            Some("write `name: value`".into()),
        )
    } else if message.contains("recursion limit") || message.contains("nesting") {
        let most = super::MAX_DEPTH;
        (
            format!("more than {most} blocks and lists inside each other"),
            None,
        )
    } else if message.starts_with("unclosed") {
        (message.to_owned(), Some("close it".into()))
    } else {
        (format!("this is not readable YAML: {message}"), None)
    };
    let (message, help) = explained;
    (Kind::NotYaml, here, message, help)
}

/// Whether nothing but a name stands before `at` in its line.
fn begins_line(text: &str, at: usize) -> bool {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let name = text[line..at].trim_start();
    line > 0
        && text[line..].starts_with(' ')
        && !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

/// The error's first line, without its place, which the diagnostic shows.
fn message_of(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    match line.rfind(" at line ") {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    }
}

/// The word that begins with the last `mark` before `at`.
fn last(text: &str, at: usize, mark: char) -> Range<usize> {
    let start = text[..at].rfind(mark).unwrap_or(at);
    start..end_of_word(text, start)
}

fn end_of_word(text: &str, start: usize) -> usize {
    let ends = |c: char| c.is_whitespace() || ",]}".contains(c);
    text[start..]
        .char_indices()
        .skip(1)
        .find(|(_, c)| ends(*c))
        .map_or(text.len(), |(at, _)| start + at)
}
