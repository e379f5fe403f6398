//! What is kept of one account.
//!
//! A quiet account is 40 bytes: its key, two known countries with the days they were last
//! seen, and an empty box. Everything else (windows, runs, a case) lives in the box while
//! there is something to keep.

use std::net::IpAddr;

use minicbor::{Decode, Encode};

use crate::event::{Country, Timestamp};
use crate::rules::RuleKey;

use super::StateKey;
use super::case::Case;
pub use super::contact::Contact;
use super::ended::Ended;
use super::output::Evidence;
use super::recovery::{Recoveries, Recovery};
use super::room::Slot;

/// Windows and runs kept within one account for people who share it (docs/rules.md 9).
pub const MAX_GROUPS: usize = 64;
/// Values that one `first_seen` rule remembers of one account; the oldest goes first.
pub const MAX_KNOWN: usize = 64;

/// One account, or one address of a rule that is kept `by: ip`.
#[derive(Debug)]
pub struct Account {
    pub key: StateKey,
    /// Known values of the rule set's resident rule, unless that rule has a [`Seen`].
    pub inline: [Inline; 2],
    /// Event time of the last end of a run of the rule set's resident rule of runs, while
    /// nothing else is held of that rule: milliseconds since 1970, zero for none.
    run_end: [u8; 6],
    /// Events that the resident rule learned from, unless it has a [`Seen`].
    pub learned: u8,
    /// [`Account::by_ip`] in the highest bit, [`Account::era`] in the others.
    marks: u8,
    pub rest: Option<Box<Rest>>,
}

const BY_IP: u8 = 1 << 7;
/// Eras that an account's bytes can tell apart.
pub const MAX_ERAS: usize = BY_IP as usize;

const _: () = assert!(size_of::<Account>() == 40);

/// A country and the day it was last seen; an empty place has a zero country.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inline {
    pub country: [u8; 2],
    pub day: u16,
}

/// Everything that a quiet account does not have.
#[derive(Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Rest {
    #[n(0)]
    #[cbor(decode_with = "super::codec::list")]
    pub rules: Vec<RuleState>,
    #[n(1)]
    pub case: Option<Box<Case>>,
    /// Events at or before it never count (docs/rules.md 10); zero: there is none.
    #[n(2)]
    pub cut: Timestamp,
    #[n(3)]
    pub email_change: Option<EmailChange>,
    /// Broker times of the mails of the last 48 h.
    #[n(4)]
    #[cbor(decode_with = "super::codec::list")]
    pub mails: Vec<Timestamp>,
    #[n(5)]
    pub recoveries: Option<Box<Recoveries>>,
    #[n(6)]
    pub ended: Option<Box<Ended>>,
    /// Broker times of the mails of the last 48 h that ask nothing, where there are any.
    #[n(7)]
    pub calm: Option<Vec<Timestamp>>,
    /// Where the account stands among those that may be forgotten.
    #[cbor(skip)]
    pub slot: Slot,
}

/// The address changed: links go to the previous one for a while.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct EmailChange {
    /// Broker time.
    #[n(0)]
    pub at: Timestamp,
    #[n(1)]
    pub previous: Box<str>,
}

/// What one rule keeps of one account, or of one person who shares it.
#[derive(Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct RuleState {
    #[n(0)]
    pub key: RuleKey,
    /// The user, for rules kept by account and user.
    #[n(1)]
    pub group: Option<Box<str>>,
    /// Broker time of the last decision that acted; zero: none.
    #[n(2)]
    pub last_acted: Timestamp,
    /// Sorted by event time, then arrival.
    #[n(3)]
    #[cbor(decode_with = "super::codec::list")]
    pub entries: Vec<Entry>,
    /// The newest evidence that had an address.
    #[n(4)]
    pub contact: Option<Box<Contact>>,
    #[n(5)]
    pub seen: Option<Box<Seen>>,
}

/// One event that counts, or that ends a run.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Entry {
    #[n(0)]
    pub time: Timestamp,
    #[n(1)]
    pub id: Box<str>,
    /// By which values are told apart; zero where nothing is.
    #[n(2)]
    pub value: u64,
    #[n(3)]
    pub is_break: bool,
    #[n(4)]
    pub ip: Option<IpAddr>,
    #[n(5)]
    pub country: Option<Country>,
    #[n(6)]
    pub session: Option<Box<str>>,
}

