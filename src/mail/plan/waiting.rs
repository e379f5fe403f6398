//! Mails in memory that wait for their time, and which of them may go next.
//!
//! Mails are kept by domain, since that is how they fail. A domain takes at most
//! [`Limits::per_domain`] places in memory and leaves at least one connection to others; one
//! whose last attempt was slow gets one, and all slow ones together half. So a domain that
//! answers nothing costs the others a time-out, not their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Limits, Place};
use crate::event::Timestamp;
use crate::locale;
use crate::record::MailRecord;

/// What a mail takes in memory beside its text.
const OVERHEAD_BYTES: usize = 900;

/// A mail that is not done.
#[derive(Clone, Debug)]
pub struct Mail {
    pub record: Arc<MailRecord>,
    /// What stands after the at sign, in lower case.
    pub domain: Arc<str>,
    /// The broker's time of its record: retries end `retry_for` after it, and a restart does
    /// not move that.
    pub queued: Timestamp,
    pub not_before: Option<Timestamp>,
    /// How often it was tried by this process.
    pub attempts: u32,
    /// Whether it has had its turn under the cap of its address.
    pub admitted: bool,
    bytes: usize,
}

impl Mail {
    /// `length` is that of the record in the log.
    pub fn new(record: MailRecord, queued: Timestamp, length: usize) -> Mail {
        let domain = record.to.rsplit('@').next().unwrap_or_default();
        Mail {
            domain: domain.trim().to_lowercase().into(),
            queued,
            not_before: record.not_before.as_deref().and_then(locale::parse_time),
            attempts: 0,
            admitted: false,
            // Strings of their own take about as much again as the text that they stood in.
            bytes: 2 * length + OVERHEAD_BYTES,
            record: Arc::new(record),
        }
    }
}

#[derive(Debug, Default)]
struct Domain {
    waiting: BTreeSet<(i64, Place)>,
    /// Attempts under way.
    out: usize,
    /// The last attempt took long.
    slow: bool,
    /// The last attempt did not end with an answer about the mail.
    failing: bool,
    /// Under which it stands among the ready ones: slow or not, and its first mail.
    ready: Option<(bool, (i64, Place))>,
}

#[derive(Debug)]
pub struct Waiting {
    limits: Limits,
    mails: BTreeMap<Place, (i64, Mail)>,
    by_due: BTreeSet<(i64, Place)>,
    bytes: usize,
    domains: BTreeMap<Arc<str>, Domain>,
    /// Domains that may have one more attempt, by their first mail; slow ones apart.
    ready: BTreeMap<(i64, Place), Arc<str>>,
    ready_slow: BTreeMap<(i64, Place), Arc<str>>,
    /// Attempts under way of slow domains.
    slow_out: usize,
}

