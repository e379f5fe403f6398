//! Every decision of the mailer, as a machine without input and output.
//!
//! It is told what was read, what became of attempts and how time went on, and says what to
//! send, which receipts to write, from where to read again and how far the outbox is dealt
//! with. It knows no Kafka, no SMTP, no clock and no chance, so that a simulation can drive
//! it through thousands of histories; [`crate::mail`] does what it says.
//!
//! A mail is in one of these states, and in memory only in the first three:
//!
//! - **waiting** for its time, in [`waiting`];
//! - **out**: an attempt is being made ([`Plan::next`] handed it out);
//! - **past the gate**: [`Plan::pass`] allowed the attempt to send the end of the message,
//!   from where on the server may have taken it;
//! - **set aside**: it found no room, and will be read from the outbox again
//!   ([`Plan::rewind`]). [`progress`] holds the position there, so nothing is forgotten;
//! - **done**: its receipt is in the log.
//!
//! The gate is what makes two mailers send a mail once. It opens only while the lease runs: a
//! time, counted from a commit that the group's coordinator accepted, within which nobody
//! else can have been given this mailer's partitions. A mailer that was frozen, and wakes up
//! after others took over, finds it shut.

mod addresses;
mod done;
mod progress;
mod receipt;
pub mod schedule;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::mailing::is_calm;
use crate::engine::output::RecipientPart;
use crate::event::Timestamp;
use crate::record::MailRecord;
use addresses::Addresses;
use done::Done;
pub use done::MailKey;
use progress::{Cause, Progress};
pub use receipt::{Lost, Receipt};
use receipt::{failed, sent};
use schedule::RetrySchedule;
use waiting::{Mail, Waiting};

/// An attempt that took longer makes its domain a slow one, which gets few connections.
const SLOW_MS: i64 = 5_000;

/// Where a mail stands in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// The time, told twice, since a machine's clock is set now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For what others see: the age of a mail, the time in a receipt.
    pub wall: Timestamp,
    /// For waiting: milliseconds of a clock that never goes back, from any origin.
    pub steady_ms: i64,
}

impl Now {
    /// The steady time at which the wall clock will show `wall`, or now where that is past.
    fn steady_at(self, wall: Timestamp) -> i64 {
        self.steady_ms
            .saturating_add(wall.since_ms(self.wall).max(0))
    }
}

/// What a plan goes by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub limits: Limits,
    pub schedule: RetrySchedule,
    /// From a mail's record in the log to the end of its retries.
    pub retry_for: Duration,
    /// Mails an hour to one address.
    pub per_hour: u32,
    /// How long an accepted commit proves that the partitions are this mailer's: shorter
    /// than the session after which the coordinator gives them to somebody else.
    pub lease: Duration,
}

/// Bounds of what is kept in memory and done at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Mails held; default 50,000.
    pub mails: usize,
    /// Estimated bytes of them; default 128 MiB.
    pub bytes: usize,
    /// Mails held of one domain; default 1,000.
    pub per_domain: usize,
    /// Attempts at once. Each keeps its place until its receipt is written, so no more
    /// mails than this can ever be repeated by one crash.
    pub connections: usize,
}

impl Limits {
    /// The defaults, for so many attempts at once.
    pub fn new(connections: usize) -> Limits {
        Limits {
            mails: 50_000,
            bytes: 128 * 1024 * 1024,
            per_domain: 1_000,
            connections: connections.max(1),
        }
    }
}

/// Names one attempt from [`Plan::next`] to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What became of a record of the outbox that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Taken,
    /// There is no room; it is read again later.
    SetAside,
    /// Its receipt is there.
    Done,
    /// A record with its id is held already, or just being sent.
    InHand,
    /// No mail record; nothing that this program wrote.
    Unreadable,
}

/// What to do next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Make one attempt: prepare, ask [`Plan::pass`], hand over, [`Plan::settle`].
    Send(Job),
    /// The address has had its mails of this hour; the mail waits for its turn.
    Delayed,
    /// The mail's time is up: write its receipt, then [`Plan::recorded`].
    GiveUp(Ticket, Receipt),
}

/// One attempt to make.
#[derive(Clone, Debug)]
pub struct Job {
    pub ticket: Ticket,
    pub record: Arc<MailRecord>,
    /// When the mail was put into the outbox, by the broker's clock.
    pub queued: Timestamp,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has taken responsibility.
    Sent,
    /// It will never take this mail.
    Never(String),
    /// Not taken, and it may be another time.
    Later(String),
    /// The whole message went out and no answer came: the server may have taken it. It is
    /// sent again, with the same Message-ID, since a mail that is lost is worse.
    Unclear(String),
    /// [`Plan::pass`] said no, and the end of the message was not sent.
    Withdrawn,
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Write this receipt, and before it what it says of a bounce, however long it takes,
    /// then [`Plan::recorded`].
    Write(Receipt),
    /// It waits for its next turn.
    Again,
    /// Somebody else has the partition and will see to it.
    Left,
}

