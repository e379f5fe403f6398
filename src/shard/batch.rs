//! What a shard has caused and not committed yet.
//!
//! Kept per input partition, so that what belongs to a partition that was lost can be
//! dropped alone, and in it per account, so that a lock does not wait for the state of
//! thousands of others. A flight takes whole accounts: the record of each, and all that it
//! caused. The position that it commits is that of the oldest event of whatever stays behind,
//! and a record that holds more than that position says so ([`crate::engine::ahead`]).
//!
//! A batch that is on its way ([`Flight`]) does not change any more: it is sent again as it
//! was until it is known to be committed.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::engine::StateKey;
use crate::engine::ahead::Held;
use crate::event::{Source, Timestamp};
use crate::log::{AHEAD, OutputRecord, OutputTopic, Transaction};

/// Bytes of outputs after which a commit is due whatever else.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The batch that is growing.
#[derive(Debug, Default)]
pub struct Batch {
    parts: Vec<Part>,
    bytes: usize,
    /// Places in the queues of all parts.
    waiting: usize,
}

/// What one input partition caused.
#[derive(Debug)]
struct Part {
    partition: i32,
    next_offset: i64,
    /// When the oldest event came that it stands for, by the shard's monotonic clock.
    opened: Duration,
    /// What must be written, each account once however often it changed, in the order in
    /// which they first did: the state topic then tells what was touched last.
    queue: Vec<Waiting>,
    /// The accounts in the queue.
    touched: HashMap<StateKey, Touched>,
    /// In the order of the events that caused them.
    outputs: Vec<(Cause, OutputRecord)>,
    urgent: bool,
    /// When the events behind its commands came.
    commands: Vec<Duration>,
}

/// One place in a queue.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// `None`: not an account, but a message that is no event.
    key: Option<StateKey>,
    /// Of the first event that is not committed, and when it came.
    offset: i64,
    came: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Touched {
    /// Offset of the last event that changed it.
    last: i64,
    urgent: bool,
}

/// What an output comes from.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// What an account's record became.
    Account(StateKey),
    /// The message at this offset, which is no event.
    Message(i64),
    /// Nothing that was read.
    Nothing,
}

/// When a batch must be committed though nothing in it is urgent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After this time at most.
    pub every: Duration,
    /// With so many accounts nothing is read before all of them are on their way.
    pub accounts: usize,
}

impl Limits {
    /// Accounts that do not wait for [`Self::every`].
    fn many(self) -> usize {
        (self.accounts / 4).max(1)
    }

    /// Accounts that a commit takes along of `waiting` ones that could wait. Of 500, the least
    /// with the default of 10,000, some ten milliseconds, for which a command that comes
    /// meanwhile waits; of many, the more, since what comes in must go out.
    fn slice(self, waiting: usize) -> usize {
        (self.accounts / 20).max(waiting / 4).max(1)
    }

    /// Accounts that a command takes along, the oldest of its partition: hardly any time, and
    /// where there are no more, the partition is committed up to its last event.
    fn beside_a_command(self) -> usize {
        self.accounts / 200
    }
}

/// The durable record of an account.
pub struct Durable {
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The newest broker time that its partition has handled.
    pub newest: Timestamp,
    /// What it held when it was restored, where that was more than the position said.
    pub ahead: Option<Held>,
}

impl Durable {
    /// What it holds, where the event at `last` changed it last.
    fn held(&self, last: i64) -> Held {
        let held = Held {
            before: last + 1,
            newest: self.newest,
        };
        self.ahead.map_or(held, |ahead| ahead.and(held))
    }
}

impl Batch {
    /// Notes that the record at `source` was handled at `now`: its offset goes with the
    /// batch, whatever it caused.
    pub fn handled(&mut self, source: Source, now: Duration) {
        let part = self.part(source.partition, source.offset, now);
        part.next_offset = source.offset + 1;
    }

    /// Notes that the event at `source`, which was [`Self::handled`] and came at `now`,
    /// changed the record of `key`.
    pub fn changed(&mut self, source: Source, key: StateKey, now: Duration) {
        let part = self.part(source.partition, source.offset, now);
        self.waiting += usize::from(part.change(source.offset, key, now));
    }

