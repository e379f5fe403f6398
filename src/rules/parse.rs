//! One `*.rule.yaml` file to one [`Rule`], with every mistake that can be seen in it.
//!
//! [`form`] is the table of what a file may say; [`condition`] reads `when`, with the
//! [`fields`] and [`tests`] that there are; [`possible`] and [`doubts`] find rules that are
//! well formed and can never fire, or always do.

mod actions;
mod condition;
mod detect;
mod doubts;
pub mod exceptions;
pub mod fields;
pub mod form;
pub mod key;
mod pattern;
mod possible;
pub mod tests;
mod values;

use std::ops::Range;
use std::sync::Arc;

use crate::document::shape::{self, check_block};
use crate::document::{Diagnostics, Kind, Node, SourceFile, parse_yaml};
use crate::enrich::iplist::Lists;

use super::eval::Condition;
use super::{By, Detect, Field, LOCK_BUDGET, Mode, Needs, Rule, Severity};

/// Reads the files of one rule set; keeps the table of extra fields they name.
pub struct Reader<'a> {
    lists: &'a Lists,
    pub extra_fields: Vec<Box<str>>,
    pub missing_lists: Vec<(Arc<str>, String)>,
    pub missing_for_exceptions: Vec<(Arc<str>, String)>,
}

/// What one file holds: the id and where it stands, for messages about other files; and the
/// rule, where nothing is wrong with it.
pub struct Parsed {
    pub id: Arc<str>,
    pub id_span: Range<usize>,
    pub rule: Option<Rule>,
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

    /// What is in `file`; `None` where not even an id can be read.
    pub fn rule(&mut self, file: &Arc<SourceFile>, found: &mut Diagnostics) -> Option<Parsed> {
        let first = found.found.len();
        let node = parse_yaml(file, found)?;
        let parsed = self.read(file, &node, found);
        // In the order of the file, whichever part was looked at first.
        found.found[first..].sort_by_key(|diagnostic| diagnostic.span.start);
        parsed
    }

    fn read(
        &mut self,
        file: &Arc<SourceFile>,
        node: &Node,
        found: &mut Diagnostics,
    ) -> Option<Parsed> {
        let errors_before = found.error_count();
        check_block(file, node, &form::RULE, found);
        let text = |name: &str| node.get(name).and_then(Node::as_text);
        let id: Arc<str> = Arc::from(text("id").unwrap_or_default());
        let when_node = node.get("when");
        let when = when_node.and_then(|node| self.condition(file, node, "`when`", &id, found));
        let by = node.get("by").and_then(by);
        let detect_node = node.get("detect");
        let detect = detect_node.and_then(|node| self.detect(file, node, &id, found));
        let then_node = node.get("then");
        let (lock, email) = match then_node {
            Some(node) => actions::read(file, node, found),
            None => (None, None),
        };
        if let Some(node) = node.get("lock_budget")
            && then_node.is_none_or(|node| !actions::mentions_lock(node))
        {
            found.mistake(
                Kind::Useless,
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
            found.mistake(
                Kind::WrongAction,
                file,
                node.first_line(file),
                "a rule kept `by: ip` cannot act on an account",
                Some("keep it `by: account`, or leave `then` out so that it only records".into()),
            );
        }
        if let (Some(when), Some(by), Some(detect)) = (&when, by, &detect)
            && let (Some(when_node), Some(detect_node)) = (when_node, detect_node)
        {
            doubts::look(file, (when, when_node), by, (detect, detect_node), found);
        }
        let id_node = node.get("id")?;
        let mut parsed = Parsed {
            id: Arc::clone(&id),
            id_span: id_node.span.clone(),
            rule: None,
        };
        if found.error_count() > errors_before {
            return Some(parsed);
        }
        let (when, by, detect) = (when?, by?, detect?);
        let key = key::of(&id, by, when_node?, detect_node?);
        parsed.rule = Some(Rule {
            id,
            file: Arc::from(&*file.name),
            title: text("title").unwrap_or_default().to_owned(),
            severity: severity(text("severity")?)?,
            mode: mode(text("mode")?)?,
            key,
            needs: needs(&when, &detect),
            when,
            by,
            detect,
            lock,
            email,
            cooldown_ms: node
                .get("cooldown")
                .and_then(Node::as_duration_ms)
                .unwrap_or(0),
            lock_budget: node
                .get("lock_budget")
                .and_then(Node::as_integer)
                .and_then(|locks| u32::try_from(locks).ok())
                .unwrap_or(LOCK_BUDGET),
            exceptions: Vec::new(),
            tags: node.get("tags").map_or(Vec::new(), |tags| {
                let tags = tags.items().iter().filter_map(Node::as_text);
                tags.map(str::to_owned).collect()
            }),
            usable: true,
        });
        Some(parsed)
    }
}

/// An id in the form that rules' ids have.
fn rule_id(file: &Arc<SourceFile>, node: &Node, found: &mut Diagnostics) -> Option<Arc<str>> {
    let errors_before = found.error_count();
    shape::check(file, node, &form::ID, "id", "id: a-name", found);
    let id = node
        .as_text()
        .filter(|_| found.error_count() == errors_before)?;
    Some(Arc::from(id))
}

fn severity(word: &str) -> Option<Severity> {
    let all = [
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];
    all.into_iter().find(|severity| severity.as_str() == word)
}

fn mode(word: &str) -> Option<Mode> {
    let all = [Mode::Enforce, Mode::Shadow, Mode::Off];
    all.into_iter().find(|mode| mode.as_str() == word)
}

fn by(node: &Node) -> Option<By> {
    let names: Vec<&str> = node.items().iter().filter_map(Node::as_text).collect();
    match names.as_slice() {
        ["account"] => Some(By::Account),
        ["account", "user"] => Some(By::AccountAndUser),
        ["ip"] => Some(By::Ip),
        _ => None,
    }
}

/// Which databases the conditions of a rule look into.
fn needs(when: &Condition, detect: &Detect) -> Needs {
    let ends: &[Condition] = match detect {
        Detect::Streak { broken_by, .. } => broken_by,
        _ => &[],
    };
    let look_at = |field: Field| {
        when.looks_at(field) || ends.iter().any(|condition| condition.looks_at(field))
    };
    Needs {
        country: look_at(Field::Country),
        asn: look_at(Field::Asn),
    }
}
