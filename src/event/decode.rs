//! Bytes of one message to an [`Event`].
//!
//! One strict pass of sonic-rs over the bytes; fields that no rule looks at are skipped
//! without being built. An optional field that is invalid is dropped and named, and the
//! event kept: a junk address must not hide a failure (docs/contract.md section 2).

mod raw;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::fields::outcomes;
use super::{
    Control, Country, Event, EventType, FieldId, FieldValue, KnownType, Outcome, Timestamp,
    canonical_ip,
};
use raw::{Key, Raw, RawSeed, TextList};

/// Bytes of an event's id, and of an account.
const MAX_ID: usize = 128;
const MAX_ACCOUNT: usize = 256;
/// Bytes of a mail address (RFC 5321's limit on a path), and of a language tag.
const MAX_ADDRESS: usize = 254;
const MAX_LOCALE: usize = 35;
/// Co-owners, and ticked places, that are read; more are ignored.
const MAX_LIST: usize = 64;
/// Levels of nesting that are read: the parser recurses, and a message must not be able to
/// exhaust the stack.
const MAX_DEPTH: usize = 64;
/// The last millisecond of the year 9999, the last year that RFC 3339 can name.
const MAX_TIME_MS: i64 = 253_402_300_799_999;

/// Why a message is no event, as the dead-letter topic's `doorward.reason` says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    /// A short fixed word for the metric's label, one of [`Rejected::KINDS`].
    pub kind: &'static str,
    pub reason: String,
}

impl Rejected {
    pub const KINDS: &[&str] = &[
        "empty",
        "not_json",
        "not_object",
        "bad_id",
        "bad_type",
        "bad_time",
        "bad_outcome",
        "bad_account",
    ];

    fn new(kind: &'static str, reason: impl Into<String>) -> Self {
        Rejected {
            kind,
            reason: reason.into(),
        }
    }
}

/// Decodes the messages of one rule set: knows which extra fields its rules need.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    fields: Vec<(Box<str>, FieldId)>,
    attributes: Vec<(Box<str>, FieldId)>,
}

/// Optional fields that were there but invalid, by name, for one message.
pub type Dropped = Vec<&'static str>;

impl Decoder {
    /// A decoder that also extracts `extra` fields, each with the id of its index;
    /// `attributes.x` means the key `x` of the object `attributes`.
    pub fn new(extra: &[Box<str>]) -> Decoder {
        let mut decoder = Decoder::default();
        for (at, name) in extra.iter().enumerate() {
            let id = FieldId(at as u16);
            match name.strip_prefix("attributes.") {
                Some(name) => decoder.attributes.push((name.into(), id)),
                None => decoder.fields.push((name.clone(), id)),
            }
        }
        decoder
    }

    /// The event in `payload`. `dropped` is cleared first.
    ///
    /// # Errors
    /// Where the message is no object, or lacks a valid `id`, `type`, `time` or required
    /// `outcome`, or its `account` is no string of 1 to 256 bytes.
    pub fn decode<'a>(
        &self,
        payload: &'a [u8],
        dropped: &mut Dropped,
    ) -> Result<Event<'a>, Rejected> {
        dropped.clear();
        if payload.is_empty() {
            return Err(Rejected::new("empty", "the message is empty"));
        }
        let text = std::str::from_utf8(payload).map_err(|error| {
            Rejected::new(
                "not_json",
                format!("not UTF-8 from byte {} on", error.valid_up_to()),
            )
        })?;
        let first = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if !first.starts_with('{') {
            return Err(Rejected::new(
                "not_object",
                "the message is not a JSON object",
            ));
        }
        if is_too_deep(payload) {
            return Err(Rejected::new(
                "not_json",
                format!("the JSON is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        let mut json = sonic_rs::Deserializer::from_str(text);
        let draft = DraftSeed { decoder: self }
            .deserialize(&mut json)
            .and_then(|draft| json.end().map(|()| draft))
            .map_err(|error| {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                Rejected::new("not_json", format!("not JSON: {line}"))
            })?;
        draft.finish(dropped)
    }
}

/// The fields as they stood in the JSON.
#[derive(Default)]
struct Draft<'a> {
    id: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    time: Option<Raw<'a>>,
    account: Option<Raw<'a>>,
    outcome: Option<Raw<'a>>,
    ip: Option<Raw<'a>>,
    method: Option<Raw<'a>>,
    reason: Option<Raw<'a>>,
    user: Option<Raw<'a>>,
    repeat: Option<Raw<'a>>,
    actor: Option<Raw<'a>>,
    role: Option<Raw<'a>>,
    email: Option<Raw<'a>>,
    email_verified: Option<Raw<'a>>,
    previous_email: Option<Raw<'a>>,
    account_name: Option<Raw<'a>>,
    owners: Option<Option<Vec<Cow<'a, str>>>>,
    case: Option<Raw<'a>>,
    locale: Option<Raw<'a>>,
    user_agent: Option<Raw<'a>>,
    session: Option<Raw<'a>>,
    country: Option<Raw<'a>>,
    asn: Option<Raw<'a>>,
    control: Option<Box<ControlDraft<'a>>>,
    extra: Vec<(FieldId, FieldValue<'a>)>,
}

#[derive(Default)]
struct ControlDraft<'a> {
    verb: Option<Raw<'a>>,
    case_version: Option<Raw<'a>>,
    places: Option<Option<Vec<Cow<'a, str>>>>,
    by: Option<Raw<'a>>,
    rule: Option<Raw<'a>>,
    to: Option<Raw<'a>>,
    key_id: Option<Raw<'a>>,
    mac: Option<Raw<'a>>,
    timer: Option<Raw<'a>>,
    deadline: Option<Raw<'a>>,
}

struct DraftSeed<'d> {
    decoder: &'d Decoder,
}

