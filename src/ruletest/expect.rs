//! What a step of a timeline expects, as it is written.

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, Fields, Node, SourceFile, Value, suggest};
use crate::engine::output::Effect;

/// What must have happened at a step. Decisions are always compared, so a step that names
/// none promises that there is none; the rest only where it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub decisions: Vec<ExpectedDecision>,
    /// Rule, and why it decides nothing, in the words of [`super::why`].
    pub near: Vec<(Arc<str>, String)>,
    /// `lock_account`, or `lock_account unfamiliar`.
    pub commands: Option<Vec<String>>,
    /// The reader's part, or an address.
    pub mails: Option<Vec<String>>,
    pub account_is: Option<Standing>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedDecision {
    pub rule: Arc<str>,
    pub effect: Wanted,
    /// `None`: not compared.
    pub value: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Effect(Effect),
    /// `acted`, or `shadow` where the rule is in shadow: the test outlives the roll-out.
    Hit,
}

impl Wanted {
    pub fn as_str(self) -> &'static str {
        match self {
            Wanted::Effect(effect) => effect.as_str(),
            Wanted::Hit => "hit",
        }
    }

    pub fn fits(self, effect: Effect) -> bool {
        match self {
            Wanted::Effect(wanted) => wanted == effect,
            Wanted::Hit => matches!(effect, Effect::Acted | Effect::Shadow),
        }
    }
}

/// How an account stands after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Free,
    /// Its owner was asked, and it is not locked.
    Asked,
    Locked,
    /// Locked until a new password is set.
    Secured,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Free => "free",
            Standing::Asked => "asked",
            Standing::Locked => "locked",
            Standing::Secured => "secured",
        }
    }
}

pub(super) const COMMANDS: &[&str] = &[
    "lock_account",
    "unlock_account",
    "require_password_change",
    "revoke_sessions",
    "rotate_api_keys",
    "hold_recovery",
    "release_recovery",
    "cancel_recovery",
];

/// Whom a mail is for, as a test names them.
pub(super) const PARTS: &[&str] = &["owner", "co_owner", "notice"];

/// Reads the expectations of a step; `rules` are those at work.
pub(super) fn read(
    fields: &mut Fields<'_>,
    rules: &[Arc<str>],
    found: &mut Diagnostics,
) -> Expected {
    let file = Arc::clone(fields.file());
    let mut expected = Expected::default();
    if let Some(node) = fields.optional("expect") {
        for (rule, text, span) in by_rule(&file, node, "expect", rules, found) {
            decision(&file, rule, &text, span, found, &mut expected.decisions);
        }
    }
    if let Some(node) = fields.optional("why") {
        for (rule, text, span) in by_rule(&file, node, "why", rules, found) {
            if expected.decisions.iter().any(|d| d.rule == rule) {
                found.error(
                    &file,
                    span,
                    "`why` says why a rule decides nothing, and here it is expected to decide",
                    Some("leave it out, or write `expect: none`".into()),
                );
                continue;
            }
            expected.near.push((rule, text));
        }
    }
    expected.commands = words(
        &file,
        fields.optional("commands"),
        "commands",
        found,
        |word| {
            let (name, scope) = word.split_once(' ').unwrap_or((word, ""));
            if !COMMANDS.contains(&name) {
                return Err(suggest(name, COMMANDS));
            }
            match scope {
                "" | "all" | "unfamiliar" => Ok(()),
                other => Err(suggest(other, &["all", "unfamiliar"])),
            }
        },
    );
    expected.mails = words(
        &file,
        fields.optional("mails"),
        "mails",
        found,
        |word| match word.contains('@') || PARTS.contains(&word) {
            true => Ok(()),
            false => Err(format!("{}, or an address", suggest(word, PARTS))),
        },
    );
    expected.account_is = fields.choice(
        "account_is",
        &[
            ("free", Standing::Free),
            ("asked", Standing::Asked),
            ("locked", Standing::Locked),
            ("secured", Standing::Secured),
        ],
        found,
    );
    expected
}