/// An attempt under way.
#[derive(Debug)]
struct Attempt {
    place: Place,
    key: MailKey,
    mail: Mail,
    started_ms: i64,
    /// Whether the server may have taken the mail, or a receipt is being written.
    past_gate: bool,
    /// The partition was given up in the meantime.
    orphan: bool,
}

#[derive(Clone, Copy, Debug)]
enum Hand {
    Waiting(Place),
    Out(Ticket),
}

/// The mailer's decisions and what they rest on.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    waiting: Waiting,
    progress: Progress,
    out: BTreeMap<Ticket, Attempt>,
    /// Mails that are waiting or out, so that a second record of one is known.
    in_hand: HashMap<MailKey, Hand>,
    done: Done,
    addresses: Addresses,
    /// When the last commit was asked for that the coordinator accepted.
    lease: Option<Now>,
    last_ticket: u64,
}

impl Plan {
    pub fn new(settings: Settings) -> Plan {
        Plan {
            settings,
            waiting: Waiting::new(settings.limits),
            progress: Progress::default(),
            out: BTreeMap::new(),
            in_hand: HashMap::new(),
            done: Done::default(),
            addresses: Addresses::new(settings.per_hour),
            lease: None,
            last_ticket: 0,
        }
    }

    // ---- what was read

    /// Takes a receipt that was read. All receipts that stand in the log when a partition
    /// is assigned must be told before that partition's first record.
    pub fn receipt(&mut self, key: MailKey) {
        self.done.insert(key);
        // Somebody sent it before this mailer got the partition.
        if let Some(Hand::Waiting(place)) = self.in_hand.get(&key).copied() {
            self.in_hand.remove(&key);
            self.waiting.remove(place);
            self.progress.finish(place);
        }
    }

    /// Takes a record of the outbox that was read, in the order of its partition; `queued`
    /// is the broker's time of it.
    pub fn read(&mut self, place: Place, queued: Timestamp, payload: &[u8], now: Now) -> Intake {
        self.progress.read(place);
        let Ok(record) = serde_json::from_slice::<MailRecord>(payload) else {
            return Intake::Unreadable;
        };
        let key = MailKey::of(&record.id);
        if self.done.contains(key) {
            return Intake::Done;
        }
        match self.in_hand.get(&key) {
            None => self.take(place, key, Mail::new(record, queued, payload.len()), now),
            Some(Hand::Waiting(_)) => Intake::InHand,
            Some(Hand::Out(ticket)) => {
                // It was given up and came back while its attempt went on.
                if let Some(attempt) = self.out.get_mut(ticket)
                    && attempt.orphan
                {
                    attempt.orphan = false;
                    attempt.place = place;
                    self.progress.open(place, &attempt.mail.domain);
                }
                Intake::InHand
            }
        }
    }

    fn take(&mut self, place: Place, key: MailKey, mail: Mail, now: Now) -> Intake {
        if self.waiting.is_domain_full(&mail.domain) {
            self.progress
                .set_aside(place, Cause::Domain(Arc::clone(&mail.domain)));
            return Intake::SetAside;
        }
        let due = mail
            .not_before
            .map_or(now.steady_ms, |time| now.steady_at(time));
        while !self.waiting.has_room_for(&mail) {
            // What waits longest makes room, so that domains that do not take their mails
            // cannot keep out everybody else's.
            match self.waiting.last_due() {
                Some((last_due, last)) if last_due > due => {
                    if let Some(evicted) = self.waiting.remove(last) {
                        self.in_hand.remove(&MailKey::of(&evicted.record.id));
                    }
                    self.progress.evict(last);
                }
                _ => {
                    self.progress.set_aside(place, Cause::Full);
                    return Intake::SetAside;
                }
            }
        }
        self.progress.open(place, &mail.domain);
        self.in_hand.insert(key, Hand::Waiting(place));
        self.waiting.insert(place, mail, due);
        Intake::Taken
    }

    // ---- reading again what was set aside

