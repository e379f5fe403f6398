//! What every rule said of one event: for `explain`, rule tests, and whoever asks why not.
//!
//! A trace watches and changes nothing: an event does the same with it as without, and
//! without it nothing is written down. The reasons are those at which the engine itself
//! turned away, never a second judgement.

mod steered;

use std::sync::Arc;

use crate::enrich::CountryLookup;
use crate::event::{DAY_MS, Timestamp};
use crate::rules::eval::Enriched;
use crate::rules::{By, Detect, Mode, Rule};

use super::Engine;
use super::account::{Account, Entry, Seen};
use super::detect::{self, NoHit, Place};
use super::output::{CaseId, Decision, Effect, Evidence};
use super::streak;
use super::window::{self, Refused};

pub use steered::{Declined, Steered};

/// What was said of one event, by [`Engine::handle_traced`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The event's time as it was judged.
    pub time: Timestamp,
    /// It was further ahead of the broker than docs/rules.md 2 allows, and took its time.
    pub from_the_future: bool,
    /// In order of the rules' ids: every rule of the set at least once. A rule of runs may
    /// be there twice, where one event both lengthens a run and ends one.
    pub rules: Vec<RuleSaid>,
    /// What became of it, where it steers cases; `None` for any other event.
    pub steered: Option<Steered>,
}

/// What one rule said.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSaid {
    /// Its id.
    pub rule: Arc<str>,
    pub said: Said,
}

/// Why an event counted or did not, in the order in which the engine asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// The rule is not looked at.
    Off(Off),
    /// A line of `when` does not hold: the first one, as the file orders them.
    NotMatching(Unmet),
    /// The event lacks the field that the rule's `by` names (docs/rules.md 9).
    Unkeyed { field: &'static str },
    /// The account was deleted with this event, before any rule was asked.
    Deleted,
    /// At or before the account's cut (docs/rules.md 10).
    BeforeCut { cut: Timestamp },
    /// An exception hides it from the rule (docs/rules.md 12).
    Ignored { exception: Arc<str> },
    /// The field that `of` names is absent.
    NoValue { field: String },
    /// `first_seen: country` has no country to judge (docs/rules.md 8).
    NoCountry(CountryLookup),
    /// Later than docs/rules.md 3 allows, measured against the newest entry held.
    Late { by_ms: i64, allowed_ms: i64 },
    /// The same id and time is held already (docs/rules.md 5).
    Duplicate,
    /// As many people share this account as a rule may keep apart (docs/rules.md 9).
    NoRoom,
    /// Its value stands in the window already, before and after it: it adds nothing.
    Redundant(Standing),
    /// It counts, and more is needed.
    Counted(Standing),
    /// It ended a run of this many events; 0: none was under way.
    EndedRun { length: u32 },
    /// The place was not known and is from now on.
    Learned { place: String, why: Lesson },
    /// The place was known.
    Known {
        place: String,
        /// The day on which that was last written down, as its first millisecond.
        last_seen: Timestamp,
    },
    /// The place was not known, but its network moved on the map: the previous database
    /// calls it by another name, which was (docs/rules.md 8).
    Moved { place: String },
    /// The account knows too little to judge by, and an address in `anonymizers` must not
    /// teach it (docs/rules.md 8).
    NotTaught { place: String },
    /// The rule's condition is met.
    Hit(Box<RuleHit>),
}

/// Why a rule is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// `mode: off`.
    Mode,
    /// A list that it names could not be loaded.
    ListMissing,
    /// It tests the country or the network's number, there is no database to ask, and the
    /// event does not say it.
    DatabaseMissing,
}

/// A line of a condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// In the rule's file, from 1.
    pub line: u32,
    /// The line as the file writes it.
    pub text: Box<str>,
    /// The field it tests.
    pub field: Box<str>,
    /// What the event has there; `None` where nothing.
    pub had: Option<String>,
}

/// How far a rule has come with an event: of all windows or runs that the event stands in,
/// the fullest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Events or distinct values.
    pub value: u32,
    pub needed: u32,
    /// What counts, oldest first; of each distinct value the newest.
    pub counting: Vec<Evidence>,
    /// Event time until when, inclusive, what is missing may come.
    pub until: Timestamp,
}

/// Why a place became known without an owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The rule was still learning.
    Learning,
    /// Seven days had passed since a hit that did nothing (`shadow`, `stale`).
    SevenDays,
}

