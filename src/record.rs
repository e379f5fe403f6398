//! The JSON of doorward's topics: commands, decisions, cases, mail, receipts.
//!
//! docs/contract.md sections 1, 3 and 4 fix the names. The engine's values turn into these
//! records at the edge, and readers (the mailer, the web, the demo, tests) turn them back.
//! Readers accept fields they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::output::{CaseView, Command, CommandKind, Decision, Effect, Evidence, Mail};

/// The version that every record names in `schema`.
pub const SCHEMA: u32 = 1;

/// The words of a closed set, for schemas.
fn words<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|item| word(*item)).collect()
}

/// What every record of one process has in common.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The input topic.
    pub topic: String,
    /// `sha256:` and the hash of the rule set.
    pub rule_set: String,
    /// Build date of the country database, RFC 3339; `None` without one.
    pub geoip: Option<String>,
    /// Name and `sha256:` hash of each list.
    pub lists: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SourceRecord {
    /// The input topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The offset of the event in it.
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EvidenceRecord {
    /// The event's id.
    pub id: String,
    /// The event's own time, RFC 3339 in UTC.
    pub time: String,
    /// The client's address.
    pub ip: Option<String>,
    /// Its country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
}

impl From<&Evidence> for EvidenceRecord {
    fn from(e: &Evidence) -> Self {
        EvidenceRecord {
            id: e.id.to_string(),
            time: e.time.to_string(),
            ip: e.ip.map(|ip| ip.to_string()),
            country: e.country.map(|c| c.to_string()),
        }
    }
}

/// A message of `auth.commands`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CommandRecord {
    /// The version of this record.
    pub schema: u32,
    /// The same cause has the same id for ever: a repeat can be dropped by it.
    pub id: String,
    /// Rises for each account; a lower one than already seen is old news.
    pub seq: i64,
    /// What to do.
    #[schemars(extend("enum" = words(CommandKind::ALL, CommandKind::as_str)))]
    pub command: String,
    /// The account, as the event named it.
    pub account: String,
    /// The case that it belongs to.
    pub case: Option<String>,
    /// The broker's time of the event that caused it, RFC 3339 in UTC.
    pub time: String,
    /// The rule that asked for it, where one did.
    pub rule: Option<String>,
    /// The rules at work: `sha256:` and the hash of their files.
    pub rule_set: String,
    /// Why, in a word for programs.
    pub reason: String,
    /// How much is locked: `all`, or `unfamiliar` devices and sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Time of the earliest evidence: devices that signed in before go on where the scope is `unfamiliar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Sessions to end, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// When a lock ends by itself; null: it does not.
    #[serde(default)]
    pub until: Option<String>,
    /// Ids of the events that it rests on.
    pub evidence: Vec<String>,
    /// Who asked for it, where an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorRecord>,
    /// The event that caused it.
    pub source: SourceRecord,
}

/// An operator's word for a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OperatorRecord {
    /// Who.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl CommandRecord {
    pub fn new(c: &Command, from: &Provenance) -> Self {
        CommandRecord {
            schema: SCHEMA,
            id: c.id.clone(),
            seq: c.seq,
            command: c.kind.as_str().to_owned(),
            account: c.account.to_string(),
            case: c.case.as_ref().map(|c| c.to_string()),
            time: c.time.to_string(),
            rule: c.rule.as_ref().map(|r| r.to_string()),
            rule_set: from.rule_set.clone(),
            reason: c.reason.to_string(),
            scope: c.scope.map(|s| s.as_str().to_owned()),
            since: c.since.map(|t| t.to_string()),
            sessions: c.sessions.clone(),
            until: c.until.map(|t| t.to_string()),
            evidence: c.evidence.iter().map(|id| id.to_string()).collect(),
            operator: c.operator.as_ref().map(|operator| OperatorRecord {
                name: operator.name.to_string(),
                reason: operator.reason.to_string(),
            }),
            source: SourceRecord {
                topic: from.topic.clone(),
                partition: c.source.partition,
                offset: c.source.offset,
            },
        }
    }
}

