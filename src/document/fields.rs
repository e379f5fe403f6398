//! Taking typed values out of one block of settings.

use std::ops::Range;
use std::sync::Arc;

use serde_json::json;

use super::{
    Diagnostics, Key, Kind, Node, SourceFile, Value, first_line, parse_duration_ms, suggest,
};

/// Takes the fields of one map, remembers which were asked for, and reports the rest.
pub struct Fields<'a> {
    file: Arc<SourceFile>,
    /// What the map is, for messages: "the rule", "`then`", "`[kafka]`".
    what: String,
    entries: &'a [(Key, Node)],
    span: Range<usize>,
    asked: Vec<&'static str>,
    /// What was asked for by its type, as JSON Schema.
    types: Vec<(&'static str, serde_json::Value)>,
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
                types: Vec::new(),
            }),
            Value::Null => {
                found.mistake(
                    Kind::EmptyFile,
                    file,
                    0..0,
                    format!("{what} is empty"),
                    None,
                );
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
                found.mistake(Kind::WrongType, file, node.span.clone(), message, help);
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
            found.mistake(
                Kind::MissingField,
                &self.file,
                place,
                format!("{} needs `{name}`", self.what),
                None,
            );
        }
        node
    }

    /// What each setting was read as, as JSON Schema.
    pub fn types(&self) -> &[(&'static str, serde_json::Value)] {
        &self.types
    }

    /// Notes that `name` is read as what `schema` describes, a closer description taking the
    /// place of an earlier one.
    pub fn note(&mut self, name: &'static str, schema: serde_json::Value) {
        self.types.retain(|(noted, _)| *noted != name);
        self.types.push((name, schema));
    }

    pub fn text(&mut self, name: &'static str, found: &mut Diagnostics) -> Option<&'a str> {
        self.note(name, json!({ "type": "string" }));
        let node = self.optional(name)?;
        self.as_text(name, node, found)
    }

    pub fn required_text(
        &mut self,
        name: &'static str,
        found: &mut Diagnostics,
    ) -> Option<&'a str> {
        self.note(name, json!({ "type": "string" }));
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
        self.note(name, json!({ "type": "boolean" }));
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
        let (least, most) = (range.start(), range.end());
        self.note(
            name,
            json!({ "type": "integer", "minimum": least, "maximum": most }),
        );
        let node = self.optional(name)?;
        match &node.value {
            Value::Integer(value) if range.contains(value) => Some(*value),
            Value::Integer(value) => {
                found.mistake(
                    Kind::OutOfRange,
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
        self.note(name, super::schema::length("0ms", "36500d"));
        let node = self.optional(name)?;
        let message = match &node.value {
            Value::Text(text) => match parse_duration_ms(text) {
                Ok(ms) => return Some(ms),
                Err(help) => {
                    found.mistake(
                        Kind::BadDuration,
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
        found.mistake(
            Kind::BadDuration,
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
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let text = self.text(name, found);
        self.note(name, json!({ "enum": words }));
        let text = text?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let node = self.optional(name)?;
        found.mistake(
            Kind::UnknownWord,
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
        found.mistake(
            Kind::WrongType,
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
            found.mistake(
                Kind::UnknownField,
                &self.file,
                key.span.clone(),
                format!("{} has no field `{}`", self.what, key.name),
                Some(suggest(&key.name, &self.asked)),
            );
        }
    }
}