/// A hit, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleHit {
    pub value: u32,
    pub needed: u32,
    pub effect: Effect,
    /// The exception that kept it from acting (docs/rules.md 12).
    pub exception: Option<Arc<str>>,
    /// The decision's id.
    pub decision: String,
    pub case: Option<CaseId>,
    /// Broker time until when the rule's cooldown for this account runs, where it did
    /// before this event.
    pub cooling_until: Option<Timestamp>,
    /// Of `first_seen`: the places that were known.
    pub known: Vec<KnownPlace>,
}

/// A place that a `first_seen` rule knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPlace {
    /// Of countries their two letters' bytes; of other values a hash.
    pub value: u64,
    /// The day on which it was last written down, as its first millisecond.
    pub last_seen: Timestamp,
}

impl Trace {
    /// What the rule of this id said; the last word where it said two things.
    pub fn of(&self, rule: &str) -> Option<&Said> {
        let mut said = self.rules.iter().rev();
        said.find(|said| *said.rule == *rule).map(|said| &said.said)
    }

    pub(super) fn push(&mut self, rule: &Rule, said: Said) {
        self.rules.push(RuleSaid {
            rule: Arc::clone(&rule.id),
            said,
        });
    }

    /// Adds the rules that were not asked, because the table by type and outcome, or a
    /// line of their `when`, spoke against it.
    pub(super) fn complete(&mut self, engine: &Engine, event: &Enriched<'_>) {
        self.time = event.time;
        self.from_the_future = event.time != event.event.time;
        for rule in engine.rules().rules() {
            if !self.rules.iter().any(|said| said.rule == rule.id) {
                self.push(rule, passed_over(rule, event));
            }
        }
        self.rules.sort_by(|a, b| a.rule.cmp(&b.rule));
    }
}

fn passed_over(rule: &Rule, event: &Enriched<'_>) -> Said {
    if rule.mode == Mode::Off {
        return Said::Off(Off::Mode);
    }
    if !rule.usable {
        return Said::Off(Off::ListMissing);
    }
    if !event.has(rule.needs) {
        return Said::Off(Off::DatabaseMissing);
    }
    if let Some(line) = rule.when.first_unmet(event) {
        return Said::NotMatching(Unmet {
            line: line.written.line,
            text: line.written.text.clone(),
            field: line.written.field.clone(),
            had: event.value_text(line.field),
        });
    }
    match rule.by {
        By::Ip if event.event.ip.is_none() => Said::Unkeyed { field: "ip" },
        By::Account | By::AccountAndUser if event.event.account.is_none() => {
            Said::Unkeyed { field: "account" }
        }
        By::Ip | By::Account | By::AccountAndUser => Said::Deleted,
    }
}

/// What a rule held of an account before the event, of which its words are made up.
pub(super) struct Before {
    entries: Vec<Entry>,
    seen: Seen,
    last_acted: Timestamp,
}

impl Before {
    pub fn of(account: &Account, place: &Place<'_>) -> Before {
        let state = account.rule(place.rule.key, place.group);
        let mut entries = state.map_or_else(Vec::new, |state| state.entries.clone());
        if place.resident_run
            && let Some(end) = account.run_end()
        {
            window::insert(&mut entries, Entry::end_of_run(end));
        }
        let boxed = state.and_then(|state| state.seen.as_deref().cloned());
        Before {
            entries,
            seen: boxed.unwrap_or_else(|| match place.resident {
                true => account.inline_seen(),
                false => Seen::default(),
            }),
            last_acted: state.map_or(Timestamp(0), |state| state.last_acted),
        }
    }

