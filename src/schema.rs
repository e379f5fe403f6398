//! JSON Schemas (draft 2020-12) of what people write and what programs read.
//!
//! None is written by hand: rules come from the table that their parser checks files with,
//! lists, exceptions and tests from a table beside each reader that a test holds to it, events
//! from the table of fields that rules name, commands and decisions from the types
//! that are written, settings from what their reader asks for.

use serde_json::{Map, Value, json};

use crate::config::written;
use crate::document::schema::{self, DRAFT, any_of};
use crate::document::shape::Block;
use crate::event::fields::{FIELDS, Holds, countries, outcomes};
use crate::event::{KnownType, Outcome};
use crate::facts::lists;
use crate::record::{CommandRecord, DecisionRecord};
use crate::rules::exceptions::MAX_EXCEPTIONS;
use crate::rules::parse::exceptions::form as exempt;
use crate::rules::parse::{form, tests};
use crate::ruletest;

/// One schema.
pub struct Schema {
    /// As `doorward schema NAME` names it.
    pub name: &'static str,
    /// What it describes, in a few words.
    pub about: &'static str,
    make: fn() -> Value,
}

/// Every schema, by name.
pub const ALL: &[Schema] = &[
    Schema {
        name: "command",
        about: "a message of auth.commands",
        make: || record(schemars::schema_for!(CommandRecord)),
    },
    Schema {
        name: "configuration",
        about: "doorward.toml",
        make: configuration,
    },
    Schema {
        name: "decision",
        about: "a message of doorward.decisions",
        make: || record(schemars::schema_for!(DecisionRecord)),
    },
    Schema {
        name: "event",
        about: "a message of auth.events",
        make: event,
    },
    Schema {
        name: "exceptions",
        about: "exceptions.yaml",
        make: exceptions,
    },
    Schema {
        name: "lists",
        about: "lists.yaml",
        make: || with(&lists::form::FILE, lists::form::definitions()),
    },
    Schema {
        name: "rule",
        about: "a rule file, *.rule.yaml",
        make: || with(&form::RULE, tests::definitions()),
    },
    Schema {
        name: "test",
        about: "a file of tests, *.test.yaml",
        make: test,
    },
];

impl Schema {
    /// The schema called `name`.
    pub fn named(name: &str) -> Option<&'static Schema> {
        ALL.iter().find(|schema| schema.name == name)
    }

    pub fn value(&self) -> Value {
        let mut schema = (self.make)();
        schema["$schema"] = json!(DRAFT);
        schema["$id"] = json!(format!("{}.schema.json", self.name));
        schema["title"] = json!(format!("doorward: {}", self.about));
        sorted(schema)
    }

    /// As a file holds it.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.value())
    }
}

/// The same with every object's keys in order, whatever order the JSON library keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(String, Value)> = object.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let entries = entries.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn record(schema: schemars::Schema) -> Value {
    schema.to_value()
}