/// A message of `doorward.decisions`, and a line of `replay --output ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DecisionRecord {
    /// The version of this record.
    pub schema: u32,
    /// The same cause has the same id for ever.
    pub id: String,
    /// The completing event's own time, RFC 3339 in UTC.
    pub time: String,
    /// The account, as the event named it.
    pub account: String,
    /// The rule's id.
    pub rule: String,
    /// The rule's mode.
    pub mode: String,
    /// What came of it, the first that applies.
    #[schemars(extend("enum" = words(Effect::ALL, Effect::as_str)))]
    pub effect: String,
    /// How many were counted.
    pub value: u32,
    /// Id of the event that completed it.
    pub event: String,
    /// The events that it rests on.
    pub evidence: Vec<EvidenceRecord>,
    /// What the rule asks for.
    pub actions: Vec<String>,
    /// The case that it opened or joined.
    pub case: Option<String>,
    /// Id of the exception, where `effect` is `excepted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// The rules at work: `sha256:` and the hash of their files.
    pub rule_set: String,
    /// Build date of the country database.
    pub geoip: Option<String>,
    /// Name and `sha256:` hash of each list.
    pub lists: std::collections::BTreeMap<String, String>,
    /// The event that completed it.
    pub source: SourceRecord,
}

impl DecisionRecord {
    pub fn new(d: &Decision, from: &Provenance) -> Self {
        DecisionRecord {
            schema: SCHEMA,
            id: d.id.clone(),
            time: d.time.to_string(),
            account: d.account.to_string(),
            rule: d.rule.to_string(),
            mode: d.mode.as_str().to_owned(),
            effect: d.effect.as_str().to_owned(),
            value: d.value,
            event: d.event.to_string(),
            evidence: d.evidence.iter().map(EvidenceRecord::from).collect(),
            actions: d.actions.iter().map(|a| (*a).to_owned()).collect(),
            case: d.case.as_ref().map(|c| c.to_string()),
            exception: d.exception.as_deref().map(str::to_owned),
            rule_set: from.rule_set.clone(),
            geoip: from.geoip.clone(),
            lists: from.lists.clone(),
            source: SourceRecord {
                topic: from.topic.clone(),
                partition: d.source.partition,
                offset: d.source.offset,
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// What a ticked box posts back, for example `country:BR`.
    pub value: String,
    pub time: String,
    pub known: bool,
}

/// A message of `doorward.cases`: the latest state of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRecord {
    pub schema: u32,
    pub id: String,
    pub account: String,
    pub partition: i32,
    pub version: u32,
    /// `open`, `asked`, `unlocked`, `secured`, `recovered` or `closed`; of a recovery `held`,
    /// `needs_operator`, `released` or `cancelled`.
    pub state: String,
    pub opened: String,
    pub updated: String,
    pub rules: Vec<String>,
    pub reason: String,
    pub scope: String,
    pub evidence: Vec<EvidenceRecord>,
    pub places: Vec<PlaceRecord>,
    pub device: Option<String>,
    pub locale: Option<String>,
    /// Rules that asked for the lock, and when, by broker time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockRecord>,
    /// What operators asked for, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<NoteRecord>,
    pub until: Option<String>,
    /// Where its owner has said "this wasn't me": since when, and what has been done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<StepsRecord>,
    /// Mails about it that did not arrive, by whom they were for; the addresses are not named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounced: Vec<BouncedRecord>,
}

/// A mail that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BouncedRecord {
    /// `owner`, `co_owner` or `notice`.
    pub part: String,
    /// Broker time.
    pub time: String,
}

/// What has been done of a secured case, by broker time; null: not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsRecord {
    pub secured: String,
    pub password: Option<String>,
    pub second_factor: Option<String>,
    pub api_keys: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    pub rule: String,
    pub time: String,
}

/// An operator's request about a case, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRecord {
    /// Id of the `operator_request`.
    pub event: String,
    pub request: String,
    pub operator: String,
    pub reason: String,
    /// Broker time.
    pub time: String,
    /// Whether it was carried out.
    pub done: bool,
}

