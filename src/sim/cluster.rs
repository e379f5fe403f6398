//! The brokers: topics, the group's coordinator, the transactions' coordinator.
//!
//! Everything here happens at once and in order; time passes only between calls. What must
//! happen later (a marker, a look at sessions) is left as an [`Errand`] for the world.

use std::hash::{Hash, Hasher};

use rdkafka::error::RDKafkaErrorCode;
use siphasher::sip::SipHasher13;

use crate::event::Timestamp;

use super::group::Group;
use super::topic::{Message, PartitionLog, Place, ProducerId, Topic};
use super::transaction::{Ending, Target, Transactions};

/// How the cluster is set up. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of `auth.events` and `doorward.state`.
    pub partitions: i32,
    /// Of every other topic.
    pub output_partitions: i32,
    pub session_ms: u64,
    /// How long a round waits for members that do not join.
    pub rebalance_ms: u64,
    pub transaction_ms: u64,
    /// The broker's time of day when the history begins.
    pub start: Timestamp,
}

/// How often sessions and open transactions are looked at.
const LOOK_MS: u64 = 500;

/// Something that the brokers do later.
#[derive(Clone, Debug)]
pub enum Errand {
    /// Writes one marker of a transaction that was decided.
    Marker {
        id: String,
        producer: ProducerId,
        commit: bool,
        target: Target,
    },
    /// Looks for silent members and transactions that are open for too long.
    Look,
    /// Tells a client that its round is over.
    Tell { client: usize },
}

/// Markers that land late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowMarkers {
    /// `None`: the offsets.
    pub topic: Option<Topic>,
    /// Of transactions that are decided until then.
    pub until: u64,
    pub delay_ms: u64,
}

pub struct Cluster {
    pub setup: Setup,
    logs: Vec<Vec<PartitionLog>>,
    pub group: Group,
    pub transactions: Transactions,
    /// Until then each coordinator is moving to another broker.
    pub group_away_until: u64,
    pub transactions_away_until: u64,
    pub leaders_away_until: u64,
    pub slow_markers: Vec<SlowMarkers>,
    errands: Vec<(u64, Errand)>,
    /// Of everything that was ever written, in order.
    digest: SipHasher13,
    /// Rises whenever a reader of events may find something new.
    pub changes: u64,
    /// Time that passed all at once while nothing else happened.
    pub leapt_ms: u64,
    rng: fastrand::Rng,
}

impl Cluster {
    pub fn new(setup: Setup, seed: u64) -> Cluster {
        let logs = Topic::ALL.map(|topic| {
            let count = match topic {
                Topic::Events | Topic::State => setup.partitions,
                _ => setup.output_partitions,
            };
            (0..count).map(|_| PartitionLog::default()).collect()
        });
        Cluster {
            logs: logs.into(),
            group: Group::new(setup.partitions),
            transactions: Transactions::default(),
            group_away_until: 0,
            transactions_away_until: 0,
            leaders_away_until: 0,
            slow_markers: Vec::new(),
            errands: vec![(LOOK_MS, Errand::Look)],
            digest: SipHasher13::new(),
            changes: 0,
            leapt_ms: 0,
            rng: fastrand::Rng::with_seed(seed),
            setup,
        }
    }

    /// The brokers' time of day.
    pub fn time(&self, now: u64) -> Timestamp {
        let passed = i64::try_from(now + self.leapt_ms).unwrap_or(i64::MAX);
        self.setup.start.plus_ms(passed)
    }

    pub fn partitions(&self, topic: Topic) -> i32 {
        i32::try_from(self.logs[topic as usize].len()).unwrap_or(i32::MAX)
    }

