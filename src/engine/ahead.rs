//! Durable records that know more than the committed position of their partition.
//!
//! What is urgent is committed before older events of other accounts are. Each record says up
//! to which offset it holds what happened; after a restore, events that it holds already are
//! passed over for it, and for it alone. This is the page LSN of write-ahead logging (Mohan et
//! al., ARIES, 1992), with accounts for pages and the input topic for the log.

use hashbrown::HashMap;

use super::StateKey;

/// Up to where restored records hold more than the committed position says.
#[derive(Debug, Default)]
pub struct Ahead {
    /// Offset of the first event that is not in the record.
    records: HashMap<StateKey, i64>,
    /// The highest of them.
    until: i64,
}

impl Ahead {
    /// The restored record of `key` holds everything before the offset `until`.
    pub fn note(&mut self, key: StateKey, until: i64) {
        self.records.insert(key, until);
        self.until = self.until.max(until);
    }

    /// Whether the record of `key` holds the event at `offset` already.
    pub fn holds(&self, key: StateKey, offset: i64) -> bool {
        !self.records.is_empty() && self.of(key).is_some_and(|until| offset < until)
    }

    /// The first offset that the record of `key` does not hold, where it was restored ahead.
    pub fn of(&self, key: StateKey) -> Option<i64> {
        self.records.get(&key).copied()
    }

    /// The event at `offset` is about to be handled; what is behind it is of no use any more.
    pub fn reach(&mut self, offset: i64) {
        if !self.records.is_empty() && offset >= self.until {
            *self = Ahead::default();
        }
    }
}