/// A file's schema, with what it refers to.
fn with(file: &Block, definitions: Vec<(&'static str, Value)>) -> Value {
    let mut schema = schema::block(file);
    let definitions: Map<String, Value> = definitions
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    schema["$defs"] = Value::Object(definitions);
    schema
}

fn exceptions() -> Value {
    let mut definitions = tests::definitions();
    let one = schema::block(&exempt::EXCEPTION);
    let all = json!({ "type": "array", "maxItems": MAX_EXCEPTIONS, "items": one });
    definitions.push(("exceptions", all));
    with(&exempt::FILE, definitions)
}

fn test() -> Value {
    let mut schema = with(&ruletest::form::FILE, ruletest::form::definitions());
    schema["oneOf"] = json!([{ "required": ["rule"] }, { "required": ["rules"] }]);
    schema
}

fn event() -> Value {
    let optional = |schema: Value| any_of([schema, json!({ "type": "null" })]);
    let mut properties = Map::new();
    for field in FIELDS {
        let schema = match field.holds {
            Holds::Type => {
                let known: Vec<&str> = KnownType::ALL.iter().map(|kind| kind.as_str()).collect();
                json!({ "type": "string", "minLength": 1, "maxLength": 128, "examples": known })
            }
            Holds::Time => any_of([
                json!({ "type": "string", "format": "date-time" }),
                json!({ "type": "integer", "minimum": 0, "maximum": 253_402_300_799_999_i64 }),
            ]),
            _ if field.name == "id" => {
                json!({ "type": "string", "minLength": 1, "maxLength": 128 })
            }
            _ if field.name == "account" => {
                optional(json!({ "type": "string", "minLength": 1, "maxLength": 256 }))
            }
            Holds::Text(usual) if !usual.is_empty() => {
                optional(json!({ "type": "string", "examples": usual }))
            }
            Holds::Text(_) => optional(json!({ "type": "string" })),
            Holds::Outcome => {
                let words: Vec<&str> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
                optional(json!({ "enum": words }))
            }
            Holds::Address => optional(json!({ "type": "string" })),
            Holds::Country => {
                let some: Vec<String> = countries().take(5).map(|c| c.to_string()).collect();
                optional(
                    json!({ "type": "string", "pattern": "^[A-Za-z0-9]{2}$", "examples": some }),
                )
            }
            Holds::Flag => optional(json!({ "type": "boolean" })),
            Holds::Number => {
                optional(json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }))
            }
            Holds::Texts => optional(json!({ "type": "array", "items": { "type": "string" } })),
        };
        let mut schema = schema;
        schema["description"] = json!(field.about);
        properties.insert(field.name.to_owned(), schema);
    }
    properties.insert(
        "attributes".into(),
        optional(json!({
            "type": "object",
            "description": "Whatever else you know; rules name it as `attributes.x`.",
        })),
    );
    let strict = KnownType::ALL.iter().filter_map(|kind| {
        let (allowed, required) = outcomes(Some(*kind));
        let words: Vec<&str> = allowed.iter().map(|outcome| outcome.as_str()).collect();
        required.then(|| {
            json!({
                "if": { "properties": { "type": { "const": kind.as_str() } }, "required": ["type"] },
                "then": { "properties": { "outcome": { "enum": words } }, "required": ["outcome"] },
            })
        })
    });
    json!({
        "type": "object",
        "description": "An event of the login pipeline. Fields that are not named here are kept \
                        for rules under their own name; a null is an absent field.",
        "properties": properties,
        "required": ["id", "type", "time"],
        "allOf": strict.collect::<Vec<_>>(),
    })
}

fn configuration() -> Value {
    let abouts = abouts(include_str!("../doorward.toml"));
    let mut sections = Map::new();
    for (full, schema) in written::types() {
        let Some((section, name)) = full.split_once('.') else {
            continue;
        };
        let mut schema = schema;
        if let Some((_, about)) = abouts.iter().find(|(of, _)| *of == full) {
            schema["description"] = json!(about);
        }
        let section = sections.entry(section).or_insert_with(
            || json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        );
        section["properties"][name] = schema;
    }
    json!({ "type": "object", "properties": sections, "additionalProperties": false })
}

/// Full names of settings, and the comment that stands above each in the documented file.
fn abouts(text: &str) -> Vec<(String, String)> {
    let (mut section, mut comment) = (String::new(), Vec::new());
    let mut found = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start_matches('#').trim();
        let name = bare.split_once(" = ").map(|(name, _)| name.trim());
        let is_name = |name: &&str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c))
        };
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            if !comment.is_empty() {
                found.push((header.to_owned(), std::mem::take(&mut comment).join(" ")));
            }
            section = header.to_owned();
        } else if let Some(name) = name.filter(is_name) {
            found.push((format!("{section}.{name}"), comment.join(" ")));
            comment.clear();
        } else if line.starts_with('#') && !bare.is_empty() {
            comment.push(bare.to_owned());
        } else if !line.starts_with('#') {
            comment.clear();
        }
    }
    found.retain(|(_, about)| !about.is_empty());
    found
}