impl Waiting {
    pub fn new(limits: Limits) -> Waiting {
        Waiting {
            limits,
            mails: BTreeMap::new(),
            by_due: BTreeSet::new(),
            bytes: 0,
            domains: BTreeMap::new(),
            ready: BTreeMap::new(),
            ready_slow: BTreeMap::new(),
            slow_out: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.mails.len()
    }

    fn of_domain(&self, domain: &str) -> usize {
        self.domains
            .get(domain)
            .map_or(0, |domain| domain.waiting.len() + domain.out)
    }

    pub fn is_domain_full(&self, domain: &str) -> bool {
        self.of_domain(domain) >= self.limits.per_domain
    }

    /// Whether so much has left since the domain was full that reading again pays.
    pub fn has_domain_room_again(&self, domain: &str) -> bool {
        self.of_domain(domain) <= self.limits.per_domain / 2
    }

    pub fn has_room_for(&self, mail: &Mail) -> bool {
        self.mails.len() < self.limits.mails
            && (self.bytes + mail.bytes <= self.limits.bytes || self.mails.is_empty())
    }

    /// Whether so much has left since all was full that reading again pays.
    pub fn has_room_again(&self) -> bool {
        self.mails.len() <= self.limits.mails / 4 * 3 && self.bytes <= self.limits.bytes / 4 * 3
    }

    /// When the first mail is due whose domain may have an attempt.
    pub fn next_due(&self) -> Option<i64> {
        self.first_ready().map(|((due, _), _)| due)
    }

    fn first_ready(&self) -> Option<((i64, Place), Arc<str>)> {
        let slow = self.ready_slow.first_key_value();
        let slow = slow.filter(|_| self.has_slow_turn());
        let first = self.ready.first_key_value().into_iter().chain(slow).min()?;
        Some((*first.0, Arc::clone(first.1)))
    }

    /// The mail that waits longest from now.
    pub fn last_due(&self) -> Option<(i64, Place)> {
        self.by_due.last().copied()
    }

    pub fn insert(&mut self, place: Place, mail: Mail, due: i64) {
        let domain = Arc::clone(&mail.domain);
        self.bytes += mail.bytes;
        self.by_due.insert((due, place));
        self.domains
            .entry(Arc::clone(&domain))
            .or_default()
            .waiting
            .insert((due, place));
        self.mails.insert(place, (due, mail));
        self.refresh(&domain);
    }

    pub fn remove(&mut self, place: Place) -> Option<Mail> {
        let (due, mail) = self.mails.remove(&place)?;
        self.bytes -= mail.bytes;
        self.by_due.remove(&(due, place));
        if let Some(domain) = self.domains.get_mut(&mail.domain) {
            domain.waiting.remove(&(due, place));
        }
        self.refresh(&mail.domain);
        Some(mail)
    }

    pub fn remove_partitions(&mut self, partitions: &[i32]) -> Vec<Mail> {
        let places: Vec<Place> = self
            .mails
            .keys()
            .filter(|place| partitions.contains(&place.partition))
            .copied()
            .collect();
        places
            .into_iter()
            .filter_map(|place| self.remove(place))
            .collect()
    }

    /// Takes out a mail that is due, for an attempt; the attempt ends with
    /// [`Waiting::put_back`] or [`Waiting::landed`].
    pub fn take_due(&mut self, now_ms: i64) -> Option<(Place, Mail)> {
        let ((due, place), domain) = self.first_ready()?;
        if due > now_ms {
            return None;
        }
        let domain = self.domains.get_mut(&domain)?;
        domain.out += 1;
        if domain.slow {
            self.slow_out += 1;
        }
        let mail = self.remove(place)?;
        Some((place, mail))
    }

    /// The attempt is over, and the mail waits again.
    pub fn put_back(&mut self, place: Place, mail: Mail, due: i64) {
        let domain = Arc::clone(&mail.domain);
        self.insert(place, mail, due);
        self.landed(&domain);
    }

    /// An attempt of this domain is over.
    pub fn landed(&mut self, name: &str) {
        if let Some(domain) = self.domains.get_mut(name) {
            domain.out = domain.out.saturating_sub(1);
            if domain.slow {
                self.slow_out = self.slow_out.saturating_sub(1);
            }
        }
        self.refresh(name);
    }

    /// What an attempt that is not over yet says of its domain.
    pub fn judge(&mut self, name: &str, slow: bool, failing: bool) {
        let Some(domain) = self.domains.get_mut(name) else {
            return;
        };
        domain.failing = failing;
        if domain.slow != slow {
            domain.slow = slow;
            match slow {
                true => self.slow_out += domain.out,
                false => self.slow_out = self.slow_out.saturating_sub(domain.out),
            }
        }
        self.refresh(name);
    }

    pub fn is_failing(&self, name: &str) -> bool {
        self.domains.get(name).is_some_and(|domain| domain.failing)
    }

    /// Half of the connections, and at least one.
    fn has_slow_turn(&self) -> bool {
        self.slow_out < (self.limits.connections / 2).max(1)
    }

    /// Puts the domain in its place among the ready ones, or forgets it.
    fn refresh(&mut self, name: &str) {
        let Some((name, domain)) = self.domains.get_key_value(name) else {
            return;
        };
        let (name, out, slow) = (Arc::clone(name), domain.out, domain.slow);
        let may_have = match slow {
            true => 1,
            false => (self.limits.connections - 1).max(1),
        };
        let first = domain.waiting.first().copied();
        let ready = first.filter(|_| out < may_have).map(|first| (slow, first));
        let before = domain.ready;
        if before != ready {
            if let Some((slow, first)) = before {
                self.ready_of(slow).remove(&first);
            }
            if let Some((slow, first)) = ready {
                self.ready_of(slow).insert(first, Arc::clone(&name));
            }
        }
        if first.is_none() && out == 0 {
            self.domains.remove(&name);
        } else if let Some(domain) = self.domains.get_mut(&name) {
            domain.ready = ready;
        }
    }

    fn ready_of(&mut self, slow: bool) -> &mut BTreeMap<(i64, Place), Arc<str>> {
        match slow {
            true => &mut self.ready_slow,
            false => &mut self.ready,
        }
    }
}
