//! `exceptions.yaml`.

pub mod form;

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, parse_yaml, suggest};
use crate::event::{DAY_MS, Timestamp};
use crate::rules::exceptions::{Exception, ExceptionEffect, MAX_EXCEPTIONS};
use crate::rules::{Field, Rule};

use super::values::{expected, text};
use super::{Reader, rule_id};

impl Reader<'_> {
    /// The exceptions in `file`, which each of `rules` that one covers is told of; `rules` is
    /// `None` where some rule could not be read, so that names of rules cannot be checked.
    pub fn exceptions(
        &mut self,
        file: &Arc<SourceFile>,
        mut rules: Option<&mut [Rule]>,
        found: &mut Diagnostics,
    ) -> Vec<Exception> {
        let mut read: Vec<Exception> = Vec::new();
        let Some(node) = parse_yaml(file, found) else {
            return read;
        };
        // Nothing but comments.
        if node.value == Value::Null {
            return read;
        }
        let Some(mut fields) = Fields::of(file, &node, "a file of exceptions", found) else {
            return read;
        };
        if let Some(schema) = fields.required("schema", found)
            && schema.value != Value::Integer(1)
        {
            found.error(
                file,
                schema.span.clone(),
                "this version of doorward reads exceptions of `schema: 1` only",
                Some("write `schema: 1`".into()),
            );
        }
        let items = match fields.required("exceptions", found) {
            Some(node) => match &node.value {
                Value::List(items) => items.as_slice(),
                _ => {
                    expected(file, node, "`exceptions`", "a list", found);
                    &[]
                }
            },
            None => &[],
        };
        fields.finish(found);
        for item in items {
            if read.len() == MAX_EXCEPTIONS {
                found.error(
                    file,
                    item.first_line(file),
                    format!("these are more than {MAX_EXCEPTIONS} exceptions"),
                    Some("put addresses into a list and name it with `in_list`".into()),
                );
                break;
            }
            let ids: Option<Vec<Arc<str>>> = rules
                .as_deref()
                .map(|rules| rules.iter().map(|rule| Arc::clone(&rule.id)).collect());
            let Some((exception, covered)) = self.exception(file, item, ids.as_deref(), found)
            else {
                continue;
            };
            if let Some((_, span)) = &covered.id
                && read.iter().any(|other| other.id == exception.id)
            {
                found.error(
                    file,
                    span.clone(),
                    format!("there are two exceptions `{}`", exception.id),
                    Some("give each its own id: its hits are counted under it".into()),
                );
            }
            if let Some(rules) = rules.as_deref_mut() {
                cover(rules, &covered, read.len());
            }
            read.push(exception);
        }
        read
    }

    fn exception(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        ids: Option<&[Arc<str>]>,
        found: &mut Diagnostics,
    ) -> Option<(Exception, Covered)> {
        let errors_before = found.error_count();
        let mut fields = Fields::of(file, node, "an exception", found)?;
        let id_node = fields.required("id", found);
        let id = id_node.and_then(|node| rule_id(file, node, found));
        let reason = said("reason", &mut fields, found);
        let owner = said("owner", &mut fields, found);
        let expires_node = fields.required("expires", found);
        let expires = expires_node.and_then(|node| expiry(file, node, found));
        let effect = fields.required("effect", found).and_then(|_| {
            fields.choice(
                "effect",
                &[
                    ("shadow", ExceptionEffect::Shadow),
                    ("ignore", ExceptionEffect::Ignore),
                ],
                found,
            )
        });
        let name = id.clone().unwrap_or_else(|| Arc::from(""));
        let lists_before = self.missing_lists.len();
        let when_node = fields.required("when", found);
        let when = when_node.and_then(|node| self.condition(file, node, "`when`", &name, found));
        let missing = self.missing_lists.split_off(lists_before);
        let usable = missing.is_empty();
        self.missing_for_exceptions.extend(missing);
        let rules = fields
            .optional("rules")
            .map(|node| rule_names(file, node, ids, found));
        fields.finish(found);
        if let (Some(condition), Some(node)) = (&when, when_node)
            && condition.lines.iter().all(|line| is_everybodys(line.field))
        {
            found.warning(
                file,
                node.first_line(file),
                "this exception covers every account",
                Some("name an account, an address, a network, a list or an attribute".into()),
            );
        }
        if found.error_count() > errors_before {
            return None;
        }
        let exception = Exception {
            id: id?,
            reason: reason?,
            owner: owner?,
            expires: expires?,
            effect: effect?,
            when: when?,
            usable,
            file: Arc::clone(file),
            expires_span: expires_node?.span.clone(),
        };
        let covered = Covered {
            id: id_node.map(|node| (Arc::clone(&exception.id), node.span.clone())),
            rules,
        };
        Some((exception, covered))
    }
}

