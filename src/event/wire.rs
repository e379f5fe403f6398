//! The events that doorward itself publishes, and the MAC that proves they are its own.
//!
//! Anyone may be able to write to `auth.events`, so answers, operators' requests and bounces
//! carry an HMAC-SHA256 over every field that matters, each with its length before it
//! (docs/contract.md section 2). A timer carries none: it acts only when the account's own
//! state says that it is due.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::Timestamp;

/// A key for MACs, named so that two can be valid while they rotate.
#[derive(Clone)]
pub struct MacKey {
    pub id: String,
    /// At least 32 bytes.
    pub bytes: Vec<u8>,
}

/// The keys that are accepted; the first one signs.
#[derive(Clone, Default)]
pub struct MacKeys(pub Vec<MacKey>);

/// What a MAC covers. Absent fields count as empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub account: &'a str,
    pub case: &'a str,
    pub case_version: u32,
    /// The answer, or the operator's request.
    pub verb: &'a str,
    /// The places that the owner ticked; of an operator's request and of a bounce the
    /// [`details`].
    pub places: &'a [&'a str],
    pub by: &'a str,
    pub reason: &'a str,
    pub time: Timestamp,
}

/// What an operator's request or a bounce says beside the account and the case, as its MAC
/// covers it: each with its name before it. A request without details has the MAC that it
/// always had.
pub fn details<'a>(rule: Option<&'a str>, to: Option<&'a str>) -> Vec<&'a str> {
    let rule = rule.map(|rule| ["rule", rule]);
    let to = to.map(|to| ["to", to]);
    rule.into_iter().chain(to).flatten().collect()
}

impl MacKeys {
    /// Key id and lower-case hexadecimal MAC by the newest key; `None` without any key.
    pub fn sign(&self, signed: &Signed<'_>) -> Option<(String, String)> {
        let key = self.0.first()?;
        let tag = mac(key, signed).finalize().into_bytes();
        Some((key.id.clone(), hex(&tag)))
    }

    /// Whether `tag` is the MAC of `signed` by the key called `key_id`.
    pub fn verify(&self, signed: &Signed<'_>, key_id: &str, tag: &str) -> bool {
        let Some(tag) = unhex(tag) else { return false };
        self.0
            .iter()
            .filter(|key| key.id == key_id)
            .any(|key| mac(key, signed).verify_slice(&tag).is_ok())
    }
}

fn mac(key: &MacKey, signed: &Signed<'_>) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key.bytes)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    let mut field = |bytes: &[u8]| {
        mac.update(&(bytes.len() as u64).to_be_bytes());
        mac.update(bytes);
    };
    field(signed.kind.as_bytes());
    field(signed.id.as_bytes());
    field(signed.account.as_bytes());
    field(signed.case.as_bytes());
    field(&signed.case_version.to_be_bytes());
    field(signed.verb.as_bytes());
    field(&(signed.places.len() as u64).to_be_bytes());
    for place in signed.places {
        field(place.as_bytes());
    }
    field(signed.by.as_bytes());
    field(signed.reason.as_bytes());
    field(&signed.time.0.to_be_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// An owner's answer, as the web publishes it.
#[derive(Clone, Debug)]
pub struct CaseResponse<'a> {
    pub id: &'a str,
    /// `None` where the web has not read the case yet; the engine finds it by its id.
    pub account: Option<&'a str>,
    pub case: &'a str,
    pub case_version: u32,
    /// `me`, `not_me`, `rotate_keys`, `cancel_recovery` or `resend`.
    pub answer: &'a str,
    /// The places that the owner ticked.
    pub places: &'a [&'a str],
    /// The recipient's part: `owner` or `co_owner`.
    pub by: &'a str,
    pub time: Timestamp,
}

/// An operator's request, as `doorward unlock` and its siblings publish it.
#[derive(Clone, Debug, Default)]
pub struct OperatorRequest<'a> {
    pub id: &'a str,
    pub account: &'a str,
    pub case: Option<&'a str>,
    /// `unlock`, `undo`, `resend`, `release_recovery` or `cancel_recovery`.
    pub request: &'a str,
    /// Of `undo`: the rule whose lock was a mistake.
    pub rule: Option<&'a str>,
    /// Of `resend`: the address that the mail goes to instead.
    pub to: Option<&'a str>,
    pub operator: &'a str,
    pub reason: &'a str,
    pub time: Timestamp,
}

