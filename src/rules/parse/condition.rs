//! `when` and `broken_by`: tests of an event's fields.

use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use crate::document::{Diagnostics, Fields, Key, Node, SourceFile, Value, slip_of, suggest};
use crate::event::{FieldId, KnownType, Outcome};
use crate::rules::Field;
use crate::rules::eval::{Condition, Line, Scalar, Test, Written};

use super::{Reader, expected, text};

/// Bytes of a compiled regular expression.
const REGEX_SIZE: usize = 1 << 20;

/// Fields of the event by the names that rules use.
pub const FIELDS: &[(&str, Field)] = &[
    ("id", Field::Id),
    ("type", Field::Type),
    ("account", Field::Account),
    ("outcome", Field::Outcome),
    ("ip", Field::Ip),
    ("method", Field::Method),
    ("reason", Field::Reason),
    ("user", Field::User),
    ("repeat", Field::Repeat),
    ("actor", Field::Actor),
    ("role", Field::Role),
    ("email", Field::Email),
    ("email_verified", Field::EmailVerified),
    ("previous_email", Field::PreviousEmail),
    ("case", Field::Case),
    ("locale", Field::Locale),
    ("user_agent", Field::UserAgent),
    ("session", Field::Session),
    ("country", Field::Country),
];

/// Operators of a field test.
const OPERATORS: &[&str] = &[
    "in_list",
    "not_in_list",
    "cidr",
    "glob",
    "regex",
    "exists",
    "not",
];

