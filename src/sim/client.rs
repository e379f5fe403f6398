//! A client of the simulated cluster: what [`crate::log::client`] asks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::clock::Clock;
use crate::log::client::{Client, Rebalance, StateItem, StateReader};
use crate::log::{AHEAD, InputRecord, LogError, Restored, StateRecord};

use super::clock::SimClock;
use super::group::SimMembership;
use super::network::{Ask, Failure};
use super::producer::SimProducer;
use super::topic::{Isolation, Topic};
use super::worker::SimWorker;
use super::world::{ActorId, ProcessId, World};

/// The words of the error with which the death of a process shows.
pub const DIED: &str = "the simulated process died";
/// An empty look at the log is drawn out so much, where nothing else is due: whole days pass
/// in a history, and nobody minds a thread that sleeps longer than it asked.
const DRAWN_OUT: u32 = 8;
/// The wait of a reader that has nothing else to do.
const IDLE: Duration = Duration::from_millis(100);

/// Of so many calls that would bring a step of a rebalance, one brings lines of the log alone.
const LINES_FIRST: u64 = 4;

/// One consumer with its producer.
pub struct SimClient {
    world: World,
    process: ProcessId,
    /// Whose loop it belongs to.
    actor: ActorId,
    /// Its number among all members.
    member: usize,
    transactional_id: String,
    clock: SimClock,
    steps: VecDeque<Rebalance>,
    /// Of started partitions: the offset of the next record.
    positions: BTreeMap<i32, i64>,
    high_watermarks: BTreeMap<i32, i64>,
}

impl SimClient {
    /// A client of `process`, whose loop is `actor`. It begins to join the group.
    pub fn new(
        world: &World,
        process: ProcessId,
        actor: ActorId,
        transactional_id: String,
    ) -> SimClient {
        SimClient {
            world: world.clone(),
            process,
            actor,
            member: world.add_member(process, actor),
            transactional_id,
            clock: SimClock::of(process),
            steps: VecDeque::new(),
            positions: BTreeMap::new(),
            high_watermarks: BTreeMap::new(),
        }
    }

    /// Its number, for [`World::resume_at`].
    pub fn member(&self) -> usize {
        self.member
    }

    /// The world that it is a client in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// A reader of a partition of the state topic.
    pub fn state_reader(&self, partition: i32, from: i64, isolation: Isolation) -> SimStateReader {
        SimStateReader {
            world: self.world.clone(),
            process: self.process,
            partition,
            isolation,
            position: from,
        }
    }

    fn alive(&self) -> Result<(), LogError> {
        match self.world.thaw(self.process) {
            Ok(()) => Ok(()),
            Err(failure) => Err(failed(failure, "")),
        }
    }

    fn read(&mut self, limit: usize, each: &mut dyn FnMut(InputRecord<'_>)) -> usize {
        let now = self.world.now();
        let reachable = self.world.cut_until(self.process).is_none();
        if !reachable || self.world.is_starved(self.process) {
            return 0;
        }
        // An answer need not hold all that is there.
        let chunk = usize::try_from(1 + self.world.draw(60)).unwrap_or(1);
        let mut left = limit.min(chunk);
        let cluster = self.world.0.cluster.borrow();
        if now < cluster.leaders_away_until {
            return 0;
        }
        let mut taken = 0;
        for (partition, position) in &mut self.positions {
            let log = cluster.log((Topic::Events, *partition));
            self.high_watermarks
                .insert(*partition, log.high_watermark());
            for record in log.committed(*position).take(left) {
                each(InputRecord {
                    partition: *partition,
                    offset: record.offset,
                    broker_time: record.time,
                    key: record.message.key.as_deref(),
                    payload: record.message.payload.as_deref(),
                });
                *position = record.offset + 1;
                taken += 1;
                left -= 1;
            }
        }
        taken
    }
}

impl Client for SimClient {
    type Membership = SimMembership;
    type Producer = SimProducer;
    type StateReader = SimStateReader;
    type Worker = SimWorker;

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn tend(&mut self) -> Result<(), LogError> {
        self.alive()?;
        // A call serves a handful of events, and lines of the library's log may come first.
        let has_more = self
            .world
            .member(self.member, |member| member.has_arrived());
        if has_more && self.world.draw(LINES_FIRST) == 0 {
            return Ok(());
        }
        let arrived = self
            .world
            .member(self.member, |member| member.take_arrived());
        self.steps.extend(arrived);
        Ok(())
    }

