//! What names a rule's state (docs/rules.md 14).

use sha2::{Digest, Sha256};

use crate::document::{Node, Value};
use crate::rules::{By, RuleKey};

/// docs/rules.md 14: hash(id, kind, of, by, when, broken_by); `of` with its prefixes.
pub(super) fn of(id: &str, by: By, when: &Node, detect: &Node) -> RuleKey {
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
                    // Values that were told apart by other bits cannot be counted together.
                    for (key, node) in settings {
                        if key.name.starts_with("prefix") {
                            part(&key.name);
                            part(&canonical(node));
                        }
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

/// A rule's parts that name its state, for a comparison of two versions: which part, and
/// what it says. `None` where the file lacks one.
pub fn parts(rule: &Node) -> Option<Vec<(&'static str, String)>> {
    let said = |node: Option<&Node>| node.map_or(String::new(), canonical);
    let (detect, when) = (rule.get("detect")?, rule.get("when")?);
    let (kind, settings) = match &detect.value {
        Value::Map(entries) => entries.first().map_or(("each", None), |(kind, settings)| {
            (kind.name.as_str(), Some(settings))
        }),
        _ => ("each", None),
    };
    let setting = |name: &str| said(settings.and_then(|settings| settings.get(name)));
    let by: Vec<&str> = rule
        .get("by")?
        .items()
        .iter()
        .filter_map(Node::as_text)
        .collect();
    Some(vec![
        ("detect", kind.to_owned()),
        ("of", setting("of")),
        ("prefix4", setting("prefix4")),
        ("prefix6", setting("prefix6")),
        ("by", by.join(", ")),
        ("when", canonical(when)),
        ("broken_by", setting("broken_by")),
    ])
}

/// The meaning of a node without its layout: keys sorted, strings quoted.
pub(super) fn canonical(node: &Node) -> String {
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
