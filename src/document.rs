//! Reading files that people write: rules, lists, settings.
//!
//! A YAML or TOML file becomes a tree of [`Node`]s that know where they stand; a [`Fields`]
//! reader takes typed values out of it and collects every mistake on the way as a
//! [`Diagnostic`], so that one look shows all of them with their line and a caret. What the
//! values mean is the caller's business.

mod render;
mod toml;
mod yaml;

use std::ops::Range;
use std::sync::Arc;

use crate::event::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

pub use render::{render, render_all};
pub use toml::parse_toml;
pub use yaml::parse_yaml;

/// A file's name, as messages show it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    pub name: String,
    pub text: String,
}

impl SourceFile {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(SourceFile {
            name: name.into(),
            text: text.into(),
        })
    }

    /// Line and column of a byte offset, both from 1, columns in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// Worth saying, but the file can be used.
    Warning,
}

/// One mistake: where it stands, what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: Arc<SourceFile>,
    /// Bytes of the file's text; empty where only the file as a whole can be named.
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Diagnostic {
    /// `file:line:column`, or the file alone where no place in it can be named.
    pub fn place(&self) -> String {
        if self.file.text.is_empty() {
            return self.file.name.clone();
        }
        let (line, column) = self.file.line_column(self.span.start);
        format!("{}:{line}:{column}", self.file.name)
    }
}

/// Mistakes collected so far, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    pub found: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn error(
        &mut self,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.found.push(Diagnostic {
            severity: Severity::Error,
            file: Arc::clone(file),
            span,
            message: message.into(),
            help,
        });
    }

    pub fn warning(
        &mut self,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.found.push(Diagnostic {
            severity: Severity::Warning,
            file: Arc::clone(file),
            span,
            message: message.into(),
            help,
        });
    }

    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    pub fn error_count(&self) -> usize {
        self.found
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .count()
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub span: Range<usize>,
}

impl Value {
    /// What a message calls this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a block of settings",
        }
    }
}

/// Takes the fields of one map, remembers which were asked for, and reports the rest.
pub struct Fields<'a> {
    file: Arc<SourceFile>,
    /// What the map is, for messages: "the rule", "`then`", "`[kafka]`".
    what: String,
    entries: &'a [(Key, Node)],
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `None`, and a diagnostic, where `node` is no map.
    pub fn of(
        file: &Arc<SourceFile>,
        node: &'a Node,
        what: impl Into<String>,
        found: &mut Diagnostics,
    ) -> Option<Fields<'a>> {
        let what = what.into();
        match &node.value {
            Value::Map(entries) => Some(Fields {
                file: Arc::clone(file),
                what,
                entries,
                span: node.span.clone(),
                asked: Vec::new(),
            }),
            Value::Null => {
                found.error(file, 0..0, format!("{what} is empty"), None);
                None
            }
            other => {
                let help = match other {
                    Value::Text(text) if text.contains(':') && !file.name.ends_with(".toml") => {
                        Some("write `name: value`, with a space after the colon".into())
                    }
                    _ => None,
                };
                let message = format!("{what} must be a block of fields, not {}", other.kind());
                found.error(file, node.span.clone(), message, help);
                None
            }
        }
    }

    pub fn file(&self) -> &Arc<SourceFile> {
        &self.file
    }

    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The field's value; null counts as absent.
    pub fn optional(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
            .filter(|node| node.value != Value::Null)
    }

    pub fn required(&mut self, name: &'static str, found: &mut Diagnostics) -> Option<&'a Node> {
        let node = self.optional(name);
        if node.is_none() {
            let place = self
                .entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map_or(first_line(&self.file, &self.span), |(key, _)| {
                    key.span.clone()
                });
            found.error(
                &self.file,
                place,
                format!("{} needs `{name}`", self.what),
                None,
            );
        }
        node
    }

    pub fn text(&mut self, name: &'static str, found: &mut Diagnostics) -> Option<&'a str> {
        let node = self.optional(name)?;
        self.as_text(name, node, found)
    }

    pub fn required_text(
        &mut self,
        name: &'static str,
        found: &mut Diagnostics,
    ) -> Option<&'a str> {
        let node = self.required(name, found)?;
        self.as_text(name, node, found)
    }

    fn as_text(&self, name: &str, node: &'a Node, found: &mut Diagnostics) -> Option<&'a str> {
        match &node.value {
            Value::Text(text) => Some(text),
            other => {
                self.wrong_type(name, node, "text", other, found);
                None
            }
        }
    }

    pub fn bool(&mut self, name: &'static str, found: &mut Diagnostics) -> Option<bool> {
        let node = self.optional(name)?;
        match &node.value {
            Value::Bool(value) => Some(*value),
            other => {
                self.wrong_type(name, node, "true or false", other, found);
                None
            }
        }
    }

    /// A whole number within `range`, both ends included.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
        found: &mut Diagnostics,
    ) -> Option<i64> {
        let node = self.optional(name)?;
        match &node.value {
            Value::Integer(value) if range.contains(value) => Some(*value),
            Value::Integer(value) => {
                found.error(
                    &self.file,
                    node.span.clone(),
                    if range.start() == range.end() {
                        format!("`{name}` must be {}, not {value}", range.start())
                    } else {
                        let (least, most) = (range.start(), range.end());
                        format!("`{name}` must be {least} to {most}, not {value}")
                    },
                    None,
                );
                None
            }
            other => {
                self.wrong_type(name, node, "a whole number", other, found);
                None
            }
        }
    }

    /// A duration such as `5m`, in milliseconds.
    pub fn duration_ms(&mut self, name: &'static str, found: &mut Diagnostics) -> Option<i64> {
        let node = self.optional(name)?;
        let message = match &node.value {
            Value::Text(text) => match parse_duration_ms(text) {
                Ok(ms) => return Some(ms),
                Err(help) => {
                    found.error(
                        &self.file,
                        node.span.clone(),
                        format!("`{name}: {text}` is no length of time"),
                        Some(help),
                    );
                    return None;
                }
            },
            Value::Integer(n) => format!("`{name}: {n}` needs a unit"),
            other => format!("`{name}` must be a length of time, not {}", other.kind()),
        };
        found.error(
            &self.file,
            node.span.clone(),
            message,
            Some("write a whole number and one of ms, s, m, h, d: `30s`, `5m`, `24h`".into()),
        );
        None
    }

    /// One of the words in `choices`.
    pub fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&'static str, T)],
        found: &mut Diagnostics,
    ) -> Option<T> {
        let text = self.text(name, found)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let node = self.optional(name)?;
        found.error(
            &self.file,
            node.span.clone(),
            format!("`{name}` cannot be `{text}`"),
            Some(suggest(text, &words)),
        );
        None
    }

    fn wrong_type(
        &self,
        name: &str,
        node: &Node,
        wanted: &str,
        got: &Value,
        found: &mut Diagnostics,
    ) {
        let help = match (wanted, got) {
            ("text", Value::Integer(_) | Value::Float(_) | Value::Bool(_)) => {
                Some("put it in quotes".to_owned())
            }
            ("true or false", Value::Text(t)) if matches!(t.as_str(), "yes" | "on") => {
                Some("write `true`".to_owned())
            }
            ("true or false", Value::Text(t)) if matches!(t.as_str(), "no" | "off") => {
                Some("write `false`".to_owned())
            }
            _ => None,
        };
        found.error(
            &self.file,
            node.span.clone(),
            format!("`{name}` must be {wanted}, not {}", got.kind()),
            help,
        );
    }

    /// The names asked for so far.
    pub fn asked(&self) -> &[&'static str] {
        &self.asked
    }

    /// Every field that was never asked for, in file order, for maps with free names.
    pub fn rest(&self) -> impl Iterator<Item = (&'a Key, &'a Node)> + use<'a> {
        let asked = self.asked.clone();
        self.entries
            .iter()
            .filter(move |(key, _)| !asked.contains(&key.name.as_str()))
            .map(|(key, node)| (key, node))
    }

    /// Reports every field that was never asked for, with the nearest name that was.
    pub fn finish(self, found: &mut Diagnostics) {
        for (key, _) in self.rest() {
            found.error(
                &self.file,
                key.span.clone(),
                format!("{} has no field `{}`", self.what, key.name),
                Some(suggest(&key.name, &self.asked)),
            );
        }
    }
}

