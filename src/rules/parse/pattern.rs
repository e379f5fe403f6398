//! Globs and regular expressions: read, bounded, and held against what a field can be.

use globset::GlobMatcher;
use regex::Regex;
use regex_syntax::ast;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::document::{Diagnostics, Kind, Node};
use crate::event::fields::Holds;

use super::condition::Subject;
use super::values::text;

/// Bytes of a compiled regular expression.
const REGEX_SIZE: usize = 1 << 20;

pub(super) fn glob(
    line: &Subject<'_>,
    node: &Node,
    found: &mut Diagnostics,
) -> Option<GlobMatcher> {
    let pattern = text(line.file, node, "glob", found)?;
    let glob = match globset::Glob::new(pattern) {
        Ok(glob) => glob,
        Err(error) => {
            let help = match error.kind() {
                globset::ErrorKind::UnclosedClass => {
                    "close it with `]`, or write `[[]` for a bracket"
                }
                globset::ErrorKind::UnclosedAlternates | globset::ErrorKind::UnopenedAlternates => {
                    "write `{a,b}`, and `[{]` for a brace"
                }
                globset::ErrorKind::DanglingEscape => "write `[\\]` for a backslash",
                _ => "`*` is any text, `?` one character, `{a,b}` one of these",
            };
            found.mistake(
                Kind::BadPattern,
                line.file,
                node.span.clone(),
                format!("`{pattern}` is no pattern: {}", error.kind()),
                Some(help.into()),
            );
            return None;
        }
    };
    let as_regex = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(glob.regex());
    if as_regex.is_ok_and(|hir| !can_match(line.holds, &hir)) {
        never(line, node, pattern, found);
        return None;
    }
    Some(glob.compile_matcher())
}

pub(super) fn regex(line: &Subject<'_>, node: &Node, found: &mut Diagnostics) -> Option<Regex> {
    let pattern = text(line.file, node, "regex", found)?;
    let mut refuse = |message: String, help: Option<String>| {
        found.mistake(Kind::BadRegex, line.file, node.span.clone(), message, help);
        None
    };
    let hir = match regex_syntax::parse(pattern) {
        Ok(hir) => hir,
        Err(error) => {
            let (message, help) = explain(pattern, &error);
            return refuse(message, Some(help));
        }
    };
    let built = regex::RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE)
        .build();
    let Ok(regex) = built else {
        return refuse(
            "this regular expression is too large".to_owned(),
            Some(
                "repetitions multiply what stands in them: write smaller counts than in \
                 `{1000}`, or `*` for any number"
                    .into(),
            ),
        );
    };
    if !can_match(line.holds, &hir) {
        never(line, node, pattern, found);
        return None;
    }
    Some(regex)
}

fn never(line: &Subject<'_>, node: &Node, pattern: &str, found: &mut Diagnostics) {
    let name = line.name;
    let help = match line.holds {
        Some(Holds::Number) => format!("`{name}` is a whole number, such as `64500`"),
        _ => {
            format!("`{name}` is an address such as `192.0.2.7` or `2001:db8::7`, in small letters")
        }
    };
    found.mistake(
        Kind::NeverMatches,
        line.file,
        node.span.clone(),
        format!("`{pattern}` fits no value that `{name}` can have"),
        Some(help),
    );
}

/// What is wrong with a regular expression, and what to write instead.
fn explain(pattern: &str, error: &regex_syntax::Error) -> (String, String) {
    let no = |why: &str| format!("`{pattern}` {why}");
    let regex_syntax::Error::Parse(error) = error else {
        let line = error.to_string();
        let last = line.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.unwrap_or("").trim_start_matches("error: ").to_owned();
        return (no("is no regular expression that doorward can run"), last);
    };
    let at = error.span().start.column;
    match error.kind() {
        ast::ErrorKind::UnsupportedLookAround => (
            no("looks ahead or behind, which cannot be run in linear time"),
            "write two tests, both of which must hold: \
             `{ regex: '^admin', not: { regex: 'test$' } }`"
                .to_owned(),
        ),
        ast::ErrorKind::UnsupportedBackreference => (
            no("refers back to a group, which cannot be run in linear time"),
            "write the texts out, as in `(aa|bb)`, or leave the second one open, as in `(.)(.)`"
                .to_owned(),
        ),
        ast::ErrorKind::GroupUnclosed | ast::ErrorKind::GroupUnopened => (
            no("has a parenthesis without its other half"),
            "close it, or write `\\(` for the character itself".to_owned(),
        ),
        ast::ErrorKind::ClassUnclosed => (
            no("has a `[` that is not closed"),
            "close it with `]`, or write `\\[` for the character itself".to_owned(),
        ),
        ast::ErrorKind::RepetitionMissing => (
            format!("`{pattern}` repeats nothing at its character {at}"),
            "write `.*` for any text, or `\\*` for the character itself; with `glob`, `*` alone \
             is any text"
                .to_owned(),
        ),
        ast::ErrorKind::EscapeUnexpectedEof => (
            no("ends with a backslash"),
            "write `\\\\` for the character itself".to_owned(),
        ),
        other => (
            format!("`{pattern}` is no regular expression: {other}, at its character {at}"),
            "in YAML, single quotes keep a backslash as it is: `regex: '\\d+'`".to_owned(),
        ),
    }
}

/// Whether a value of a field that holds this can fit at all, as far as its alphabet tells.
fn can_match(holds: Option<Holds>, hir: &Hir) -> bool {
    match holds {
        Some(Holds::Address) => fits(hir, &|c| {
            c.is_ascii_digit() || ('a'..='f').contains(&c) || ".:".contains(c)
        }),
        Some(Holds::Number) => fits(hir, &|c| c.is_ascii_digit()),
        _ => true,
    }
}

/// Whether some text of the alphabet `of` can match.
fn fits(hir: &Hir, of: &dyn Fn(char) -> bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| of(char::from(*byte))),
        HirKind::Class(Class::Unicode(class)) => (' '..='~').any(|c| {
            of(c)
                && class
                    .ranges()
                    .iter()
                    .any(|r| (r.start()..=r.end()).contains(&c))
        }),
        HirKind::Class(Class::Bytes(class)) => (b' '..=b'~').any(|b| {
            of(char::from(b))
                && class
                    .ranges()
                    .iter()
                    .any(|r| (r.start()..=r.end()).contains(&b))
        }),
        HirKind::Repetition(repetition) => repetition.min == 0 || fits(&repetition.sub, of),
        HirKind::Capture(capture) => fits(&capture.sub, of),
        HirKind::Concat(parts) => parts.iter().all(|part| fits(part, of)),
        HirKind::Alternation(parts) => parts.iter().any(|part| fits(part, of)),
    }
}