impl<'de> DeserializeSeed<'de> for DraftSeed<'_> {
    type Value = Draft<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Draft<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DraftSeed<'_> {
    type Value = Draft<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft<'de>, A::Error> {
        let mut draft = Draft::default();
        while let Some(Key(key)) = map.next_key()? {
            let slot = match &*key {
                "id" => &mut draft.id,
                "type" => &mut draft.kind,
                "time" => &mut draft.time,
                "account" => &mut draft.account,
                "outcome" => &mut draft.outcome,
                "ip" => &mut draft.ip,
                "method" => &mut draft.method,
                "reason" => &mut draft.reason,
                "user" => &mut draft.user,
                "repeat" => &mut draft.repeat,
                "actor" => &mut draft.actor,
                "role" => &mut draft.role,
                "email" => &mut draft.email,
                "email_verified" => &mut draft.email_verified,
                "previous_email" => &mut draft.previous_email,
                "account_name" => &mut draft.account_name,
                "case" => &mut draft.case,
                "locale" => &mut draft.locale,
                "user_agent" => &mut draft.user_agent,
                "session" => &mut draft.session,
                "country" => &mut draft.country,
                "asn" => &mut draft.asn,
                "owners" => {
                    draft.owners = map.next_value::<TextList<'de>>()?.0;
                    continue;
                }
                "attributes" if !self.decoder.attributes.is_empty() => {
                    map.next_value_seed(raw::Attributes {
                        wanted: &self.decoder.attributes,
                        into: &mut draft.extra,
                    })?;
                    continue;
                }
                other => {
                    self.other(other, &mut draft, &mut map)?;
                    continue;
                }
            };
            *slot = map.next_value_seed(RawSeed)?.present();
        }
        Ok(draft)
    }
}

impl DraftSeed<'_> {
    /// Fields of doorward's own events, fields that some rule asked for, and the rest.
    fn other<'de, A: MapAccess<'de>>(
        &self,
        key: &str,
        draft: &mut Draft<'de>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if key == "places" {
            let list = map.next_value::<TextList<'de>>()?.0;
            draft.control.get_or_insert_default().places = list;
            return Ok(());
        }
        let wanted = self
            .decoder
            .fields
            .iter()
            .find(|(name, _)| **name == *key)
            .map(|(_, id)| *id);
        let is_control = matches!(
            key,
            "answer"
                | "request"
                | "case_version"
                | "by"
                | "operator"
                | "rule"
                | "to"
                | "key_id"
                | "mac"
                | "kind"
                | "deadline"
        );
        if wanted.is_none() && !is_control {
            return map.next_value::<IgnoredAny>().map(drop);
        }
        let value = map.next_value_seed(RawSeed)?.present();
        if let (Some(id), Some(value)) = (wanted, value.as_ref().and_then(Raw::field_value)) {
            draft.extra.retain(|(at, _)| *at != id);
            draft.extra.push((id, value));
        }
        if is_control {
            let control = draft.control.get_or_insert_default();
            match key {
                "answer" | "request" => control.verb = value,
                "case_version" => control.case_version = value,
                "by" | "operator" => control.by = value,
                "rule" => control.rule = value,
                "to" => control.to = value,
                "key_id" => control.key_id = value,
                "mac" => control.mac = value,
                "kind" => control.timer = value,
                _ => control.deadline = value,
            }
        }
        Ok(())
    }
}

