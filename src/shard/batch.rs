//! What a shard has caused and not committed yet.
//!
//! Kept per input partition, so that what belongs to a partition that was lost can be
//! dropped alone. A batch that is on its way ([`Flight`]) does not change any more: it is
//! sent again as it was until it is known to be committed.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use crate::engine::StateKey;
use crate::event::Source;
use crate::log::{OutputRecord, OutputTopic, Transaction};

/// Bytes of outputs after which a commit is due whatever else.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The batch that is growing.
#[derive(Debug, Default)]
pub struct Batch {
    parts: Vec<Part>,
    bytes: usize,
    changed: usize,
    urgent: bool,
    /// When its first event came, by the shard's monotonic clock.
    opened: Option<Duration>,
    /// When the events behind its commands came.
    commands: Vec<Duration>,
}

/// What one input partition caused.
#[derive(Debug)]
struct Part {
    partition: i32,
    next_offset: i64,
    records: Vec<OutputRecord>,
    /// Accounts whose state must be written, once each however often it changed, in the order
    /// in which they first did: the state topic then tells what was touched last.
    changed: Vec<StateKey>,
    marked: HashSet<StateKey>,
}

impl Batch {
    /// Notes that the record at `source` was handled at `now`: its offset goes with the
    /// batch, whatever it caused.
    pub fn handled(&mut self, source: Source, now: Duration) {
        self.opened.get_or_insert(now);
        let part = self.part(source.partition, source.offset);
        part.next_offset = source.offset + 1;
    }

    /// Adds an output of a record that was [`Self::handled`].
    pub fn push(&mut self, partition: i32, record: OutputRecord) {
        self.bytes += record.key.len() + record.payload.as_ref().map_or(0, Vec::len) + 64;
        self.part(partition, 0).records.push(record);
    }

    /// Adds an output that no record caused; `next_offset` is where the partition stands.
    pub fn push_unprompted(&mut self, source: Source, record: OutputRecord, now: Duration) {
        self.opened.get_or_insert(now);
        self.part(source.partition, source.offset);
        self.push(source.partition, record);
        self.urgent = true;
    }

    pub fn changed(&mut self, partition: i32, key: StateKey) {
        let part = self.part(partition, 0);
        if part.marked.insert(key) {
            part.changed.push(key);
            self.changed += 1;
        }
    }

    /// Asks to be committed at once.
    pub fn urgent(&mut self) {
        self.urgent = true;
    }

    /// Notes that an event that came at `received` caused a command.
    pub fn command(&mut self, received: Duration) {
        self.commands.push(received);
    }

    pub fn is_empty(&self) -> bool {
        self.opened.is_none()
    }

    /// Whether it should be committed at `now`.
    pub fn is_due(&self, now: Duration, every: Duration, accounts: usize) -> bool {
        let Some(opened) = self.opened else {
            return false;
        };
        self.urgent || self.is_full(accounts) || now.saturating_sub(opened) >= every
    }

    /// Whether it may not grow any more before another one is under way.
    pub fn is_full(&self, accounts: usize) -> bool {
        self.changed >= accounts || self.bytes >= MAX_BYTES
    }

    /// How long until [`Self::is_due`] for its age alone; `None` while it is empty.
    pub fn due_in(&self, now: Duration, every: Duration) -> Option<Duration> {
        Some(every.saturating_sub(now.saturating_sub(self.opened?)))
    }

    /// Forgets everything of a partition that belongs to somebody else.
    pub fn drop_partition(&mut self, partition: i32) {
        self.parts.retain(|part| part.partition != partition);
        if self.parts.is_empty() {
            *self = Batch::default();
        }
    }

    /// Freezes the batch under `batch_id`; `encode` gives the durable record of an account.
    pub fn close(
        &mut self,
        batch_id: String,
        mut encode: impl FnMut(i32, StateKey) -> Option<Vec<u8>>,
    ) -> Flight {
        let mut transaction = Transaction {
            batch_id,
            ..Transaction::default()
        };
        let mut parts = Vec::with_capacity(self.parts.len());
        let batch = std::mem::take(self);
        for part in batch.parts {
            let begin = transaction.records.len();
            transaction.records.extend(part.records);
            for key in part.changed {
                transaction.records.push(OutputRecord {
                    topic: OutputTopic::State,
                    key: key.0.to_vec(),
                    payload: encode(part.partition, key),
                    partition: Some(part.partition),
                    headers: Vec::new(),
                });
            }
            transaction.offsets.push((part.partition, part.next_offset));
            parts.push((part.partition, transaction.records.len() - begin));
        }
        Flight {
            transaction: Arc::new(transaction),
            parts,
            commands: batch.commands,
        }
    }

    fn part(&mut self, partition: i32, next_offset: i64) -> &mut Part {
        // Records come in runs of one partition, so the last one is mostly the right one.
        let at = match self.parts.iter().rposition(|p| p.partition == partition) {
            Some(at) => at,
            None => {
                self.parts.push(Part {
                    partition,
                    next_offset,
                    records: Vec::new(),
                    changed: Vec::new(),
                    marked: HashSet::new(),
                });
                self.parts.len() - 1
            }
        };
        &mut self.parts[at]
    }
}

/// A batch on its way.
#[derive(Debug)]
pub struct Flight {
    pub transaction: Arc<Transaction>,
    /// When the events behind its commands came.
    pub commands: Vec<Duration>,
    /// Input partitions and how many of the transaction's records each caused, in order.
    parts: Vec<(i32, usize)>,
}

impl Flight {
    /// What is left without `lost`, as a new batch under `batch_id`; `None` where nothing
    /// is. The old one must be known not to be committed.
    pub fn without(self, lost: &[i32], batch_id: String) -> Option<Flight> {
        let mut transaction = Transaction {
            batch_id,
            ..Transaction::default()
        };
        let before = Arc::unwrap_or_clone(self.transaction);
        let mut records = before.records.into_iter();
        let mut parts = Vec::new();
        for (partition, count) in self.parts {
            let caused = records.by_ref().take(count);
            if lost.contains(&partition) {
                caused.for_each(drop);
            } else {
                transaction.records.extend(caused);
                parts.push((partition, count));
            }
        }
        transaction.offsets = before.offsets;
        transaction
            .offsets
            .retain(|(partition, _)| !lost.contains(partition));
        (!parts.is_empty()).then(|| Flight {
            transaction: Arc::new(transaction),
            parts,
            commands: self.commands,
        })
    }
}
