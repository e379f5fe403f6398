//! The tests that a field can be put to, as tables for the reader and the JSON Schema.

use serde_json::{Value, json};

use crate::document::schema::any_of;
use crate::event::fields::{FIELDS, Holds, countries};
use crate::event::{KnownType, Outcome};

use super::fields::UNTESTABLE;

/// One test of a field.
pub struct FieldTest {
    pub name: &'static str,
    pub about: &'static str,
    pub only_addresses: bool,
}

const fn test(name: &'static str, about: &'static str, only_addresses: bool) -> FieldTest {
    FieldTest {
        name,
        about,
        only_addresses,
    }
}

pub const TESTS: &[FieldTest] = &[
    test(
        "in_list",
        "The address stands in this list of lists.yaml.",
        true,
    ),
    test(
        "not_in_list",
        "There is an address, and it does not stand in this list.",
        true,
    ),
    test(
        "cidr",
        "The address lies in this network, or in one of these.",
        true,
    ),
    test(
        "glob",
        "The whole value fits this pattern: `*` is any text, `?` one character, `{a,b}` one of \
         these, `[a-z]` a character from a range.",
        false,
    ),
    test(
        "regex",
        "This regular expression is found in the value; `^` and `$` bind it to the ends. No \
         look-around and no back-references.",
        false,
    ),
    test("exists", "Whether the event has the field at all.", false),
    test(
        "not",
        "The opposite of a value, a list or a test. True where the field is absent.",
        false,
    ),
];

/// Names of tests that other languages have, and what to write.
pub const MEANT_TEST: &[(&str, &str)] = &[
    ("contains", "write `glob: '*word*'`"),
    ("startswith", "write `glob: 'word*'`"),
    ("starts_with", "write `glob: 'word*'`"),
    ("prefix", "write `glob: 'word*'`"),
    ("endswith", "write `glob: '*word'`"),
    ("ends_with", "write `glob: '*word'`"),
    ("suffix", "write `glob: '*word'`"),
    ("re", "write `regex`"),
    ("match", "write `regex`, or `glob`"),
    ("matches", "write `regex`, or `glob`"),
    ("like", "write `glob`"),
    ("wildcard", "write `glob`"),
    (
        "in",
        "write the list itself: `reason: [bad_password, expired_code]`",
    ),
    (
        "any_of",
        "write the list itself: `reason: [bad_password, expired_code]`",
    ),
    (
        "one_of",
        "write the list itself: `reason: [bad_password, expired_code]`",
    ),
    (
        "not_in",
        "write `not` and the list: `reason: { not: [bad_password, expired_code] }`",
    ),
    ("eq", "write the value itself: `method: password`"),
    ("equals", "write the value itself: `method: password`"),
    ("is", "write the value itself: `method: password`"),
    ("value", "write the value itself: `method: password`"),
    ("ne", "write `not`"),
    ("not_equals", "write `not`"),
    ("is_not", "write `not`"),
    ("list", "write `in_list`"),
    ("network", "write `cidr`"),
    ("subnet", "write `cidr`"),
    ("present", "write `exists`"),
    ("null", "write `exists: false`"),
    (
        "gt",
        "numbers cannot be compared; name the values in a list",
    ),
    (
        "gte",
        "numbers cannot be compared; name the values in a list",
    ),
    (
        "lt",
        "numbers cannot be compared; name the values in a list",
    ),
    (
        "lte",
        "numbers cannot be compared; name the values in a list",
    ),
];