/// What an exception covers besides its condition.
struct Covered {
    id: Option<(Arc<str>, Range<usize>)>,
    /// Rules by id; `None`: all.
    rules: Option<Vec<String>>,
}

/// Tells the rules that exception number `at` covers.
fn cover(rules: &mut [Rule], covered: &Covered, at: usize) {
    let Some(named) = &covered.rules else {
        rules.iter_mut().for_each(|rule| rule.exceptions.push(at));
        return;
    };
    for name in named {
        if let Some(rule) = rules.iter_mut().find(|rule| *rule.id == **name)
            && rule.exceptions.last() != Some(&at)
        {
            rule.exceptions.push(at);
        }
    }
}

/// A field whose value many accounts share whatever it is.
fn is_everybodys(field: Field) -> bool {
    matches!(
        field,
        Field::Type | Field::Outcome | Field::Method | Field::Reason | Field::Repeat
    )
}

/// A text that people read later, so that it may not be blank.
fn said(name: &'static str, fields: &mut Fields<'_>, found: &mut Diagnostics) -> Option<String> {
    let node = fields.required(name, found)?;
    let file = Arc::clone(fields.file());
    let said = text(&file, node, name, found)?;
    if said.trim().is_empty() {
        found.error(
            &file,
            node.span.clone(),
            format!("`{name}` is empty"),
            Some("whoever reads this in a year needs it".into()),
        );
        return None;
    }
    Some(said.to_owned())
}

fn rule_names(
    file: &Arc<SourceFile>,
    node: &Node,
    ids: Option<&[Arc<str>]>,
    found: &mut Diagnostics,
) -> Vec<String> {
    let Value::List(items) = &node.value else {
        expected(file, node, "`rules`", "a list of rules' ids", found);
        return Vec::new();
    };
    if items.is_empty() {
        found.error(
            file,
            node.span.clone(),
            "`rules` names none, so the exception would cover nothing",
            Some("leave it out to cover every rule".into()),
        );
    }
    items
        .iter()
        .filter_map(|item| {
            let name = text(file, item, "rules", found)?;
            if let Some(ids) = ids.filter(|ids| !ids.iter().any(|id| **id == *name)) {
                let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
                found.error(
                    file,
                    item.span.clone(),
                    format!("there is no rule `{name}`"),
                    Some(suggest(name, &ids)),
                );
            }
            Some(name.to_owned())
        })
        .collect()
}

/// The moment from which an exception does nothing: a time, or the end of a day, UTC.
fn expiry(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Option<Timestamp> {
    let written = text(file, node, "expires", found)?;
    let day = written
        .parse::<jiff::civil::Date>()
        .ok()
        .filter(|_| written.len() == "2027-03-31".len())
        .and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|day| Timestamp(day.timestamp().as_millisecond()).plus_ms(DAY_MS));
    let time = || {
        let time = written.parse::<jiff::Timestamp>().ok()?;
        Some(Timestamp(time.as_millisecond()))
    };
    let expires = day.or_else(time);
    if expires.is_none() {
        found.error(
            file,
            node.span.clone(),
            format!("`expires: {written}` is no day and no time"),
            Some(
                "write a day, `2027-03-31`, through whose end (UTC) it holds, or a time with its \
                 offset, `2027-03-31T18:00:00Z`"
                    .into(),
            ),
        );
    }
    expires
}
