//! The board as pages get it: JSON with words in it, so that the page's script only lays
//! out. Times are milliseconds since 1970.

use std::sync::Arc;

use serde::Serialize;

use crate::demo::mailbox::MailView;
use crate::demo::trace::{EventLine, Round, Step, Trace};
use crate::event::Timestamp;
use crate::record::{CommandRecord, DecisionRecord};

/// One message to every open page.
#[derive(Clone, Debug)]
pub enum Update {
    Traffic(TrafficView),
    Event(EventView),
    Decision(DecisionView),
    Locks(Vec<LockView>),
    Mail(MailView),
    Round(RoundView),
}

impl Update {
    /// Name and JSON of the server-sent event.
    pub fn message(&self) -> (&'static str, String) {
        fn json(value: &impl Serialize) -> String {
            serde_json::to_string(value).unwrap_or_default()
        }
        match self {
            Update::Traffic(view) => ("traffic", json(view)),
            Update::Event(view) => ("event", json(view)),
            Update::Decision(view) => ("decision", json(view)),
            Update::Locks(view) => ("locks", json(view)),
            Update::Mail(view) => ("mail", json(view)),
            Update::Round(view) => ("round", json(view)),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub traffic: TrafficView,
    /// Accepted, refused and other events of each second, the oldest first.
    pub seconds: Vec<[u32; 3]>,
    /// The lists run from the oldest to the newest, save the locks.
    pub events: Vec<EventView>,
    pub decisions: Vec<DecisionView>,
    pub locks: Vec<LockView>,
    pub mails: Vec<MailView>,
    pub rounds: Vec<RoundView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrafficView {
    /// Events a second, over the last ten.
    pub per_second: f64,
    /// Of the second that has just ended.
    pub second: [u32; 3],
    pub accounts: usize,
    pub accepted: u64,
    pub refused: u64,
    pub other: u64,
    pub locked: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventView {
    pub id: String,
    pub time: i64,
    pub account: String,
    pub words: String,
    /// `good`, `bad`, `plain` or `answer`.
    pub tone: &'static str,
    pub ip: Option<String>,
    pub country: Option<String>,
    /// The attack that it belongs to.
    pub round: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionView {
    pub id: String,
    pub time: i64,
    pub account: String,
    pub rule: String,
    pub title: String,
    pub effect: String,
    pub effect_words: &'static str,
    pub ip: Option<String>,
    pub country: Option<String>,
    /// Countries of everything that counted, each once.
    pub countries: Vec<String>,
    pub value: u32,
    pub case: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LockView {
    pub account: String,
    pub since: i64,
    pub why: String,
    /// `all` or `unfamiliar`.
    pub scope: String,
    pub case: Option<String>,
    /// State of the case.
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundView {
    pub id: String,
    pub attack: &'static str,
    pub title: &'static str,
    pub account: String,
    pub started: i64,
    pub case: Option<String>,
    pub answer: Option<String>,
    pub state: Option<String>,
    pub mail: Option<u64>,
    pub steps: Vec<StepView>,
}

/// A step of a round that was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    pub step: Step,
    pub at: i64,
    /// Milliseconds since what it is measured from: the attack for what doorward does by
    /// itself, the mail for the owner's answer, the answer for what comes of it.
    pub ms: Option<i64>,
}

const STEPS: [(Step, Option<Step>); 10] = [
    (Step::Attack, None),
    (Step::Decision, Some(Step::Attack)),
    (Step::Lock, Some(Step::Attack)),
    (Step::Mail, Some(Step::Attack)),
    (Step::Refused, Some(Step::Attack)),
    (Step::Answer, Some(Step::Mail)),
    (Step::Unlocked, Some(Step::Answer)),
    (Step::Secured, Some(Step::Answer)),
    (Step::PasswordChanged, Some(Step::Secured)),
    (Step::Recovered, Some(Step::PasswordChanged)),
];

pub fn round(trace: &Trace) -> RoundView {
    let steps = STEPS.iter().filter_map(|(step, from)| {
        Some(StepView {
            step: *step,
            at: trace.at(*step)?.0,
            ms: from.and_then(|from| trace.ms(from, *step)),
        })
    });
    RoundView {
        id: trace.round.id.clone(),
        attack: trace.round.attack.as_str(),
        title: trace.round.attack.title(),
        account: trace.round.account.clone(),
        started: trace.round.started.0,
        case: trace.case.clone(),
        answer: trace.answer.clone(),
        state: trace.state.clone(),
        mail: trace.mail.as_ref().map(|mail| mail.id),
        steps: steps.collect(),
    }
}

pub fn event<'a>(event: &EventLine, rounds: impl Iterator<Item = &'a Arc<Round>>) -> EventView {
    let (words, tone) = event_words(event);
    let round = rounds
        .filter(|round| event.account.as_deref() == Some(&round.account))
        .find(|round| {
            event
                .id
                .strip_prefix(&round.id)
                .is_some_and(|rest| rest.starts_with('-'))
        });
    EventView {
        id: event.id.clone(),
        time: event.time.0,
        account: event.account.clone().unwrap_or_default(),
        words,
        tone,
        ip: event.ip.clone(),
        country: event.country.clone(),
        round: round.map(|round| round.id.clone()),
    }
}

fn event_words(event: &EventLine) -> (String, &'static str) {
    let outcome = event.outcome.as_deref().unwrap_or_default();
    let reason = event.reason.as_deref().unwrap_or_default();
    let (words, tone) = match (event.kind.as_str(), outcome) {
        ("login", "success") => ("Signed in", "good"),
        ("login", _) if reason == "account_locked" => ("Refused: account locked", "bad"),
        ("login", _) if reason == "rate_limited" => ("Refused: too many tries", "bad"),
        ("login", _) => ("Wrong password", "bad"),
        ("two_factor", "success") => ("Code accepted", "good"),
        ("two_factor", _) => ("Wrong code", "bad"),
        ("password_reset", "requested") => ("Asked for a reset", "plain"),
        ("password_reset", "success") => ("Reset the password", "plain"),
        ("password_reset", _) => ("Reset failed", "bad"),
        ("password_changed", _) => ("Changed the password", "answer"),
        ("session_revoked", _) => ("Session ended", "answer"),
        ("case_response", _) => match event.answer.as_deref() {
            Some("me") => ("Owner: this was me", "answer"),
            Some("not_me") => ("Owner: this wasn’t me", "answer"),
            _ => ("Owner’s request", "answer"),
        },
        ("timer_due", _) => ("Timer", "plain"),
        ("mail_bounced", _) => ("A mail did not arrive", "bad"),
        (kind, _) => return (sentence_case(kind), "plain"),
    };
    (words.to_owned(), tone)
}

/// `profile_viewed` as `Profile viewed`.
fn sentence_case(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect::<String>().replace('_', " ")
}

pub fn decision(decision: &DecisionRecord, title: Option<&String>) -> DecisionView {
    let completing = decision.evidence.iter().find(|e| e.id == decision.event);
    let mut countries: Vec<String> = Vec::new();
    for country in decision.evidence.iter().filter_map(|e| e.country.as_ref()) {
        if !countries.contains(country) {
            countries.push(country.clone());
        }
    }
    DecisionView {
        id: decision.id.clone(),
        time: millis(&decision.time).unwrap_or_default(),
        account: decision.account.clone(),
        rule: decision.rule.clone(),
        title: title.unwrap_or(&decision.rule).clone(),
        effect: decision.effect.clone(),
        effect_words: effect_words(decision),
        ip: completing.and_then(|e| e.ip.clone()),
        country: completing.and_then(|e| e.country.clone()),
        countries,
        value: decision.value,
        case: decision.case.clone(),
    }
}

fn effect_words(decision: &DecisionRecord) -> &'static str {
    let does = |action: &str| decision.actions.iter().any(|a| a == action);
    match decision.effect.as_str() {
        "acted" if does("lock_account") && does("email_user") => "Locked, owner asked",
        "acted" if does("lock_account") => "Locked",
        "acted" if does("email_user") => "Owner asked",
        "acted" => "Acted on",
        "case_open" => "Joined the open case",
        "cooldown" => "Recorded, acted on shortly before",
        "held" => "Held back by the lock budget",
        "shadow" => "Recorded only (shadow)",
        "stale" => "Recorded, too old to act on",
        "excepted" => "Excepted",
        _ => "Recorded",
    }
}

pub fn lock(command: &CommandRecord, title: Option<&String>, at: Timestamp) -> LockView {
    LockView {
        account: command.account.clone(),
        since: at.0,
        why: title.unwrap_or(&command.reason).clone(),
        scope: command.scope.clone().unwrap_or_else(|| "all".into()),
        case: command.case.clone(),
        state: "open".into(),
    }
}

fn millis(rfc3339: &str) -> Option<i64> {
    rfc3339
        .parse::<jiff::Timestamp>()
        .ok()
        .map(|time| time.as_millisecond())
}
