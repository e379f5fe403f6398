//! What the protocols of a log need of a client of Kafka, call by call.
//!
//! [`crate::ingest`] and [`crate::deliver`] are written against these traits, so that what
//! they do about a rebalance, an unclear commit or a restore is the same code on librdkafka
//! (`crate::kafka`) and on the simulated cluster ([`crate::sim`]). Each call is one call of
//! the client library and promises no more than that does.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::{InputRecord, LogError, OutputRecord, Restored, StateRecord};
use crate::clock::Clock;
use crate::deliver::{Attempt, Attempted};

/// How long a blocking request to Kafka may take before it counts as failed.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One step of a rebalance, in the order in which they came. The group waits until it is
/// answered by [`Client::agree`] or [`Client::give_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    Assigned(Vec<i32>),
    Revoked { partitions: Vec<i32>, lost: bool },
}

/// One member of the consumer group of `auth.events`, and what belongs to it.
pub trait Client {
    /// Who this member was at one moment: shown to the broker beside committed offsets.
    type Membership: Clone;
    type Producer: Producer<Membership = Self::Membership>;
    type StateReader: StateReader;
    type Worker: Worker<Producer = Self::Producer>;

    /// The clock of deadlines and pauses.
    fn clock(&self) -> &dyn Clock;

    /// Serves the group protocol, which may add to [`Self::next_rebalance`]. Whoever does
    /// something else for long must call it now and then, or the group thinks this member
    /// dead.
    fn tend(&mut self) -> Result<(), LogError>;

    /// The next step of a rebalance that was not handed out yet.
    fn next_rebalance(&mut self) -> Option<Rebalance>;

    /// Whether there is such a step.
    fn is_rebalancing(&self) -> bool;

    /// Partitions of steps with `lost` that were not handed out yet.
    fn lost(&self) -> Vec<i32>;

    /// Whether `partition` was agreed to and not given up since.
    fn holds(&self, partition: i32) -> bool;

    /// Whether the whole assignment was taken away without this member having been asked.
    fn is_assignment_lost(&self) -> bool;

    /// Agrees to an assignment. Nothing of it is read before [`Self::fetch`].
    fn agree(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Begins to read an agreed partition at `from`; `None`: at its beginning.
    fn fetch(&mut self, partition: i32, from: Option<i64>) -> Result<(), LogError>;

    /// Stops reading `partitions` and answers the group that they are free. Records of them
    /// that were fetched already are not handed out any more.
    fn give_up(&mut self, partitions: &[i32]) -> Result<(), LogError>;

    /// Hands at most `limit` records to `each`, in order of offset within a partition, and
    /// says how many. With a `wait` it returns only when `limit` is reached or the time is
    /// over.
    fn take(
        &mut self,
        wait: Duration,
        limit: usize,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<usize, LogError>;

    /// An error where no broker answers.
    fn check_reachable(&mut self) -> Result<(), LogError>;

    /// Notes that a broker answered.
    fn set_reachable(&mut self);

    /// Who this member is at the moment; `None` while it is none. A commit without member id
    /// and with a negative generation would pass every check of the broker.
    fn membership(&self) -> Option<Self::Membership>;

    /// The committed offset of an input partition and its metadata. Stable: an error where a
    /// transaction that holds an offset for it is open.
    fn committed(&self, partition: i32, within: Duration) -> Result<Restored, LogError>;

    /// Commits offsets outside of any transaction.
    fn commit_offsets(&self, offsets: &[(i32, i64)], metadata: &str) -> Result<(), LogError>;

    /// The offset after the newest record of an input partition, as the last fetch told.
    fn high_watermark(&self, partition: i32) -> Option<i64>;

    /// The first offset of a partition of `doorward.state` and the one after its newest
    /// record, uncommitted ones included.
    fn state_bounds(&self, partition: i32, within: Duration) -> Result<(i64, i64), LogError>;

    /// Opens a reader of committed records of a partition of `doorward.state` from offset
    /// `from` on, or from its beginning, where that is later by now.
    fn read_state(&self, partition: i32, from: i64) -> Result<Self::StateReader, LogError>;

    /// Makes a producer. With transactions, it registers the transactional id: an older
    /// producer of the same id is fenced, and the transaction that it left open has ended
    /// when this returns.
    fn register(&self) -> Result<Self::Producer, LogError>;

    /// Somebody who makes attempts to commit while the loop goes on.
    fn worker(&self) -> Result<Self::Worker, LogError>;

    /// The id that [`Self::register`] registers.
    fn transactional_id(&self) -> String;

    /// Leaves the group, agreeing to everything that it still asks. Only dropping it may
    /// follow.
    fn leave(&mut self);
}

/// What a reader of the state topic finds.
#[derive(Clone, Copy, Debug)]
pub enum StateItem<'a> {
    Record {
        offset: i64,
        record: StateRecord<'a>,
    },
    /// A record without a key, which nobody here wrote.
    Foreign { offset: i64 },
    /// There is nothing more to be shown below `offset`: what is left are records of
    /// transactions that were aborted, and markers.
    End { offset: i64 },
}

/// Reads one partition of `doorward.state`, committed records only.
pub trait StateReader {
    /// Hands what is there to `each`, waiting for it at most `wait`.
    fn take(&mut self, wait: Duration, each: &mut dyn FnMut(StateItem<'_>))
    -> Result<(), LogError>;
}

/// A registered producer. Dropping it leaves its open transaction to the next
/// [`Client::register`], or to the broker's time-out.
pub trait Producer {
    type Membership;

    fn begin(&self) -> Result<(), TxnError>;

    /// Queues every record, waiting at most `within` where the queue is full.
    fn send_all(&self, records: &[OutputRecord], within: Duration) -> Result<(), TxnError>;

    /// Adds input offsets, each with `metadata`, to the open transaction.
    fn send_offsets(
        &self,
        offsets: &[(i32, i64)],
        metadata: &str,
        member: &Self::Membership,
        within: Duration,
    ) -> Result<(), TxnError>;

    /// Delivers what was queued and commits.
    fn commit(&self, within: Duration) -> Result<(), TxnError>;

    fn abort(&self, within: Duration) -> Result<(), TxnError>;

    /// Outside of transactions: waits until everything is delivered.
    fn flush(&self, within: Duration) -> Result<(), TxnError>;

    /// Whether it lost a connection since it was registered. A request that the library sent
    /// again by itself may then still be on its way, and end the next transaction.
    fn is_disturbed(&self) -> bool;

    /// The first record since [`Self::begin`] that could not be delivered: its topic and why.
    fn take_failure(&self) -> Option<(String, RDKafkaErrorCode)>;
}

/// Makes attempts to commit beside the shard's loop, one at a time.
pub trait Worker {
    type Producer: Producer;

    /// Begins an attempt; the one before has been taken.
    fn begin(&mut self, attempt: Attempt<Self::Producer>);

    /// Waits at most `wait` for the attempt's end, and says whether it has come.
    ///
    /// # Errors
    /// Where it will never come.
    fn wait(&mut self, wait: Duration) -> Result<bool, LogError>;

    /// What became of the attempt, once it has ended.
    fn take(&mut self) -> Option<Attempted<Self::Producer>>;
}

/// Why a call of a producer failed, and what the client library says may be done about it.
#[derive(Clone, Debug)]
pub struct TxnError {
    pub code: RDKafkaErrorCode,
    pub text: String,
    pub fatal: bool,
    pub retriable: bool,
    pub must_abort: bool,
}
