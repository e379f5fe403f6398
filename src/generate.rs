//! Made-up login traffic with the truth in it: what is ordinary, and what is which attack.
//!
//! The same seed gives the same events. Ordinary traffic has what trips naive rules (wrong
//! passwords, the same one again, phones on other networks, mistyped codes, forgotten
//! passwords) and none of the shipped rules decides anything about it; each attack makes its
//! rule decide exactly once. Every event says which it is in `attributes.label`.

mod attack;
mod ordinary;
mod people;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

pub use attack::Attack;
pub use people::{Person, World};

use crate::event::Timestamp;

/// The label of events that are no attack.
pub const ORDINARY: &str = "ordinary";

/// One event of `auth.events`, as the login pipeline writes it (docs/contract.md section 2).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrafficEvent {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Milliseconds since 1970.
    #[serde(serialize_with = "milliseconds")]
    pub time: Timestamp,
    pub account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Only written where true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    pub user_agent: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub email: String,
    pub locale: &'static str,
    pub attributes: BTreeMap<&'static str, &'static str>,
}

fn milliseconds<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(time.0)
}

impl TrafficEvent {
    fn new(person: &Person, ip: &str, kind: &'static str, time: Timestamp) -> TrafficEvent {
        TrafficEvent {
            id: String::new(),
            kind,
            time,
            account: person.account.clone(),
            outcome: None,
            ip: ip.to_owned(),
            method: None,
            reason: None,
            repeat: false,
            user_agent: person.user_agent,
            session: None,
            email: person.email.clone(),
            locale: person.locale,
            attributes: BTreeMap::from([("label", ORDINARY)]),
        }
    }

    fn outcome(mut self, outcome: &'static str) -> Self {
        self.outcome = Some(outcome);
        self
    }

    fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    fn session(mut self, session: String) -> Self {
        self.session = Some(session);
        self
    }

    /// The event as one line of JSON, without the line's end.
    ///
    /// # Errors
    /// Never: text and numbers only.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub seed: u64,
    /// Time of the first event.
    pub start: Timestamp,
    /// Mean events a second of event time; more than 0.
    pub per_second: f64,
}

/// Events in order of time, without end.
pub struct Traffic {
    world: World,
    rng: fastrand::Rng,
    settings: Settings,
    /// When the next person does something.
    next: Timestamp,
    /// Events that are decided and not handed out, the earliest first; the number keeps the
    /// order of those at the same time.
    waiting: BinaryHeap<Reverse<Waiting>>,
    made: u64,
    handed_out: u64,
    /// Until when each person is busy: one thing at a time.
    busy: Vec<Timestamp>,
    /// Whether each person has signed in yet.
    known: Vec<bool>,
    attacked: Vec<bool>,
}

#[derive(Debug, PartialEq)]
struct Waiting {
    time: Timestamp,
    number: u64,
    event: TrafficEvent,
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

impl Traffic {
    pub fn new(world: World, settings: Settings) -> Traffic {
        let people = world.people().len();
        Traffic {
            world,
            rng: fastrand::Rng::with_seed(settings.seed),
            settings,
            next: settings.start,
            waiting: BinaryHeap::new(),
            made: 0,
            handed_out: 0,
            busy: vec![Timestamp(i64::MIN); people],
            known: vec![false; people],
            attacked: vec![false; people],
        }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Plays `attack` against an account that has signed in before and was not attacked yet,
    /// beginning after what was handed out so far. The account, or `None` where there is no
    /// such account.
    pub fn attack(&mut self, attack: Attack) -> Option<String> {
        let fit: Vec<usize> = (0..self.known.len())
            .filter(|at| self.known[*at] && !self.attacked[*at])
            .collect();
        let at = *fit.get(self.rng.usize(..fit.len().max(1)))?;
        self.attacked[at] = true;
        let start = self.next.max(self.busy[at]).plus_ms(1);
        let person = &self.world.people()[at];
        let events = attack.events(person, &self.world, start, &mut self.rng);
        // Its owner is silent meanwhile, and afterwards locked out.
        self.busy[at] = Timestamp(i64::MAX);
        let account = person.account.clone();
        self.wait_for(events);
        Some(account)
    }

    /// Events that are decided and not handed out yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn wait_for(&mut self, events: Vec<TrafficEvent>) {
        for event in events {
            self.waiting.push(Reverse(Waiting {
                time: event.time,
                number: self.made,
                event,
            }));
            self.made += 1;
        }
    }

    /// Lets the next person do something.
    fn act(&mut self) {
        let now = self.next;
        let at = self.rng.usize(..self.busy.len());
        if self.busy[at] < now {
            let person = &self.world.people()[at];
            let (events, signs_in) = ordinary::script(person, now, &mut self.rng);
            self.busy[at] = events.last().map_or(now, |event| event.time);
            self.known[at] |= signs_in;
            self.wait_for(events);
        }
        // Exponential gaps; a script has about two events.
        let mean_ms = ordinary::MEAN_EVENTS * 1_000.0 / self.settings.per_second;
        let gap_ms = -mean_ms * (1.0 - self.rng.f64()).ln();
        self.next = now.plus_ms((gap_ms as i64).clamp(0, crate::event::DAY_MS));
    }
}

impl Iterator for Traffic {
    type Item = TrafficEvent;

    fn next(&mut self) -> Option<TrafficEvent> {
        loop {
            let due = |waiting: &Reverse<Waiting>| waiting.0.time < self.next;
            if self.waiting.peek().is_some_and(due) {
                let Reverse(Waiting { mut event, .. }) = self.waiting.pop()?;
                event.id = format!("g{:x}-{}", self.settings.seed, self.handed_out);
                self.handed_out += 1;
                return Some(event);
            }
            self.act();
        }
    }
}
