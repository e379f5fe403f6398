//! `when` and `broken_by`: tests of an event's fields.

use std::ops::Range;
use std::sync::Arc;

use crate::document::shape::yes_or_no;
use crate::document::{Diagnostics, Key, Kind, Node, SourceFile, Value, suggest};
use crate::event::fields::Holds;
use crate::rules::Field;
use crate::rules::eval::{Condition, Line, Test, Written};

use super::fields::{self, Named};
use super::possible::{self, Sense};
use super::tests::{MEANT_TEST, TESTS};
use super::{Reader, pattern, values};

/// One line of a condition, while it is read.
pub(super) struct Subject<'a> {
    pub file: &'a Arc<SourceFile>,
    /// The field as the file writes it.
    pub name: &'a str,
    pub field: Field,
    pub holds: Option<Holds>,
    /// The rule's id.
    pub rule: &'a Arc<str>,
}

impl Reader<'_> {
    /// `what` is what messages call it: "`when`".
    pub(super) fn condition(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        what: &str,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Condition> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            other => {
                let help = match other {
                    Value::Text(text) if text.contains(':') => {
                        "write `name: value`, with a space after the colon"
                    }
                    Value::List(_) if what == "`when`" => {
                        "every line must hold: write them below each other, without `-`. What \
                         may be this or that goes into one line: `type: [login, two_factor]`"
                    }
                    _ => "write fields and what they must be: `type: login`",
                };
                let message = format!("{what} must be a block of fields, not {}", other.kind());
                let span = node.first_line(file);
                found.mistake(Kind::WrongType, file, span, message, Some(help.into()));
                return None;
            }
        };
        if entries.is_empty() {
            found.mistake(
                Kind::OutOfRange,
                file,
                node.span.clone(),
                format!("{what} is empty, so it would match every event"),
                Some("name at least the type: `type: login`".into()),
            );
            return None;
        }
        let errors_before = found.error_count();
        let mut condition = Condition::default();
        let mut senses = Vec::new();
        for (key, value) in entries {
            let named = self.field(file, &key.name, &key.span, found);
            let Some(Named { field, holds }) = named else {
                continue;
            };
            let line = Subject {
                file,
                name: &key.name,
                field,
                holds,
                rule,
            };
            let errors_before = found.error_count();
            let Some(test) = self.test(&line, value, found) else {
                continue;
            };
            if found.error_count() == errors_before {
                senses.push(sense(&line, &test, value, found));
            }
            condition.lines.push(Line {
                field,
                test,
                written: written(file, key, value),
            });
        }
        if found.error_count() > errors_before {
            return None;
        }
        if senses.iter().all(|sense| *sense == Sense::Always) {
            found.mistake(
                Kind::AlwaysMatches,
                file,
                node.first_line(file),
                format!("{what} holds for every event"),
                Some("name at least the type: `type: login`".into()),
            );
        } else if possible::no_type_and_outcome(&condition) {
            found.mistake(
                Kind::NeverMatches,
                file,
                node.first_line(file),
                format!("no event can satisfy this {what}: no event of this type has this outcome"),
                Some(
                    "a `login` and a `two_factor` have `success` or `failure`; other types can \
                     also have `requested`, `cancelled`, or none"
                        .into(),
                ),
            );
        }
        Some(condition)
    }

    /// The field called `name`, which stands at `span`.
    pub(super) fn field(
        &mut self,
        file: &Arc<SourceFile>,
        name: &str,
        span: &Range<usize>,
        found: &mut Diagnostics,
    ) -> Option<Named> {
        match fields::named(name, &mut self.extra_fields) {
            Ok(named) => Some(named),
            Err((message, help)) => {
                let kind = Kind::UnknownEventField;
                found.mistake(kind, file, span.clone(), message, Some(help));
                None
            }
        }
    }

    fn test(&mut self, line: &Subject<'_>, node: &Node, found: &mut Diagnostics) -> Option<Test> {
        let name = line.name;
        match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    found.mistake(
                        Kind::OutOfRange,
                        line.file,
                        node.span.clone(),
                        format!("`{name}` has an empty list, so it could never match"),
                        Some("put values into it, or remove the line".into()),
                    );
                }
                let tests: Vec<Test> = items
                    .iter()
                    .filter_map(|item| self.test(line, item, found))
                    .collect();
                Some(Test::AnyOf(tests))
            }
            Value::Map(entries) => {
                if entries.is_empty() {
                    found.mistake(
                        Kind::OutOfRange,
                        line.file,
                        node.span.clone(),
                        format!("`{name}` has no test"),
                        Some(format!(
                            "write `{name}: {{ exists: true }}`, or remove the line"
                        )),
                    );
                }
                let mut tests: Vec<Test> = entries
                    .iter()
                    .filter_map(|(key, value)| self.operator(line, key, value, found))
                    .collect();
                match tests.len() {
                    1 => tests.pop(),
                    _ => Some(Test::AllOf(tests)),
                }
            }
            _ => values::scalar(line, node, found).map(Test::Is),
        }
    }

    fn operator(
        &mut self,
        line: &Subject<'_>,
        key: &Key,
        value: &Node,
        found: &mut Diagnostics,
    ) -> Option<Test> {
        let known = TESTS.iter().find(|test| test.name == key.name);
        let Some(known) = known else {
            let names: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
            let meant = MEANT_TEST.iter().find(|(name, _)| *name == key.name);
            let help = match meant {
                Some((_, help)) => (*help).to_owned(),
                None => suggest(&key.name, &names),
            };
            found.mistake(
                Kind::WrongTest,
                line.file,
                key.span.clone(),
                format!("there is no test `{}`", key.name),
                Some(help),
            );
            return None;
        };
        if known.only_addresses && line.field != Field::Ip {
            found.mistake(
                Kind::WrongTest,
                line.file,
                key.span.clone(),
                format!(
                    "`{}` is for addresses, and `{}` is none",
                    key.name, line.name
                ),
                Some("use it on `ip`".into()),
            );
            return None;
        }
        match key.name.as_str() {
            "not" => self
                .test(line, value, found)
                .map(|test| Test::Not(Box::new(test))),
            "exists" => match &value.value {
                Value::Bool(wanted) => Some(Test::Exists(*wanted)),
                other => {
                    let help = match other {
                        Value::Text(text) => yes_or_no(text),
                        _ => None,
                    };
                    let message = format!("`exists` must be true or false, not {}", other.kind());
                    let help = help.or(Some("write `exists: true` or `exists: false`".into()));
                    let span = value.first_line(line.file);
                    found.mistake(Kind::WrongType, line.file, span, message, help);
                    None
                }
            },
            "in_list" | "not_in_list" => self.list(line, key, value, found),
            "cidr" => {
                if matches!(&value.value, Value::List(items) if items.is_empty()) {
                    found.mistake(
                        Kind::OutOfRange,
                        line.file,
                        value.span.clone(),
                        "`cidr` has no network, so it could never match",
                        Some("write `cidr: 192.0.2.0/24`, or a list of networks".into()),
                    );
                }
                let networks = value
                    .items()
                    .iter()
                    .filter_map(|item| values::network(line.file, item, found))
                    .collect();
                Some(Test::Cidr(networks))
            }
            "glob" => pattern::glob(line, value, found).map(Test::Glob),
            _ => pattern::regex(line, value, found).map(Test::Regex),
        }
    }

    fn list(
        &mut self,
        line: &Subject<'_>,
        key: &Key,
        value: &Node,
        found: &mut Diagnostics,
    ) -> Option<Test> {
        let list = values::text(line.file, value, &key.name, found)?;
        let Some(id) = self.lists.id(list) else {
            let names: Vec<&str> = self.lists.names().collect();
            let help = if names.is_empty() {
                "there are no lists at all: name it in lists.yaml, beside the rules".to_owned()
            } else {
                match suggest(list, &names) {
                    near if near.ends_with('?') => format!("{near} Else name it in lists.yaml"),
                    all => format!("{all}; or name it in lists.yaml"),
                }
            };
            found.mistake(
                Kind::UnknownList,
                line.file,
                value.span.clone(),
                format!("there is no list `{list}`"),
                Some(help),
            );
            return None;
        };
        if !self.lists.is_available(id) {
            self.missing_lists
                .push((Arc::clone(line.rule), list.to_owned()));
        }
        Some(match key.name.as_str() {
            "in_list" => Test::InList(id),
            _ => Test::NotInList(id),
        })
    }
}

