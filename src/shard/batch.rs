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

/// Accounts after which a commit that could wait takes no further partition along: some ten
/// milliseconds, for which a command that comes meanwhile waits.
const SLICE: usize = 500;

/// The batch that is growing.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which their first events came.
    parts: Vec<Part>,
    bytes: usize,
    changed: usize,
}

/// What one input partition caused.
#[derive(Debug)]
struct Part {
    partition: i32,
    next_offset: i64,
    /// When its first event came, by the shard's monotonic clock.
    opened: Duration,
    urgent: bool,
    /// When the events behind its commands came.
    commands: Vec<Duration>,
    records: Vec<OutputRecord>,
    bytes: usize,
    /// Accounts whose state must be written, once each however often it changed, in the order
    /// in which they first did: the state topic then tells what was touched last.
    changed: Vec<StateKey>,
    marked: HashSet<StateKey>,
}

/// When a batch must be committed though nothing in it is urgent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub every: Duration,
    pub accounts: usize,
}

impl Batch {
    /// Notes that the record at `source` was handled at `now`: its offset goes with the
    /// batch, whatever it caused.
    pub fn handled(&mut self, source: Source, now: Duration) {
        let part = self.part(source.partition, source.offset, now);
        part.next_offset = source.offset + 1;
    }

    /// Adds an output of a record that was [`Self::handled`].
    pub fn push(&mut self, partition: i32, record: OutputRecord) {
        let bytes = record.key.len() + record.payload.as_ref().map_or(0, Vec::len) + 64;
        self.bytes += bytes;
        let part = self.handled_part(partition);
        part.bytes += bytes;
        part.records.push(record);
    }

    /// Adds an output that no record caused; `next_offset` is where the partition stands.
    pub fn push_unprompted(&mut self, source: Source, record: OutputRecord, now: Duration) {
        self.part(source.partition, source.offset, now).urgent = true;
        self.push(source.partition, record);
    }

    pub fn changed(&mut self, partition: i32, key: StateKey) {
        let part = self.handled_part(partition);
        if part.marked.insert(key) {
            part.changed.push(key);
            self.changed += 1;
        }
    }

    /// Asks that what `partition` caused be committed at once.
    pub fn urgent(&mut self, partition: i32) {
        self.handled_part(partition).urgent = true;
    }

    /// Notes that an event of `partition` that came at `received` caused a command.
    pub fn command(&mut self, partition: i32, received: Duration) {
        self.handled_part(partition).commands.push(received);
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether something of it should be committed at `now`.
    pub fn is_due(&self, now: Duration, limits: Limits) -> bool {
        self.due_in(now, limits.every)
            .is_some_and(|due| due.is_zero())
            || self.is_full(limits.accounts)
    }

    /// Whether it may not grow any more before another one is under way.
    pub fn is_full(&self, accounts: usize) -> bool {
        self.changed >= accounts || self.bytes >= MAX_BYTES
    }

    /// How long until [`Self::is_due`], unless it fills up before; `None` while it is empty.
    pub fn due_in(&self, now: Duration, every: Duration) -> Option<Duration> {
        let oldest = self.parts.first()?;
        if self.parts.iter().any(|part| part.urgent) {
            return Some(Duration::ZERO);
        }
        Some((oldest.opened + every).saturating_sub(now))
    }

    /// Forgets everything of a partition that belongs to somebody else.
    pub fn drop_partition(&mut self, partition: i32) {
        let parts = std::mem::take(&mut self.parts);
        let (dropped, kept): (Vec<Part>, Vec<Part>) = parts
            .into_iter()
            .partition(|part| part.partition == partition);
        self.parts = kept;
        self.deduct(&dropped);
    }

    /// Freezes all of it under `batch_id`; `encode` gives the durable record of an account.
    pub fn close(
        &mut self,
        batch_id: String,
        encode: impl FnMut(i32, StateKey) -> Option<Vec<u8>>,
    ) -> Flight {
        let parts = std::mem::take(self).parts;
        Flight::new(batch_id, parts, encode)
    }

    /// Freezes what should be committed first, and leaves the rest to grow. A command waits
    /// neither for other partitions' state nor, later, for much of what could have waited: each
    /// partition that takes part costs requests of its own, one after the other.
    pub fn close_first(
        &mut self,
        batch_id: String,
        now: Duration,
        limits: Limits,
        encode: impl FnMut(i32, StateKey) -> Option<Vec<u8>>,
    ) -> Flight {
        if self.is_full(limits.accounts) {
            return self.close(batch_id, encode);
        }
        let waits_for_urgent = self.parts.iter().any(|part| part.urgent);
        let mut accounts = 0;
        let (taken, left) = std::mem::take(&mut self.parts)
            .into_iter()
            .partition(|part| {
                let is_late = now.saturating_sub(part.opened) >= limits.every;
                let takes = part.urgent || accounts < SLICE && (is_late || !waits_for_urgent);
                if takes {
                    accounts += part.changed.len();
                }
                takes
            });
        self.parts = left;
        self.deduct(&taken);
        Flight::new(batch_id, taken, encode)
    }

    fn deduct(&mut self, parts: &[Part]) {
        for part in parts {
            self.bytes -= part.bytes;
            self.changed -= part.changed.len();
        }
    }

    fn handled_part(&mut self, partition: i32) -> &mut Part {
        self.part(partition, 0, Duration::ZERO)
    }

    fn part(&mut self, partition: i32, next_offset: i64, now: Duration) -> &mut Part {
        // Records come in runs of one partition, so the last one is mostly the right one.
        let at = match self.parts.iter().rposition(|p| p.partition == partition) {
            Some(at) => at,
            None => {
                self.parts.push(Part {
                    partition,
                    next_offset,
                    opened: now,
                    urgent: false,
                    commands: Vec::new(),
                    records: Vec::new(),
                    bytes: 0,
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
    fn new(
        batch_id: String,
        caused: Vec<Part>,
        mut encode: impl FnMut(i32, StateKey) -> Option<Vec<u8>>,
    ) -> Flight {
        let mut transaction = Transaction {
            batch_id,
            ..Transaction::default()
        };
        let (mut parts, mut commands) = (Vec::with_capacity(caused.len()), Vec::new());
        for part in caused {
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
            commands.extend(part.commands);
        }
        Flight {
            transaction: Arc::new(transaction),
            parts,
            commands,
        }
    }

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
