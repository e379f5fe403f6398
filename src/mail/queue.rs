//! Mails that wait, and how far the outbox has been dealt with.
//!
//! Pure: time is an argument. Each mail has a schedule of its own, so that one that is
//! refused holds up no other. The outbox's offset of a partition moves only up to the lowest
//! mail that is not finished, so nothing is forgotten by a restart.

use std::collections::BTreeMap;

use super::RetrySchedule;
use crate::event::Timestamp;
use crate::record::MailRecord;

/// Where a mail stands in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// A mail that is not finished.
#[derive(Clone, Debug)]
pub struct Pending {
    pub place: Place,
    pub record: MailRecord,
    /// The broker's time of its record: retries end `retry_for` after it, and a restart does
    /// not move that.
    pub queued: Timestamp,
    /// How often it was tried by this process.
    pub attempts: u32,
    /// Whether it has had its turn under the cap of its address.
    pub admitted: bool,
}

#[derive(Debug, Default)]
struct Progress {
    /// Mails that are not finished: waiting, or (`true`) being sent.
    open: BTreeMap<i64, bool>,
    /// One after the highest offset that was read.
    read_to: i64,
    /// What was handed out to be committed last.
    committed: i64,
}

impl Progress {
    /// Where reading would have to begin again after a crash.
    fn position(&self) -> i64 {
        self.open.keys().next().copied().unwrap_or(self.read_to)
    }
}

#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<(Timestamp, Place), Pending>,
    partitions: BTreeMap<i32, Progress>,
}

impl Queue {
    /// Mails that wait, those being sent left out.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a mail that was read; one that is here already is not taken twice.
    pub fn add(&mut self, pending: Pending, due: Timestamp) {
        let place = pending.place;
        let progress = self.partitions.entry(place.partition).or_default();
        progress.read_to = progress.read_to.max(place.offset + 1);
        if progress.open.contains_key(&place.offset) {
            return;
        }
        progress.open.insert(place.offset, false);
        self.waiting.insert((due, place), pending);
    }

    /// Notes a record that was read and needs nothing done.
    pub fn skip(&mut self, place: Place) {
        let progress = self.partitions.entry(place.partition).or_default();
        progress.read_to = progress.read_to.max(place.offset + 1);
    }

    /// When the next mail is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }

    /// A mail that is due, to be sent. Every mail handed out comes back through
    /// [`Queue::put_back`] or [`Queue::finish`].
    pub fn take_due(&mut self, now: Timestamp) -> Option<Pending> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let pending = first.remove();
        if let Some(progress) = self.partitions.get_mut(&pending.place.partition) {
            progress.open.insert(pending.place.offset, true);
        }
        Some(pending)
    }

    /// Takes back a mail that was not sent. Dropped where its partition has gone: whoever
    /// owns that now sends it.
    pub fn put_back(&mut self, pending: Pending, due: Timestamp) {
        let place = pending.place;
        let Some(progress) = self.partitions.get_mut(&place.partition) else {
            return;
        };
        if let Some(sending) = progress.open.get_mut(&place.offset) {
            *sending = false;
            self.waiting.insert((due, place), pending);
        }
    }

    /// The mail at `place` is done with, one way or the other.
    pub fn finish(&mut self, place: Place) {
        // A partition that came back while the mail was being sent has queued it again.
        self.waiting.retain(|(_, waiting), _| *waiting != place);
        if let Some(progress) = self.partitions.get_mut(&place.partition) {
            progress.open.remove(&place.offset);
        }
    }

    /// Positions that moved since this was asked last.
    pub fn positions(&mut self) -> Vec<(i32, i64)> {
        self.partitions
            .iter_mut()
            .filter_map(|(partition, progress)| {
                let position = progress.position();
                (position > progress.committed).then(|| {
                    progress.committed = position;
                    (*partition, position)
                })
            })
            .collect()
    }

    /// Forgets what waits of `partitions`. Mails being sent go on and are finished.
    pub fn revoke(&mut self, partitions: &[i32]) {
        self.waiting
            .retain(|(_, place), _| !partitions.contains(&place.partition));
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }
}