/// The first line of `span`, so that a caret under a whole block stays readable.
fn first_line(file: &SourceFile, span: &Range<usize>) -> Range<usize> {
    let end = file.text[span.start.min(file.text.len())..]
        .find('\n')
        .map_or(file.text.len(), |at| span.start + at);
    span.start..end.min(span.end.max(span.start))
}

/// The word of `known` that `written` is probably a slip of: at most two letters off, and
/// no more than a third of it. For names that may also be somebody's own.
pub fn slip_of<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|word| (edit_distance(written, word), *word))
        .filter(|(distance, word)| *distance <= 2.min(word.len() / 3))
        .min()
        .map(|(_, word)| word)
}

/// "did you mean …?" where one of `known` is near, else the list of them.
pub fn suggest(written: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (edit_distance(written, word), *word))
        .filter(|(distance, word)| *distance <= word.len().max(3) / 3)
        .min();
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => {
            let words: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("it can be {}", words.join(", "))
        }
    }
}

/// Edit distance in characters, two swapped neighbours being one mistake (optimal string
/// alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Milliseconds of a length of time such as `250ms`, `30s`, `5m`, `24h`, `365d`.
///
/// # Errors
/// What to write instead.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let (meant, smallest_ms) = meant_ms(text)
        .ok_or("write a whole number and one of ms, s, m, h, d: `30s`, `5m`, `24h`")?;
    if meant > 100 * 365 * DAY_MS {
        return Err("it can be a hundred years at most".to_owned());
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() < text.len() && UNITS.iter().any(|(known, _)| *known == unit) {
        return Ok(meant);
    }
    let (unit, ms) = UNITS
        .iter()
        .find(|(_, ms)| *ms <= smallest_ms)
        .unwrap_or(&UNITS[0]);
    Err(format!("write `{}{unit}`", meant / ms))
}

/// The largest first.
const UNITS: [(&str, i64); 5] = [
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("m", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
];

/// What somebody meant who wrote `5min`, `24 hours`, `2w` or `1h30m`, and the smallest unit
/// in it.
fn meant_ms(text: &str) -> Option<(i64, i64)> {
    let mut rest = text.trim();
    let (mut total, mut smallest_ms) = (0_i64, i64::MAX);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(char::is_alphabetic).len();
        let ms = match rest[..letters].to_ascii_lowercase().as_str() {
            "ms" | "msec" | "msecs" | "millis" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => SECOND_MS,
            "m" | "min" | "mins" | "minute" | "minutes" => MINUTE_MS,
            "h" | "hr" | "hrs" | "hour" | "hours" => HOUR_MS,
            "d" | "day" | "days" => DAY_MS,
            "w" | "week" | "weeks" => 7 * DAY_MS,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(ms)?)?;
        smallest_ms = smallest_ms.min(ms);
        rest = rest[letters..].trim_start();
    }
    (!text.trim().is_empty()).then_some((total, smallest_ms))
}