/// `text` for the only rule, or a block with a text for each rule.
fn by_rule(
    file: &Arc<SourceFile>,
    node: &Node,
    name: &str,
    rules: &[Arc<str>],
    found: &mut Diagnostics,
) -> Vec<(Arc<str>, String, Range<usize>)> {
    match &node.value {
        Value::Text(text) if name == "expect" && text == "none" => Vec::new(),
        // That there is no such rule was said where it is named.
        _ if rules.is_empty() => Vec::new(),
        Value::Text(text) => match rules {
            [only] => vec![(Arc::clone(only), text.clone(), node.span.clone())],
            _ => {
                found.error(
                    file,
                    node.span.clone(),
                    format!("several rules are at work here, so `{name}` must say which"),
                    Some(format!("write `{name}: {{ ID: {text} }}`")),
                );
                Vec::new()
            }
        },
        Value::Map(entries) => entries
            .iter()
            .filter_map(|(key, node)| {
                let Some(rule) = rules.iter().find(|rule| ***rule == *key.name) else {
                    let ids: Vec<&str> = rules.iter().map(|rule| &**rule).collect();
                    found.error(
                        file,
                        key.span.clone(),
                        format!("the rule `{}` is not at work here", key.name),
                        Some(suggest(&key.name, &ids)),
                    );
                    return None;
                };
                match &node.value {
                    Value::Text(text) => Some((Arc::clone(rule), text.clone(), node.span.clone())),
                    other => {
                        let message = format!("`{name}` must be text, not {}", other.kind());
                        found.error(file, node.span.clone(), message, None);
                        None
                    }
                }
            })
            .collect(),
        other => {
            let help = match name {
                "expect" => "write what the rule does and what it counted: `acted 5`, or `none`",
                _ => "write what is counted and what is needed: `4 of 5`",
            };
            let message = format!("`{name}` must be text, not {}", other.kind());
            found.error(file, node.span.clone(), message, Some(help.into()));
            Vec::new()
        }
    }
}

/// `acted`, `acted 5`, `hit 5`, `none`.
fn decision(
    file: &Arc<SourceFile>,
    rule: Arc<str>,
    text: &str,
    span: Range<usize>,
    found: &mut Diagnostics,
    decisions: &mut Vec<ExpectedDecision>,
) {
    if text == "none" {
        return;
    }
    let (word, value) = match text.split_once(' ') {
        Some((word, value)) => (word, Some(value.trim())),
        None => (text, None),
    };
    let mut known: Vec<&str> = Effect::ALL.iter().rev().map(|e| e.as_str()).collect();
    known.extend(["hit", "none"]);
    let effect = match word {
        "hit" => Some(Wanted::Hit),
        word => Effect::ALL
            .iter()
            .find(|effect| effect.as_str() == word)
            .map(|effect| Wanted::Effect(*effect)),
    };
    let Some(effect) = effect else {
        let message = format!("a decision's effect is never `{word}`");
        found.error(file, span, message, Some(suggest(word, &known)));
        return;
    };
    let value = match value.map(str::parse::<u32>) {
        None => None,
        Some(Ok(value)) => Some(value),
        Some(Err(_)) => {
            let help = format!("write what was counted after it: `{word} 5`");
            found.error(file, span, format!("`{text}` is no decision"), Some(help));
            return;
        }
    };
    decisions.push(ExpectedDecision {
        rule,
        effect,
        value,
    });
}

/// A list of words, or `none`.
fn words(
    file: &Arc<SourceFile>,
    node: Option<&Node>,
    name: &str,
    found: &mut Diagnostics,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    let node = node?;
    let items = match &node.value {
        Value::Text(text) if text == "none" => &[],
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut words = Vec::new();
    for item in items {
        let Value::Text(text) = &item.value else {
            let message = format!("`{name}` must be words, not {}", item.value.kind());
            let help = "write a list of them, or `none`".to_owned();
            found.error(file, item.span.clone(), message, Some(help));
            continue;
        };
        match check(text) {
            Ok(()) => words.push(text.clone()),
            Err(help) => {
                let message = format!("`{name}` cannot be `{text}`");
                found.error(file, item.span.clone(), message, Some(help));
            }
        }
    }
    Some(words)
}
