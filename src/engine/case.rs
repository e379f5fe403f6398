//! One case: from the first decision about an account to its end (ARCHITECTURE.md, Cases).
//!
//! This file knows what a case is and how its states follow each other. Which commands and
//! mails that causes is written in [`super::decide`] and [`super::control`].

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::event::{Event, HOUR_MS, Source, Timestamp};
use crate::rules::RuleKey;

use super::account::{Contact, boxed, list_bytes, text_bytes};
use super::bounce::{self, Bounced};
use super::operator::{LockedBy, Note};
use super::output::{CaseId, CaseState, CaseView, Evidence, Place, Scope};
use super::steps::Steps;

/// A closed case is kept this long, so that a late answer still finds it.
pub const KEEP_CLOSED_MS: i64 = 72 * HOUR_MS;
/// An account that was only asked about waits this long for an answer, from the case's last
/// change on (docs/rules.md 11).
pub const ASK_MS: i64 = 72 * HOUR_MS;
/// Evidence that a case shows, places that it lists, sessions that a lock names.
pub const MAX_EVIDENCE: usize = 32;
pub const MAX_PLACES: usize = 16;
pub const MAX_SESSIONS: usize = 64;
/// Rules in shadow that a case remembers.
const MAX_SHADOWS: usize = 32;
/// Bytes of a user agent that a case keeps.
const MAX_DEVICE: usize = 256;

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Case {
    #[n(0)]
    pub id: Box<str>,
    #[n(1)]
    pub account: Box<str>,
    #[n(2)]
    pub state: CaseState,
    /// Starts at 1; rises when the case grows or changes state.
    #[n(3)]
    pub version: u32,
    /// Broker times.
    #[n(4)]
    pub opened: Timestamp,
    #[n(5)]
    pub updated: Timestamp,
    #[n(6)]
    #[cbor(decode_with = "super::codec::list")]
    pub rules: Vec<Box<str>>,
    #[n(7)]
    pub reason: Box<str>,
    #[n(8)]
    pub scope: Scope,
    /// Event time of the earliest evidence.
    #[n(9)]
    pub since: Timestamp,
    #[n(10)]
    #[cbor(decode_with = "super::codec::list")]
    pub sessions: Vec<Box<str>>,
    /// Newest last.
    #[n(11)]
    #[cbor(decode_with = "super::codec::list")]
    pub evidence: Vec<Evidence>,
    #[n(12)]
    #[cbor(decode_with = "super::codec::list")]
    pub places: Vec<CasePlace>,
    #[n(13)]
    pub device: Option<Box<str>>,
    #[n(14)]
    pub contact: Option<Box<Contact>>,
    /// Broker time at which the lock ends by itself.
    #[n(15)]
    pub lock_until: Option<Timestamp>,
    /// Broker time since which nothing joins any more.
    #[n(16)]
    pub closed_at: Option<Timestamp>,
    /// No success has joined yet: the owner may know nothing of it.
    #[n(17)]
    pub only_failures: bool,
    #[n(18)]
    pub template: Option<Box<str>>,
    /// Event time of the newest evidence, kept when the evidence list is cut.
    #[n(19)]
    pub newest: Timestamp,
    /// Rules that asked for the lock; empty, too, in cases of earlier versions.
    #[n(20)]
    #[cbor(default, skip_if = "Vec::is_empty", decode_with = "super::codec::list")]
    pub locks: Vec<LockedBy>,
    /// What operators asked for, the oldest first.
    #[n(21)]
    #[cbor(default, skip_if = "Vec::is_empty", decode_with = "super::codec::list")]
    pub notes: Vec<Note>,
    /// Rules in shadow whose hits fell into this case.
    #[n(22)]
    #[cbor(default, skip_if = "Vec::is_empty", decode_with = "super::codec::list")]
    pub shadows: Vec<Box<str>>,
    /// Broker time since which it is secured, kept when its owner is back in.
    #[n(23)]
    pub secured_at: Option<Timestamp>,
    /// What has been done since then; absent: nothing yet.
    #[n(24)]
    pub steps: Option<Steps>,
    /// Addresses that its mails did not reach.
    #[n(25)]
    #[cbor(default, skip_if = "Vec::is_empty", decode_with = "super::codec::list")]
    pub bounced: Vec<Bounced>,
}

/// A value that the owner is asked about.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct CasePlace {
    #[n(0)]
    pub rule: RuleKey,
    #[n(1)]
    pub group: Option<Box<str>>,
    #[n(2)]
    pub value: u64,
    /// What the page posts back, for example `country:BR`.
    #[n(3)]
    pub text: Box<str>,
    #[n(4)]
    pub time: Timestamp,
    #[n(5)]
    pub known: bool,
    /// False for an anonymizer: it may be confirmed, and is never learned.
    #[n(6)]
    pub teach: bool,
}