    /// What is said of an event that was no hit.
    pub fn no_hit(
        self,
        engine: &Engine,
        place: &Place<'_>,
        event: &Enriched<'_>,
        why: NoHit,
    ) -> Said {
        match why {
            NoHit::NoRoom => Said::NoRoom,
            NoHit::NoValue => Said::NoValue {
                field: place
                    .rule
                    .detect
                    .of()
                    .map_or_else(String::new, |of| engine.rules().field_name(of).to_owned()),
            },
            NoHit::NoCountry => Said::NoCountry(event.country_lookup()),
            NoHit::Refused(Refused::Late { by_ms, allowed_ms }) => Said::Late { by_ms, allowed_ms },
            NoHit::Refused(Refused::Duplicate) => Said::Duplicate,
            NoHit::Redundant => Said::Redundant(self.standing(place, event)),
            NoHit::Held => Said::Counted(self.standing(place, event)),
            NoHit::NotTaught => Said::NotTaught {
                place: self.place(place, event).1,
            },
            NoHit::Learned => {
                let (value, place) = self.place(place, event);
                let pending = &self.seen.pending;
                let waited = pending.iter().any(|pending| pending.value == value);
                let why = if waited {
                    Lesson::SevenDays
                } else {
                    Lesson::Learning
                };
                Said::Learned { place, why }
            }
            NoHit::Moved => Said::Moved {
                place: self.place(place, event).1,
            },
            NoHit::Known => {
                let (value, place) = self.place(place, event);
                let held = self.seen.known.iter().find(|known| known.value == value);
                Said::Known {
                    place,
                    last_seen: held.map_or(event.time, |known| first_of_day(known.day)),
                }
            }
        }
    }

    /// What is said of an event that ends a run.
    pub fn end_of_run(&self, place: &Place<'_>, event: &Enriched<'_>) -> Said {
        let again = |held: &Entry| {
            held.time == event.time && (held.id.is_empty() || *held.id == *event.event.id)
        };
        if self.entries.iter().any(|held| held.is_break && again(held)) {
            return Said::Duplicate;
        }
        let length = match place.rule.detect {
            Detect::Streak { max_gap_ms, .. } => {
                streak::run_before(&self.entries, event.time, max_gap_ms)
            }
            _ => 0,
        };
        Said::EndedRun {
            length: length as u32,
        }
    }

    /// What is said of a hit, once it has been decided.
    pub fn hit(self, place: &Place<'_>, decision: &Decision) -> Said {
        let needed = place.rule.detect.at_least();
        let of_place = matches!(place.rule.detect, Detect::FirstSeen { .. });
        let cooling = self.last_acted.0 != 0 && place.rule.cooldown_ms > 0;
        let known = self.seen.known.iter().filter(|_| of_place);
        Said::Hit(Box::new(RuleHit {
            value: decision.value,
            needed,
            effect: decision.effect,
            exception: decision.exception.clone(),
            decision: decision.id.clone(),
            case: decision.case.clone(),
            cooling_until: cooling.then(|| self.last_acted.plus_ms(place.rule.cooldown_ms)),
            known: known
                .map(|known| KnownPlace {
                    value: known.value,
                    last_seen: first_of_day(known.day),
                })
                .collect(),
        }))
    }

    /// The event's place, as a value and as pages name it.
    fn place(&self, place: &Place<'_>, event: &Enriched<'_>) -> (u64, String) {
        match &place.rule.detect {
            Detect::FirstSeen { of, .. } => {
                detect::place_of(place.settings, event, *of).unwrap_or_default()
            }
            _ => (0, String::new()),
        }
    }

    /// How far the rule is with the event among what was held before.
    fn standing(mut self, place: &Place<'_>, event: &Enriched<'_>) -> Standing {
        let value = match &place.rule.detect {
            Detect::Distinct {
                of,
                prefix4,
                prefix6,
                ..
            } => detect::value_of(place.settings, event, *of, *prefix4, *prefix6),
            _ => None,
        };
        let entry = detect::entry(event, value.unwrap_or(0), false);
        let at = window::insert(&mut self.entries, entry);
        let (value, counting, until) = match &place.rule.detect {
            Detect::Streak { max_gap_ms, .. } => {
                let run = &self.entries[streak::run_around(&self.entries, at, *max_gap_ms)];
                let until = run.last().map(|last| last.time.plus_ms(*max_gap_ms));
                (run.len(), run.to_vec(), until)
            }
            Detect::Count { within_ms, .. } => {
                window::fullest(&self.entries, at, *within_ms, false)
            }
            Detect::Distinct { within_ms, .. } => {
                window::fullest(&self.entries, at, *within_ms, true)
            }
            Detect::Each | Detect::FirstSeen { .. } => (1, Vec::new(), None),
        };
        Standing {
            value: value as u32,
            needed: place.rule.detect.at_least(),
            counting: counting.iter().map(Entry::evidence).collect(),
            until: until.unwrap_or(event.time),
        }
    }
}

fn first_of_day(day: u16) -> Timestamp {
    Timestamp(i64::from(day) * DAY_MS)
}