/// A line as it stands in the file: what goes over several of them in one, without comments.
fn written(file: &SourceFile, key: &Key, value: &Node) -> Written {
    let end = end_of(value).max(key.span.end);
    let (text, rest) = match (file.text.get(key.span.start..end), file.text.get(end..)) {
        (Some(text), Some(rest)) => (text, rest),
        _ => (&*key.name, ""),
    };
    // The brackets that stand open, and those that close them.
    let opened = text.matches(['{', '[']).count();
    let closed = text.matches(['}', ']']).count();
    let closing: String = rest
        .chars()
        .take_while(|c| matches!(c, ' ' | '}' | ']'))
        .filter(|c| *c != ' ')
        .take(opened.saturating_sub(closed))
        .flat_map(|c| match c {
            '}' => [Some(' '), Some(c)],
            _ => [None, Some(c)],
        })
        .flatten()
        .collect();
    let parts = text.lines().map(|line| {
        let end = line.find(" #").unwrap_or(line.len());
        line[..end].trim()
    });
    let text: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    Written {
        line: u32::try_from(file.line_column(key.span.start).0).unwrap_or(u32::MAX),
        field: key.name.as_str().into(),
        text: (text.join(" ") + &closing).into(),
    }
}

/// Where the last of what `node` holds ends.
fn end_of(node: &Node) -> usize {
    let last = match &node.value {
        Value::List(items) => items.last(),
        Value::Map(entries) => entries.last().map(|(_, value)| value),
        _ => None,
    };
    last.map_or(node.span.end, end_of).max(node.span.end)
}

/// Reports a line that can never hold, or always does.
fn sense(line: &Subject<'_>, test: &Test, value: &Node, found: &mut Diagnostics) -> Sense {
    let sense = possible::sense(line.field, test);
    let name = line.name;
    let span = value.first_line(line.file);
    match sense {
        Sense::Sometimes => {}
        Sense::Never => found.mistake(
            Kind::NeverMatches,
            line.file,
            span,
            format!("this can hold for no event, whatever its `{name}` is"),
            Some(match line.holds {
                Some(Holds::Country) => {
                    "`country` is two capital letters, such as `NO`; tests in one block must all \
                     hold, a list means any of"
                        .into()
                }
                _ => "tests in one block must all hold, a list means any of".into(),
            }),
        ),
        Sense::Always => found.doubt(
            Kind::AlwaysMatches,
            line.file,
            span,
            format!("this holds for every event, whatever its `{name}` is"),
            Some("remove the line, or say what it should keep out".into()),
        ),
    }
    sense
}