    /// From where to read again: partition and offset. The reader does so and says
    /// [`Plan::rewound`] in the order of its records, or [`Plan::not_rewound`].
    pub fn rewind(&mut self, now: Now) -> Vec<(i32, i64)> {
        let waiting = &self.waiting;
        self.progress.rewind(now.steady_ms, |cause| match cause {
            Cause::Full => waiting.has_room_again(),
            Cause::Domain(domain) => waiting.has_domain_room_again(domain),
        })
    }

    /// The records that follow are read from `offset` on.
    pub fn rewound(&mut self, partition: i32, offset: i64, now: Now) {
        self.progress.rewound(partition, offset, now.steady_ms);
    }

    /// The reader could not go back; it is asked again.
    pub fn not_rewound(&mut self, partition: i32, now: Now) {
        self.progress.not_rewound(partition, now.steady_ms);
    }

    // ---- whose the partitions are

    /// A commit that was asked for at `asked` was accepted by the group's coordinator.
    pub fn renew(&mut self, asked: Now) {
        self.lease = Some(asked);
    }

    /// The coordinator does not know this member any more.
    pub fn expel(&mut self) {
        self.lease = None;
    }

    fn is_leased(&self, now: Now) -> bool {
        let lease_ms = millis(self.settings.lease);
        self.lease.is_some_and(|asked| {
            now.steady_ms.saturating_sub(asked.steady_ms) < lease_ms
                // A machine that was suspended may not have counted that time.
                && now.wall.since_ms(asked.wall) < lease_ms
        })
    }

    /// These partitions go. What waits of them is forgotten, what has not passed the gate
    /// will not pass it. The partitions may go as soon as [`Plan::awaits`] is false of them.
    pub fn revoke(&mut self, partitions: &[i32]) {
        for mail in self.waiting.remove_partitions(partitions) {
            self.in_hand.remove(&MailKey::of(&mail.record.id));
        }
        for attempt in self.out.values_mut() {
            if partitions.contains(&attempt.place.partition) {
                attempt.orphan = true;
            }
        }
        self.progress.depart(partitions);
    }

    /// Whether a mail of these revoked partitions may just be taken by the server, or its
    /// receipt is being written.
    pub fn awaits(&self, partitions: &[i32]) -> bool {
        self.out.values().any(|attempt| {
            attempt.orphan && attempt.past_gate && partitions.contains(&attempt.place.partition)
        })
    }

    /// These revoked partitions have gone.
    pub fn gone(&mut self, partitions: &[i32]) {
        self.progress.gone(partitions);
    }

    // ---- sending