    fn next_rebalance(&mut self) -> Option<Rebalance> {
        self.steps.pop_front()
    }

    fn is_rebalancing(&self) -> bool {
        !self.steps.is_empty()
    }

    fn lost(&self) -> Vec<i32> {
        let lost = self.steps.iter().filter_map(|step| match step {
            Rebalance::Revoked {
                partitions,
                lost: true,
            } => Some(partitions),
            _ => None,
        });
        lost.flatten().copied().collect()
    }

    fn holds(&self, partition: i32) -> bool {
        self.world
            .member(self.member, |member| member.owns(partition))
    }

    fn is_assignment_lost(&self) -> bool {
        self.world.member(self.member, |member| member.lost)
    }

    fn agree(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.alive()?;
        self.world
            .member(self.member, |member| member.own(partitions));
        self.world.answered(self.member);
        Ok(())
    }

    fn fetch(&mut self, partition: i32, from: Option<i64>) -> Result<(), LogError> {
        self.alive()?;
        self.positions.insert(partition, from.unwrap_or(0));
        Ok(())
    }

    fn give_up(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.alive()?;
        self.positions.retain(|at, _| !partitions.contains(at));
        self.world
            .member(self.member, |member| member.disown(partitions));
        self.world.answered(self.member);
        Ok(())
    }