impl RetrySchedule {
    /// How long to wait after attempt number `attempts` (from 1): doubling from `first` to
    /// `longest`, a fifth more or less by the mail's id, so that mails that failed together
    /// do not all come back together.
    pub fn wait_ms(&self, attempts: u32, mail_id: &str) -> i64 {
        let first = i64::try_from(self.first.as_millis()).unwrap_or(i64::MAX);
        let longest = i64::try_from(self.longest.as_millis()).unwrap_or(i64::MAX);
        let doubled = first
            .saturating_mul(1_i64 << attempts.saturating_sub(1).min(30))
            .min(longest);
        let hash = mail_id.bytes().fold(u64::from(attempts), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let percent = 80 + i64::try_from(hash % 41).unwrap_or(20);
        (doubled.saturating_mul(percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(partition: i32, offset: i64) -> Pending {
        Pending {
            place: Place { partition, offset },
            record: MailRecord {
                schema: 1,
                id: format!("m-{offset}"),
                to: "someone@example.com".into(),
                part: "owner".into(),
                template: "was_this_you".into(),
                locale: None,
                account: "u-1".into(),
                partition,
                case: "k-1".into(),
                case_version: 1,
                rule: "r".into(),
                reason: "new_country".into(),
                locked: None,
                time: "2026-11-22T06:04:00Z".into(),
                evidence: vec![],
                device: None,
                until: None,
                not_before: None,
            },
            queued: Timestamp(0),
            attempts: 0,
            admitted: false,
        }
    }

    #[test]
    fn the_offset_moves_only_to_the_lowest_unfinished_mail() {
        let mut queue = Queue::default();
        for offset in [10, 12, 13] {
            queue.add(pending(0, offset), Timestamp(0));
        }
        let first = queue.take_due(Timestamp(0)).map(|p| p.place);
        assert_eq!(first.map(|p| p.offset), Some(10));
        let second = queue.take_due(Timestamp(0)).map(|p| p.place);
        queue.finish(second.unwrap_or(Place {
            partition: 0,
            offset: 12,
        }));
        assert_eq!(queue.positions(), [(0, 10)]);
        queue.finish(Place {
            partition: 0,
            offset: 10,
        });
        assert_eq!(queue.positions(), [(0, 13)]);
        assert_eq!(queue.positions(), []);
    }

    #[test]
    fn a_refused_mail_holds_up_no_other() {
        let mut queue = Queue::default();
        queue.add(pending(0, 1), Timestamp(0));
        queue.add(pending(0, 2), Timestamp(0));
        if let Some(refused) = queue.take_due(Timestamp(0)) {
            queue.put_back(refused, Timestamp(60_000));
        }
        let next = queue.take_due(Timestamp(1));
        assert_eq!(next.map(|p| p.place.offset), Some(2));
        assert_eq!(queue.next_due(), Some(Timestamp(60_000)));
    }

    #[test]
    fn a_partition_that_went_takes_its_mails_along() {
        let mut queue = Queue::default();
        queue.add(pending(0, 1), Timestamp(0));
        queue.add(pending(1, 1), Timestamp(0));
        let sending = queue.take_due(Timestamp(0));
        queue.revoke(&[0, 1]);
        assert_eq!(queue.waiting(), 0);
        if let Some(sending) = sending {
            queue.put_back(sending, Timestamp(5));
        }
        assert_eq!(queue.waiting(), 0, "its new owner sends it");
        assert_eq!(queue.positions(), []);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let schedule = RetrySchedule::default();
        let waits: Vec<i64> = (1..20).map(|n| schedule.wait_ms(n, "m-1")).collect();
        assert!((12_000..=18_000).contains(&waits[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 36 * 60 * 1000));
        assert!(waits[18] >= 24 * 60 * 1000);
    }
}