/// A mail that will not arrive, as the mailer publishes it.
#[derive(Clone, Debug)]
pub struct MailBounced<'a> {
    /// The same for the same mail.
    pub id: &'a str,
    pub account: &'a str,
    pub case: &'a str,
    pub case_version: u32,
    /// The address that it was for.
    pub to: &'a str,
    /// The recipient's part: `owner`, `co_owner` or `notice`.
    pub by: &'a str,
    /// `refused`, or `time_up` where it was tried for as long as mails are.
    pub reason: &'a str,
    pub time: Timestamp,
}

#[derive(Serialize)]
struct ControlJson<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a str>,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    places: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(rename = "kind", skip_serializing_if = "Option::is_none")]
    timer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

impl<'a> ControlJson<'a> {
    fn new(id: &'a str, kind: &'a str, time: Timestamp) -> Self {
        ControlJson {
            id,
            kind,
            time: time.0,
            account: None,
            case: None,
            case_version: None,
            answer: None,
            places: &[],
            by: None,
            request: None,
            rule: None,
            to: None,
            operator: None,
            reason: None,
            timer: None,
            deadline: None,
            key_id: None,
            mac: None,
        }
    }

    fn signed(mut self, keys: &MacKeys, signed: &Signed<'_>) -> Self {
        if let Some((key_id, mac)) = keys.sign(signed) {
            self.key_id = Some(key_id);
            self.mac = Some(mac);
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The message for `answer`, signed by the newest of `keys`.
pub fn case_response(answer: &CaseResponse<'_>, keys: &MacKeys) -> Vec<u8> {
    let signed = Signed {
        kind: "case_response",
        id: answer.id,
        account: answer.account.unwrap_or(""),
        case: answer.case,
        case_version: answer.case_version,
        verb: answer.answer,
        places: answer.places,
        by: answer.by,
        reason: "",
        time: answer.time,
    };
    ControlJson {
        account: answer.account,
        case: Some(answer.case),
        case_version: Some(answer.case_version),
        answer: Some(answer.answer),
        places: answer.places,
        by: Some(answer.by),
        ..ControlJson::new(answer.id, "case_response", answer.time)
    }
    .signed(keys, &signed)
    .bytes()
}

/// The message for `request`, signed by the newest of `keys`.
pub fn operator_request(request: &OperatorRequest<'_>, keys: &MacKeys) -> Vec<u8> {
    let signed = Signed {
        kind: "operator_request",
        id: request.id,
        account: request.account,
        case: request.case.unwrap_or(""),
        case_version: 0,
        verb: request.request,
        places: &details(request.rule, request.to),
        by: request.operator,
        reason: request.reason,
        time: request.time,
    };
    ControlJson {
        account: Some(request.account),
        case: request.case,
        request: Some(request.request),
        rule: request.rule,
        to: request.to,
        operator: Some(request.operator),
        reason: Some(request.reason),
        ..ControlJson::new(request.id, "operator_request", request.time)
    }
    .signed(keys, &signed)
    .bytes()
}

/// The message for a mail that bounced, signed by the newest of `keys`.
pub fn mail_bounced(bounced: &MailBounced<'_>, keys: &MacKeys) -> Vec<u8> {
    let signed = Signed {
        kind: "mail_bounced",
        id: bounced.id,
        account: bounced.account,
        case: bounced.case,
        case_version: bounced.case_version,
        verb: "",
        places: &details(None, Some(bounced.to)),
        by: bounced.by,
        reason: bounced.reason,
        time: bounced.time,
    };
    ControlJson {
        account: Some(bounced.account),
        case: Some(bounced.case),
        case_version: Some(bounced.case_version),
        by: Some(bounced.by),
        to: Some(bounced.to),
        reason: Some(bounced.reason),
        ..ControlJson::new(bounced.id, "mail_bounced", bounced.time)
    }
    .signed(keys, &signed)
    .bytes()
}

/// The message that says that the timer `kind` of `case` is due.
pub fn timer_due(
    id: &str,
    account: &str,
    case: &str,
    kind: &str,
    deadline: Timestamp,
    time: Timestamp,
) -> Vec<u8> {
    ControlJson {
        account: Some(account),
        case: Some(case),
        timer: Some(kind),
        deadline: Some(deadline.0),
        ..ControlJson::new(id, "timer_due", time)
    }
    .bytes()
}