/// The JSON Schema's definitions of conditions and what stands in them.
pub fn definitions() -> Vec<(&'static str, Value)> {
    let kinds = [
        ("text_test", Holds::Text(&[])),
        ("type_test", Holds::Type),
        ("outcome_test", Holds::Outcome),
        ("address_test", Holds::Address),
        ("country_test", Holds::Country),
        ("flag_test", Holds::Flag),
        ("number_test", Holds::Number),
    ];
    let mut all: Vec<(&str, Value)> = kinds
        .into_iter()
        .map(|(name, holds)| (name, test_schema(name, value_schema(holds), holds)))
        .collect();
    let any = json!({ "type": ["string", "boolean", "number"] });
    all.push(("any_test", test_schema("any_test", any, Holds::Text(&[]))));
    all.push(("condition", condition_schema()));
    let named: Vec<Value> = FIELDS
        .iter()
        .filter(|field| !matches!(field.holds, Holds::Time | Holds::Texts))
        .map(|field| json!({ "const": field.name, "description": field.about }))
        .collect();
    let other = json!({
        "type": "string",
        "minLength": 1,
        "not": { "enum": UNTESTABLE.iter().map(|(name, _)| *name).chain(["owners"]).collect::<Vec<_>>() },
        "description": "Any other field of your events, or `attributes.x`.",
    });
    all.push(("of", any_of([json!({ "oneOf": named }), other])));
    all
}

fn condition_schema() -> Value {
    let mut properties = serde_json::Map::new();
    for field in FIELDS.iter().filter(|field| field.holds != Holds::Time) {
        let mut test = match field.holds {
            // The usual words are offered, and any other text is taken.
            Holds::Text(usual) if !usual.is_empty() => {
                json!({ "anyOf": [{ "enum": usual }, { "$ref": "#/$defs/text_test" }] })
            }
            Holds::Text(_) | Holds::Texts | Holds::Time => json!({ "$ref": "#/$defs/text_test" }),
            Holds::Type => json!({ "$ref": "#/$defs/type_test" }),
            Holds::Outcome => json!({ "$ref": "#/$defs/outcome_test" }),
            Holds::Address => json!({ "$ref": "#/$defs/address_test" }),
            Holds::Country => json!({ "$ref": "#/$defs/country_test" }),
            Holds::Flag => json!({ "$ref": "#/$defs/flag_test" }),
            Holds::Number => json!({ "$ref": "#/$defs/number_test" }),
        };
        test["description"] = json!(field.about);
        properties.insert(field.name.to_owned(), test);
    }
    let refused: Vec<&str> = UNTESTABLE.iter().map(|(name, _)| *name).collect();
    json!({
        "type": "object",
        "description": "Fields of the event, and what each must be. Every line must hold.",
        "properties": properties,
        "propertyNames": { "not": { "enum": refused } },
        "additionalProperties": { "$ref": "#/$defs/any_test" },
        "minProperties": 1,
    })
}

fn value_schema(holds: Holds) -> Value {
    match holds {
        Holds::Type => {
            let known: Vec<&str> = KnownType::ALL.iter().map(|kind| kind.as_str()).collect();
            any_of([
                json!({ "enum": known }),
                json!({ "type": "string", "description": "A type of your own pipeline." }),
            ])
        }
        Holds::Outcome => {
            let all: Vec<&str> = Outcome::ALL
                .iter()
                .map(|outcome| outcome.as_str())
                .collect();
            json!({ "enum": all })
        }
        Holds::Country => {
            let all: Vec<String> = countries().map(|country| country.to_string()).collect();
            json!({ "enum": all })
        }
        Holds::Flag => json!({ "type": "boolean" }),
        Holds::Number => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Holds::Address | Holds::Text(_) | Holds::Texts | Holds::Time => json!({ "type": "string" }),
    }
}

fn test_schema(name: &str, value: Value, holds: Holds) -> Value {
    let itself = json!({ "$ref": format!("#/$defs/{name}") });
    let text = json!({ "type": "string" });
    let mut properties = serde_json::Map::new();
    for test in TESTS {
        if test.only_addresses && holds != Holds::Address {
            continue;
        }
        let mut schema = match test.name {
            "not" => json!({ "allOf": [itself] }),
            "exists" => json!({ "type": "boolean" }),
            "cidr" => any_of([
                text.clone(),
                json!({ "type": "array", "minItems": 1, "items": text }),
            ]),
            _ => text.clone(),
        };
        schema["description"] = json!(test.about);
        properties.insert(test.name.to_owned(), schema);
    }
    any_of([
        value,
        json!({ "type": "array", "minItems": 1, "items": itself }),
        json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            "properties": properties,
        }),
    ])
}
