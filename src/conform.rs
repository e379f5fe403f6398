//! Tells a login pipeline's team what their events lack.
//!
//! [`Survey`] looks at records of `auth.events` one by one and counts; [`Report`] is what is
//! to be said of them. It decides nothing about accounts and refuses to know where the
//! records come from. What each event should have stands in [`checks`], a row for each.

mod checks;
pub mod play;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::event::decode::{Decoder, Dropped};
use crate::event::{Event, KnownType, MINUTE_MS, Outcome, Source, Timestamp};

use checks::CHECKS;
use whole::Whole;

/// Accounts that the scenario of [`play`] made up begin with this.
pub const PLAYED: &str = "doorward-conform/";

/// Ahead of the broker by more than this, an event takes the broker's time (docs/rules.md 2).
const MAX_AHEAD_MS: i64 = MINUTE_MS;
/// Late by more than this, an event may not count in its place (docs/rules.md 3).
const MAX_LATE_MS: i64 = 5 * MINUTE_MS;

/// One record as it stood in the topic.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub source: Source,
    /// The record's timestamp, and whether the broker set it.
    pub time: Timestamp,
    pub is_append_time: bool,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Attacks go unseen, or owners cannot be asked.
    Must,
    /// doorward works, and less well than it could.
    Should,
    /// Nothing is wrong; somebody may want to know.
    Note,
}

/// One thing that is to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A short fixed name.
    pub id: &'static str,
    pub weight: Weight,
    pub text: String,
    /// How many records it is about, of how many that it could be about.
    pub count: u64,
    pub of: u64,
    /// The first of them.
    pub example: Option<Place>,
}

/// Where a record stands, and the event's own id where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
    pub event: Option<String>,
}

/// What was seen and what is to be said of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub records: u64,
    pub events: u64,
    pub accounts: u64,
    /// Times of the first and the last record.
    #[serde(serialize_with = "as_text")]
    pub first: Option<Timestamp>,
    #[serde(serialize_with = "as_text")]
    pub last: Option<Timestamp>,
    /// Events by type, then by outcome; without one under `-`.
    pub types: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Types that matter and were not seen, so that nothing could be said of them.
    pub not_seen: Vec<&'static str>,
    /// The weightiest first.
    pub findings: Vec<Finding>,
}

fn as_text<S: serde::Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.serialize_some(&time.to_string()),
        None => to.serialize_none(),
    }
}

impl Report {
    /// Whether something must be mended.
    pub fn has_musts(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.weight == Weight::Must)
    }
}

/// How often something could have been wrong, was, and where first.
#[derive(Clone, Debug, Default)]
struct Tally {
    of: u64,
    count: u64,
    first: Option<Place>,
}

impl Tally {
    fn note(&mut self, is_wrong: bool, place: impl FnOnce() -> Place) {
        self.of += 1;
        if is_wrong {
            self.count += 1;
            self.first.get_or_insert_with(place);
        }
    }
}

/// Looks at records.
pub struct Survey {
    decoder: Decoder,
    dropped: Dropped,
    records: u64,
    events: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    types: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// For each row of [`CHECKS`].
    tallies: Vec<Tally>,
    /// Messages that are no events, by why.
    rejected: BTreeMap<&'static str, (Tally, String)>,
    /// Optional fields that were there and invalid.
    invalid: BTreeMap<&'static str, Tally>,
    key: Tally,
    create_time: Tally,
    ahead: Tally,
    late: Tally,
    whole: Whole,
}

impl Default for Survey {
    fn default() -> Survey {
        Survey::new()
    }
}

impl Survey {
    pub fn new() -> Survey {
        Survey {
            decoder: Decoder::new(&[]),
            dropped: Dropped::new(),
            records: 0,
            events: 0,
            first: None,
            last: None,
            types: BTreeMap::new(),
            tallies: vec![Tally::default(); CHECKS.len()],
            rejected: BTreeMap::new(),
            invalid: BTreeMap::new(),
            key: Tally::default(),
            create_time: Tally::default(),
            ahead: Tally::default(),
            late: Tally::default(),
            whole: Whole::default(),
        }
    }

    /// Looks at one record. What doorward itself wrote, and what [`play`] played, is passed
    /// over.
    pub fn note(&mut self, record: &Record<'_>) {
        let mut dropped = std::mem::take(&mut self.dropped);
        let decoded = self
            .decoder
            .decode(record.payload.unwrap_or_default(), &mut dropped);
        match decoded {
            Ok(event) if is_pipelines_own(&event) => {
                self.seen(record);
                self.event(record, &event, &dropped);
            }
            Ok(_) => {}
            Err(rejected) => {
                self.seen(record);
                let (tally, reason) = self.rejected.entry(rejected.kind).or_default();
                tally.note(true, || place(record, None));
                if reason.is_empty() {
                    *reason = rejected.reason;
                }
            }
        }
        self.dropped = dropped;
    }

    fn seen(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.first = Some(self.first.map_or(record.time, |t| t.min(record.time)));
        self.last = self.last.max(Some(record.time));
        self.create_time
            .note(!record.is_append_time, || place(record, None));
    }

