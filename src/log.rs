//! The seam between a shard and the log that it reads and writes.
//!
//! [`Log`] is the only way a shard touches Kafka. [`crate::ingest`] and [`crate::deliver`]
//! implement it on librdkafka; [`crate::sim`] implements it in memory, so that the same
//! shard code runs single-threaded and deterministic under test.

pub mod client;
mod kafka;

use std::sync::Arc;
use std::time::Duration;

pub use kafka::KafkaLog;

use crate::engine::ahead::Held;
use crate::event::Timestamp;

/// One message of `auth.events`, borrowed from the log's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct InputRecord<'a> {
    pub partition: i32,
    pub offset: i64,
    /// The broker's timestamp: the only clock that decides.
    pub broker_time: Timestamp,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

/// What a call of [`Log::poll`] brought beside records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Nothing but the records, if any, that were handed to the closure.
    Records,
    /// These partitions are given to this shard. It must [`Log::restore`] each and then
    /// [`Log::start`] it; no record of them is handed out before.
    Assigned(Vec<i32>),
    /// These partitions are to be given up: the shard commits what it has of them (unless
    /// `lost`, when they already belong to somebody else and what is uncommitted must be
    /// dropped), forgets their accounts, and calls [`Log::release`].
    Revoked { partitions: Vec<i32>, lost: bool },
}

/// Where a partition's reading goes on after its state was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The committed input offset; `None` where the group has none yet.
    pub next_offset: Option<i64>,
    /// The batch id in the committed offset's metadata.
    pub batch_id: Option<String>,
}

/// How far a restore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restoring {
    /// There is more to read: ask again. `read` of `of` offsets are behind it.
    More { read: i64, of: i64 },
    /// All is read; go on with [`Log::start`].
    Done(Restored),
}

/// Header of a record of `doorward.state` that holds more than the position committed with it:
/// how much ([`Held`]).
pub const AHEAD: &str = "doorward.ahead";

/// One output record. The topic is a role, so that names stay settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    pub topic: OutputTopic,
    /// Empty: none, and any partition will do.
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// `Some` for `State` and for events that must stay on an account's partition;
    /// otherwise murmur2 of the key.
    pub partition: Option<i32>,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputTopic {
    Commands,
    Decisions,
    Cases,
    Mail,
    State,
    DeadLetters,
    /// doorward's own events (timers), back onto the input topic.
    Events,
}

/// Everything that is committed at once: outputs and the input offsets that caused them.
/// It stays as it is until it is known to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Unique; written into the committed offsets' metadata.
    pub batch_id: String,
    pub records: Vec<OutputRecord>,
    /// Partition and the offset of the next record to read.
    pub offsets: Vec<(i32, i64)>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached or refuses for now; the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// Another process uses this shard's transactional id.
    #[error(
        "fenced: another process uses the transactional id {0}; \
         give each instance its own `kafka.instance`"
    )]
    Fenced(String),
    /// The partitions of this transaction no longer belong to this shard; it was aborted.
    #[error("the assignment was lost before the commit; partitions {0:?}")]
    Lost(Vec<i32>),
    /// A call made no progress for a minute although the log answers; a restart may help.
    #[error("{0}")]
    Stalled(String),
    /// Nothing will mend this by waiting: wrong settings, missing topics, no permission.
    #[error("{0}")]
    Fatal(String),
}

/// One record of `doorward.state`, borrowed from the log's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct StateRecord<'a> {
    pub key: &'a [u8],
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// What its header [`AHEAD`] says.
    pub ahead: Option<Held>,
}

/// Takes one record of state.
pub type EachState<'a> = &'a mut dyn FnMut(StateRecord<'_>);

/// The log, as one shard sees it.
pub trait Log {
    /// Waits at most `wait`, hands every record that is there to `each` in order of offset
    /// per partition, and says what else happened. While a commit is under way no partitions
    /// are given or taken: the group waits until its end was polled.
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError>;

    /// Reads the committed state of `partition`, handing each record to `each`: a slice with each call, so that other partitions go on,
    /// until everything is read that was committed before the first of these calls. Another
    /// partition, an error or a release begins afresh.
    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError>;

    /// Starts reading `partition` where `from` says.
    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError>;

    /// Gives partitions up, after [`Wakeup::Revoked`].
    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Begins to commit all of `transaction` or nothing; [`Self::poll_commit`] tells the end.
    /// The one before must have ended, and a transaction that failed is begun again before
    /// any other is.
    ///
    /// # Errors
    /// It was not begun.
    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError>;

    /// Waits at most `wait` for the end of what was begun; `None`: it is still under way.
    /// After `Ok` it is committed; where that was unclear in between, it has been found out.
    fn poll_commit(&mut self, wait: Duration) -> Option<Result<(), LogError>>;

    /// Both, one after the other.
    fn commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        self.begin_commit(transaction)?;
        loop {
            if let Some(ended) = self.poll_commit(Duration::from_secs(1)) {
                return ended;
            }
        }
    }

    /// Offset of the next record that will be written to `partition`, where known: how far
    /// behind the shard is.
    fn high_watermark(&self, partition: i32) -> Option<i64>;

    /// Leaves the group. Nothing may be called afterwards.
    fn close(&mut self);
}
