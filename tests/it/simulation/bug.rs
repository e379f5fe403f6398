//! Known bugs, planted between the real code and the model, to show that they are found.
//!
//! Each wraps a call of the client or of the log and does it wrong, so the program itself
//! has no switch for them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use doorward::clock::Clock;
use doorward::deliver::Deliver;
use doorward::event::Timestamp;
use doorward::log::client::{Client, Rebalance};
use doorward::log::{
    EachState, InputRecord, KafkaLog, Log, LogError, OutputTopic, Restored, Restoring, StateRecord,
    Transaction, Wakeup,
};
use doorward::sim::client::{SimClient, SimStateReader};
use doorward::sim::clock::SimClock;
use doorward::sim::group::SimMembership;
use doorward::sim::producer::SimProducer;
use doorward::sim::topic::{Isolation, Topic};
use doorward::sim::worker::SimWorker;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Offsets are committed first, and what they caused afterwards.
    CommitBeforeSend,
    /// Offsets are committed without saying who commits.
    StaleGeneration,
    /// State is read to the last stable offset.
    RestoreToStable,
    /// State is read with what is not committed.
    RestoreUncommitted,
    /// The committed offset is taken before its transaction's markers are all written.
    UnstableOffset,
    /// A batch is sent again without a look at what became of it.
    ResendUnclear,
    /// The producer is kept after a commit that nobody answered.
    KeepProducer,
    /// The loop goes by the machine's time of day, and so do its timers.
    LocalClock,
    /// Decisions go by the machine's time of day, and not by the broker's.
    LocalTime,
    /// What becomes of a commit that is under way is not waited for: the next batch goes after
    /// it, whatever it was.
    CommitBelieved,
    /// A batch whose commit failed goes after the one that grew meanwhile.
    LaterFirst,
    /// The shard hears of a loss while a commit is under way, which is then tried again with
    /// what was lost, and nobody looks whether that is still held.
    LostInFlight,
    /// Revoked partitions are released at once, and what is left of them is committed.
    RevokedCommitted,
    /// Offsets are counted, as if markers took none.
    MarkerIgnored,
    /// An owner's answer goes to another partition.
    WrongPartition,
    /// The state of some accounts is not written.
    StateMissing,
    /// What a rule has locked is not read back where a partition moves.
    BudgetForgotten,
    /// What is forgotten leaves no tombstone.
    NoTombstone,
    /// Nobody reads back which accounts were committed ahead of the position.
    AheadForgotten,
    /// Offsets say how far was read, whatever of it waits to be written.
    ReadCommitted,
    /// The mailer commits how far it is before its receipts are written.
    MailBeforeReceipt,
    /// It commits what it has read.
    MailForgotten,
    /// It sends whatever its lease says.
    GateIgnored,
    /// The mailer reads mails of transactions that are not committed.
    MailUncommitted,
}

impl Bug {
    pub const ALL: [Bug; 24] = [
        Bug::CommitBeforeSend,
        Bug::StaleGeneration,
        Bug::RestoreToStable,
        Bug::RestoreUncommitted,
        Bug::UnstableOffset,
        Bug::ResendUnclear,
        Bug::KeepProducer,
        Bug::LocalClock,
        Bug::LocalTime,
        Bug::CommitBelieved,
        Bug::LaterFirst,
        Bug::LostInFlight,
        Bug::RevokedCommitted,
        Bug::MarkerIgnored,
        Bug::WrongPartition,
        Bug::StateMissing,
        Bug::BudgetForgotten,
        Bug::NoTombstone,
        Bug::AheadForgotten,
        Bug::ReadCommitted,
        Bug::MailBeforeReceipt,
        Bug::MailForgotten,
        Bug::GateIgnored,
        Bug::MailUncommitted,
    ];
}

/// The client, with a bug or without.
pub struct PlantedClient {
    inner: SimClient,
    bug: Option<Bug>,
    last: RefCell<Option<SimProducer>>,
    steps: VecDeque<Rebalance>,
    told: Told,
}

/// What the shard is told whatever is under way.
type Told = Rc<RefCell<VecDeque<Wakeup>>>;

impl PlantedClient {
    pub fn new(inner: SimClient, bug: Option<Bug>) -> PlantedClient {
        PlantedClient {
            inner,
            bug,
            last: RefCell::new(None),
            steps: VecDeque::new(),
            told: Told::default(),
        }
    }

