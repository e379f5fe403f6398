//! `then`: what a decision does.

use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, suggest};
use crate::engine::output::Scope;
use crate::rules::Lock;

use super::expected;

/// The lock and the mail that `then` asks for.
pub(super) fn read(
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
