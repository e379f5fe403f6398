//! `detect`: how matching events become a hit.

use std::sync::Arc;

use crate::document::{Diagnostics, Kind, Node, SourceFile, Value};
use crate::event::DAY_MS;
use crate::event::fields::Holds;
use crate::rules::{Detect, Field, Learn};

use super::Reader;

impl Reader<'_> {
    /// `node` has the form of [`super::form::DETECT`], or mistakes of form were reported.
    pub(super) fn detect(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Detect> {
        let entries = match &node.value {
            Value::Text(kind) if kind == "each" => return Some(Detect::Each),
            Value::Map(entries) => entries,
            _ => return None,
        };
        let [(kind, settings)] = entries.as_slice() else {
            return None;
        };
        let whole = |name: &str| settings.get(name).and_then(Node::as_integer);
        let length = |name: &str| settings.get(name).and_then(Node::as_duration_ms);
        match kind.name.as_str() {
            "each" => Some(Detect::Each),
            "count" => Some(Detect::Count {
                at_least: small(whole("at_least")?)?,
                within_ms: length("within")?,
            }),
            "distinct" => {
                let of = self.of(file, settings, found)?;
                if of != Field::Ip {
                    prefix_without_ip(file, settings, found);
                }
                Some(Detect::Distinct {
                    of,
                    at_least: small(whole("at_least")?)?,
                    within_ms: length("within")?,
                    prefix4: small(whole("prefix4").unwrap_or(32))?,
                    prefix6: small(whole("prefix6").unwrap_or(64))?,
                })
            }
            "streak" => {
                let errors_before = found.error_count();
                let broken_by = match settings.get("broken_by") {
                    None => Vec::new(),
                    Some(node) => node
                        .items()
                        .iter()
                        .filter_map(|item| self.condition(file, item, "`broken_by`", rule, found))
                        .collect(),
                };
                if found.error_count() > errors_before {
                    return None;
                }
                Some(Detect::Streak {
                    at_least: small(whole("at_least")?)?,
                    max_gap_ms: length("max_gap")?,
                    broken_by,
                })
            }
            "first_seen" => Some(Detect::FirstSeen {
                of: self.of(file, settings, found)?,
                forget_after_ms: length("forget_after").unwrap_or(365 * DAY_MS),
                learn: learn(settings)?,
            }),
            _ => None,
        }
    }

    fn of(
        &mut self,
        file: &Arc<SourceFile>,
        settings: &Node,
        found: &mut Diagnostics,
    ) -> Option<Field> {
        let node = settings.get("of")?;
        let Some(name) = node.as_text() else {
            found.mistake(
                Kind::WrongType,
                file,
                node.first_line(file),
                format!(
                    "`of` must be the name of a field, not {}",
                    node.value.kind()
                ),
                Some("write `of: ip`".into()),
            );
            return None;
        };
        let named = self.field(file, name, &node.span, found)?;
        if named.holds == Some(Holds::Texts) {
            found.mistake(
                Kind::UnknownEventField,
                file,
                node.span.clone(),
                format!("`{name}` holds several values, which cannot be told apart"),
                Some("name a field with one value, such as `email`".into()),
            );
            return None;
        }
        Some(named.field)
    }
}

/// A number whose bounds were checked with the form.
fn small<T: TryFrom<i64>>(number: i64) -> Option<T> {
    T::try_from(number).ok()
}

fn prefix_without_ip(file: &Arc<SourceFile>, settings: &Node, found: &mut Diagnostics) {
    for name in ["prefix4", "prefix6"] {
        if let Some(node) = settings.get(name) {
            found.mistake(
                Kind::Useless,
                file,
                node.span.clone(),
                format!("`{name}` is for addresses, and this rule tells others apart"),
                Some("remove it, or write `of: ip`".into()),
            );
        }
    }
}

fn learn(settings: &Node) -> Option<Learn> {
    let Some(node) = settings.get("learn") else {
        return Some(Learn::Events(1));
    };
    match (node.get("events"), node.get("for")) {
        (Some(events), None) => Some(Learn::Events(small(events.as_integer()?)?)),
        (None, Some(span)) => Some(Learn::SpanMs(span.as_duration_ms()?)),
        _ => None,
    }
}
