//! One `*.rule.yaml` file to one [`Rule`], with every mistake that can be seen in it.

mod actions;
pub mod condition;
mod detect;
mod exceptions;
mod key;

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, parse_yaml};
use crate::enrich::iplist::Lists;

use super::compile::never_matches;
use super::{By, LOCK_BUDGET, MAX_LOCK_BUDGET, Mode, Rule, Severity};

/// Reads the files of one rule set; keeps the table of extra fields they name.
pub struct Reader<'a> {
    lists: &'a Lists,
    pub extra_fields: Vec<Box<str>>,
    pub missing_lists: Vec<(Arc<str>, String)>,
    pub missing_for_exceptions: Vec<(Arc<str>, String)>,
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
            missing_for_exceptions: Vec::new(),
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
        let errors_before_then = found.error_count();
        let (lock, email) = match then_node {
            Some(node) => actions::read(file, node, found),
            None => (None, None),
        };
        let then_is_read = found.error_count() == errors_before_then;
        let cooldown_ms = fields.duration_ms("cooldown", found).unwrap_or(0);
        let budget_node = fields.optional("lock_budget");
        let lock_budget = fields.integer("lock_budget", 1..=i64::from(MAX_LOCK_BUDGET), found);
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
        if let Some(node) = budget_node
            && lock.is_none()
            && then_is_read
        {
            found.error(
                file,
                node.span.clone(),
                "`lock_budget` bounds locks, and this rule takes none",
                Some("leave it out, or add `lock_account` to `then`".into()),
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
        let key = key::of(&id, by, when_node?, detect_node?);
        Some(Parsed {
            id_span: id_node?.span.clone(),
            rule: Rule {
                id,
                file: Arc::from(&*file.name),
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
                lock_budget: lock_budget
                    .and_then(|locks| u32::try_from(locks).ok())
                    .unwrap_or(LOCK_BUDGET),
                tags,
                exceptions: Vec::new(),
                usable: true,
            },
        })
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

/// The node's span cut at the end of its first line.
fn first_line_of(file: &SourceFile, node: &Node) -> Range<usize> {
    let start = node.span.start.min(file.text.len());
    let end = file.text[start..]
        .find('\n')
        .map_or(file.text.len(), |at| start + at);
    start..end.min(node.span.end.max(start))
}