impl Entry {
    /// The end of a run of which only the time is known.
    pub fn end_of_run(time: Timestamp) -> Entry {
        Entry {
            time,
            id: Box::default(),
            value: 0,
            is_break: true,
            ip: None,
            country: None,
            session: None,
        }
    }

    pub fn evidence(&self) -> Evidence {
        Evidence {
            id: self.id.clone(),
            time: self.time,
            ip: self.ip,
            country: self.country,
        }
    }
}

/// Values that a `first_seen` rule knows (docs/rules.md 8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seen {
    /// Events learned from, saturating.
    #[n(0)]
    pub learned: u32,
    /// Event time of the first event, for rules that learn for a span of time.
    #[n(1)]
    pub since: Option<Timestamp>,
    #[n(2)]
    #[cbor(decode_with = "super::codec::list")]
    pub known: Vec<KnownValue>,
    /// Hits that did nothing (`shadow`, `stale`): known after seven days.
    #[n(3)]
    #[cbor(decode_with = "super::codec::list")]
    pub pending: Vec<PendingValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct KnownValue {
    #[n(0)]
    pub value: u64,
    #[n(1)]
    pub day: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PendingValue {
    #[n(0)]
    pub value: u64,
    /// Event time of the first hit.
    #[n(1)]
    pub since: Timestamp,
}

impl Account {
    pub fn new(key: StateKey) -> Account {
        Account {
            key,
            inline: [Inline::default(); 2],
            run_end: [0; 6],
            learned: 0,
            marks: 0,
            rest: None,
        }
    }

    /// The record of an address, which no rule may lock: nothing in it is an owner's.
    pub fn by_ip(&self) -> bool {
        self.marks & BY_IP != 0
    }

    pub fn set_by_ip(&mut self) {
        self.marks |= BY_IP;
    }

    /// Which of the partition's [`super::eras::Eras`] says whose memory stands in the
    /// account's own bytes; below [`MAX_ERAS`].
    pub fn era(&self) -> u8 {
        self.marks & !BY_IP
    }

    pub fn set_era(&mut self, era: u8) {
        self.marks = self.marks & BY_IP | era & !BY_IP;
    }

    /// The end of a run that stands in the account's own bytes.
    pub fn run_end(&self) -> Option<Timestamp> {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&self.run_end);
        match i64::from_le_bytes(bytes) {
            0 => None,
            ms => Some(Timestamp(ms)),
        }
    }

    /// Takes it out.
    pub fn take_run_end(&mut self) -> Option<Timestamp> {
        let at = self.run_end();
        self.run_end = [0; 6];
        at
    }

    /// Puts it there. False where it cannot stand there: the account is one that may be
    /// dropped, and must be found for that, or the time has no six bytes.
    pub fn put_run_end(&mut self, at: Timestamp) -> bool {
        let [bytes @ .., 0, 0] = at.0.to_le_bytes() else {
            return false;
        };
        let fits = at.0 != 0 && self.has_learned();
        if fits {
            self.run_end = bytes;
        }
        fits
    }

    /// Puts the end of a run of the resident rule `key` there, where nothing else is held of
    /// it: most accounts succeed again and again, and none of them should cost a box for it.
    pub fn fold_run_end(&mut self, key: RuleKey) {
        let alone = self.rule(key, None).and_then(|state| {
            let nothing_else =
                state.last_acted.0 == 0 && state.contact.is_none() && state.seen.is_none();
            match &*state.entries {
                [end] if end.is_break && nothing_else => Some(end.time),
                _ => None,
            }
        });
        if alone.is_some_and(|at| self.put_run_end(at)) {
            self.drop_rule(key);
        }
    }

    pub fn cut(&self) -> Timestamp {
        self.rest.as_ref().map_or(Timestamp(0), |rest| rest.cut)
    }

    pub fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    pub fn case(&self) -> Option<&Case> {
        self.rest.as_ref()?.case.as_deref()
    }

    /// The account's recovery: the one that is held, or the last one.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.rest.as_ref()?.recoveries.as_ref()?.current.as_deref()
    }

    /// The state of a rule, made where there is none. `None` where the account already has
    /// as many groups as it may keep.
    pub fn rule_mut(&mut self, key: RuleKey, group: Option<&str>) -> Option<&mut RuleState> {
        let rest = self.rest_mut();
        let at = rest
            .rules
            .iter()
            .position(|state| state.key == key && state.group.as_deref() == group);
        match at {
            Some(at) => rest.rules.get_mut(at),
            None => {
                if group.is_some()
                    && rest.rules.iter().filter(|state| state.key == key).count() >= MAX_GROUPS
                {
                    return None;
                }
                // Few rules ever keep something of one account: no room for more.
                rest.rules.reserve_exact(1);
                rest.rules.push(RuleState {
                    key,
                    group: group.map(Box::from),
                    ..RuleState::default()
                });
                rest.rules.last_mut()
            }
        }
    }

    /// Drops what one rule, kept by account, holds.
    pub fn drop_rule(&mut self, key: RuleKey) {
        if let Some(rest) = self.rest.as_mut() {
            rest.rules
                .retain(|state| state.key != key || state.group.is_some());
        }
    }

    pub fn rule(&self, key: RuleKey, group: Option<&str>) -> Option<&RuleState> {
        self.rest
            .as_ref()?
            .rules
            .iter()
            .find(|state| state.key == key && state.group.as_deref() == group)
    }

    /// Whether the account knows a place: such an account is never dropped for want of
    /// memory (docs/rules.md 15). What an address has seen is no owner's knowledge.
    pub fn has_learned(&self) -> bool {
        !self.by_ip()
            && (self.learned > 0
                || self.inline[0].country != [0; 2]
                || self
                    .rest
                    .as_ref()
                    .is_some_and(|rest| rest.rules.iter().any(|state| state.seen.is_some())))
    }

    /// Forgets what windows and runs hold, and keeps what was learned.
    pub fn forget_windows(&mut self) {
        if let Some(rest) = self.rest.as_mut() {
            for state in &mut rest.rules {
                state.forget_window();
            }
        }
    }

    /// Makes place for one more person among those who share the account, where there is
    /// none: the one with the fewest entries goes, and of several the longest unseen, or
    /// made-up names could keep the owner's own from being watched. True where one went.
    pub fn make_place_for(&mut self, key: RuleKey, user: &str, max_bytes: usize) -> bool {
        let bytes = self.heap_bytes();
        let Some(rest) = self.rest.as_mut() else {
            return false;
        };
        let people = rest.rules.iter().filter(|state| state.key == key);
        let is_here = |state: &RuleState| state.key == key && state.group.as_deref() == Some(user);
        let is_full = people.count() >= MAX_GROUPS && !rest.rules.iter().any(is_here);
        if !is_full && bytes <= max_bytes {
            return false;
        }
        let others = rest.rules.iter().enumerate().filter(|(_, state)| {
            state.group.is_some()
                && state.seen.is_none()
                && (state.key == key || !is_full)
                && !is_here(state)
        });
        let least = others.min_by_key(|(_, state)| {
            let newest = state.entries.last().map(|entry| entry.time);
            (state.last_acted.0 != 0, state.entries.len(), newest)
        });
        match least.map(|(at, _)| at) {
            Some(at) => {
                rest.rules.remove(at);
                true
            }
            None => false,
        }
    }

    /// Throws away what is empty, so that a quiet account costs its 40 bytes again. `true`
    /// where the durable record must be written for it.
    pub fn tidy(&mut self, now: Timestamp) -> bool {
        let retired = self.retire(now);
        let Some(rest) = self.rest.as_mut() else {
            return retired;
        };
        let is_recent = |sent: &Timestamp| now.since_ms(*sent) < super::mailing::LONG_MS;
        rest.mails.retain(is_recent);
        rest.calm.take_if(|calm| {
            calm.retain(is_recent);
            calm.is_empty()
        });
        if rest
            .email_change
            .as_ref()
            .is_some_and(|change| now.since_ms(change.at) >= super::mailing::EMAIL_CHANGE_MS)
        {
            rest.email_change = None;
        }
        rest.recoveries.take_if(|recoveries| recoveries.tidy(now));
        rest.ended.take_if(|ended| ended.cases.is_empty());
        rest.rules.retain(|state| !state.is_empty());
        if **rest == Rest::default() {
            self.rest = None;
        }
        retired
    }

    /// Bytes on the heap, beside the 40 in the map.
    pub fn heap_bytes(&self) -> usize {
        self.rest
            .as_ref()
            .map_or(0, |rest| boxed::<Rest>() + rest.heap_bytes())
    }
}