    /// What to do next, if anything can be done at this time. To be called until `None`.
    pub fn next(&mut self, now: Now) -> Option<Step> {
        if self.out.len() >= self.settings.limits.connections || !self.is_leased(now) {
            return None;
        }
        let (place, mut mail) = self.waiting.take_due(now.steady_ms)?;
        let key = MailKey::of(&mail.record.id);
        let is_late = now.wall > self.end_of(&mail);
        // Each of a thousand would otherwise have its own time-out before it may fail.
        let give_up = is_late && self.waiting.is_failing(&mail.domain);
        if !give_up && !mail.admitted {
            let address = share_of(&mail.record);
            if let Err(until) = self.addresses.admit(address, now.steady_ms) {
                self.waiting.put_back(place, mail, until);
                return Some(Step::Delayed);
            }
            mail.admitted = true;
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.in_hand.insert(key, Hand::Out(ticket));
        let step = if give_up {
            let why = "its time was up while its domain took no mail";
            Step::GiveUp(ticket, failed(place, &mail, Lost::TimeUp, why, now))
        } else {
            mail.attempts += 1;
            Step::Send(Job {
                ticket,
                record: Arc::clone(&mail.record),
                queued: mail.queued,
            })
        };
        self.out.insert(
            ticket,
            Attempt {
                place,
                key,
                mail,
                started_ms: now.steady_ms,
                past_gate: give_up,
                orphan: false,
            },
        );
        Some(step)
    }

    /// When [`Plan::next`] or [`Plan::rewind`] should be asked again if nothing else
    /// happens: milliseconds from now.
    pub fn wake_in_ms(&self, now: Now) -> Option<i64> {
        let can_send = self.out.len() < self.settings.limits.connections && self.is_leased(now);
        let due = self.waiting.next_due().filter(|_| can_send);
        due.into_iter()
            .chain(self.progress.next_rewind())
            .min()
            .map(|due| due.saturating_sub(now.steady_ms).max(0))
    }

    /// Whether the end of the message may be sent. After a yes the server may have the
    /// mail, so the attempt must be settled before its partition may go.
    pub fn pass(&mut self, ticket: Ticket, now: Now) -> bool {
        let is_leased = self.is_leased(now);
        match self.out.get_mut(&ticket) {
            Some(attempt) if is_leased && !attempt.orphan => {
                attempt.past_gate = true;
                true
            }
            _ => false,
        }
    }

    /// What follows from the end of an attempt.
    pub fn settle(&mut self, ticket: Ticket, outcome: Outcome, now: Now) -> Settled {
        let Some(attempt) = self.out.get_mut(&ticket) else {
            return Settled::Left;
        };
        let took_ms = now.steady_ms.saturating_sub(attempt.started_ms);
        let is_failure = matches!(outcome, Outcome::Later(_) | Outcome::Unclear(_));
        if outcome != Outcome::Withdrawn {
            self.waiting
                .judge(&attempt.mail.domain, took_ms > SLOW_MS, is_failure);
        }
        match outcome {
            // Whoever has the partition now must hear of it.
            Outcome::Sent => {
                attempt.past_gate = true;
                Settled::Write(sent(attempt.place, &attempt.mail, now))
            }
            _ if attempt.orphan => {
                self.forget(ticket);
                Settled::Left
            }
            Outcome::Never(why) => {
                attempt.past_gate = true;
                Settled::Write(failed(
                    attempt.place,
                    &attempt.mail,
                    Lost::Refused,
                    &why,
                    now,
                ))
            }
            Outcome::Later(why) | Outcome::Unclear(why) => {
                let mail = &attempt.mail;
                let wait_ms = self
                    .settings
                    .schedule
                    .wait_ms(mail.attempts, &mail.record.id);
                if now.wall.plus_ms(wait_ms) > end_of(mail, self.settings.retry_for) {
                    attempt.past_gate = true;
                    return Settled::Write(failed(
                        attempt.place,
                        &attempt.mail,
                        Lost::TimeUp,
                        &why,
                        now,
                    ));
                }
                self.wait_again(ticket, now.steady_ms.saturating_add(wait_ms));
                Settled::Again
            }
            Outcome::Withdrawn => {
                attempt.mail.attempts = attempt.mail.attempts.saturating_sub(1);
                self.wait_again(ticket, now.steady_ms);
                Settled::Again
            }
        }
    }

    /// The receipt of this attempt's mail is in the log.
    pub fn recorded(&mut self, ticket: Ticket) {
        if let Some(attempt) = self.forget(ticket) {
            self.done.insert(attempt.key);
            self.progress.finish(attempt.place);
        }
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Attempt> {
        let attempt = self.out.remove(&ticket)?;
        self.waiting.landed(&attempt.mail.domain);
        self.in_hand.remove(&attempt.key);
        Some(attempt)
    }

    fn wait_again(&mut self, ticket: Ticket, due: i64) {
        if let Some(attempt) = self.out.remove(&ticket) {
            self.in_hand
                .insert(attempt.key, Hand::Waiting(attempt.place));
            self.waiting.put_back(attempt.place, attempt.mail, due);
        }
    }

    fn end_of(&self, mail: &Mail) -> Timestamp {
        end_of(mail, self.settings.retry_for)
    }

    // ---- how far it is

    /// Positions to commit that moved since this was asked last. Everything before a
    /// position is done.
    pub fn positions(&mut self) -> Vec<(i32, i64)> {
        self.progress.positions()
    }

    /// Mails that are not done, as far as they were read.
    pub fn pending(&self) -> usize {
        self.waiting.count() + self.out.len() + self.progress.aside()
    }

    /// Mails that are in memory: waiting or out.
    pub fn held(&self) -> usize {
        self.waiting.count() + self.out.len()
    }

    /// Whether the server may just be taking a mail, or a receipt is being written.
    pub fn is_past_gate(&self) -> bool {
        self.out.values().any(|attempt| attempt.past_gate)
    }
}

fn end_of(mail: &Mail, retry_for: Duration) -> Timestamp {
    mail.queued.plus_ms(millis(retry_for))
}

/// Whose hourly share a mail takes: an address has one for its own account's questions, one
/// for what asks nothing, and one for what it gets as somebody's co-owner or without having
/// confirmed it. Else anybody who names an address in accounts of their own could delay the
/// mail that matters.
fn share_of(record: &MailRecord) -> MailKey {
    let address = record.to.to_lowercase();
    let owner = record.part == RecipientPart::Owner.as_str();
    MailKey::of(&match (owner, is_calm(&record.template)) {
        (true, false) => address,
        (true, true) => format!("{address} calm"),
        (false, _) => format!("{address} other"),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
