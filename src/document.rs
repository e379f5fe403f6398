//! Reading files that people write: rules, lists, settings.
//!
//! A YAML or TOML file becomes a tree of [`Node`]s that know where they stand; a [`Fields`]
//! reader takes typed values out of it and collects every mistake on the way as a
//! [`Diagnostic`], so that one look shows all of them with their line and a caret. What the
//! values mean is the caller's business.

mod bytes;
mod duration;
mod fields;
mod kind;
mod render;
pub mod schema;
pub mod shape;
mod toml;
mod words;
mod yaml;

use std::ops::Range;
use std::sync::Arc;

pub use bytes::read_text;
pub use duration::parse_duration_ms;
pub use fields::Fields;
pub use kind::Kind;
pub use render::{render, render_all};
pub use toml::parse_toml;
pub use words::{slip_of, suggest};
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
    pub kind: Kind,
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
    /// An error that has no kind of its own.
    pub fn error(
        &mut self,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.mistake(Kind::Other, file, span, message, help);
    }

    /// A warning that has no kind of its own.
    pub fn warning(
        &mut self,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.doubt(Kind::Other, file, span, message, help);
    }

    /// An error of a kind.
    pub fn mistake(
        &mut self,
        kind: Kind,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.found.push(Diagnostic {
            kind,
            severity: Severity::Error,
            file: Arc::clone(file),
            span,
            message: message.into(),
            help,
        });
    }

    /// A warning of a kind.
    pub fn doubt(
        &mut self,
        kind: Kind,
        file: &Arc<SourceFile>,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.mistake(kind, file, span, message, help);
        if let Some(last) = self.found.last_mut() {
            last.severity = Severity::Warning;
        }
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

impl Node {
    /// The value of the field `name`, where this is a block that has it; null counts as
    /// absent.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let (_, node) = entries.iter().find(|(key, _)| key.name == name)?;
        (node.value != Value::Null).then_some(node)
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_integer(&self) -> Option<i64> {
        match self.value {
            Value::Integer(value) => Some(value),
            _ => None,
        }
    }

    /// A length of time such as `5m`, in milliseconds.
    pub fn as_duration_ms(&self) -> Option<i64> {
        parse_duration_ms(self.as_text()?).ok()
    }

    /// The items of a list; a single value counts as a list of one.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The node's span cut at the end of its first line, so that a caret under a whole block
    /// stays readable.
    pub fn first_line(&self, file: &SourceFile) -> Range<usize> {
        first_line(file, &self.span)
    }
}

/// `span` cut at the end of its first line.
fn first_line(file: &SourceFile, span: &Range<usize>) -> Range<usize> {
    let start = span.start.min(file.text.len());
    let end = file.text[start..]
        .find('\n')
        .map_or(file.text.len(), |at| start + at);
    start..end.min(span.end.max(start))
}