/// What an allocator adds to each allocation: its header, and rounding up.
const ALLOCATION: usize = 16;

/// Bytes of one allocation that holds a `T`.
pub fn boxed<T>() -> usize {
    size_of::<T>() + ALLOCATION
}

pub fn text_bytes(text: &str) -> usize {
    match text.len() {
        0 => 0,
        len => len + ALLOCATION,
    }
}

pub fn list_bytes<T>(list: &Vec<T>) -> usize {
    match list.capacity() {
        0 => 0,
        capacity => capacity * size_of::<T>() + ALLOCATION,
    }
}

impl Rest {
    /// Whether something in it, rules and case aside, has run out.
    pub fn has_expired(&self, now: Timestamp, act_within_ms: i64) -> bool {
        let change = self.email_change.as_ref();
        (self.cut.0 != 0 && now.since_ms(self.cut) > act_within_ms)
            || change.is_some_and(|c| now.since_ms(c.at) >= super::mailing::EMAIL_CHANGE_MS)
            || [self.mails.first(), self.calm.iter().flatten().next()]
                .into_iter()
                .flatten()
                .any(|sent| now.since_ms(*sent) >= super::mailing::LONG_MS)
            || self
                .recoveries
                .as_ref()
                .is_some_and(|recoveries| recoveries.has_expired(now))
    }

