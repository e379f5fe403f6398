//! YAML into [`Node`]s, by serde-saphyr: one document, YAML 1.2 booleans only, no anchors,
//! no merge keys, no tags.

mod explain;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use super::{Diagnostics, Key, Kind, Node, SourceFile, Value};

/// Blocks and lists inside each other; a rule needs about six.
const MAX_DEPTH: usize = 32;

/// The tree of a YAML file. `None`, and a diagnostic, where it cannot be read at all; a name
/// that stands twice in a block is an error, and the rest is read all the same.
pub fn parse_yaml(file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Node> {
    if let Some((kind, span, message, help)) = explain::before_parsing(&file.text) {
        found.mistake(kind, file, span, message, Some(help));
        return None;
    }
    if file.text.starts_with('\u{feff}') {
        found.doubt(
            Kind::ByteOrderMark,
            file,
            0..0,
            "this file begins with a byte order mark, which nobody sees and some programs trip over",
            Some("save it as UTF-8 without BOM; editors have a setting for it".into()),
        );
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        merge_keys: MergeKeyPolicy::Error,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_anchors: 0,
            max_aliases: 0,
        },
    };
    match serde_saphyr::from_str_with_options::<Spanned<Tree>>(&file.text, options) {
        Ok(tree) => Some(node(tree, file, found)),
        Err(error) => {
            let error = error.without_snippet();
            let at = error.location().map_or(0, |l| offset(&file.text, &l));
            let (kind, span, message, help) = explain::error(error, &file.text, at);
            found.mistake(kind, file, span, message, help);
            None
        }
    }
}

/// Byte offset of a location; errors of the scanner have only its line and column.
fn offset(text: &str, location: &Location) -> usize {
    if let Some(at) = location.span().byte_offset() {
        return usize::try_from(at).unwrap_or(0).min(text.len());
    }
    let line = usize::try_from(location.line()).unwrap_or(1);
    let column = usize::try_from(location.column()).unwrap_or(1);
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let within = text[before..].char_indices().nth(column.saturating_sub(1));
    within.map_or(text.len(), |(at, _)| before + at)
}

fn bytes(location: &Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().unwrap_or(0) as usize;
    start..start + span.byte_len().unwrap_or(0) as usize
}

fn node(tree: Spanned<Tree>, file: &Arc<SourceFile>, found: &mut Diagnostics) -> Node {
    let span = bytes(&tree.referenced);
    let value = match tree.value {
        Tree::Null => Value::Null,
        Tree::Bool(b) => Value::Bool(b),
        Tree::Integer(n) => Value::Integer(n),
        Tree::Float(n) => Value::Float(n),
        Tree::Text(t) => Value::Text(t),
        Tree::List(items) => Value::List(
            items
                .into_iter()
                .map(|item| node(item, file, found))
                .collect(),
        ),
        Tree::Map(entries) => Value::Map(map(entries, file, found)),
    };
    Node { span, value }
}

fn map(
    entries: Vec<(Spanned<String>, Spanned<Tree>)>,
    file: &Arc<SourceFile>,
    found: &mut Diagnostics,
) -> Vec<(Key, Node)> {
    let mut names = HashSet::with_capacity(entries.len());
    let mut read = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let key = Key {
            span: bytes(&key.referenced),
            name: key.value,
        };
        if !names.insert(key.name.clone()) {
            found.mistake(
                Kind::DuplicateField,
                file,
                key.span.clone(),
                format!("`{}` stands here twice", key.name),
                Some("keep one of them".into()),
            );
        }
        read.push((key, node(value, file, found)));
    }
    read
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
