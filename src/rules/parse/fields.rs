//! The fields that a rule can name.

use crate::document::{slip_of, suggest};
use crate::event::FieldId;
use crate::event::fields::{FIELDS, Holds, by_name};
use crate::rules::Field;

/// A field, and what it holds where that is known.
pub struct Named {
    pub field: Field,
    pub holds: Option<Holds>,
}

/// Bytes of the name of a field of one's own.
const MAX_NAME: usize = 128;

/// Fields that events have and no rule can test, and what to write instead.
pub const UNTESTABLE: &[(&str, &str)] = &[
    (
        "time",
        "how far apart events may be is said in `detect`: `within`, or `max_gap`",
    ),
    ("attributes", "name one of them: `attributes.risk`"),
    (
        "places",
        "it holds a list of what an owner ticked; no rule can test that",
    ),
];

/// Names that people write for fields.
const MEANT: &[(&str, &str)] = &[
    ("ip_address", "ip"),
    ("ipaddress", "ip"),
    ("ip_addr", "ip"),
    ("address", "ip"),
    ("src_ip", "ip"),
    ("source_ip", "ip"),
    ("client_ip", "ip"),
    ("remote_addr", "ip"),
    ("source.ip", "ip"),
    ("event", "type"),
    ("event_type", "type"),
    ("action", "type"),
    ("event.action", "type"),
    ("result", "outcome"),
    ("event.outcome", "outcome"),
    ("success", "outcome"),
    ("account_id", "account"),
    ("username", "user"),
    ("user_name", "user"),
    ("user.name", "user"),
    ("user_id", "user"),
    ("mail", "email"),
    ("useragent", "user_agent"),
    ("agent", "user_agent"),
    ("user_agent.original", "user_agent"),
    ("country_code", "country"),
    ("geo", "country"),
    ("geo.country_iso_code", "country"),
    ("as_number", "asn"),
    ("as", "asn"),
    ("timestamp", "time"),
    ("session_id", "session"),
];

/// The field called `name`; one that is not known is looked for in the events under its own
/// name, and gets its place in `extra`.
///
/// # Errors
/// Message and help, where no rule can test it, or where it is probably a slip.
pub fn named(name: &str, extra: &mut Vec<Box<str>>) -> Result<Named, (String, String)> {
    if let Some((_, help)) = UNTESTABLE.iter().find(|(known, _)| *known == name) {
        return Err((format!("no rule can test `{name}`"), (*help).to_owned()));
    }
    if let Some(known) = by_name(name)
        && let Some(field) = of(name)
    {
        return Ok(Named {
            field,
            holds: Some(known.holds),
        });
    }
    let unknown = |help: String| Err((format!("events have no field `{name}`"), help));
    if let Some((field, test)) = name.split_once('|') {
        let field = field.trim();
        let glob = match test.trim() {
            "startswith" => "'word*'",
            "endswith" => "'*word'",
            _ => "'*word*'",
        };
        return unknown(format!(
            "the test goes below the field: `{field}: {{ glob: {glob} }}`"
        ));
    }
    if name.trim().is_empty() || name.starts_with('-') {
        return unknown("write `type: login`".to_owned());
    }
    if name.len() > MAX_NAME || name == "attributes." {
        return unknown("name one of at most 128 bytes, as in `attributes.risk`".to_owned());
    }
    let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    let own = |meant: &str| {
        if name.starts_with("attributes.") {
            format!("did you mean `{meant}`?")
        } else {
            format!(
                "did you mean `{meant}`? A field of your own with this name goes into \
                 `attributes`: `attributes.{name}`"
            )
        }
    };
    if let Some((_, meant)) = MEANT.iter().find(|(other, _)| *other == name) {
        return unknown(own(meant));
    }
    let plain = name.to_ascii_lowercase().replace(['-', ' '], "_");
    if plain != name && names.contains(&plain.as_str()) {
        return unknown(format!("write `{plain}`"));
    }
    if let Some(meant) = slip_of(name, &names) {
        return unknown(own(meant));
    }
    let stem = name.split_once('.').map_or("", |(stem, _)| stem);
    if stem != "attributes" && slip_of(stem, &["attributes"]).is_some() {
        return unknown(suggest(stem, &["attributes"]));
    }
    let at = match extra.iter().position(|known| **known == *name) {
        Some(at) => at,
        None => {
            extra.push(name.into());
            extra.len() - 1
        }
    };
    match u16::try_from(at) {
        Ok(at) => Ok(Named {
            field: Field::Extra(FieldId(at)),
            holds: None,
        }),
        Err(_) => unknown("these rules name more than 65536 fields of their own".to_owned()),
    }
}

/// The name of a field of the contract.
pub fn name_of(field: Field) -> Option<&'static str> {
    let known = FIELDS.iter().find(|known| of(known.name) == Some(field));
    known.map(|known| known.name)
}

fn of(name: &str) -> Option<Field> {
    Some(match name {
        "id" => Field::Id,
        "type" => Field::Type,
        "account" => Field::Account,
        "outcome" => Field::Outcome,
        "ip" => Field::Ip,
        "method" => Field::Method,
        "reason" => Field::Reason,
        "user" => Field::User,
        "repeat" => Field::Repeat,
        "actor" => Field::Actor,
        "role" => Field::Role,
        "email" => Field::Email,
        "email_verified" => Field::EmailVerified,
        "previous_email" => Field::PreviousEmail,
        "owners" => Field::Owners,
        "case" => Field::Case,
        "locale" => Field::Locale,
        "user_agent" => Field::UserAgent,
        "session" => Field::Session,
        "country" => Field::Country,
        "asn" => Field::Asn,
        _ => return None,
    })
}