impl Reader<'_> {
    pub(super) fn condition(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        what: &str,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Condition> {
        let fields = Fields::of(file, node, what, found)?;
        let mut condition = Condition::default();
        for (key, value) in fields.rest() {
            let Some(field) = self.field(file, &key.name, &key.span, found) else {
                continue;
            };
            if let Some(test) = self.test(file, &key.name, field, value, rule, found) {
                let written = written(file, key, value);
                condition.lines.push(Line {
                    field,
                    test,
                    written,
                });
            }
        }
        if condition.lines.is_empty() && fields.rest().next().is_none() {
            found.error(
                file,
                node.span.clone(),
                format!("{what} is empty, so it would match every event"),
                Some("name at least the type: `type: login`".into()),
            );
            return None;
        }
        Some(condition)
    }

    pub(super) fn field(
        &mut self,
        file: &Arc<SourceFile>,
        name: &str,
        span: &Range<usize>,
        found: &mut Diagnostics,
    ) -> Option<Field> {
        if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Some(*field);
        }
        let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        if let Some(meant) = slip_of(name, &names) {
            found.error(
                file,
                span.clone(),
                format!("events have no field `{name}`"),
                Some(format!(
                    "did you mean `{meant}`? A field of your own with this name goes into \
                     `attributes`: `attributes.{name}`"
                )),
            );
            return None;
        }
        let at = match self.extra_fields.iter().position(|f| **f == *name) {
            Some(at) => at,
            None => {
                self.extra_fields.push(name.into());
                self.extra_fields.len() - 1
            }
        };
        Some(Field::Extra(FieldId(u16::try_from(at).ok()?)))
    }

    fn test(
        &mut self,
        file: &Arc<SourceFile>,
        name: &str,
        field: Field,
        node: &Node,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Test> {
        match &node.value {
            Value::List(items) => {
                if items.is_empty() {
                    found.error(
                        file,
                        node.span.clone(),
                        format!("`{name}` has an empty list, so it could never match"),
                        None,
                    );
                }
                let tests: Vec<Test> = items
                    .iter()
                    .filter_map(|item| self.test(file, name, field, item, rule, found))
                    .collect();
                Some(Test::AnyOf(tests))
            }
            Value::Map(entries) => {
                let mut tests = Vec::new();
                for (key, value) in entries {
                    if let Some(test) = self.operator(file, name, field, key, value, rule, found) {
                        tests.push(test);
                    }
                }
                match tests.len() {
                    1 => tests.pop(),
                    _ => Some(Test::AllOf(tests)),
                }
            }
            _ => scalar(file, name, field, node, found).map(Test::Is),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one operator needs its field, its place and where to report"
    )]
    fn operator(
        &mut self,
        file: &Arc<SourceFile>,
        name: &str,
        field: Field,
        key: &Key,
        value: &Node,
        rule: &Arc<str>,
        found: &mut Diagnostics,
    ) -> Option<Test> {
        let wants_ip = matches!(key.name.as_str(), "in_list" | "not_in_list" | "cidr");
        if wants_ip && field != Field::Ip {
            found.error(
                file,
                key.span.clone(),
                format!("`{}` is for addresses, and `{name}` is none", key.name),
                Some("use it on `ip`".into()),
            );
            return None;
        }
        match key.name.as_str() {
            "not" => self
                .test(file, name, field, value, rule, found)
                .map(|test| Test::Not(Box::new(test))),
            "exists" => match value.value {
                Value::Bool(wanted) => Some(Test::Exists(wanted)),
                _ => {
                    expected(file, value, "`exists`", "true or false", found);
                    None
                }
            },
            "in_list" | "not_in_list" => {
                let list = text(file, value, &key.name, found)?;
                match self.lists.id(list) {
                    Some(id) => {
                        if !self.lists.is_available(id) {
                            self.missing_lists.push((Arc::clone(rule), list.to_owned()));
                        }
                        Some(if key.name == "in_list" {
                            Test::InList(id)
                        } else {
                            Test::NotInList(id)
                        })
                    }
                    None => {
                        let names: Vec<&str> = self.lists.names().collect();
                        found.error(
                            file,
                            value.span.clone(),
                            format!("there is no list `{list}`"),
                            Some(if names.is_empty() {
                                "name it in lists.yaml".to_owned()
                            } else {
                                suggest(list, &names)
                            }),
                        );
                        None
                    }
                }
            }
            "cidr" => {
                let items = match &value.value {
                    Value::List(items) => items.as_slice(),
                    _ => std::slice::from_ref(value),
                };
                let networks = items
                    .iter()
                    .filter_map(|item| network(file, item, found))
                    .collect();
                Some(Test::Cidr(networks))
            }
            "glob" => {
                let pattern = text(file, value, "glob", found)?;
                match globset::Glob::new(pattern) {
                    Ok(glob) => Some(Test::Glob(glob.compile_matcher())),
                    Err(error) => {
                        found.error(
                            file,
                            value.span.clone(),
                            format!("`{pattern}` is no pattern: {}", error.kind()),
                            None,
                        );
                        None
                    }
                }
            }
            "regex" => {
                let pattern = text(file, value, "regex", found)?;
                match regex::RegexBuilder::new(pattern)
                    .size_limit(REGEX_SIZE)
                    .build()
                {
                    Ok(regex) => Some(Test::Regex(regex)),
                    Err(error) => {
                        found.error(
                            file,
                            value.span.clone(),
                            format!("`{pattern}` is no regular expression that doorward can run"),
                            Some(regex_help(&error)),
                        );
                        None
                    }
                }
            }
            other => {
                found.error(
                    file,
                    key.span.clone(),
                    format!("`{other}` is no test of a field"),
                    Some(suggest(other, OPERATORS)),
                );
                None
            }
        }
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

fn scalar(
    file: &Arc<SourceFile>,
    name: &str,
    field: Field,
    node: &Node,
    found: &mut Diagnostics,
) -> Option<Scalar> {
    let value = match &node.value {
        Value::Text(text) => Scalar::Text(text.clone()),
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Integer(value) => Scalar::Integer(*value),
        Value::Float(value) => Scalar::Float(*value),
        _ => {
            expected(file, node, &format!("`{name}`"), "a value", found);
            return None;
        }
    };
    let problem = match (field, &value) {
        (Field::Outcome, Scalar::Text(text)) if Outcome::parse(text).is_none() => {
            let words: Vec<&str> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
            Some((
                format!("`outcome` is never `{text}`"),
                Some(suggest(text, &words)),
            ))
        }
        (Field::Type, Scalar::Text(text)) if KnownType::parse(text).is_none() => {
            let words: Vec<&str> = KnownType::ALL.iter().map(|t| t.as_str()).collect();
            slip_of(text, &words).map(|meant| {
                (
                    format!("there is no event type `{text}`"),
                    Some(format!("did you mean `{meant}`?")),
                )
            })
        }
        (Field::Repeat | Field::EmailVerified, Scalar::Bool(_)) => None,
        (Field::Repeat | Field::EmailVerified, _) => Some((
            format!("`{name}` is true or false"),
            match &value {
                Scalar::Text(t) if matches!(t.as_str(), "yes" | "on") => {
                    Some("write `true`".to_owned())
                }
                Scalar::Text(t) if matches!(t.as_str(), "no" | "off") => {
                    Some("write `false`".to_owned())
                }
                _ => None,
            },
        )),
        (Field::Extra(_), _) | (_, Scalar::Text(_)) => None,
        _ => Some((
            format!("`{name}` is text, not {}", node.value.kind()),
            Some("put it in quotes".to_owned()),
        )),
    };
    if let Some((message, help)) = problem {
        found.error(file, node.span.clone(), message, help);
        return None;
    }
    Some(value)
}

fn network(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Option<IpNet> {
    let written = text(file, node, "cidr", found)?;
    let parsed = written
        .parse::<IpNet>()
        .ok()
        .or_else(|| written.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    if parsed.is_none() {
        found.error(
            file,
            node.span.clone(),
            format!("`{written}` is no network"),
            Some("write it as `192.0.2.0/24` or `2001:db8::/32`".into()),
        );
    }
    parsed.map(|network| network.trunc())
}

fn regex_help(error: &regex::Error) -> String {
    let text = error.to_string();
    if text.contains("look-around") {
        "look-ahead and look-behind are not in the language, since they cannot be run in linear \
         time"
            .to_owned()
    } else if text.contains("backreference") {
        "references to an earlier group are not in the language, since they cannot be run in \
         linear time"
            .to_owned()
    } else {
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it cannot be read")
            .trim_start_matches("error: ")
            .to_owned()
    }
}