    /// Whether there is more in it than rules' windows and places: it is never dropped for
    /// want of memory. Whoever adds a field decides here.
    pub fn is_kept(&self) -> bool {
        let Rest {
            rules: _,
            case,
            cut,
            email_change,
            mails,
            recoveries,
            ended,
            calm,
            slot: _,
        } = self;
        case.is_some()
            || cut.0 != 0
            || email_change.is_some()
            || !mails.is_empty()
            || recoveries.is_some()
            || ended.is_some()
            || calm.is_some()
    }

    fn heap_bytes(&self) -> usize {
        let rules = self.rules.iter().map(RuleState::heap_bytes);
        rules.sum::<usize>()
            + list_bytes(&self.rules)
            + list_bytes(&self.mails)
            + self.calm.as_ref().map_or(0, list_bytes)
            + self.case.as_ref().map_or(0, |case| case.heap_bytes())
            + self.recoveries.as_ref().map_or(0, |held| held.heap_bytes())
            + self.ended.as_ref().map_or(0, |ended| ended.heap_bytes())
            + self
                .email_change
                .as_ref()
                .map_or(0, |change| text_bytes(&change.previous))
    }
}

impl RuleState {
    fn heap_bytes(&self) -> usize {
        let entries = self
            .entries
            .iter()
            .map(|entry| text_bytes(&entry.id) + entry.session.as_deref().map_or(0, text_bytes));
        entries.sum::<usize>()
            + list_bytes(&self.entries)
            + self.group.as_deref().map_or(0, text_bytes)
            + self
                .contact
                .as_ref()
                .map_or(0, |contact| contact.heap_bytes())
            + self.seen.as_ref().map_or(0, |seen| {
                boxed::<Seen>() + list_bytes(&seen.known) + list_bytes(&seen.pending)
            })
    }

    /// Whether it holds something that can be forgotten for want of memory.
    pub fn is_forgettable(&self) -> bool {
        !self.entries.is_empty() || self.last_acted.0 != 0
    }

    pub fn forget_window(&mut self) {
        self.entries = Vec::new();
        self.last_acted = Timestamp(0);
        self.contact = None;
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.last_acted == Timestamp(0) && self.seen.is_none()
    }

    /// Takes over what `contact` says about where mail goes.
    pub fn note_contact(&mut self, contact: Option<Contact>) {
        if let Some(contact) = contact {
            self.contact = Some(Box::new(match self.contact.take() {
                Some(held) => contact.merged_with(*held),
                None => contact,
            }));
        }
    }
}