    fn take(
        &mut self,
        wait: Duration,
        limit: usize,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<usize, LogError> {
        self.alive()?;
        let taken = self.read(limit, each);
        if taken == 0 && !wait.is_zero() {
            // The loop's actor sleeps instead, so that nobody waits on top of it.
            let drawn_out = if wait >= IDLE { wait * DRAWN_OUT } else { wait };
            let until = self.world.now() + millis(drawn_out).max(1);
            self.world
                .member(self.member, |member| member.resume_at = Some(until));
        }
        Ok(taken)
    }

    fn check_reachable(&mut self) -> Result<(), LogError> {
        match self.world.cut_until(self.process) {
            Some(_) => Err(LogError::Unavailable("no broker answers".into())),
            None => Ok(()),
        }
    }

    fn set_reachable(&mut self) {}

    fn membership(&self) -> Option<SimMembership> {
        self.world.member(self.member, |member| member.membership())
    }

    fn committed(&self, partition: i32, within: Duration) -> Result<Restored, LogError> {
        let found = self
            .world
            .call(
                self.process,
                Ask::Committed,
                millis(within),
                move |cluster, _| cluster.group.stable(partition),
            )
            .map_err(|failure| failed(failure, "the committed offset"))?;
        Ok(match found {
            Some(committed) => Restored {
                next_offset: Some(committed.offset),
                batch_id: Some(committed.metadata).filter(|id| !id.is_empty()),
            },
            None => Restored::default(),
        })
    }

    fn commit_offsets(&self, offsets: &[(i32, i64)], metadata: &str) -> Result<(), LogError> {
        let who = self.membership().unwrap_or(SimMembership {
            member: String::new(),
            generation: -1,
        });
        let (offsets, metadata) = (offsets.to_vec(), metadata.to_owned());
        self.world
            .call(
                self.process,
                Ask::CommitOffsets,
                10_000,
                move |cluster, _| cluster.group.commit_plain(&who, &offsets, &metadata),
            )
            .map_err(|failure| failed(failure, "the commit of offsets"))
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.high_watermarks.get(&partition).copied()
    }

    fn state_bounds(&self, partition: i32, within: Duration) -> Result<(i64, i64), LogError> {
        self.world
            .call(
                self.process,
                Ask::StateBounds,
                millis(within),
                move |cluster, _| Ok((0, cluster.log((Topic::State, partition)).high_watermark())),
            )
            .map_err(|failure| failed(failure, "the end of the state"))
    }

    fn read_state(&self, partition: i32, from: i64) -> Result<SimStateReader, LogError> {
        self.alive()?;
        Ok(self.state_reader(partition, from, Isolation::Committed))
    }

    fn register(&self) -> Result<SimProducer, LogError> {
        let id = self.transactional_id.clone();
        let producer = self
            .world
            .call(self.process, Ask::Register, 10_000, move |cluster, now| {
                cluster.register(&id, now)
            })
            .map_err(|failure| failed(failure, "the transactional id"))?;
        self.world
            .note(|| format!("{} is registered: {producer:?}", self.transactional_id));
        Ok(SimProducer::new(
            &self.world,
            self.process,
            self.transactional_id.clone(),
            producer,
        ))
    }

    fn worker(&self) -> Result<SimWorker, LogError> {
        Ok(SimWorker::new(
            &self.world,
            self.process,
            self.actor,
            self.member,
        ))
    }

    fn transactional_id(&self) -> String {
        self.transactional_id.clone()
    }

    fn leave(&mut self) {
        self.positions.clear();
        self.steps.clear();
        self.world.leave_group(self.member);
    }
}

impl Drop for SimClient {
    /// A process that died says no goodbye; one that ended did.
    fn drop(&mut self) {
        self.world.member(self.member, |member| member.left = true);
    }
}

/// Reads a partition of the state topic.
pub struct SimStateReader {
    world: World,
    process: ProcessId,
    partition: i32,
    isolation: Isolation,
    position: i64,
}

impl StateReader for SimStateReader {
    fn take(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(StateItem<'_>),
    ) -> Result<(), LogError> {
        self.world
            .thaw(self.process)
            .map_err(|failure| failed(failure, "the state"))?;
        let before = self.position;
        self.look(each);
        if self.position == before {
            self.world.wait(millis(wait));
            self.world
                .thaw(self.process)
                .map_err(|failure| failed(failure, "the state"))?;
            self.look(each);
        }
        Ok(())
    }
}

impl SimStateReader {
    fn look(&mut self, each: &mut dyn FnMut(StateItem<'_>)) {
        let now = self.world.now();
        let chunk = usize::try_from(1 + self.world.draw(40)).unwrap_or(1);
        if self.world.cut_until(self.process).is_some() {
            return;
        }
        let cluster = self.world.0.cluster.borrow();
        if now < cluster.leaders_away_until {
            return;
        }
        let log = cluster.log((Topic::State, self.partition));
        let mut shown = 0;
        for record in log.read(self.position, self.isolation).take(chunk) {
            let message = &record.message;
            let ahead = message.headers.iter().find(|(name, _)| *name == AHEAD);
            each(match &message.key {
                Some(key) => StateItem::Record {
                    offset: record.offset,
                    record: StateRecord {
                        key,
                        value: message.payload.as_deref(),
                        ahead: ahead.and_then(|(_, until)| until.parse().ok()),
                    },
                },
                None => StateItem::Foreign {
                    offset: record.offset,
                },
            });
            self.position = record.offset + 1;
            shown += 1;
        }
        let end = match self.isolation {
            Isolation::Committed => log.last_stable_offset(),
            Isolation::Uncommitted => log.high_watermark(),
        };
        if shown < chunk && end > self.position {
            self.position = end;
            each(StateItem::End { offset: end });
        }
    }
}

/// What a failed request means to the loop.
pub(super) fn failed(failure: Failure, what: &str) -> LogError {
    match failure {
        Failure::Dead => LogError::Fatal(DIED.into()),
        Failure::TimedOut => LogError::Unavailable(format!("asking for {what} took too long")),
        Failure::Refused(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => {
            LogError::Fatal(format!("asking for {what}: {code}"))
        }
        Failure::Refused(code) => LogError::Unavailable(format!("asking for {what}: {code}")),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