/// What a hit adds to a case.
#[derive(Clone, Debug)]
pub struct Addition<'a> {
    pub rule: &'a str,
    pub evidence: Vec<Evidence>,
    pub sessions: Vec<Box<str>>,
    pub place: Option<CasePlace>,
    pub device: Option<Box<str>>,
    pub contact: Option<Contact>,
    pub success: bool,
}

/// What a hit did to the case that it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The rule's first hit, or a new place: the version rose.
    pub grew: bool,
    /// A new session to suspend.
    pub new_sessions: bool,
    /// The first success in a case of failures only.
    pub first_success: bool,
}

/// What a case keeps of the device that `event` came from.
pub fn device_of(event: &Event<'_>) -> Option<Box<str>> {
    let agent = event.user_agent.as_deref()?;
    let end = (0..=MAX_DEVICE.min(agent.len()))
        .rev()
        .find(|at| agent.is_char_boundary(*at))
        .unwrap_or(0);
    Some(Box::from(&agent[..end]))
}

impl Case {
    /// A case that nothing has been added to yet.
    pub fn new(id: String, account: &str, reason: &str, now: Timestamp) -> Case {
        Case {
            id: id.into(),
            account: account.into(),
            state: CaseState::Asked,
            version: 0,
            opened: now,
            updated: now,
            rules: Vec::new(),
            reason: reason.into(),
            scope: Scope::Unfamiliar,
            since: Timestamp(i64::MAX),
            sessions: Vec::new(),
            evidence: Vec::new(),
            places: Vec::new(),
            device: None,
            contact: None,
            lock_until: None,
            closed_at: None,
            only_failures: true,
            template: None,
            newest: Timestamp(0),
            locks: Vec::new(),
            notes: Vec::new(),
            shadows: Vec::new(),
            secured_at: None,
            steps: None,
            bounced: Vec::new(),
        }
    }

    /// Adds a hit (docs/rules.md 10): each rule's first hit and each new place raise the
    /// version; everything else is only recorded by its decision.
    pub fn join(&mut self, hit: Addition<'_>, now: Timestamp) -> Joined {
        let first_of_rule = !self.rules.iter().any(|rule| **rule == *hit.rule);
        let mut new_place = false;
        if let Some(place) = &hit.place {
            let listed = self.places.iter_mut().find(|listed| {
                listed.rule == place.rule
                    && listed.value == place.value
                    && listed.group == place.group
            });
            match listed {
                // Seen from an ordinary address too, it can be learned.
                Some(listed) => listed.teach |= place.teach,
                None => new_place = self.places.len() < MAX_PLACES,
            }
        }
        let mut new_sessions = false;
        for session in hit.sessions {
            if !self.sessions.contains(&session) {
                // The oldest goes first, or noise could crowd out the thief's.
                if self.sessions.len() >= MAX_SESSIONS {
                    self.sessions.remove(0);
                }
                self.sessions.push(session);
                new_sessions = true;
            }
        }
        let joined = Joined {
            grew: first_of_rule || new_place,
            new_sessions,
            first_success: hit.success && self.only_failures,
        };
        if joined.grew || joined.first_success {
            self.add_evidence(hit.evidence);
            if first_of_rule {
                self.rules.push(hit.rule.into());
            }
            self.places.extend(hit.place.filter(|_| new_place));
            self.device = hit.device.or(self.device.take());
        }
        if hit.success {
            self.only_failures = false;
        }
        if let Some(contact) = hit.contact {
            self.take_contact(contact);
        }
        if joined != Joined::default() {
            self.touch(now);
        }
        joined
    }

    /// Notes that `rule` asked for the lock.
    pub fn lock_by(&mut self, rule: &str, now: Timestamp) {
        if !self.locks.iter().any(|lock| *lock.rule == *rule) {
            self.locks.reserve_exact(1);
            self.locks.push(LockedBy {
                rule: rule.into(),
                time: now,
            });
        }
    }

    /// Notes a hit of a rule in shadow; true where it is the rule's first.
    pub fn note_shadow(&mut self, rule: &str) -> bool {
        let is_new = !self.shadows.iter().any(|held| **held == *rule);
        let fits = is_new && self.shadows.len() < MAX_SHADOWS;
        if fits {
            self.shadows.push(rule.into());
        }
        fits
    }