    /// The partition that a keyed record goes to.
    pub fn place(&self, topic: Topic, key: &[u8]) -> i32 {
        let hash = key.iter().fold(2_166_136_261_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(16_777_619)
        });
        i32::try_from(hash % self.partitions(topic).unsigned_abs().max(1)).unwrap_or(0)
    }

    pub fn log(&self, (topic, partition): Place) -> &PartitionLog {
        let partition = usize::try_from(partition).unwrap_or(0);
        &self.logs[topic as usize][partition]
    }

    fn log_mut(&mut self, (topic, partition): Place) -> &mut PartitionLog {
        let partition = usize::try_from(partition).unwrap_or(0);
        &mut self.logs[topic as usize][partition]
    }

    /// Appends a record outside of any transaction.
    pub fn publish(&mut self, place: Place, message: Message, now: u64) -> i64 {
        let time = self.time(now);
        (place, &message, time.0).hash(&mut self.digest);
        self.changes += u64::from(place.0 == Topic::Events);
        let appended = self.log_mut(place).append(message, time, None);
        appended.unwrap_or(-1)
    }

    /// Appends a record of an open transaction.
    ///
    /// # Errors
    /// Where the producer is fenced or its transaction does not include the partition.
    pub fn produce(
        &mut self,
        id: &str,
        producer: ProducerId,
        place: Place,
        message: Message,
        now: u64,
    ) -> Result<(), RDKafkaErrorCode> {
        self.transactions.verify(id, producer, Target::Log(place))?;
        let time = self.time(now);
        (place, &message, time.0, producer.id, producer.epoch).hash(&mut self.digest);
        self.log_mut(place).append(message, time, Some(producer))?;
        Ok(())
    }

    /// Registers a transactional id.
    ///
    /// # Errors
    /// Until what the last producer left open has ended.
    pub fn register(&mut self, id: &str, now: u64) -> Result<ProducerId, RDKafkaErrorCode> {
        let (answer, ending) = self.transactions.register(id, self.setup.transaction_ms);
        if let Some(ending) = ending {
            self.begin_markers(ending, now);
        }
        answer
    }

    /// Decides an open transaction.
    ///
    /// # Errors
    /// As the coordinator answers.
    pub fn end(
        &mut self,
        id: &str,
        producer: ProducerId,
        commit: bool,
        now: u64,
    ) -> Result<(), RDKafkaErrorCode> {
        if let Some(ending) = self.transactions.end(id, producer, commit)? {
            self.begin_markers(ending, now);
        }
        Ok(())
    }

    fn begin_markers(&mut self, ending: Ending, now: u64) {
        for target in ending.targets {
            let topic = match target {
                Target::Log((topic, _)) => Some(topic),
                Target::Offsets => None,
            };
            let slow = self.slow_markers.iter();
            let mut slow = slow.filter(|slow| slow.topic == topic && now < slow.until);
            let delay = match slow.next() {
                Some(slow) => slow.delay_ms,
                None => self.rng.u64(0..4),
            };
            let errand = Errand::Marker {
                id: ending.id.clone(),
                producer: ending.producer,
                commit: ending.commit,
                target,
            };
            self.errands.push((now + delay, errand));
        }
    }

    /// Does what was to be done later.
    pub fn run(&mut self, errand: Errand, now: u64) {
        match errand {
            Errand::Marker {
                id,
                producer,
                commit,
                target,
            } => {
                (&id, producer, commit).hash(&mut self.digest);
                match target {
                    Target::Log(place) => {
                        self.log_mut(place).end(producer, commit);
                        self.changes += u64::from(place.0 == Topic::Events);
                    }
                    Target::Offsets => self.group.end(producer, commit),
                }
                self.transactions.written(&id, target);
            }
            Errand::Look => self.look(now),
            Errand::Tell { .. } => {}
        }
    }

    fn look(&mut self, now: u64) {
        if now >= self.transactions_away_until {
            for ending in self.transactions.sweep(now) {
                self.begin_markers(ending, now);
            }
        }
        if now >= self.group_away_until {
            let until = now + self.setup.rebalance_ms;
            self.group.expire(now, self.setup.session_ms, until);
            self.complete_round(now);
        }
        self.errands.push((now + LOOK_MS, Errand::Look));
    }

    /// Ends the group's round if it can end, and tells the members.
    pub fn complete_round(&mut self, now: u64) {
        for client in self.group.try_complete(now) {
            self.errands.push((now + 1, Errand::Tell { client }));
        }
    }

    /// Lets go of a member that says goodbye.
    pub fn leave(&mut self, member: &str, now: u64) {
        let until = now + self.setup.rebalance_ms;
        self.group.leave(member, until);
        self.complete_round(now);
    }

    /// The group's coordinator comes back on another broker at `until`.
    pub fn move_group(&mut self, until: u64) {
        self.group_away_until = self.group_away_until.max(until);
        self.group.refresh(until);
    }

    /// What is to be done later, with its time.
    pub fn take_errands(&mut self) -> Vec<(u64, Errand)> {
        std::mem::take(&mut self.errands)
    }

    pub fn has_errands(&self) -> bool {
        !self.errands.is_empty()
    }

    /// A number for everything that was written so far, and when.
    pub fn digest(&self) -> u64 {
        self.digest.clone().finish()
    }
}
