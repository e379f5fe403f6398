//! Durable records that know more than the committed position of their partition.
//!
//! What is urgent is committed before older events of other accounts are. Each record says up
//! to where it holds what happened; after a restore, events that it holds already are passed
//! over for it, and for it alone. This is the page LSN of write-ahead logging (Mohan et al.,
//! ARIES, 1992), with accounts for pages and the input topic for the log.

use std::fmt;
use std::str::FromStr;

use hashbrown::HashMap;

use super::StateKey;
use crate::event::Timestamp;

/// What a record holds of its input partition. `1234 1795327200000` as text: the header of a
/// record in `doorward.state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Offset of the first event that it may not hold.
    pub before: i64,
    /// The newest broker time, in milliseconds since 1970, of all that the partition had
    /// handled by then. Where the topic was made anew, offsets begin again, and what stands
    /// at them is newer than this.
    pub newest: Timestamp,
}

impl Held {
    /// What a record holds that held this, and then `other` came to it.
    #[must_use]
    pub fn and(self, other: Held) -> Held {
        Held {
            before: self.before.max(other.before),
            newest: self.newest.max(other.newest),
        }
    }

    /// Whether this is more than `position` says; never where nobody has committed one.
    pub fn is_ahead_of(self, position: Option<i64>) -> bool {
        position.is_some_and(|position| self.before > position)
    }

    fn holds(self, offset: i64, broker_time: Timestamp) -> bool {
        offset < self.before && broker_time <= self.newest
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.before, self.newest.0)
    }
}

impl FromStr for Held {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Held, Self::Err> {
        let (before, newest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Held {
            before: before.parse()?,
            newest: Timestamp(newest.parse()?),
        })
    }
}

/// The records of a partition that were restored ahead of its position.
#[derive(Debug, Default)]
pub struct Ahead {
    records: HashMap<StateKey, Held>,
    /// The highest offset that one of them holds up to.
    until: i64,
}

impl Ahead {
    /// The restored record of `key` holds this much.
    pub fn note(&mut self, key: StateKey, held: Held) {
        self.records.insert(key, held);
        self.until = self.until.max(held.before);
    }

    /// Whether the record of `key` holds the event at `offset` already.
    pub fn holds(&self, key: StateKey, offset: i64, broker_time: Timestamp) -> bool {
        !self.records.is_empty()
            && self
                .of(key)
                .is_some_and(|held| held.holds(offset, broker_time))
    }

    /// What the record of `key` held when it was restored, where that was more than the
    /// position said.
    pub fn of(&self, key: StateKey) -> Option<Held> {
        self.records.get(&key).copied()
    }

    /// The event at `offset` is about to be handled; what is behind it is of no use any more.
    pub fn reach(&mut self, offset: i64) {
        if !self.records.is_empty() && offset >= self.until {
            *self = Ahead::default();
        }
    }
}