    /// Adds an output of the record at `source`, which was [`Self::handled`]. Where an account
    /// caused it, its record is written with it whether it changed or not, since that tells
    /// that the event was handled; a dead letter, which no account caused, stays as long as
    /// the position does.
    pub fn push(
        &mut self,
        source: Source,
        cause: Option<StateKey>,
        record: OutputRecord,
        now: Duration,
    ) {
        let cause = match cause {
            Some(key) => {
                self.changed(source, key, now);
                Cause::Account(key)
            }
            None => {
                let part = self.part(source.partition, source.offset, now);
                part.queue.push(Waiting {
                    key: None,
                    offset: source.offset,
                    came: now,
                });
                self.waiting += 1;
                Cause::Message(source.offset)
            }
        };
        self.add(source.partition, cause, record);
    }

    /// Adds an output that no record caused; `source` is where the partition stands.
    pub fn push_unprompted(&mut self, source: Source, record: OutputRecord, now: Duration) {
        self.part(source.partition, source.offset, now).urgent = true;
        self.add(source.partition, Cause::Nothing, record);
    }

    /// Asks that the record of `key`, which [`Self::changed`], be committed at once with all
    /// that it caused.
    pub fn urgent(&mut self, partition: i32, key: StateKey) {
        let part = self.handled_part(partition);
        if let Some(touched) = part.touched.get_mut(&key) {
            touched.urgent = true;
            part.urgent = true;
        }
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
            || self.waiting >= limits.many()
            || self.is_full(limits.accounts)
    }

    /// Whether it may not grow any more before another one is under way.
    pub fn is_full(&self, accounts: usize) -> bool {
        self.waiting >= accounts || self.bytes >= MAX_BYTES
    }

    /// How long until [`Self::is_due`], unless it fills up before; `None` while it is empty.
    pub fn due_in(&self, now: Duration, every: Duration) -> Option<Duration> {
        let oldest = self.parts.iter().map(|part| part.opened).min()?;
        if self.parts.iter().any(|part| part.urgent) {
            return Some(Duration::ZERO);
        }
        Some((oldest + every).saturating_sub(now))
    }

    /// Forgets everything of a partition that belongs to somebody else.
    pub fn drop_partition(&mut self, partition: i32) {
        if let Some(at) = self.parts.iter().position(|p| p.partition == partition) {
            let dropped = self.parts.remove(at);
            self.waiting -= dropped.queue.len();
            self.bytes -= dropped.outputs.iter().map(|(_, o)| size(o)).sum::<usize>();
        }
    }

    /// Freezes all of it under `batch_id`; `encode` gives the durable record of an account.
    pub fn close(
        &mut self,
        batch_id: String,
        encode: impl FnMut(i32, StateKey) -> Durable,
    ) -> Flight {
        self.take(batch_id, encode, |_| Some(usize::MAX))
    }

    /// Freezes what should be committed first, and leaves the rest to grow. A command waits
    /// neither for the state of other accounts nor, later, for much of what could have waited;
    /// and partitions that need not take part do not, since each costs requests of its own, one
    /// after the other.
    pub fn close_first(
        &mut self,
        batch_id: String,
        now: Duration,
        limits: Limits,
        encode: impl FnMut(i32, StateKey) -> Durable,
    ) -> Flight {
        if self.is_full(limits.accounts) {
            return self.close(batch_id, encode);
        }
        let something_is_urgent = self.parts.iter().any(|part| part.urgent);
        let many = self.waiting >= limits.many();
        let mut room = limits.slice(self.waiting);
        self.parts.sort_by_key(|part| part.opened);
        self.take(batch_id, encode, |part| {
            let is_late = now.saturating_sub(part.opened) >= limits.every;
            let most = if is_late || many || !something_is_urgent {
                room
            } else if part.urgent {
                limits.beside_a_command()
            } else {
                0
            };
            room = room.saturating_sub(most.min(part.queue.len()));
            (part.urgent || most > 0).then_some(most)
        })
    }

