//! One `*.rule.yaml` file to one [`Rule`], with every mistake that can be seen in it.

use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, parse_yaml, suggest};
use crate::engine::output::Scope;
use crate::enrich::iplist::Lists;
use crate::event::{DAY_MS, FieldId, KnownType, Outcome};

use super::compile::never_matches;
use super::eval::{Condition, Scalar, Test};
use super::{By, Detect, Field, Learn, Lock, MAX_AT_LEAST, Mode, Rule, RuleKey, Severity};

/// Windows and gaps reach at most this far back.
const MAX_WITHIN_MS: i64 = 30 * DAY_MS;
/// Bytes of a compiled regular expression.
const REGEX_SIZE: usize = 1 << 20;

/// Fields of the event by the names that rules use.
const FIELDS: &[(&str, Field)] = &[
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

/// Reads the files of one rule set; keeps the table of extra fields they name.
pub struct Reader<'a> {
    lists: &'a Lists,
    pub extra_fields: Vec<Box<str>>,
    pub missing_lists: Vec<(Arc<str>, String)>,
}

/// A rule, and where its id stands, for messages about other files.
pub struct Parsed {
    pub rule: Rule,
    pub id_span: Range<usize>,
}

impl<'a> Reader<'a> {
    pub fn new(lists: &'a Lists) -> Self {
        Reader {
            lists,
            extra_fields: Vec::new(),
            missing_lists: Vec::new(),
        }
    }

