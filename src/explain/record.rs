//! The answer as a record: what `--output json` prints, and what the text is made of.
//!
//! Names are stable: fields are added, never renamed; readers accept fields that they do
//! not know. Times are RFC 3339 in UTC.

use serde::Serialize;

use crate::engine::trace::{Lesson, Off, RuleHit, Said, Standing};
use crate::enrich::CountryLookup;
use crate::event::{Country, Timestamp};
use crate::record::EvidenceRecord;
use crate::rules::Rule;

/// The answer to one question.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Always 1.
    pub schema: u32,
    pub question: Asked,
    /// The answer in a sentence or two.
    pub answer: String,
    /// `None` where an event belongs to none.
    pub account: Option<String>,
    pub stream: Stream,
    /// What it was judged by.
    pub judged_by: JudgedBy,
    /// The account's cases, the oldest first; of a question about a case only that one.
    pub cases: Vec<CaseStory>,
    /// How near each rule came that did not hit.
    pub near_misses: Vec<NearMiss>,
    /// What happened to the account, in the order in which it arrived; of a question about
    /// an event only that one.
    pub moments: Vec<Moment>,
}

/// What was asked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    Account(String),
    Case(String),
    Event(String),
}

/// The recorded events that the answer comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stream {
    pub files: Vec<String>,
    pub events: u64,
    /// Lines that are no events.
    pub bad_lines: u64,
    /// Broker times of the first and the last event.
    pub first: Option<String>,
    pub last: Option<String>,
}

/// Rules and facts.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedBy {
    /// `sha256:` and the hash of the rule set.
    pub rule_set: String,
    pub rules: Vec<RuleFact>,
    /// Kind and build date of the country database; `None` without one.
    pub geoip: Option<Database>,
    pub previous_geoip: Option<Database>,
    /// Name and hash of each list that could be loaded.
    pub lists: std::collections::BTreeMap<String, String>,
}

/// A rule of the set.
#[derive(Clone, Debug, Serialize)]
pub struct RuleFact {
    pub id: String,
    pub title: String,
    pub mode: &'static str,
    pub file: String,
    /// What it takes, in words.
    pub needs: String,
}

/// A country database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    pub kind: String,
    pub built: String,
}

/// One event, or a timer that fell due, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Where it was read; `None` for a timer that no line of the files holds.
    pub file: Option<String>,
    pub line: Option<u64>,
    pub event: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    /// Event time as it was judged.
    pub time: String,
    /// Broker time.
    pub arrived: String,
    /// Further ahead of the broker than a minute: it took the broker's time.
    pub from_the_future: bool,
    pub ip: Option<String>,
    pub country: Option<Origin>,
    /// Lists that the address stands in.
    pub lists: Vec<Listed>,
    /// What every rule said.
    pub rules: Vec<RuleWord>,
    /// Of an answer, a request or what the pipeline says of the account: what it did.
    pub steered: Option<Steered>,
    /// Decisions, commands and mails that it caused.
    pub did: Vec<Deed>,
    /// The account's case after it, where it has one.
    pub case: Option<CaseState>,
}

/// Which country, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `None`: none is known, and `why` says more.
    pub country: Option<String>,
    /// `event`, `database`, or `none`.
    pub from: &'static str,
    pub why: Option<&'static str>,
    /// What the database before the last update says, where that is another.
    pub previously: Option<String>,
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub list: String,
    /// The entry as the file writes it, and where; `None` where it was not found again.
    pub entry: Option<String>,
    pub file: Option<String>,
    pub line: Option<u64>,
}

/// A rule's word about an event.
#[derive(Clone, Debug, Serialize)]
pub struct RuleWord {
    pub rule: String,
    #[serde(flatten)]
    pub word: Word,
}

/// What a rule said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Word {
    Off {
        why: &'static str,
    },
    NotMatching {
        file: String,
        line: u32,
        text: String,
        field: String,
        had: Option<String>,
    },
    Unkeyed {
        field: String,
    },
    Deleted,
    BeforeCut {
        cut: String,
    },
    /// An exception hides the event from the rule.
    Ignored {
        exception: String,
    },
    NoValue {
        field: String,
    },
    NoCountry {
        why: &'static str,
    },
    Late {
        by_ms: i64,
        allowed_ms: i64,
    },
    Duplicate,
    NoRoom,
    /// Its value stands in the window already.
    Redundant(Progress),
    Counted(Progress),
    EndedRun {
        length: u32,
    },
    Learned {
        place: String,
        /// `learning`, or `seven_days` after a hit that did nothing.
        why: &'static str,
    },
    Known {
        place: String,
        last_seen: String,
    },
    Moved {
        place: String,
    },
    NotTaught {
        place: String,
    },
    Hit(Box<HitRecord>),
}

/// How far a rule has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub value: u32,
    pub needed: u32,
    /// Event time until when, inclusive, what is missing may come.
    pub until: String,
    /// Events that count.
    pub counting: Vec<EvidenceRecord>,
}

/// A hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HitRecord {
    pub value: u32,
    pub needed: u32,
    pub effect: &'static str,
    pub decision: String,
    pub case: Option<String>,
    pub exception: Option<String>,
    pub cooling_until: Option<String>,
    pub known: Vec<KnownRecord>,
    /// Events that counted.
    pub evidence: Vec<EvidenceRecord>,
}

/// A place that was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownRecord {
    /// A country; of other values a hash.
    pub place: String,
    pub last_seen: String,
}

/// What became of an answer, a request or a word of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Steered {
    pub applied: bool,
    /// Why it did nothing, in one word of the engine's trace.
    pub why: Option<&'static str>,
    /// What it said, in words, and why it did nothing where it did.
    pub what: String,
}

