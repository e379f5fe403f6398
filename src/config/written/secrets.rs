//! Secrets: from a file or the environment, never written into the configuration.
//!
//! A secret that stands in the file all the same is an error, and every message about the
//! file shows it covered.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Reader, Section};
use crate::config::{Keys, NamedKey, Secret};
use crate::document::{Fields, Node, Value};

/// Where a secret may come from, for messages.
const HOW: &str = "write `{ file = \"/path/to/it\" }` or `{ env = \"VARIABLE\" }`";

/// The secret that `node` refers to. `what` names the setting.
pub fn secret(what: &str, node: &Node, r: &mut Reader<'_>) -> Option<Secret> {
    let mut fields = reference(what, node, r)?;
    let secret = value(what, node, &mut fields, r);
    fields.finish(&mut r.found);
    secret
}

/// The fields of a reference such as `{ file = "…" }`.
fn reference<'a>(what: &str, node: &'a Node, r: &mut Reader<'_>) -> Option<Fields<'a>> {
    cover_literals(node, r);
    if !matches!(node.value, Value::Map(_)) {
        let file = r.file.clone();
        r.found.error(
            &file,
            node.span.clone(),
            format!("`{what}` is a secret and may not stand in this file"),
            Some(format!(
                "{HOW}, and change the secret: it was readable here"
            )),
        );
        return None;
    }
    let file = r.file.clone();
    Fields::of(&file, node, format!("`{what}`"), &mut r.found)
}

/// Everything in `node` but the names of files, variables and keys is covered in messages.
fn cover_literals(node: &Node, r: &mut Reader<'_>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                if !["file", "env", "id"].contains(&key.name.as_str()) {
                    r.covered.push(value.span.clone());
                }
            }
        }
        _ => r.covered.push(node.span.clone()),
    }
}

/// What stands in the file or variable, without the line's end.
fn value(what: &str, node: &Node, fields: &mut Fields<'_>, r: &mut Reader<'_>) -> Option<Secret> {
    let from_file = fields.text("file", &mut r.found);
    let from_env = fields.text("env", &mut r.found);
    let read = match (from_file, from_env) {
        (Some(path), None) => {
            let path = r.folder.join(path);
            std::fs::read_to_string(&path).map_err(|error| {
                // Its name and the system's word, never what it holds.
                format!("{} cannot be read: {}", path.display(), error.kind())
            })
        }
        (None, Some(name)) => {
            (r.env)(name).ok_or_else(|| format!("the environment variable {name} is not set"))
        }
        _ => {
            let file = r.file.clone();
            let message = format!("`{what}` needs either `file` or `env`");
            r.found
                .error(&file, node.span.clone(), message, Some(HOW.into()));
            return None;
        }
    };
    let read = read.and_then(|text| match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty".to_owned()),
        text => Ok(Secret::new(text.to_owned())),
    });
    read.map_err(|why| {
        let file = r.file.clone();
        r.found
            .error(&file, node.span.clone(), format!("`{what}`: {why}"), None);
    })
    .ok()
}

/// How long a key may be, in bytes, and how to make one.
struct Length {
    least: usize,
    most: usize,
    make: &'static str,
}

const STATE: Length = Length {
    least: 16,
    most: 16,
    make: "make one with `openssl rand -hex 16`, and never change it: accounts are found by it",
};
const LINK: Length = Length {
    least: 32,
    most: 32,
    make: "make one with `openssl rand -hex 32`",
};
const ANSWER: Length = Length {
    least: 32,
    most: 1024,
    make: "make one with `openssl rand -hex 32`",
};

/// The `[keys]` table. Where a key is missing or wrong, an error is in `r` and a key of
/// zeros in its place, which no caller sees.
pub fn keys(mut section: Section<'_>, r: &mut Reader<'_>) -> Keys {
    let state = match section.fields().optional("state") {
        Some(node) => secret("keys.state", node, r)
            .and_then(|secret| key_bytes("keys.state", &secret, node, &STATE, r)),
        None => {
            section.missing("state", "{ file = \"state.key\" }", r);
            None
        }
    };
    let link = key_list("link", &LINK, &mut section, r);
    let answer = key_list("answer", &ANSWER, &mut section, r);
    section.finish(r);
    Keys {
        link,
        answer,
        state: state.and_then(|s| s.try_into().ok()).unwrap_or_default(),
    }
}

fn key_list(
    name: &'static str,
    length: &Length,
    section: &mut Section<'_>,
    r: &mut Reader<'_>,
) -> Vec<NamedKey> {
    let what = section.full(name);
    let items = match section.fields().optional(name) {
        None => {
            let example = format!("[{{ id = \"1\", file = \"{name}.key\" }}]");
            section.missing(name, &example, r);
            return Vec::new();
        }
        Some(Node {
            value: Value::List(items),
            span,
        }) => {
            if items.is_empty() {
                let file = r.file.clone();
                r.found
                    .error(&file, span.clone(), format!("`{what}` holds no key"), None);
            }
            items.as_slice()
        }
        Some(one) => std::slice::from_ref(one),
    };
    let mut keys: Vec<NamedKey> = Vec::new();
    for node in items {
        let Some(key) = named_key(&what, node, length, r) else {
            continue;
        };
        if keys.iter().any(|other| other.id == key.id) {
            let file = r.file.clone();
            let message = format!("two keys of `{what}` have the id `{}`", key.id);
            let help = "each needs its own: links and answers name their key by it".to_owned();
            r.found.error(&file, node.span.clone(), message, Some(help));
        }
        keys.push(key);
    }
    keys
}

fn named_key(what: &str, node: &Node, length: &Length, r: &mut Reader<'_>) -> Option<NamedKey> {
    let mut fields = reference(what, node, r)?;
    let id = fields.required_text("id", &mut r.found);
    let secret = value(what, node, &mut fields, r);
    fields.finish(&mut r.found);
    let id = id?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > 32 || !id.chars().all(allowed) {
        let file = r.file.clone();
        let message = format!("a key's id in `{what}` must be 1 to 32 letters, digits, - _ .");
        r.found.error(&file, node.span.clone(), message, None);
    }
    Some(NamedKey {
        id: id.to_owned(),
        bytes: key_bytes(what, &secret?, node, length, r)?,
    })
}

/// The bytes of a key that is written in hexadecimal or base64.
fn key_bytes(
    what: &str,
    secret: &Secret,
    node: &Node,
    length: &Length,
    r: &mut Reader<'_>,
) -> Option<Vec<u8>> {
    let wanted = if length.least == length.most {
        format!("{} bytes", length.least)
    } else {
        format!("{} to {} bytes", length.least, length.most)
    };
    let message = match decode(secret.expose().trim()) {
        Some(bytes) if (length.least..=length.most).contains(&bytes.len()) => return Some(bytes),
        Some(bytes) => format!(
            "the key of `{what}` has {} bytes; it needs {wanted}",
            bytes.len()
        ),
        None => format!("the key of `{what}` is neither hexadecimal nor base64 of {wanted}"),
    };
    let file = r.file.clone();
    r.found
        .error(&file, node.span.clone(), message, Some(length.make.into()));
    None
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    if rest.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        return digits.iter().map(byte).collect();
    }
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, lenient).decode(text).ok())
}
