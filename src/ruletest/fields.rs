//! The fields of one event in a timeline: what may be written, and the JSON that it becomes.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::document::{Diagnostics, Key, Node, SourceFile, Value, slip_of, suggest};
use crate::event::{KnownType, Outcome};

use super::form::{STEP, event_names};
use super::places::{self, Kind, MAX_DIFFERENT};

/// `another`, `5 different`, `5 different ipv6`, `5 neighbours`.
pub(super) fn pattern(text: &str) -> Option<(usize, Kind)> {
    if text == "another" {
        return Some((1, Kind::V4));
    }
    let (count, kind) = text.split_once(' ')?;
    let count: usize = count
        .parse()
        .ok()
        .filter(|n| (1..=MAX_DIFFERENT).contains(n))?;
    let kind = match kind {
        "different" => Kind::V4,
        "different ipv6" => Kind::V6,
        "neighbours" => Kind::Neighbours,
        _ => return None,
    };
    Some((count, kind))
}

pub(super) fn literal(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok(),
        _ => false,
    }
}

/// Reports what is wrong with one field of an event.
pub(super) fn check_field(file: &Arc<SourceFile>, key: &Key, node: &Node, found: &mut Diagnostics) {
    let mut error = |span: &Range<usize>, message: String, help: String| {
        found.error(file, span.clone(), message, Some(help));
    };
    let name = key.name.as_str();
    let own = STEP.names();
    if own.contains(&name) || name == "time" {
        let message = format!("`{name}` is no field of an event");
        let help = match name {
            "time" => "write `at`, the time from the start".to_owned(),
            _ => "it belongs to one event of a timeline".to_owned(),
        };
        return error(&key.span, message, help);
    }
    if !event_names().any(|known| known == name) {
        let words: Vec<&str> = event_names().chain(own).collect();
        if let Some(meant) = slip_of(name, &words) {
            let message = format!("neither events nor tests have a field `{name}`");
            error(&key.span, message, format!("did you mean `{meant}`?"));
        }
        return;
    }
    let text = match &node.value {
        Value::Null => return,
        Value::Text(text) => text.as_str(),
        Value::Map(_) if name == "attributes" => return,
        Value::List(_) if name == "owners" => return,
        Value::Bool(_) if matches!(name, "repeat" | "email_verified") => return,
        Value::Integer(_) if name == "asn" => return,
        other => {
            let wanted = match name {
                "attributes" => "a block of fields",
                "owners" => "a list of addresses",
                "asn" => "a whole number",
                "repeat" | "email_verified" => "true or false",
                _ => "text",
            };
            let message = format!("`{name}` must be {wanted}, not {}", other.kind());
            let help = match name {
                "repeat" => "to repeat an event write `times: 4` and `every: 10s`".to_owned(),
                _ => format!("write {wanted}, or `null` for an event without it"),
            };
            return error(&node.span, message, help);
        }
    };
    match name {
        "attributes" | "owners" | "asn" | "repeat" | "email_verified" => {
            let message = format!("`{name}` cannot be text");
            let help = match name {
                "attributes" => "write a block: `attributes: { plan: free }`",
                "owners" => "write a list of addresses",
                "asn" => "write the number alone: `asn: 64500`",
                _ => "write `true` or `false`; to repeat an event, `times: 4` and `every: 10s`",
            };
            error(&node.span, message, help.to_owned());
        }
        "outcome" if Outcome::parse(text).is_none() => {
            let words: Vec<&str> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
            error(
                &node.span,
                format!("`outcome` is never `{text}`"),
                suggest(text, &words),
            );
        }
        "type" if KnownType::parse(text).is_none() => {
            let words: Vec<&str> = KnownType::ALL.iter().map(|t| t.as_str()).collect();
            if let Some(meant) = slip_of(text, &words) {
                let message = format!("there is no event type `{text}`");
                error(&node.span, message, format!("did you mean `{meant}`?"));
            }
        }
        "country" | "from" => {
            if let Err(help) = places::country(text) {
                error(&node.span, format!("`{text}` is no country"), help);
            }
        }
        "ip" if !literal(node) && pattern(text).is_none() => {
            let help = format!(
                "write an address, `another`, `5 different`, `5 different ipv6` or \
                 `5 neighbours` ({MAX_DIFFERENT} at most)"
            );
            error(&node.span, format!("`{text}` is no address"), help);
        }
        _ => {}
    }
}

/// The event's JSON; the account and its mail address are filled in.
pub(super) fn fields_json(merged: &[(&Key, &Node)]) -> Map<String, Json> {
    let mut json = Map::new();
    for (key, node) in merged {
        let value = match (key.name.as_str(), &node.value) {
            (_, Value::Null) | ("from", _) => continue,
            ("country", Value::Text(text)) => places::country(text).map_or_else(
                |_| Json::String(text.clone()),
                |c| Json::String(c.to_string()),
            ),
            _ => to_json(node),
        };
        json.insert(key.name.clone(), value);
    }
    let written = |name: &str| merged.iter().any(|(key, _)| key.name == name);
    if !written("account") {
        json.insert("account".to_owned(), Json::String("anna".to_owned()));
    }
    if !written("email")
        && let Some(Json::String(account)) = json.get("account")
    {
        let email = Json::String(format!("{account}@example.org"));
        json.insert("email".to_owned(), email);
    }
    json
}

fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, node)| (key.name.clone(), to_json(node)))
                .collect(),
        ),
    }
}