    fn event(&mut self, record: &Record<'_>, event: &Event<'_>, dropped: &Dropped) {
        self.events += 1;
        let here = || place(record, Some(event));
        let outcome = event.outcome.map_or("-", Outcome::as_str);
        let types = self.types.len();
        let kind = event.kind.as_str();
        // Types are the pipeline's own words: somebody may have put an id into them.
        if types < whole::MAX_TYPES || self.types.contains_key(kind) {
            let counts = self.types.entry(kind.to_owned()).or_default();
            *counts.entry(outcome).or_default() += 1;
        }
        for (check, tally) in CHECKS.iter().zip(&mut self.tallies) {
            if (check.about)(event) {
                tally.note((check.lacks)(event), here);
            }
        }
        for field in dropped {
            self.invalid.entry(field).or_default().note(true, here);
        }
        if let Some(account) = &event.account {
            self.key.note(record.key != Some(account.as_bytes()), here);
        }
        // Without the broker's clock there is nothing to compare with.
        if record.is_append_time {
            let behind = record.time.since_ms(event.time);
            self.ahead.note(-behind > MAX_AHEAD_MS, here);
            self.late.note(behind > MAX_LATE_MS, here);
        }
        self.whole.note(record, event);
    }

    /// What is to be said so far.
    pub fn report(&self) -> Report {
        let mut findings = Vec::new();
        for (kind, (tally, reason)) in &self.rejected {
            let text = format!(
                "no events, and so in the dead-letter topic: {} of {} messages. The first \
                 because: {reason}",
                tally.count, self.records
            );
            findings.push(finding(kind, Weight::Must, text, tally, self.records));
        }
        for (check, tally) in CHECKS.iter().zip(&self.tallies) {
            if tally.count > 0 && (!check.only_if_all || tally.count == tally.of) {
                let text = check.text.replace("{n}", &of_these(tally));
                findings.push(finding(check.id, check.weight, text, tally, tally.of));
            }
        }
        for (field, tally) in &self.invalid {
            let text = format!(
                "`{field}` is there and invalid in {} of {} events, which count without it: see \
                 docs/integrate.md for what it may be",
                tally.count, self.events
            );
            findings.push(finding(
                "invalid_field",
                Weight::Must,
                text,
                tally,
                self.events,
            ));
        }
        self.about_records(&mut findings);
        self.whole.report(&self.types, &mut findings);
        findings.sort_by_key(|finding| finding.weight);
        Report {
            records: self.records,
            events: self.events,
            accounts: self.whole.accounts(),
            first: self.first,
            last: self.last,
            not_seen: self.not_seen(),
            types: self.types.clone(),
            findings,
        }
    }

    fn about_records(&self, findings: &mut Vec<Finding>) {
        let mut say = |id, weight, tally: &Tally, text: &str| {
            if tally.count > 0 {
                let text = text.replace("{n}", &of_these(tally));
                findings.push(finding(id, weight, text, tally, tally.of));
            }
        };
        say(
            "wrong_key",
            Weight::Must,
            &self.key,
            "the message key of {n} events is not the account, byte for byte: their account's \
             events may lie on several partitions, where no rule sees them together",
        );
        say(
            "create_time",
            Weight::Should,
            &self.create_time,
            "{n} records bear their producers' time (CreateTime): whoever writes events sets the \
             clock that decides, and doorward cannot tell late events from fresh ones. Set \
             message.timestamp.type=LogAppendTime on the topic",
        );
        say(
            "ahead",
            Weight::Should,
            &self.ahead,
            "{n} events are more than a minute ahead of the broker's clock and take its time \
             instead: set the clock of who writes them",
        );
        say(
            "late",
            Weight::Should,
            &self.late,
            "{n} events came more than five minutes after they happened: where newer ones of \
             the account came first, they count in no window. Publish at once, not in batches",
        );
    }

    fn not_seen(&self) -> Vec<&'static str> {
        let told = [
            KnownType::Login,
            KnownType::TwoFactor,
            KnownType::PasswordReset,
            KnownType::PasswordChanged,
            KnownType::TwoFactorDisabled,
            KnownType::TwoFactorReset,
            KnownType::RecoveryCodeUsed,
            KnownType::EmailChanged,
            KnownType::Recovery,
            KnownType::AccountDeleted,
        ];
        let seen: BTreeSet<&str> = self.types.keys().map(String::as_str).collect();
        told.iter()
            .map(|kind| kind.as_str())
            .filter(|kind| !seen.contains(kind))
            .collect()
    }
}

/// Whether the login pipeline wrote it, about an account of its own.
fn is_pipelines_own(event: &Event<'_>) -> bool {
    let is_doorwards = event.kind.known().is_some_and(KnownType::is_own);
    let is_played = event
        .account
        .as_ref()
        .is_some_and(|account| account.starts_with(PLAYED));
    !is_doorwards && !is_played
}

fn place(record: &Record<'_>, event: Option<&Event<'_>>) -> Place {
    Place {
        partition: record.source.partition,
        offset: record.source.offset,
        event: event.map(|event| event.id.clone().into_owned()),
    }
}

fn finding(id: &'static str, weight: Weight, text: String, tally: &Tally, of: u64) -> Finding {
    Finding {
        id,
        weight,
        text,
        count: tally.count,
        of,
        example: tally.first.clone(),
    }
}

/// `3 of 12`, or `all 12`.
fn of_these(tally: &Tally) -> String {
    if tally.count == tally.of {
        format!("all {}", tally.of)
    } else {
        format!("{} of {}", tally.count, tally.of)
    }
}

/// `1 event`, or `3 events`.
pub fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}
