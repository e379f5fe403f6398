//! How far each partition of the outbox is dealt with, and what of it was set aside.
//!
//! A position moves up to the lowest of: mails in hand, mails set aside, the next record to
//! be read. Whatever is not done stands at or after it, so a restart reads it again.
//!
//! What finds no room in memory is only remembered as "from this offset on", by what there
//! was no room in. Once there is room, the partition is read again from there: records that
//! are done or in hand are passed over, the others find room or are set aside anew. The
//! record itself stays where it is, with its time and its one id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Place;

/// Between two readings of the same stretch.
const REWIND_EVERY_MS: i64 = 1_000;

/// What had no room for a mail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The mailer as a whole.
    Full,
    /// The share of this domain.
    Domain(Arc<str>),
}

/// Records set aside for one cause.
#[derive(Debug)]
struct Aside {
    from: i64,
    to: i64,
    /// How many there are, as far as can be known without a list of them: a metric.
    count: usize,
}

#[derive(Debug, Default)]
struct Partition {
    /// Mails in hand.
    open: BTreeSet<i64>,
    /// One after the record that was read last.
    next: i64,
    asides: BTreeMap<Cause, Aside>,
    /// Asked to read again from here, and not there yet.
    rewinding: bool,
    /// Not to be read again before this time.
    rewind_after: i64,
    /// What was handed out to be committed last.
    committed: Option<i64>,
    /// Revoked, and only kept for what is past the gate.
    departing: bool,
}

impl Partition {
    fn position(&self) -> i64 {
        let open = self.open.first().copied();
        let aside = self.asides.values().map(|aside| aside.from).min();
        open.into_iter()
            .chain(aside)
            .fold(self.next, |lowest, offset| lowest.min(offset))
    }
}

#[derive(Debug, Default)]
pub struct Progress {
    partitions: BTreeMap<i32, Partition>,
    /// When a stretch may be read again for which there is room already.
    next_rewind: Option<i64>,
}

impl Progress {
    /// A record was read.
    pub fn read(&mut self, place: Place) {
        let partition = self.partitions.entry(place.partition).or_default();
        if partition.departing {
            // It came back before it was gone.
            *partition = Partition::default();
        }
        partition.next = place.offset + 1;
    }

    /// A mail of `domain` is in hand.
    pub fn open(&mut self, place: Place, domain: &Arc<str>) {
        let Some(partition) = self.partitions.get_mut(&place.partition) else {
            return;
        };
        partition.open.insert(place.offset);
        for cause in [Cause::Domain(Arc::clone(domain)), Cause::Full] {
            if let Some(aside) = partition.asides.get_mut(&cause)
                && (aside.from..=aside.to).contains(&place.offset)
            {
                aside.count = aside.count.saturating_sub(1);
                break;
            }
        }
    }

    /// The mail is done.
    pub fn finish(&mut self, place: Place) {
        if let Some(partition) = self.partitions.get_mut(&place.partition) {
            partition.open.remove(&place.offset);
        }
    }

    /// The mail that was just read found no room, and is to be read again.
    pub fn set_aside(&mut self, place: Place, cause: Cause) {
        self.put_aside(place, cause, false);
    }

    /// The mail was in hand, had to make room, and is to be read again.
    pub fn evict(&mut self, place: Place) {
        self.finish(place);
        self.put_aside(place, Cause::Full, true);
    }

    fn put_aside(&mut self, place: Place, cause: Cause, was_in_hand: bool) {
        let Some(partition) = self.partitions.get_mut(&place.partition) else {
            return;
        };
        let aside = partition.asides.entry(cause).or_insert(Aside {
            from: place.offset,
            to: place.offset - 1,
            count: 0,
        });
        // One that was read again was counted before.
        if was_in_hand || place.offset > aside.to || place.offset < aside.from {
            aside.count += 1;
        }
        aside.from = aside.from.min(place.offset);
        aside.to = aside.to.max(place.offset);
    }

    /// Mails that are set aside.
    pub fn aside(&self) -> usize {
        self.partitions
            .values()
            .filter(|partition| !partition.departing)
            .flat_map(|partition| partition.asides.values())
            .map(|aside| aside.count)
            .sum()
    }

    /// From where to read again; each partition is asked for once, until it is there.
    pub fn rewind(&mut self, now_ms: i64, has_room: impl Fn(&Cause) -> bool) -> Vec<(i32, i64)> {
        self.next_rewind = None;
        let mut rewinds = Vec::new();
        for (number, partition) in &mut self.partitions {
            if partition.asides.is_empty() || partition.rewinding || partition.departing {
                continue;
            }
            let from = partition
                .asides
                .iter()
                .filter(|(cause, _)| has_room(cause))
                .map(|(_, aside)| aside.from)
                .min();
            let Some(from) = from else {
                continue;
            };
            if partition.rewind_after > now_ms {
                let next = self.next_rewind.unwrap_or(i64::MAX);
                self.next_rewind = Some(next.min(partition.rewind_after));
                continue;
            }
            partition.rewinding = true;
            rewinds.push((*number, from));
        }
        rewinds
    }

    pub fn next_rewind(&self) -> Option<i64> {
        self.next_rewind
    }

    /// The partition's records are read from `offset` on.
    pub fn rewound(&mut self, partition: i32, offset: i64, now_ms: i64) {
        let Some(partition) = self.partitions.get_mut(&partition) else {
            return;
        };
        if partition.departing {
            return;
        }
        partition.rewinding = false;
        partition.rewind_after = now_ms.saturating_add(REWIND_EVERY_MS);
        partition.next = offset;
        // The others begin before it, and wait for their own turn.
        partition.asides.retain(|_, aside| aside.from < offset);
    }

    pub fn not_rewound(&mut self, partition: i32, now_ms: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.rewinding = false;
            partition.rewind_after = now_ms.saturating_add(REWIND_EVERY_MS);
        }
    }

    pub fn depart(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if let Some(partition) = self.partitions.get_mut(partition) {
                partition.departing = true;
            }
        }
    }

    pub fn gone(&mut self, partitions: &[i32]) {
        self.partitions
            .retain(|number, partition| !(partition.departing && partitions.contains(number)));
    }

    pub fn positions(&mut self) -> Vec<(i32, i64)> {
        self.partitions
            .iter_mut()
            .filter_map(|(number, partition)| {
                let position = partition.position();
                partition
                    .committed
                    .is_none_or(|committed| position > committed)
                    .then(|| {
                        partition.committed = Some(position);
                        (*number, position)
                    })
            })
            .collect()
    }
}