    /// Freezes what is urgent, and the oldest accounts of each part, as many as `most` says;
    /// nothing at all of a part where it says `None`.
    fn take(
        &mut self,
        batch_id: String,
        mut encode: impl FnMut(i32, StateKey) -> Durable,
        mut most: impl FnMut(&Part) -> Option<usize>,
    ) -> Flight {
        let mut transaction = Transaction {
            batch_id,
            ..Transaction::default()
        };
        let (mut parts, mut commands) = (Vec::new(), Vec::new());
        let mut left = Vec::with_capacity(self.parts.len());
        for mut part in std::mem::take(&mut self.parts) {
            if let Some(most) = most(&part) {
                let waiting = part.queue.len();
                let begin = transaction.records.len();
                let outputs = part.take(most, &mut encode, &mut transaction);
                self.waiting -= waiting - part.queue.len();
                self.bytes -= transaction.records[begin..][..outputs]
                    .iter()
                    .map(size)
                    .sum::<usize>();
                parts.push((part.partition, transaction.records.len() - begin));
                commands.append(&mut part.commands);
                if part.queue.is_empty() {
                    continue;
                }
            }
            left.push(part);
        }
        self.parts = left;
        Flight {
            transaction: Arc::new(transaction),
            parts,
            commands,
        }
    }

    fn add(&mut self, partition: i32, cause: Cause, record: OutputRecord) {
        self.bytes += size(&record);
        self.handled_part(partition).outputs.push((cause, record));
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
                    queue: Vec::new(),
                    touched: HashMap::new(),
                    outputs: Vec::new(),
                    urgent: false,
                    commands: Vec::new(),
                });
                self.parts.len() - 1
            }
        };
        &mut self.parts[at]
    }
}

/// What an output takes in memory, about.
fn size(record: &OutputRecord) -> usize {
    record.key.len() + record.payload.as_ref().map_or(0, Vec::len) + 64
}

impl Part {
    /// `true` where `key` was not waiting yet.
    fn change(&mut self, offset: i64, key: StateKey, now: Duration) -> bool {
        match self.touched.entry(key) {
            hashbrown::hash_map::Entry::Occupied(mut touched) => {
                touched.get_mut().last = offset;
                false
            }
            hashbrown::hash_map::Entry::Vacant(free) => {
                free.insert(Touched {
                    last: offset,
                    urgent: false,
                });
                self.queue.push(Waiting {
                    key: Some(key),
                    offset,
                    came: now,
                });
                true
            }
        }
    }

    /// Moves what is urgent, and the `most` oldest places, to `transaction`: outputs first,
    /// whose number it returns, then the records of accounts. The position is that of the
    /// oldest event of what stays.
    fn take(
        &mut self,
        most: usize,
        encode: &mut impl FnMut(i32, StateKey) -> Durable,
        transaction: &mut Transaction,
    ) -> usize {
        let taken = self.leave_the_queue(most);
        let position = match self.queue.first() {
            Some(oldest) => {
                self.opened = oldest.came;
                oldest.offset
            }
            None => self.next_offset,
        };
        let begin = transaction.records.len();
        let mut left = Vec::new();
        for (cause, output) in self.outputs.drain(..) {
            let stays = match cause {
                Cause::Account(key) => self.touched.contains_key(&key),
                Cause::Message(offset) => offset >= position,
                Cause::Nothing => false,
            };
            if stays {
                left.push((cause, output));
            } else {
                transaction.records.push(output);
            }
        }
        self.outputs = left;
        let outputs = transaction.records.len() - begin;
        for (key, last) in taken {
            let durable = encode(self.partition, key);
            let held = durable.held(last);
            transaction.records.push(OutputRecord {
                topic: OutputTopic::State,
                key: key.0.to_vec(),
                payload: durable.value,
                partition: Some(self.partition),
                headers: match held.is_ahead_of(Some(position)) {
                    true => vec![(AHEAD, held.to_string())],
                    false => Vec::new(),
                },
            });
        }
        transaction.offsets.push((self.partition, position));
        self.urgent = false;
        outputs
    }

    /// Takes what is urgent, and the `most` oldest places, out of the queue: the accounts among
    /// them, and the last event of each.
    fn leave_the_queue(&mut self, most: usize) -> Vec<(StateKey, i64)> {
        let touched = &mut self.touched;
        let mut taken = Vec::new();
        let mut at = 0;
        self.queue.retain(|waiting| {
            let is_old = at < most;
            at += 1;
            let Some(key) = waiting.key else {
                return !is_old;
            };
            if !is_old && !touched.get(&key).is_some_and(|touched| touched.urgent) {
                return true;
            }
            taken.extend(touched.remove(&key).map(|touched| (key, touched.last)));
            false
        });
        taken
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