/// A command or mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The command, or `email_user`.
    pub action: String,
    pub id: String,
    pub rule: Option<String>,
    pub reason: String,
    pub case: Option<String>,
    /// Scope of a lock; template of a mail.
    pub detail: Option<String>,
    pub until: Option<String>,
}

/// A case at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseState {
    pub id: String,
    pub state: &'static str,
    pub version: u32,
}

/// The life of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseStory {
    pub id: String,
    pub account: String,
    pub state: &'static str,
    pub version: u32,
    pub reason: String,
    pub rules: Vec<String>,
    /// Broker times.
    pub opened: String,
    pub updated: String,
    pub evidence: Vec<EvidenceRecord>,
    /// Places that were asked about, and whether they are known now.
    pub places: Vec<crate::record::PlaceRecord>,
    pub chapters: Vec<Chapter>,
}

/// One step in the life of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Chapter {
    /// Broker time.
    pub time: String,
    pub event: String,
    pub what: String,
    pub state: &'static str,
    pub version: u32,
    pub did: Vec<Deed>,
}

/// The furthest that a rule came without a hit.
#[derive(Clone, Debug, Serialize)]
pub struct NearMiss {
    pub rule: String,
    /// Event time of the event that brought it there.
    pub time: String,
    #[serde(flatten)]
    pub progress: Progress,
    /// Event that ended the run before it was long enough, where one did.
    pub ended_by: Option<String>,
}

impl From<&Standing> for Progress {
    fn from(standing: &Standing) -> Progress {
        Progress {
            value: standing.value,
            needed: standing.needed,
            until: standing.until.to_string(),
            counting: standing.counting.iter().map(EvidenceRecord::from).collect(),
        }
    }
}

/// Why there is no country, as a word.
pub fn no_country(lookup: CountryLookup) -> &'static str {
    match lookup {
        CountryLookup::Found(country) if country.is_real() => "known",
        CountryLookup::Found(_) => "pseudo_country",
        CountryLookup::NotFound => "not_in_database",
        CountryLookup::Special => "private_address",
        CountryLookup::Failed => "database_broken",
        CountryLookup::NoDatabase => "no_database",
    }
}

impl Word {
    /// `evidence` is that of the decision, where it is a hit.
    pub fn new(rule: &Rule, said: &Said, evidence: Vec<EvidenceRecord>) -> Word {
        match said {
            Said::Off(why) => Word::Off {
                why: match why {
                    Off::Mode => "mode",
                    Off::ListMissing => "list_missing",
                    Off::DatabaseMissing => "database_missing",
                },
            },
            Said::NotMatching(unmet) => Word::NotMatching {
                file: rule.file.to_string(),
                line: unmet.line,
                text: unmet.text.to_string(),
                field: unmet.field.to_string(),
                had: unmet.had.clone(),
            },
            Said::Unkeyed { field } => Word::Unkeyed {
                field: (*field).to_owned(),
            },
            Said::Deleted => Word::Deleted,
            Said::BeforeCut { cut } => Word::BeforeCut {
                cut: cut.to_string(),
            },
            Said::Ignored { exception } => Word::Ignored {
                exception: exception.to_string(),
            },
            Said::NoValue { field } => Word::NoValue {
                field: field.clone(),
            },
            Said::NoCountry(lookup) => Word::NoCountry {
                why: no_country(*lookup),
            },
            Said::Late { by_ms, allowed_ms } => Word::Late {
                by_ms: *by_ms,
                allowed_ms: *allowed_ms,
            },
            Said::Duplicate => Word::Duplicate,
            Said::NoRoom => Word::NoRoom,
            Said::Redundant(standing) => Word::Redundant(standing.into()),
            Said::Counted(standing) => Word::Counted(standing.into()),
            Said::EndedRun { length } => Word::EndedRun { length: *length },
            Said::Learned { place, why } => Word::Learned {
                place: place.clone(),
                why: match why {
                    Lesson::Learning => "learning",
                    Lesson::SevenDays => "seven_days",
                },
            },
            Said::Known { place, last_seen } => Word::Known {
                place: place.clone(),
                last_seen: day(*last_seen),
            },
            Said::Moved { place } => Word::Moved {
                place: place.clone(),
            },
            Said::NotTaught { place } => Word::NotTaught {
                place: place.clone(),
            },
            Said::Hit(hit) => Word::Hit(Box::new(HitRecord::new(rule, hit, evidence))),
        }
    }
}

impl HitRecord {
    fn new(rule: &Rule, hit: &RuleHit, evidence: Vec<EvidenceRecord>) -> HitRecord {
        let countries = rule.detect.of() == Some(crate::rules::Field::Country);
        HitRecord {
            value: hit.value,
            needed: hit.needed,
            effect: hit.effect.as_str(),
            decision: hit.decision.clone(),
            case: hit.case.as_ref().map(ToString::to_string),
            exception: hit.exception.as_deref().map(str::to_owned),
            cooling_until: hit.cooling_until.map(|until| until.to_string()),
            known: hit
                .known
                .iter()
                .map(|known| KnownRecord {
                    place: place_name(known.value, countries),
                    last_seen: day(known.last_seen),
                })
                .collect(),
            evidence,
        }
    }
}

fn place_name(value: u64, country: bool) -> String {
    let letters = u16::try_from(value).ok().map(u16::to_be_bytes);
    let named = letters
        .filter(|_| country)
        .and_then(|letters| Country::parse(std::str::from_utf8(&letters).ok()?));
    match named {
        Some(country) => format!("country:{country}"),
        None => format!("#{value:016x}"),
    }
}

/// `2026-11-22`.
fn day(time: Timestamp) -> String {
    let text = time.to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}