impl<'a> Draft<'a> {
    fn finish(self, dropped: &mut Dropped) -> Result<Event<'a>, Rejected> {
        let id = match self.id {
            Some(Raw::Text(id)) if (1..=MAX_ID).contains(&id.len()) => id,
            Some(Raw::Text(id)) => {
                return Err(Rejected::new(
                    "bad_id",
                    format!("`id` has {} bytes; it must have 1 to {MAX_ID}", id.len()),
                ));
            }
            Some(other) => {
                return Err(Rejected::new(
                    "bad_id",
                    format!("`id` is {}, not a string", other.kind()),
                ));
            }
            None => return Err(Rejected::new("bad_id", "`id` is missing")),
        };
        let kind = match self.kind {
            Some(Raw::Text(name)) if (1..=MAX_ID).contains(&name.len()) => {
                match KnownType::parse(&name) {
                    Some(known) => EventType::Known(known),
                    None => EventType::Other(name),
                }
            }
            Some(_) => {
                return Err(Rejected::new(
                    "bad_type",
                    format!("`type` must be a string of 1 to {MAX_ID} bytes"),
                ));
            }
            None => return Err(Rejected::new("bad_type", "`type` is missing")),
        };
        let time = match self.time.as_ref().map(timestamp) {
            Some(Some(time)) => time,
            Some(None) => {
                return Err(Rejected::new(
                    "bad_time",
                    "`time` must be RFC 3339 with an offset, or whole milliseconds since 1970",
                ));
            }
            None => return Err(Rejected::new("bad_time", "`time` is missing")),
        };
        let account = match self.account {
            Some(Raw::Text(account)) if (1..=MAX_ACCOUNT).contains(&account.len()) => Some(account),
            Some(Raw::Text(account)) => {
                return Err(Rejected::new(
                    "bad_account",
                    format!(
                        "`account` has {} bytes; it must have 1 to {MAX_ACCOUNT}",
                        account.len()
                    ),
                ));
            }
            Some(other) => {
                return Err(Rejected::new(
                    "bad_account",
                    format!("`account` is {}, not a string", other.kind()),
                ));
            }
            None => None,
        };
        let outcome = outcome(&kind, self.outcome, dropped)?;

        // What an account's record keeps has a bound, or one event could make a record that
        // no broker takes.
        let mut too_long = Vec::new();
        let mut text = |name: &'static str, value: Option<Raw<'a>>| match value {
            Some(Raw::Text(text)) => Some(text),
            Some(_) => {
                dropped.push(name);
                None
            }
            None => None,
        };
        let mut text_of = |name: &'static str, max: usize, value: Option<Raw<'a>>| match value {
            Some(Raw::Text(text)) if text.len() <= max => Some(text),
            Some(_) => {
                too_long.push(name);
                None
            }
            None => None,
        };
        let user = text_of("user", MAX_ACCOUNT, self.user);
        let email = text_of("email", MAX_ADDRESS, self.email);
        let previous_email = text_of("previous_email", MAX_ADDRESS, self.previous_email);
        let account_name = text_of("account_name", MAX_ACCOUNT, self.account_name);
        let case = text_of("case", MAX_ID, self.case);
        let locale = text_of("locale", MAX_LOCALE, self.locale);
        let method = text("method", self.method);
        let reason = text("reason", self.reason);
        let actor = text("actor", self.actor);
        let role = text("role", self.role);
        let user_agent = text("user_agent", self.user_agent);
        let session = text("session", self.session);
        let ip_text = text("ip", self.ip);
        let country_text = text("country", self.country);