    /// The log above it, which tells the shard.
    pub fn log(self, clock: SimClock, deliver: Deliver<PlantedClient>) -> PlantedLog {
        PlantedLog {
            bug: self.bug,
            told: Rc::clone(&self.told),
            inner: KafkaLog::new(self, deliver),
            clock,
            counted: BTreeMap::new(),
            under_way: None,
            believed: VecDeque::new(),
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Client for PlantedClient {
    type Membership = SimMembership;
    type Producer = SimProducer;
    type StateReader = SimStateReader;
    type Worker = SimWorker;

    fn clock(&self) -> &dyn Clock {
        self.inner.clock()
    }

    fn tend(&mut self) -> Result<(), LogError> {
        self.inner.tend()?;
        if self.has(Bug::RevokedCommitted) {
            while let Some(step) = self.inner.next_rebalance() {
                match step {
                    Rebalance::Revoked { partitions, .. } => self.inner.give_up(&partitions)?,
                    assigned => self.steps.push_back(assigned),
                }
            }
        }
        if self.has(Bug::LostInFlight) && !self.inner.lost().is_empty() {
            while let Some(step) = self.inner.next_rebalance() {
                match step {
                    Rebalance::Revoked {
                        partitions,
                        lost: true,
                    } => self.told.borrow_mut().push_back(Wakeup::Revoked {
                        partitions,
                        lost: true,
                    }),
                    other => self.steps.push_back(other),
                }
            }
        }
        Ok(())
    }

    fn next_rebalance(&mut self) -> Option<Rebalance> {
        self.steps
            .pop_front()
            .or_else(|| self.inner.next_rebalance())
    }

    fn is_rebalancing(&self) -> bool {
        !self.steps.is_empty() || self.inner.is_rebalancing()
    }

    fn lost(&self) -> Vec<i32> {
        self.inner.lost()
    }

    fn holds(&self, partition: i32) -> bool {
        self.has(Bug::LostInFlight) || self.inner.holds(partition)
    }

    fn is_assignment_lost(&self) -> bool {
        self.inner.is_assignment_lost()
    }

    fn agree(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.inner.agree(partitions)
    }

    fn fetch(&mut self, partition: i32, from: Option<i64>) -> Result<(), LogError> {
        self.inner.fetch(partition, from)
    }

    fn give_up(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.inner.give_up(partitions)
    }

    fn take(
        &mut self,
        wait: Duration,
        limit: usize,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<usize, LogError> {
        self.inner.take(wait, limit, each)
    }

    fn check_reachable(&mut self) -> Result<(), LogError> {
        self.inner.check_reachable()
    }

    fn set_reachable(&mut self) {
        self.inner.set_reachable();
    }

    fn membership(&self) -> Option<SimMembership> {
        if self.has(Bug::StaleGeneration) {
            return Some(SimMembership {
                member: String::new(),
                generation: -1,
            });
        }
        self.inner.membership()
    }

    fn committed(&self, partition: i32, within: Duration) -> Result<Restored, LogError> {
        if self.has(Bug::UnstableOffset) {
            let world = self.inner.world();
            let found = world.cluster(|cluster| cluster.group.committed(partition));
            return Ok(found.map_or_else(Restored::default, |found| Restored {
                next_offset: Some(found.offset),
                batch_id: Some(found.metadata),
            }));
        }
        let mut found = self.inner.committed(partition, within)?;
        if self.has(Bug::ResendUnclear) {
            found.batch_id = None;
        }
        Ok(found)
    }

    fn commit_offsets(&self, offsets: &[(i32, i64)], metadata: &str) -> Result<(), LogError> {
        self.inner.commit_offsets(offsets, metadata)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.inner.high_watermark(partition)
    }

    fn state_bounds(&self, partition: i32, within: Duration) -> Result<(i64, i64), LogError> {
        let (low, high) = self.inner.state_bounds(partition, within)?;
        if self.has(Bug::RestoreToStable) {
            let place = (Topic::State, partition);
            let world = self.inner.world();
            return Ok((low, world.cluster(|c| c.log(place).last_stable_offset())));
        }
        Ok((low, high))
    }

    fn read_state(&self, partition: i32, from: i64) -> Result<SimStateReader, LogError> {
        if self.has(Bug::RestoreUncommitted) {
            let isolation = Isolation::Uncommitted;
            return Ok(self.inner.state_reader(partition, from, isolation));
        }
        self.inner.read_state(partition, from)
    }

    fn register(&self) -> Result<SimProducer, LogError> {
        if self.has(Bug::KeepProducer)
            && let Some(last) = &*self.last.borrow()
            && last.is_current()
        {
            return Ok(last.again());
        }
        let producer = self.inner.register()?;
        self.last.replace(Some(producer.again()));
        Ok(producer)
    }

    fn worker(&self) -> Result<SimWorker, LogError> {
        self.inner.worker()
    }

    fn transactional_id(&self) -> String {
        self.inner.transactional_id()
    }

    fn leave(&mut self) {
        self.inner.leave();
    }
}

/// The log, with a bug or without.
pub struct PlantedLog {
    inner: KafkaLog<PlantedClient>,
    bug: Option<Bug>,
    told: Told,
    /// As whoever ignores markers counts: the next offset of each partition.
    counted: BTreeMap<i32, i64>,
    clock: SimClock,
    /// What was begun last.
    under_way: Option<Arc<Transaction>>,
    /// What the shard believes to be committed.
    believed: VecDeque<Arc<Transaction>>,
}

impl PlantedLog {
    fn begin(&mut self, transaction: Arc<Transaction>) -> Result<(), LogError> {
        self.inner.begin_commit(&transaction)?;
        self.under_way = Some(transaction);
        Ok(())
    }

    /// Sends one after the other, and looks at none.
    fn send_believed(&mut self) {
        if self.under_way.is_some() && self.inner.poll_commit(Duration::ZERO).is_some() {
            self.under_way = None;
        }
        if self.under_way.is_none()
            && let Some(next) = self.believed.pop_front()
        {
            let _ = self.begin(next);
        }
    }
}

impl Log for PlantedLog {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        if let Some(wakeup) = self.told.borrow_mut().pop_front() {
            return Ok(wakeup);
        }
        match self.bug {
            Some(Bug::CommitBelieved) => {
                self.send_believed();
                self.inner.poll(wait, each)
            }
            Some(Bug::MarkerIgnored) => {
                let counted = &mut self.counted;
                self.inner.poll(wait, &mut |mut record| {
                    let next = counted.entry(record.partition).or_default();
                    record.offset = *next;
                    *next += 1;
                    each(record);
                })
            }
            Some(Bug::ReadCommitted) => {
                let counted = &mut self.counted;
                self.inner.poll(wait, &mut |record| {
                    counted.insert(record.partition, record.offset + 1);
                    each(record);
                })
            }
            Some(Bug::LocalTime) => {
                let wall = self.clock.wall();
                self.inner.poll(wait, &mut |mut record| {
                    record.broker_time = wall;
                    each(record);
                })
            }
            _ => self.inner.poll(wait, each),
        }
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        match self.bug {
            Some(Bug::BudgetForgotten) => {
                // The key is the same however many partitions there are.
                let budgets = super::host::engine(1).partition_key();
                self.inner.restore(partition, &mut |record| {
                    if *record.key != budgets.0[..] {
                        each(record);
                    }
                })
            }
            Some(Bug::AheadForgotten) => self.inner.restore(partition, &mut |record| {
                each(StateRecord {
                    ahead: None,
                    ..record
                });
            }),
            _ => self.inner.restore(partition, each),
        }
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        self.counted
            .insert(partition, from.next_offset.unwrap_or(0));
        self.inner.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.inner.release(partitions)
    }

    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        let mut changed = Transaction::clone(transaction);
        match self.bug {
            Some(Bug::CommitBeforeSend) => {
                let offsets = Transaction {
                    records: Vec::new(),
                    ..changed.clone()
                };
                self.inner.commit(&Arc::new(offsets))?;
                changed.batch_id.push_str("-records");
            }
            Some(Bug::StateMissing) => {
                changed.records.retain(|record| {
                    record.topic != OutputTopic::State || !record.key[0].is_multiple_of(4)
                });
            }
            Some(Bug::NoTombstone) => {
                changed.records.retain(|record| {
                    record.topic != OutputTopic::State || record.payload.is_some()
                });
            }
            Some(Bug::ReadCommitted) => {
                for (partition, position) in &mut changed.offsets {
                    let read = self.counted.get(partition).copied().unwrap_or_default();
                    *position = read.max(*position);
                }
            }
            Some(Bug::CommitBelieved) => {
                self.believed.push_back(Arc::new(changed));
                self.send_believed();
                return Ok(());
            }
            _ => {}
        }
        self.begin(Arc::new(changed))
    }

    fn poll_commit(&mut self, wait: Duration) -> Option<Result<(), LogError>> {
        if self.bug == Some(Bug::CommitBelieved) {
            self.send_believed();
            return Some(Ok(()));
        }
        let ended = self.inner.poll_commit(wait)?;
        let transaction = self.under_way.take();
        if self.bug != Some(Bug::LaterFirst) {
            return Some(ended);
        }
        match ended {
            Err(LogError::Unavailable(_)) => self.believed.extend(transaction),
            Err(error) => return Some(Err(error)),
            Ok(()) => {
                if let Some(earlier) = self.believed.pop_front() {
                    let _ = self.inner.commit(&earlier);
                }
            }
        }
        Some(Ok(()))
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.inner.high_watermark(partition)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// A clock that goes by the machine's time of day throughout.
pub struct LocalClock {
    pub inner: SimClock,
    pub start: Timestamp,
}

impl Clock for LocalClock {
    fn monotonic(&self) -> Duration {
        let since = self.inner.wall().since_ms(self.start);
        Duration::from_millis(u64::try_from(since).unwrap_or_default())
    }

    fn wall(&self) -> Timestamp {
        self.inner.wall()
    }

    fn sleep(&self, pause: Duration) {
        self.inner.sleep(pause);
    }
}
