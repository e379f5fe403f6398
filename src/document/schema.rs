//! JSON Schemas (draft 2020-12) of what [`super::shape`] describes.

use serde_json::{Map, Value, json};

use super::parse_duration_ms;
use super::shape::{Block, Field, Shape};

/// The schema language that every schema names.
pub const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of a value.
pub fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Version(version) => json!({ "const": version }),
        Shape::Text { least, most } => {
            let mut schema = json!({ "type": "string", "minLength": least, "maxLength": most });
            if *least > 0 {
                schema["pattern"] = json!("\\S");
            }
            schema
        }
        Shape::Fits { pattern, like } => {
            json!({ "type": "string", "pattern": pattern, "description": capital(like) })
        }
        Shape::Words(words) => one_of(
            words
                .iter()
                .map(|word| json!({ "const": word.word, "description": word.about })),
        ),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Whole { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Length { least, most } => length(least, most),
        Shape::List { of: item, alone } => {
            let item = of(item);
            let list = json!({ "type": "array", "minItems": 1, "items": item });
            if *alone { any_of([item, list]) } else { list }
        }
        Shape::Tuple(words) => json!({ "const": words }),
        Shape::Block(of) => block(of),
        Shape::OneOf { block, bare, .. } => {
            let one = block.fields.iter().map(|field| {
                // A field that needs no settings may be left without.
                let settings = match (bare.contains(&field.name), &field.shape) {
                    (true, Shape::Words([])) => json!({ "type": "null" }),
                    (true, _) => any_of([property(field), json!({ "type": "null" })]),
                    (false, _) => property(field),
                };
                json!({
                    "type": "object",
                    "description": field.about,
                    "properties": { field.name: settings },
                    "required": [field.name],
                    "additionalProperties": false,
                })
            });
            let bare = bare.iter().map(|name| {
                let about = block.fields.iter().find(|field| field.name == *name);
                let about = about.map_or("", |field| field.about);
                json!({ "const": name, "description": about })
            });
            any_of(bare.chain(one))
        }
        Shape::Either(shapes) => any_of(shapes.iter().map(of)),
        Shape::Elsewhere(definition) => json!({ "$ref": format!("#/$defs/{definition}") }),
    }
}

/// The schema of a block.
pub fn block(block: &Block) -> Value {
    let mut properties = Map::new();
    for field in block.fields {
        properties.insert(field.name.to_owned(), property(field));
    }
    let required: Vec<&str> = block
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field) -> Value {
    let schema = of(&field.shape);
    let about = format!("{}\n\nExample: `{}`", field.about, field.example);
    match schema {
        Value::Object(mut schema) if !schema.contains_key("$ref") => {
            schema.insert("description".into(), json!(about));
            Value::Object(schema)
        }
        // Beside a reference a description is allowed since 2019-09.
        schema => json!({ "allOf": [schema], "description": about }),
    }
}

/// Lengths of time between two ends, both included: a pattern of the numbers that each unit
/// may have.
pub fn length(least: &str, most: &str) -> Value {
    let end_ms = |text| parse_duration_ms(text).unwrap_or(0).unsigned_abs();
    let (least_ms, most_ms) = (end_ms(least), end_ms(most));
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let parts: Vec<String> = units
        .iter()
        .map(|(unit, ms)| (unit, least_ms.div_ceil(*ms), most_ms / ms))
        .filter(|(_, least, most)| least <= most)
        .map(|(unit, least, most)| format!("({}){unit}", numbers(least, most)))
        .collect();
    json!({
        "type": "string",
        "pattern": format!("^0*({})$", parts.join("|")),
        "description": format!("A length of time from {least} to {most}: 30s, 5m, 24h"),
    })
}

/// A pattern of the decimal numbers from `least` to `most`, without leading zeros.
fn numbers(least: u64, most: u64) -> String {
    let digits = |n: u64| n.checked_ilog10().unwrap_or(0) + 1;
    let parts: Vec<String> = (digits(least)..=digits(most))
        .map(|length| {
            let first = if length == 1 {
                0
            } else {
                10_u64.pow(length - 1)
            };
            let last = 10_u64.pow(length) - 1;
            alike(&least.max(first).to_string(), &most.min(last).to_string())
        })
        .collect();
    parts.join("|")
}

/// The same for two numbers of as many digits.
fn alike(least: &str, most: &str) -> String {
    let rest = least.len().saturating_sub(1);
    let any = match rest {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        n => format!("[0-9]{{{n}}}"),
    };
    let (Some(a), Some(b)) = (least.bytes().next(), most.bytes().next()) else {
        return String::new();
    };
    let (lowest, highest) = ("0".repeat(rest), "9".repeat(rest));
    let (a_rest, b_rest) = (&least[1..], &most[1..]);
    let (a_digit, b_digit) = (char::from(a), char::from(b));
    if a == b {
        let inner = alike(a_rest, b_rest);
        return if rest == 0 {
            a_digit.to_string()
        } else {
            format!("{a_digit}({inner})")
        };
    }
    let mut parts = Vec::new();
    let (mut from, mut to) = (a, b);
    if a_rest != lowest {
        parts.push(format!("{a_digit}({})", alike(a_rest, &highest)));
        from += 1;
    }
    if b_rest != highest {
        parts.push(format!("{b_digit}({})", alike(&lowest, b_rest)));
        to -= 1;
    }
    if from <= to {
        parts.push(format!("[{}-{}]{any}", char::from(from), char::from(to)));
    }
    parts.join("|")
}

fn one_of(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({ "oneOf": schemas.into_iter().collect::<Vec<_>>() })
}

pub fn any_of(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": schemas.into_iter().collect::<Vec<_>>() })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn a_pattern_of_numbers_matches_those_between_its_ends_and_no_others() {
        for (least, most) in [
            (0, 0),
            (0, 9),
            (1, 30),
            (1, 64),
            (5, 723),
            (99, 1000),
            (0, 43_200),
        ] {
            let pattern = regex::Regex::new(&format!("^({})$", numbers(least, most))).unwrap();
            for n in 0..=50_000_u64 {
                let inside = (least..=most).contains(&n);
                assert_eq!(
                    pattern.is_match(&n.to_string()),
                    inside,
                    "{least}..={most}: {n}"
                );
            }
        }
    }
}