    fn add_evidence(&mut self, evidence: Vec<Evidence>) {
        for item in evidence {
            self.since = self.since.min(item.time);
            self.newest = self.newest.max(item.time);
            if !self
                .evidence
                .iter()
                .any(|held| held.id == item.id && held.time == item.time)
            {
                self.evidence.push(item);
            }
        }
        let excess = self.evidence.len().saturating_sub(MAX_EVIDENCE);
        self.evidence.drain(..excess);
    }

    fn take_contact(&mut self, contact: Contact) {
        self.contact = Some(Box::new(match self.contact.take() {
            Some(held) => contact.merged_with(*held),
            None => contact,
        }));
    }

    /// Raises the version: the owner's page has something new to show.
    pub fn touch(&mut self, now: Timestamp) {
        self.version = self.version.saturating_add(1);
        self.updated = now;
    }

    /// Moves to `state`; a state that nothing joins any more closes the case.
    pub fn become_state(&mut self, state: CaseState, now: Timestamp) {
        self.state = state;
        if state == CaseState::Secured {
            self.secured_at = Some(now);
            self.steps = None;
        }
        if state.is_open() {
            self.closed_at = None;
        } else {
            self.closed_at = Some(now);
            self.lock_until = None;
        }
        self.touch(now);
    }

    /// Whether it was closed so long ago that it is forgotten, whether or not anybody has
    /// swept it yet.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.closed_at
            .is_some_and(|closed| now.since_ms(closed) >= KEEP_CLOSED_MS)
    }

    /// Until when the owner of an account that is not locked is asked; `None` for any other
    /// case.
    pub fn asked_until(&self) -> Option<Timestamp> {
        (self.state == CaseState::Asked).then(|| self.updated.plus_ms(ASK_MS))
    }

    /// When the lock ends by itself; `None` where it does not.
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.lock_until.filter(|_| self.state == CaseState::Open)
    }

    pub fn case_id(&self) -> CaseId {
        CaseId(Arc::from(&*self.id))
    }

    pub fn view(&self, source: Source, link_valid_ms: i64) -> CaseView {
        CaseView {
            id: self.case_id(),
            account: Arc::from(&*self.account),
            partition: source.partition,
            version: self.version,
            state: self.state,
            opened: self.opened,
            updated: self.updated,
            rules: self.rules.iter().map(|rule| Arc::from(&**rule)).collect(),
            reason: Arc::from(&*self.reason),
            scope: self.scope,
            evidence: self.evidence.iter().rev().cloned().collect(),
            places: self
                .places
                .iter()
                .map(|place| Place {
                    value: place.text.clone(),
                    time: place.time,
                    known: place.known,
                })
                .collect(),
            device: self.device.clone(),
            locale: self.contact.as_ref().and_then(|c| c.locale.clone()),
            locks: self.locks.clone(),
            notes: self.notes.clone(),
            until: match self.state {
                CaseState::Unlocked => self.closed_at.map(|at| at.plus_ms(link_valid_ms)),
                _ => self.lock_until,
            },
            secured_at: self.secured_at,
            steps: self.steps.unwrap_or_default(),
            bounced: self.bounced.clone(),
        }
    }

    /// Bytes of a box with it.
    pub fn heap_bytes(&self) -> usize {
        let texts = |list: &[Box<str>]| list.iter().map(|t| text_bytes(t)).sum::<usize>();
        let optional = |text: &Option<Box<str>>| text.as_deref().map_or(0, text_bytes);
        let evidence = self.evidence.iter().map(|e| text_bytes(&e.id));
        let places = self.places.iter();
        boxed::<Case>()
            + text_bytes(&self.id)
            + text_bytes(&self.account)
            + text_bytes(&self.reason)
            + optional(&self.device)
            + optional(&self.template)
            + list_bytes(&self.rules)
            + texts(&self.rules)
            + list_bytes(&self.locks)
            + self
                .locks
                .iter()
                .map(|lock| text_bytes(&lock.rule))
                .sum::<usize>()
            + list_bytes(&self.notes)
            + self.notes.iter().map(Note::heap_bytes).sum::<usize>()
            + bounce::heap_bytes(&self.bounced)
            + list_bytes(&self.shadows)
            + texts(&self.shadows)
            + list_bytes(&self.sessions)
            + texts(&self.sessions)
            + list_bytes(&self.evidence)
            + evidence.sum::<usize>()
            + list_bytes(&self.places)
            + places
                .map(|p| text_bytes(&p.text) + optional(&p.group))
                .sum::<usize>()
            + self
                .contact
                .as_ref()
                .map_or(0, |contact| contact.heap_bytes())
    }
}
