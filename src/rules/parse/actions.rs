//! `then`: what a decision does.

use std::sync::Arc;

use crate::document::{Diagnostics, Kind, Node, SourceFile, Value};
use crate::engine::output::Scope;
use crate::rules::Lock;

/// The lock and the mail that `then` asks for. `node` has the form of
/// [`super::form::ACTION`], or mistakes of form were reported.
pub(super) fn read(
    file: &Arc<SourceFile>,
    node: &Node,
    found: &mut Diagnostics,
) -> (Option<Lock>, Option<Arc<str>>) {
    let (mut lock, mut email) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    for item in node.items() {
        let (name, span, settings) = match &item.value {
            Value::Text(name) => (name.as_str(), item.span.clone(), None),
            Value::Map(entries) if entries.len() == 1 => {
                let (key, settings) = &entries[0];
                (key.name.as_str(), key.span.clone(), Some(settings))
            }
            _ => continue,
        };
        if seen.contains(&name) {
            found.mistake(
                Kind::WrongAction,
                file,
                span,
                format!("`{name}` stands here twice"),
                Some("keep one of them".into()),
            );
            continue;
        }
        seen.push(name);
        let setting = |name: &str| settings.and_then(|settings| settings.get(name));
        let text = |name: &str| setting(name).and_then(Node::as_text);
        match name {
            "lock_account" => {
                lock = Some(Lock {
                    reason: Arc::from(text("reason").unwrap_or_default()),
                    scope: match text("scope") {
                        Some("unfamiliar") => Scope::Unfamiliar,
                        _ => Scope::All,
                    },
                    until_ms: setting("until").and_then(Node::as_duration_ms),
                });
            }
            "email_user" => email = Some(Arc::from(text("template").unwrap_or("was_this_you"))),
            _ => {}
        }
    }
    (lock, email)
}

/// Whether some line of `then` asks for a lock, well formed or not.
pub(super) fn mentions_lock(node: &Node) -> bool {
    node.items().iter().any(|item| match &item.value {
        Value::Text(name) => name == "lock_account",
        _ => item.get("lock_account").is_some(),
    })
}