        dropped.extend(too_long);
        let ip = ip_text.and_then(|text| {
            let ip = parse_ip(&text);
            if ip.is_none() {
                dropped.push("ip");
            }
            ip
        });
        let country = country_text.and_then(|code| {
            let country = Country::parse(&code);
            if country.is_none() {
                dropped.push("country");
            }
            country
        });
        let mut flag = |name: &'static str, value: Option<Raw<'a>>| match value {
            Some(Raw::Bool(flag)) => Some(flag),
            Some(_) => {
                dropped.push(name);
                None
            }
            None => None,
        };
        let repeat = flag("repeat", self.repeat);
        let email_verified = flag("email_verified", self.email_verified);
        let asn = match self.asn {
            Some(Raw::Integer(number)) => u32::try_from(number).ok(),
            _ => None,
        };
        if self.asn.is_some() && asn.is_none() {
            dropped.push("asn");
        }
        let owners = match self.owners {
            Some(Some(mut list)) => {
                list.retain(|owner| owner.len() <= MAX_ADDRESS);
                list.truncate(MAX_LIST);
                list
            }
            Some(None) => {
                dropped.push("owners");
                Vec::new()
            }
            None => Vec::new(),
        };
        let own = kind.known().is_some_and(KnownType::is_own);
        let control = self
            .control
            .filter(|_| own)
            .map(|control| Box::new(control.finish()));
        Ok(Event {
            id,
            kind,
            time,
            account,
            outcome,
            ip,
            method,
            reason,
            user,
            repeat,
            actor,
            role,
            email,
            email_verified,
            previous_email,
            account_name,
            owners,
            case,
            locale,
            user_agent,
            session,
            country,
            asn,
            control,
            extra: self.extra,
        })
    }
}

impl<'a> ControlDraft<'a> {
    /// What is invalid here becomes absent, and then the MAC does not fit.
    fn finish(self) -> Control<'a> {
        let text = |value: Option<Raw<'a>>| match value {
            Some(Raw::Text(text)) => Some(text),
            _ => None,
        };
        let mut places = self.places.flatten().unwrap_or_default();
        places.truncate(MAX_LIST);
        Control {
            verb: text(self.verb),
            case_version: match self.case_version {
                Some(Raw::Integer(version)) => u32::try_from(version).ok(),
                _ => None,
            },
            places,
            by: text(self.by),
            rule: text(self.rule),
            to: text(self.to),
            key_id: text(self.key_id),
            mac: text(self.mac),
            timer: text(self.timer),
            deadline: self.deadline.as_ref().and_then(timestamp),
        }
    }
}

/// Whether lists and objects are nested deeper than [`MAX_DEPTH`]. An ordinary event has
/// fewer brackets than that in all, and is counted in one pass.
fn is_too_deep(json: &[u8]) -> bool {
    let opening = json.iter().filter(|b| matches!(b, b'[' | b'{')).count();
    if opening <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// `outcome` is required for sign-ins and second factors, and checked for the types whose
/// outcomes the contract lists.
fn outcome(
    kind: &EventType<'_>,
    raw: Option<Raw<'_>>,
    dropped: &mut Dropped,
) -> Result<Option<Outcome>, Rejected> {
    let parsed = match &raw {
        Some(Raw::Text(text)) => Outcome::parse(text),
        _ => None,
    };
    let (allowed, required) = outcomes(kind.known());
    let valid = parsed.filter(|outcome| allowed.contains(outcome));
    match (valid, required, raw.is_some()) {
        (Some(outcome), _, _) => Ok(Some(outcome)),
        (None, true, present) => Err(Rejected::new(
            "bad_outcome",
            format!(
                "`outcome` {}; a `{}` needs `success` or `failure`",
                if present {
                    "is something else"
                } else {
                    "is missing"
                },
                kind.as_str()
            ),
        )),
        (None, false, true) => {
            dropped.push("outcome");
            Ok(None)
        }
        (None, false, false) => Ok(None),
    }
}

fn timestamp(raw: &Raw<'_>) -> Option<Timestamp> {
    let ms = match raw {
        Raw::Integer(ms) => *ms,
        Raw::Text(text) => text.parse::<jiff::Timestamp>().ok()?.as_millisecond(),
        _ => return None,
    };
    (0..=MAX_TIME_MS).contains(&ms).then_some(Timestamp(ms))
}

/// An address, with or without a port, v4-mapped as IPv4.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| {
            text.parse::<SocketAddr>()
                .ok()
                .map(|with_port| with_port.ip())
        })
        .or_else(|| {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<IpAddr>().ok()
        })
        .map(canonical_ip)
}
