//! The cooldown of account recovery, apart from ordinary cases (docs/rules.md 16).
//!
//! A recovery that is asked for is held for 24 hours of the broker's clock, and its owner is
//! told and may stop it. Nothing shortens or restarts a hold: only a timer read back after
//! its end releases it. Whoever stops two in a row may be the thief as well as the owner, so
//! the second is for an operator to decide.
//!
//! This file knows what a recovery is; [`hold`] what events, answers, operators and the
//! timer do to it, [`told`] who hears of it.

pub mod hold;
mod told;

pub use told::{MAIL_HELD, MAIL_HELD_UNREACHED, MAIL_REFUSED, MAIL_RELEASED};

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::event::{DAY_MS, MINUTE_MS, Source, Timestamp};

use super::account::{Contact, boxed, list_bytes, text_bytes};
use super::bounce::{self, Bounced};
use super::case::KEEP_CLOSED_MS;
use super::mailing;
use super::output::{CaseId, CaseState, CaseView, Evidence, Scope};
use super::steps::Steps;

/// How long a recovery is held.
pub const HOLD_MS: i64 = DAY_MS;
/// Two cancellations are in a row where no more than this lies between them, and no
/// recovery that went through.
pub const IN_A_ROW_MS: i64 = 30 * DAY_MS;
/// Requests that one recovery names: the first, which is held, and those that joined it.
pub const MAX_REQUESTS: usize = 16;
/// What cases, mails and metrics call a recovery where others name a rule.
const RULE: &str = "recovery";
/// Why, for the owner's words about it.
const REASON: &str = "recovery_requested";

/// What is kept of the recoveries of one account.
#[derive(Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Recoveries {
    /// The one that is held, or the last one until it is over.
    #[n(0)]
    pub current: Option<Box<Recovery>>,
    /// Broker time of the last cancellation that no release or operator has followed.
    #[n(1)]
    pub cancelled: Option<Timestamp>,
    /// Broker times of the mails of the last 48 h.
    #[n(2)]
    pub mails: Vec<Timestamp>,
}

/// One recovery, from its request to its end.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Recovery {
    #[n(0)]
    pub id: Box<str>,
    #[n(1)]
    pub account: Box<str>,
    /// One of the states of recoveries.
    #[n(2)]
    pub state: CaseState,
    /// Starts at 1; rises with every change.
    #[n(3)]
    pub version: u32,
    /// Broker times.
    #[n(4)]
    pub opened: Timestamp,
    #[n(5)]
    pub updated: Timestamp,
    /// Broker time before which nothing releases it.
    #[n(6)]
    pub until: Timestamp,
    /// The one that is held first; those that were made meanwhile follow.
    #[n(7)]
    pub requests: Vec<Evidence>,
    #[n(8)]
    pub device: Option<Box<str>>,
    #[n(9)]
    pub contact: Option<Box<Contact>>,
    #[n(10)]
    pub closed_at: Option<Timestamp>,
    /// Broker time since which an operator's word is awaited.
    #[n(11)]
    pub disputed_at: Option<Timestamp>,
    /// Somebody was told of it.
    #[n(12)]
    pub told: bool,
    /// Addresses that its mails did not reach.
    #[n(13)]
    #[cbor(default, skip_if = "Vec::is_empty", decode_with = "super::codec::list")]
    pub bounced: Vec<Bounced>,
}

impl Recovery {
    pub fn case_id(&self) -> CaseId {
        CaseId(Arc::from(&*self.id))
    }

    /// Whether it was closed so long ago that it is forgotten, as a case is.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.closed_at
            .is_some_and(|closed| now.since_ms(closed) >= KEEP_CLOSED_MS)
    }

    /// Whether it waits for its end, its owner or an operator.
    pub fn is_open(&self) -> bool {
        matches!(self.state, CaseState::Held | CaseState::NeedsOperator)
    }

    /// Whether it was there when an operator spoke at `time`, by another clock than the
    /// broker's: a copied request must not decide a later dispute.
    fn was_open_at(&self, time: Timestamp) -> bool {
        self.disputed_at.unwrap_or(self.opened) <= time.plus_ms(MINUTE_MS)
    }

    fn become_state(&mut self, state: CaseState, now: Timestamp) {
        self.state = state;
        self.closed_at = (!self.is_open()).then_some(now);
        self.disputed_at = (state == CaseState::NeedsOperator).then_some(now);
        self.touch(now);
    }

    fn touch(&mut self, now: Timestamp) {
        self.version = self.version.saturating_add(1);
        self.updated = now;
    }

    /// The ids of all requests, or of the one that is held.
    fn request_ids(&self, all: bool) -> Vec<Box<str>> {
        let count = if all { self.requests.len() } else { 1 };
        let named = self.requests.iter().take(count);
        named.map(|request| request.id.clone()).collect()
    }

    pub fn view(&self, source: Source) -> CaseView {
        CaseView {
            locks: Vec::new(),
            notes: Vec::new(),
            id: self.case_id(),
            account: Arc::from(&*self.account),
            partition: source.partition,
            version: self.version,
            state: self.state,
            opened: self.opened,
            updated: self.updated,
            rules: vec![Arc::from(RULE)],
            reason: Arc::from(REASON),
            scope: Scope::All,
            evidence: self.requests.iter().rev().cloned().collect(),
            places: Vec::new(),
            device: self.device.clone(),
            locale: self.contact.as_ref().and_then(|c| c.locale.clone()),
            until: self.is_open().then_some(self.until),
            secured_at: None,
            steps: Steps::default(),
            bounced: self.bounced.clone(),
        }
    }

    /// Bytes of a box with it.
    pub fn heap_bytes(&self) -> usize {
        boxed::<Recovery>()
            + text_bytes(&self.id)
            + text_bytes(&self.account)
            + bounce::heap_bytes(&self.bounced)
            + list_bytes(&self.requests)
            + self
                .requests
                .iter()
                .map(|e| text_bytes(&e.id))
                .sum::<usize>()
            + self.device.as_deref().map_or(0, text_bytes)
            + self.contact.as_ref().map_or(0, |c| c.heap_bytes())
    }
}

impl Recoveries {
    /// Throws away what has run out. `true` where nothing is left.
    pub fn tidy(&mut self, now: Timestamp) -> bool {
        self.mails
            .retain(|sent| now.since_ms(*sent) < mailing::LONG_MS);
        self.cancelled = self.cancelled.filter(|at| now.since_ms(*at) < IN_A_ROW_MS);
        *self == Recoveries::default()
    }

    pub fn has_expired(&self, now: Timestamp) -> bool {
        let over = |at: Option<&Timestamp>, ms| at.is_some_and(|at| now.since_ms(*at) >= ms);
        over(self.mails.first(), mailing::LONG_MS) || over(self.cancelled.as_ref(), IN_A_ROW_MS)
    }

    /// Bytes of a box with it.
    pub fn heap_bytes(&self) -> usize {
        boxed::<Recoveries>()
            + list_bytes(&self.mails)
            + self.current.as_ref().map_or(0, |held| held.heap_bytes())
    }
}
