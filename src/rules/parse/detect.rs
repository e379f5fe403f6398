//! `detect`: how matching events become a hit.

use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, suggest};
use crate::event::DAY_MS;
use crate::rules::{Detect, Field, Learn, MAX_AT_LEAST};

use super::{Reader, text};

/// Windows and gaps reach at most this far back.
const MAX_WITHIN_MS: i64 = 30 * DAY_MS;
impl Reader<'_> {
    pub(super) fn detect(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Detect> {
        const KINDS: &[&str] = &["each", "count", "distinct", "streak", "first_seen"];
        let entries = match &node.value {
            Value::Text(kind) if kind == "each" => return Some(Detect::Each),
            Value::Map(entries) => entries,
            other => {
                let written = match other {
                    Value::Text(kind) => kind.as_str(),
                    _ => "",
                };
                found.error(
                    file,
                    node.span.clone(),
                    "`detect` must be `each`, or one of count, distinct, streak, first_seen with \
                     its settings",
                    Some(suggest(written, KINDS)),
                );
                return None;
            }
        };
        let [(kind, settings)] = entries.as_slice() else {
            found.error(
                file,
                node.span.clone(),
                "`detect` takes exactly one way of counting",
                Some("make a rule of its own for each".into()),
            );
            return None;
        };
        if !KINDS[1..].contains(&kind.name.as_str()) {
            found.error(
                file,
                kind.span.clone(),
                format!("there is no way of counting called `{}`", kind.name),
                Some(suggest(&kind.name, KINDS)),
            );
            return None;
        }
        let mut fields = Fields::of(file, settings, format!("`{}`", kind.name), found)?;
        let detect = match kind.name.as_str() {
            "count" => Some(Detect::Count {
                at_least: at_least(&mut fields, found),
                within_ms: window(&mut fields, "within", found),
            }),
            "distinct" => self.of(&mut fields, found).map(|of| {
                let default4 = fields.integer("prefix4", 0..=32, found).unwrap_or(32);
                let default6 = fields.integer("prefix6", 0..=128, found).unwrap_or(64);
                Detect::Distinct {
                    of,
                    at_least: at_least(&mut fields, found),
                    within_ms: window(&mut fields, "within", found),
                    prefix4: default4 as u8,
                    prefix6: default6 as u8,
                }
            }),
            "streak" => {
                let broken_by = match fields.optional("broken_by") {
                    None => Vec::new(),
                    Some(node) => {
                        let items = match &node.value {
                            Value::List(items) => items.as_slice(),
                            _ => std::slice::from_ref(node),
                        };
                        items
                            .iter()
                            .filter_map(|item| {
                                self.condition(file, item, "`broken_by`", rule, found)
                            })
                            .collect()
                    }
                };
                Some(Detect::Streak {
                    at_least: at_least(&mut fields, found),
                    max_gap_ms: window(&mut fields, "max_gap", found),
                    broken_by,
                })
            }
            _ => self.of(&mut fields, found).map(|of| Detect::FirstSeen {
                of,
                forget_after_ms: fields
                    .duration_ms("forget_after", found)
                    .unwrap_or(365 * DAY_MS),
                learn: learn(&mut fields, found),
            }),
        };
        fields.finish(found);
        detect
    }

    fn of(&mut self, fields: &mut Fields<'_>, found: &mut Diagnostics) -> Option<Field> {
        let file = Arc::clone(fields.file());
        let node = fields.required("of", found)?;
        let name = text(&file, node, "of", found)?.to_owned();
        self.field(&file, &name, &node.span, found)
    }
}

fn at_least(fields: &mut Fields<'_>, found: &mut Diagnostics) -> u32 {
    if fields.required("at_least", found).is_none() {
        return 1;
    }
    fields
        .integer("at_least", 1..=i64::from(MAX_AT_LEAST), found)
        .map_or(1, |n| n as u32)
}

fn window(fields: &mut Fields<'_>, name: &'static str, found: &mut Diagnostics) -> i64 {
    let Some(node) = fields.required(name, found) else {
        return 1;
    };
    match fields.duration_ms(name, found) {
        Some(ms) if (1..=MAX_WITHIN_MS).contains(&ms) => ms,
        Some(_) => {
            let file = Arc::clone(fields.file());
            found.error(
                &file,
                node.span.clone(),
                format!("`{name}` must be 1ms to 30d"),
                None,
            );
            1
        }
        None => 1,
    }
}

fn learn(fields: &mut Fields<'_>, found: &mut Diagnostics) -> Learn {
    let file = Arc::clone(fields.file());
    let Some(node) = fields.optional("learn") else {
        return Learn::Events(1);
    };
    let Some(mut learn) = Fields::of(&file, node, "`learn`", found) else {
        return Learn::Events(1);
    };
    let events = learn.integer("events", 1..=255, found);
    let span = learn.duration_ms("for", found);
    let result = match (learn.optional("events"), learn.optional("for")) {
        (Some(_), None) => Learn::Events(events.map_or(1, |n| n as u32)),
        (None, Some(_)) => Learn::SpanMs(span.unwrap_or(DAY_MS)),
        _ => {
            found.error(
                &file,
                node.span.clone(),
                "`learn` takes either `events` or `for`",
                Some("write `learn: { events: 1 }` or `learn: { for: 14d }`".into()),
            );
            Learn::Events(1)
        }
    };
    learn.finish(found);
    result
}