impl CaseRecord {
    pub fn new(c: &CaseView) -> Self {
        CaseRecord {
            schema: SCHEMA,
            id: c.id.to_string(),
            account: c.account.to_string(),
            partition: c.partition,
            version: c.version,
            state: c.state.as_str().to_owned(),
            opened: c.opened.to_string(),
            updated: c.updated.to_string(),
            rules: c.rules.iter().map(|r| r.to_string()).collect(),
            reason: c.reason.to_string(),
            scope: c.scope.as_str().to_owned(),
            evidence: c.evidence.iter().map(EvidenceRecord::from).collect(),
            places: c
                .places
                .iter()
                .map(|p| PlaceRecord {
                    value: p.value.to_string(),
                    time: p.time.to_string(),
                    known: p.known,
                })
                .collect(),
            device: c.device.as_deref().map(str::to_owned),
            locale: c.locale.as_deref().map(str::to_owned),
            locks: c
                .locks
                .iter()
                .map(|lock| LockRecord {
                    rule: lock.rule.to_string(),
                    time: lock.time.to_string(),
                })
                .collect(),
            operators: c
                .notes
                .iter()
                .map(|note| NoteRecord {
                    event: note.event.to_string(),
                    request: note.request.to_string(),
                    operator: note.operator.to_string(),
                    reason: note.reason.to_string(),
                    time: note.time.to_string(),
                    done: note.done,
                })
                .collect(),
            until: c.until.map(|t| t.to_string()),
            steps: c.secured_at.map(|secured| StepsRecord {
                secured: secured.to_string(),
                password: c.steps.password.map(|t| t.to_string()),
                second_factor: c.steps.second_factor.map(|t| t.to_string()),
                api_keys: c.steps.api_keys.map(|t| t.to_string()),
            }),
            bounced: c
                .bounced
                .iter()
                .map(|bounced| BouncedRecord {
                    part: bounced.part.as_str().to_owned(),
                    time: bounced.time.to_string(),
                })
                .collect(),
        }
    }
}

/// A message of `doorward.mail`, the outbox. It holds no token: links are made at sending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailRecord {
    pub schema: u32,
    pub id: String,
    pub to: String,
    /// `owner`, `co_owner` or `notice`: which links the mail may carry.
    pub part: String,
    pub template: String,
    pub locale: Option<String>,
    /// The account's name as its owner knows it; never in a notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    pub account: String,
    pub partition: i32,
    pub case: String,
    pub case_version: u32,
    pub rule: String,
    pub reason: String,
    /// `all` or `unfamiliar` where the account was locked.
    pub locked: Option<String>,
    pub time: String,
    pub evidence: Vec<EvidenceRecord>,
    pub device: Option<String>,
    /// When the recovery that it is about goes through, RFC 3339; its links live as long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Not to be sent before this time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
}

impl MailRecord {
    pub fn new(m: &Mail) -> Self {
        MailRecord {
            schema: SCHEMA,
            id: m.id.clone(),
            to: m.to.to_string(),
            part: m.part.as_str().to_owned(),
            template: m.template.to_string(),
            locale: m.locale.as_deref().map(str::to_owned),
            account_name: m.account_name.as_deref().map(str::to_owned),
            account: m.account.to_string(),
            partition: m.partition,
            case: m.case.to_string(),
            case_version: m.case_version,
            rule: m.rule.to_string(),
            reason: m.reason.to_string(),
            locked: m.locked.map(|s| s.as_str().to_owned()),
            time: m.time.to_string(),
            evidence: m.evidence.iter().map(EvidenceRecord::from).collect(),
            device: m.device.as_deref().map(str::to_owned),
            until: m.until.map(|t| t.to_string()),
            not_before: None,
        }
    }
}

/// A message of `doorward.receipts`, keyed by mail id: what became of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    pub schema: u32,
    /// The mail's id.
    pub id: String,
    /// `sent` or `failed`.
    pub result: String,
    pub time: String,
    pub attempts: u32,
    /// What the server said last, without addresses.
    pub detail: Option<String>,
}
