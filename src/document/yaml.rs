//! YAML into [`Node`]s, by serde-saphyr: one document, YAML 1.2 booleans only, no anchors,
//! no merge keys, no tags.

use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{Diagnostics, Key, Node, SourceFile, Value};

/// The tree of a YAML file. `None`, and a diagnostic, where it cannot be read at all.
pub fn parse_yaml(file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Node> {
    if let Some(at) = file.text.find('\t') {
        let line_start = file.text[..at].rfind('\n').map_or(0, |nl| nl + 1);
        if file.text[line_start..at].trim().is_empty() {
            found.error(
                file,
                at..at + 1,
                "a tab indents this line, which YAML does not allow",
                Some("use spaces".into()),
            );
            return None;
        }
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Tree>>(&file.text, options) {
        Ok(tree) => {
            let node = node(tree);
            if let Some(at) = anchor(&file.text) {
                found.error(
                    file,
                    at..at + 1,
                    "anchors and aliases (`&name`, `*name`) are not part of the rule language",
                    Some("write the value out, or put it in quotes".into()),
                );
                return None;
            }
            Some(node)
        }
        Err(error) => {
            let span = error.location().map_or(0..0, |l| bytes(&l));
            let text = error.without_snippet().to_string();
            let message = text.lines().next().unwrap_or("unreadable YAML").to_owned();
            found.error(
                file,
                span,
                format!("this is not readable YAML: {message}"),
                None,
            );
            None
        }
    }
}

/// Byte offset of the first anchor or alias that begins a value.
fn anchor(text: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let content = line.split(" #").next().unwrap_or(line);
        let value = match content.find(": ") {
            Some(at) => at + 2,
            None => content.find("- ").map_or(0, |at| at + 2),
        };
        let trimmed = content[value..].trim_start();
        let is_name =
            trimmed[1.min(trimmed.len())..].starts_with(|c: char| c.is_ascii_alphanumeric());
        if (trimmed.starts_with('&') || trimmed.starts_with('*')) && is_name {
            return Some(offset + value + (content[value..].len() - trimmed.len()));
        }
        offset += line.len();
    }
    None
}

fn bytes(location: &serde_saphyr::Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    start..start + span.byte_len().unwrap_or(0) as usize
}

fn node(tree: Spanned<Tree>) -> Node {
    let span = bytes(&tree.referenced);
    let value = match tree.value {
        Tree::Null => Value::Null,
        Tree::Bool(b) => Value::Bool(b),
        Tree::Integer(n) => Value::Integer(n),
        Tree::Float(n) => Value::Float(n),
        Tree::Text(t) => Value::Text(t),
        Tree::List(items) => Value::List(items.into_iter().map(node).collect()),
        Tree::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = Key {
                        span: bytes(&key.referenced),
                        name: key.value,
                    };
                    (key, node(value))
                })
                .collect(),
        ),
    };
    Node { span, value }
}

enum Tree {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
                Tree::deserialize(d)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
                Ok(Tree::Integer(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
                Ok(i64::try_from(v).map_or(Tree::Float(v as f64), Tree::Integer))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Tree, E> {
                Ok(Tree::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
                Ok(Tree::Text(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Tree::Map(entries))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}