    /// The rule in `file`; `None` where a mistake was found.
    pub fn rule(&mut self, file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Parsed> {
        let errors_before = found.error_count();
        let node = parse_yaml(file, found)?;
        let mut fields = Fields::of(file, &node, "a rule", found)?;
        if let Some(schema) = fields.required("schema", found)
            && schema.value != Value::Integer(1)
        {
            found.error(
                file,
                schema.span.clone(),
                "this version of doorward reads rules of `schema: 1` only",
                Some("write `schema: 1`".into()),
            );
        }
        let id_node = fields.required("id", found);
        let id = id_node.and_then(|node| rule_id(file, node, found));
        let title = fields.required_text("title", found).unwrap_or_default();
        let severity = fields.required("severity", found).and_then(|_| {
            fields.choice(
                "severity",
                &[
                    ("low", Severity::Low),
                    ("medium", Severity::Medium),
                    ("high", Severity::High),
                    ("critical", Severity::Critical),
                ],
                found,
            )
        });
        let mode = fields.required("mode", found).and_then(|_| {
            fields.choice(
                "mode",
                &[
                    ("enforce", Mode::Enforce),
                    ("shadow", Mode::Shadow),
                    ("off", Mode::Off),
                ],
                found,
            )
        });
        let id = id.unwrap_or_else(|| Arc::from(""));
        let when_node = fields.required("when", found);
        let when = when_node.and_then(|node| self.condition(file, node, "`when`", &id, found));
        let by = fields
            .required("by", found)
            .and_then(|node| by(file, node, found));
        let detect_node = fields.required("detect", found);
        let detect = detect_node.and_then(|node| self.detect(file, node, &id, found));
        let then_node = fields.optional("then");
        let (lock, email) = match then_node {
            Some(node) => actions(file, node, found),
            None => (None, None),
        };
        let cooldown_ms = fields.duration_ms("cooldown", found).unwrap_or(0);
        let tags = tags(file, fields.optional("tags"), found);
        fields.finish(found);

        if let (Some(condition), Some(node)) = (&when, when_node)
            && never_matches(condition)
        {
            found.error(
                file,
                first_line_of(file, node),
                "no event can satisfy this `when`, so the rule would never fire",
                None,
            );
        }
        if by == Some(By::Ip)
            && (lock.is_some() || email.is_some())
            && let Some(node) = then_node
        {
            found.error(
                file,
                first_line_of(file, node),
                "a rule kept `by: ip` cannot act on an account",
                Some("keep it `by: account`, or leave `then` out so that it only records".into()),
            );
        }
        if found.error_count() > errors_before {
            return None;
        }
        let (when, by, detect) = (when?, by?, detect?);
        let key = rule_key(&id, by, when_node?, detect_node?);
        Some(Parsed {
            id_span: id_node?.span.clone(),
            rule: Rule {
                id,
                title: title.to_owned(),
                severity: severity?,
                mode: mode?,
                key,
                when,
                by,
                detect,
                lock,
                email,
                cooldown_ms,
                tags,
                usable: true,
            },
        })
    }

    fn condition(
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
                condition.lines.push((field, test));
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

    fn field(
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
        let hint = suggest(name, &names);
        if hint.starts_with("did you mean") {
            found.error(
                file,
                span.clone(),
                format!("events have no field `{name}`"),
                Some(format!(
                    "{hint} A field of your own that is called like this goes into `attributes`: \
                     `attributes.{name}`"
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
        key: &crate::document::Key,
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

    fn detect(
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

fn rule_id(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Option<Arc<str>> {
    let id = text(file, node, "id", found)?;
    let fits = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !id.starts_with('-');
    if !fits {
        found.error(
            file,
            node.span.clone(),
            format!("`{id}` cannot be an id"),
            Some("use 1 to 64 small letters, digits and hyphens".into()),
        );
        return None;
    }
    Some(Arc::from(id))
}

fn by(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Option<By> {
    let names: Vec<&str> = match &node.value {
        Value::Text(name) => vec![name],
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(name) => Some(name.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match names.as_slice() {
        ["account"] => Some(By::Account),
        ["account", "user"] => Some(By::AccountAndUser),
        ["ip"] => Some(By::Ip),
        _ => {
            found.error(
                file,
                node.span.clone(),
                "a rule cannot be kept by this",
                Some("it can be `account`, `[account, user]` or `ip`".into()),
            );
            None
        }
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

fn actions(
    file: &Arc<SourceFile>,
    node: &Node,
    found: &mut Diagnostics,
) -> (Option<Lock>, Option<Arc<str>>) {
    const ACTIONS: &[&str] = &["lock_account", "email_user"];
    let (mut lock, mut email) = (None, None);
    let Value::List(items) = &node.value else {
        expected(file, node, "`then`", "a list of actions", found);
        return (None, None);
    };
    for item in items {
        let empty = Node {
            span: item.span.clone(),
            value: Value::Map(Vec::new()),
        };
        let (name, name_span, settings) = match &item.value {
            Value::Text(name) => (name.as_str(), item.span.clone(), &empty),
            Value::Map(entries) if entries.len() == 1 => {
                let (key, settings) = &entries[0];
                (key.name.as_str(), key.span.clone(), settings)
            }
            _ => {
                expected(file, item, "each line of `then`", "one action", found);
                continue;
            }
        };
        match name {
            "lock_account" => {
                let Some(mut fields) = Fields::of(file, settings, "`lock_account`", found) else {
                    continue;
                };
                let reason = fields.required_text("reason", found).unwrap_or_default();
                let scope = fields.choice(
                    "scope",
                    &[("all", Scope::All), ("unfamiliar", Scope::Unfamiliar)],
                    found,
                );
                let until_ms = fields.duration_ms("until", found);
                fields.finish(found);
                lock = Some(Lock {
                    reason: Arc::from(reason),
                    scope: scope.unwrap_or_default(),
                    until_ms,
                });
            }
            "email_user" => {
                let Some(mut fields) = Fields::of(file, settings, "`email_user`", found) else {
                    continue;
                };
                let template =
                    fields.choice("template", &[("was_this_you", "was_this_you")], found);
                fields.finish(found);
                email = Some(Arc::from(template.unwrap_or("was_this_you")));
            }
            other => found.error(
                file,
                name_span,
                format!("there is no action `{other}`"),
                Some(suggest(other, ACTIONS)),
            ),
        }
    }
    (lock, email)
}

fn tags(file: &Arc<SourceFile>, node: Option<&Node>, found: &mut Diagnostics) -> Vec<String> {
    let Some(node) = node else { return Vec::new() };
    let Value::List(items) = &node.value else {
        expected(file, node, "`tags`", "a list of words", found);
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| text(file, item, "tags", found).map(str::to_owned))
        .collect()
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
            let hint = suggest(text, &words);
            hint.starts_with("did you mean")
                .then(|| (format!("there is no event type `{text}`"), Some(hint)))
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

fn text<'n>(
    file: &Arc<SourceFile>,
    node: &'n Node,
    name: &str,
    found: &mut Diagnostics,
) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => {
            expected(file, node, &format!("`{name}`"), "text", found);
            None
        }
    }
}

fn expected(
    file: &Arc<SourceFile>,
    node: &Node,
    what: &str,
    wanted: &str,
    found: &mut Diagnostics,
) {
    found.error(
        file,
        node.span.clone(),
        format!("{what} must be {wanted}, not {}", node.value.kind()),
        None,
    );
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

/// The node's span cut at the end of its first line.
fn first_line_of(file: &SourceFile, node: &Node) -> Range<usize> {
    let start = node.span.start.min(file.text.len());
    let end = file.text[start..]
        .find('\n')
        .map_or(file.text.len(), |at| start + at);
    start..end.min(node.span.end.max(start))
}

/// RULES.md 14: hash(id, kind, of, by, when, broken_by).
fn rule_key(id: &str, by: By, when: &Node, detect: &Node) -> RuleKey {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(id);
    part(&format!("{by:?}"));
    part(&canonical(when));
    match &detect.value {
        Value::Map(entries) => {
            for (kind, settings) in entries {
                part(&kind.name);
                if let Value::Map(settings) = &settings.value {
                    for wanted in ["of", "broken_by"] {
                        let value = settings.iter().find(|(key, _)| key.name == wanted);
                        part(&value.map_or(String::new(), |(_, node)| canonical(node)));
                    }
                }
            }
        }
        _ => part("each"),
    }
    let digest = hash.finalize();
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    RuleKey(u64::from_be_bytes(first))
}

/// The meaning of a node without its layout: keys sorted, strings quoted.
fn canonical(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(entries) => {
            let mut parts: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{:?}:{}", key.name, canonical(value)))
                .collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
    }
}
