//! TOML into [`Node`]s, by the `toml` crate's spanned tree.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Diagnostics, Key, Kind, Node, SourceFile, Value};

/// The tree of a TOML file. `None`, and every mistake of its syntax, where it has any.
pub fn parse_toml(file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Node> {
    let (root, errors) = DeTable::parse_recoverable(&file.text);
    for error in &errors {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let span = error.span().unwrap_or(0..0);
        found.mistake(
            Kind::NotToml,
            file,
            span,
            format!("this is not readable TOML: {message}"),
            None,
        );
    }
    if !errors.is_empty() {
        return None;
    }
    Some(Node {
        span: root.span(),
        value: table(root.into_inner()),
    })
}

fn table(entries: DeTable<'_>) -> Value {
    let mut entries: Vec<(Key, Node)> = entries
        .into_iter()
        .map(|(key, value)| {
            let key = Key {
                span: key.span(),
                name: key.into_inner().into_owned(),
            };
            (key, node(value))
        })
        .collect();
    // The crate sorts by name; people read a file from its beginning.
    entries.sort_by_key(|(key, _)| key.span.start);
    Value::Map(entries)
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(whole) => Value::Integer(whole),
            Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(node).collect()),
        DeValue::Table(entries) => table(entries),
    };
    Node { span, value }
}
