//! The `[kafka]` table, and which of librdkafka's settings may be passed on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cover::is_secret_name;
use super::{Reader, Section, secrets};
use crate::config::{Kafka, Secret};
use crate::document::{Key, Node, Value};

/// Settings of librdkafka that have a setting of doorward's own.
const OURS: [(&str, &str); 6] = [
    ("bootstrap.servers", "kafka.brokers"),
    ("metadata.broker.list", "kafka.brokers"),
    ("group.id", "kafka.group"),
    ("transactional.id", "kafka.instance"),
    ("session.timeout.ms", "kafka.session_timeout"),
    ("transaction.timeout.ms", "kafka.transaction_timeout"),
];

/// Settings of librdkafka on which it rests that nothing is lost and nothing done twice.
const FIXED: [&str; 15] = [
    "acks",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "max.in.flight.requests.per.connection",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "auto.commit.interval.ms",
];

pub fn read(node: Option<&Node>, r: &mut Reader<'_>) -> Kafka {
    let mut section = Section::of("kafka", node, r);
    let brokers = section.needed_text("brokers", "localhost:9092", r);
    let group = section.text_or("group", "doorward", r);
    let instance = instance(&mut section, r);
    let second = Duration::from_secs(1);
    let session = section.duration("session_timeout", 10 * second, ("6s", "30m"), r);
    let transaction = section.duration("transaction_timeout", 5 * second, ("1s", "10s"), r);
    if transaction >= session
        && let Some(node) = section
            .fields()
            .optional("transaction_timeout")
            .or(section.fields().optional("session_timeout"))
    {
        let message = format!(
            "`kafka.transaction_timeout` ({}) must be shorter than `kafka.session_timeout` ({})",
            seconds(transaction),
            seconds(session)
        );
        let help = "otherwise a shard that was thrown out of the group could still commit".into();
        section.error(node, message, Some(help), r);
    }
    let properties = section.fields().optional("properties");
    let written_secrets = section.fields().optional("secrets");
    section.finish(r);
    Kafka {
        brokers: brokers.unwrap_or_default().to_owned(),
        group,
        instance,
        properties: properties.map_or_else(BTreeMap::new, |node| pass_on(node, r)),
        secrets: written_secrets.map_or_else(BTreeMap::new, |node| pass_secrets(node, r)),
        session_timeout: session,
        transaction_timeout: transaction,
        transactions: true,
    }
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

/// The machine's name, where the file does not say.
fn instance(section: &mut Section<'_>, r: &mut Reader<'_>) -> String {
    if section.fields().optional("instance").is_some() {
        return section.text_or("instance", "", r);
    }
    let machine = (r.env)("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    machine.unwrap_or_else(|| {
        section.missing("instance", "\"a name that no other instance has\"", r);
        String::new()
    })
}

/// Settings as librdkafka names them: `"a.b" = 1` or, since TOML takes a bare `a.b = 1` for
/// a table, that.
fn flatten<'a>(prefix: &str, node: &'a Node, into: &mut Vec<(String, &'a Key, &'a Node)>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for (key, value) in entries {
        let name = match prefix {
            "" => key.name.clone(),
            prefix => format!("{prefix}.{}", key.name),
        };
        match &value.value {
            Value::Map(inner)
                if !inner
                    .iter()
                    .any(|(k, _)| k.name == "file" || k.name == "env") =>
            {
                flatten(&name, value, into);
            }
            _ => into.push((name, key, value)),
        }
    }
}

/// Every entry of a table of librdkafka's settings that may be there.
fn entries<'a>(what: &str, node: &'a Node, r: &mut Reader<'_>) -> Vec<(String, &'a Key, &'a Node)> {
    let file = r.file.clone();
    let mut entries = Vec::new();
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("`{what}` must be a table, not {}", node.value.kind());
        let help = format!("write `[{what}]`, and a line for each setting");
        r.found.error(&file, node.span.clone(), message, Some(help));
    }
    flatten("", node, &mut entries);
    entries.retain(|(name, key, _)| {
        let refused = match OURS.iter().find(|(theirs, _)| theirs == name) {
            Some((_, ours)) => Some(format!("use `{ours}`")),
            None => FIXED
                .contains(&name.as_str())
                .then(|| "leave it out: that nothing is lost or done twice rests on it".to_owned()),
        };
        if let Some(help) = &refused {
            let message = format!("doorward sets `{name}` itself");
            r.found
                .error(&file, key.span.clone(), message, Some(help.clone()));
        }
        refused.is_none()
    });
    entries
}

fn pass_on(node: &Node, r: &mut Reader<'_>) -> BTreeMap<String, String> {
    let file = r.file.clone();
    let mut properties = BTreeMap::new();
    for (name, key, node) in entries("kafka.properties", node, r) {
        if is_secret_name(&name) && !is_location(&name) {
            r.covered.push(node.span.clone());
            r.found.error(
                &file,
                key.span.clone(),
                format!("`{name}` is a secret and may not stand in this file"),
                Some(format!(
                    "write `\"{name}\" = {{ file = \"/path/to/it\" }}` under [kafka.secrets]"
                )),
            );
            continue;
        }
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            other => {
                let message = format!("`{name}` must be one value, not {}", other.kind());
                r.found.error(&file, node.span.clone(), message, None);
                continue;
            }
        };
        properties.insert(name, value);
    }
    properties
}

/// Settings that say where something secret is, not what it is.
fn is_location(name: &str) -> bool {
    name.ends_with(".location") || name.ends_with(".url") || name.ends_with(".file")
}

fn pass_secrets(node: &Node, r: &mut Reader<'_>) -> BTreeMap<String, Secret> {
    let mut read = BTreeMap::new();
    for (name, _, node) in entries("kafka.secrets", node, r) {
        if let Some(secret) = secrets::secret(&format!("kafka.secrets.{name}"), node, r) {
            read.insert(name, secret);
        }
    }
    read
}
