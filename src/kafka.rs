//! librdkafka, as the protocols of a log use it.
//!
//! [`KafkaClient`] is a shard's member of the consumer group with all that belongs to it; each
//! of its calls is a call of the library. What follows from an answer is decided in
//! [`crate::ingest`] and [`crate::deliver`]. [`settings`] is the one place for librdkafka's
//! own settings, [`raw`] the one place for the calls that no crate wraps.

mod context;
mod errors;
mod patience;
pub mod producer;
pub mod raw;
pub mod settings;
mod state;
mod worker;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::Client as Native;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::clock::{Clock, SystemClock};
use crate::config::{Kafka, Topics};
use crate::log::client::{Client, Rebalance};
use crate::log::{InputRecord, LogError, Restored};

use context::Context;
use errors::is_passing;
pub use errors::{classify, request_failed};
use producer::Producer;
use raw::{Buffer, Item, Membership, Queue};
use settings::Quiet;
use state::StateReader;
use worker::Worker;

/// Records that one call to librdkafka takes.
pub const TAKE: usize = 1_024;
/// How often brokers are asked for life while none answers.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// What does not hold where the events' topic is CreateTime, by the numbers of docs/rules.md.
pub const PRODUCERS_CLOCK: &str = "whoever writes events sets the clock that decides, so the \
     guards against events from the future (meaning 2 in docs/rules.md) and from the past (4) are \
     off, and cooldowns (10), deadlines (11), the ends of exceptions (12), lock budgets (13) and \
     the holds of recoveries (16) go by a clock that can be moved";

/// One shard's clients of Kafka.
pub struct KafkaClient {
    kafka: Kafka,
    topics: Topics,
    shard: usize,
    clock: SystemClock,
    events: CString,
    consumer: Arc<BaseConsumer<Context>>,
    queue: Queue<Context>,
    /// Of every assigned partition, held until it is revoked: dropping one strands it.
    forwarded: BTreeMap<i32, Queue<Context>>,
    /// Partitions that are fetched.
    fetched: Vec<i32>,
    /// The id under which the group gave this member what it holds.
    member: Option<CString>,
    /// What it holds belongs to an id that the group has forgotten.
    expelled: Cell<bool>,
    /// Held by the consumer before this one, and not given up by the shard yet.
    gone: Vec<i32>,
    buffer: Buffer,
    /// Reads uncommitted, for high watermarks.
    inquiry: Native<Quiet>,
    last_probe: Option<Instant>,
    /// It was said that producers set the clock, or nobody wants to hear of it.
    clock_told: bool,
}

impl KafkaClient {
    /// Joins the group; the first assignment comes later.
    ///
    /// # Errors
    /// [`LogError::Fatal`] where librdkafka refuses the settings. A cluster that does not
    /// answer is no error here.
    pub fn new(kafka: &Kafka, topics: &Topics, shard: usize) -> Result<KafkaClient, LogError> {
        let refused = |error: KafkaError| LogError::Fatal(format!("the Kafka settings: {error}"));
        let consumer = join(kafka, topics, shard)?;
        let events = CString::new(topics.events.as_str())
            .map_err(|_| LogError::Fatal("the name of the events topic holds a NUL".into()))?;
        let inquiry = settings::inquiry(kafka);
        let inquiry = Native::new(
            &inquiry,
            inquiry.create_native_config().map_err(refused)?,
            rdkafka::types::RDKafkaType::RD_KAFKA_CONSUMER,
            Quiet,
        )
        .map_err(refused)?;
        Ok(KafkaClient {
            kafka: kafka.clone(),
            topics: topics.clone(),
            shard,
            clock: SystemClock::new(),
            events,
            queue: Queue::new(&consumer),
            consumer,
            forwarded: BTreeMap::new(),
            fetched: Vec::new(),
            member: None,
            expelled: Cell::new(false),
            gone: Vec::new(),
            buffer: Buffer::new(TAKE),
            inquiry,
            last_probe: None,
            // The broker of the demo knows no other time.
            clock_told: !kafka.transactions,
        })
    }

    /// Goes on with another consumer, after the group has thrown this one out without a word:
    /// while a rebalance waits for its answer, librdkafka takes a new id and says nothing
    /// (`rd_kafka_cgrp_revoke_all_rejoin_maybe`), and what it is given back under that id
    /// may have had another owner in between. So all that was held is lost.
    fn join_anew(&mut self) -> Result<(), LogError> {
        let consumer = join(&self.kafka, &self.topics, self.shard)?;
        let queue = Queue::new(&consumer);
        let held: Vec<i32> = self.forwarded.keys().copied().collect();
        tracing::warn!(shard = self.shard, partitions = ?held, "thrown out of the group; joining anew");
        if !held.is_empty() {
            consumer.context().report_lost(held.clone());
        }
        self.answer_and_leave();
        let old = (
            std::mem::take(&mut self.forwarded),
            std::mem::replace(&mut self.queue, queue),
            std::mem::replace(&mut self.consumer, consumer),
        );
        self.gone = held;
        self.member = None;
        self.expelled.set(false);
        // Leaving may take long, and nothing waits for it.
        std::thread::Builder::new()
            .name(format!("leaving-{}", self.shard))
            .spawn(move || drop(old))
            .map(drop)
            .map_err(|error| LogError::Unavailable(format!("a thread to leave on: {error}")))
    }

    /// Answers what the group has asked and nobody answered, and agrees to all that follows.
    fn answer_and_leave(&mut self) {
        let context = Arc::clone(self.consumer.context());
        context.begin_close();
        while let Some(step) = context.next_rebalance() {
            if let Rebalance::Assigned(_) = step {
                let none = TopicPartitionList::new();
                if let Err(error) = self.consumer.incremental_assign(&none) {
                    tracing::debug!(%error, "an assignment was refused while leaving");
                }
            }
        }
        let all = self.fetched.clone();
        if let Err(error) = self.unassign(&all) {
            tracing::warn!(%error, "partitions could not be given up before leaving the group");
        }
    }

    /// The id of this member at the moment, where it is one.
    fn member_id(&self) -> Option<CString> {
        Membership::of(self.consumer.client()).map(|found| found.member_id().to_owned())
    }

    fn judge(&self, error: &KafkaError) -> Result<(), LogError> {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(LogError::Fatal(format!("the consumer: {code}")));
        }
        match error.rdkafka_error_code() {
            Some(code) if !is_passing(code) => {
                Err(classify(code, &format!("reading {}", self.topics.events)))
            }
            _ => Ok(()),
        }
    }

    fn unassign(&mut self, partitions: &[i32]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        self.fetched.retain(|fetched| {
            let goes = partitions.contains(fetched);
            if goes {
                list.add_partition(&self.topics.events, *fetched);
            }
            !goes
        });
        self.consumer.incremental_unassign(&list)
    }
}

impl Client for KafkaClient {
    type Membership = Arc<Membership>;
    type Producer = Producer;
    type StateReader = StateReader;
    type Worker = Worker;

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn tend(&mut self) -> Result<(), LogError> {
        // Each call serves one event; a handful catches up with a rebalance and its log.
        for _ in 0..4 {
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Err(error)) => self.judge(&error)?,
                Some(Ok(_)) => {
                    return Err(LogError::Fatal(
                        "a record came outside of its partition's queue".into(),
                    ));
                }
            }
        }
        // Where librdkafka has said that all is lost, the shard hears of it anyway.
        if self.expelled.take() && self.consumer.context().lost().is_empty() {
            return self.join_anew();
        }
        Ok(())
    }

    fn next_rebalance(&mut self) -> Option<Rebalance> {
        self.consumer.context().next_rebalance()
    }

    fn is_rebalancing(&self) -> bool {
        self.consumer.context().is_rebalancing()
    }

    fn lost(&self) -> Vec<i32> {
        self.consumer.context().lost()
    }

    fn holds(&self, partition: i32) -> bool {
        self.forwarded.contains_key(&partition)
    }

    fn is_assignment_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    fn agree(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        let member = self.member_id();
        if member.is_none() || !self.forwarded.is_empty() && member != self.member {
            self.join_anew()?;
            return Err(LogError::Unavailable(
                "thrown out of the consumer group".into(),
            ));
        }
        self.member = member;
        for partition in partitions {
            let queue = Queue::forwarded(&self.topics.events, *partition, &self.queue).ok_or_else(
                || LogError::Unavailable(format!("partition {partition} has no queue")),
            )?;
            self.forwarded.insert(*partition, queue);
        }
        // The group goes on at once; each partition joins what is fetched later.
        self.consumer
            .incremental_assign(&TopicPartitionList::new())
            .map_err(|error| LogError::Fatal(format!("the assignment: {error}")))
    }

    fn fetch(&mut self, partition: i32, from: Option<i64>) -> Result<(), LogError> {
        if !self.forwarded.contains_key(&partition) {
            return Err(LogError::Lost(vec![partition]));
        }
        let mut list = TopicPartitionList::new();
        let offset = from.map_or(Offset::Beginning, Offset::Offset);
        list.add_partition_offset(&self.topics.events, partition, offset)
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|error| {
                LogError::Fatal(format!("partition {partition} cannot be read: {error}"))
            })?;
        self.fetched.push(partition);
        Ok(())
    }

    fn give_up(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        if !self.gone.is_empty() && partitions == self.gone {
            self.gone.clear();
            return Ok(());
        }
        let given_up = self.unassign(partitions);
        for partition in partitions {
            self.forwarded.remove(partition);
        }
        given_up.map_err(|error| LogError::Fatal(format!("partitions cannot be given up: {error}")))
    }

    fn take(
        &mut self,
        wait: Duration,
        limit: usize,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<usize, LogError> {
        let batch = self.queue.take(wait, limit, &mut self.buffer);
        let mut failed = None;
        for item in batch.items() {
            match item {
                Item::Record(record) => each(record),
                Item::End { .. } => {}
                Item::Error { partition, code } => failed = Some((partition, code)),
            }
        }
        if !self.clock_told && batch.bears_producers_time() {
            self.clock_told = true;
            tracing::warn!(
                topic = self.topics.events,
                shard = self.shard,
                "records bear their producers' time: {PRODUCERS_CLOCK}; set \
                 message.timestamp.type=LogAppendTime on the topic",
            );
        }
        match failed {
            Some((partition, code)) if !is_passing(code) => Err(classify(
                code,
                &format!("reading {} [{partition}]", self.topics.events),
            )),
            _ => Ok(batch.len()),
        }
    }

    /// While librdkafka says that all brokers are down, asks one now and then.
    fn check_reachable(&mut self) -> Result<(), LogError> {
        if !self.consumer.context().is_unreachable() {
            return Ok(());
        }
        let due = self.last_probe.is_none_or(|at| at.elapsed() >= PROBE_EVERY);
        if due {
            let probe = self
                .consumer
                .fetch_metadata(Some(&self.topics.events), Duration::from_secs(1));
            self.last_probe = Some(Instant::now());
            if probe.is_ok() {
                self.set_reachable();
                return Ok(());
            }
        }
        Err(LogError::Unavailable("no Kafka broker answers".into()))
    }

    fn set_reachable(&mut self) {
        self.consumer.context().set_reachable();
    }

    fn membership(&self) -> Option<Arc<Membership>> {
        let found = Membership::of(self.consumer.client()).map(Arc::new);
        if self.forwarded.is_empty() {
            return found;
        }
        // Under another id it would vouch for partitions that others may have owned since.
        let vouches = |found: &Arc<Membership>| self.member.as_deref() == Some(found.member_id());
        let found = found.filter(vouches);
        self.expelled.set(found.is_none());
        found
    }

    fn committed(&self, partition: i32, within: Duration) -> Result<Restored, LogError> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&self.topics.events, partition);
        let found = self
            .consumer
            .committed_offsets(wanted, within)
            .map_err(|error| request_failed("the committed offset", &error))?;
        let Some(found) = found.find_partition(&self.topics.events, partition) else {
            return Err(LogError::Unavailable("no committed offset came".into()));
        };
        found
            .error()
            .map_err(|error| request_failed("the committed offset", &error))?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Restored {
                next_offset: Some(offset),
                batch_id: Some(found.metadata().to_owned()).filter(|id| !id.is_empty()),
            },
            _ => Restored::default(),
        })
    }

    fn commit_offsets(&self, offsets: &[(i32, i64)], metadata: &str) -> Result<(), LogError> {
        let list = producer::offsets(offsets, metadata, &self.topics.events)?;
        self.consumer
            .commit(&list, CommitMode::Sync)
            .map_err(|error| request_failed("the commit of offsets", &error))
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        raw::cached_high_watermark(self.consumer.client(), &self.events, partition)
    }

    fn state_bounds(&self, partition: i32, within: Duration) -> Result<(i64, i64), LogError> {
        let topic = &self.topics.state;
        let bounds = self.inquiry.fetch_watermarks(topic, partition, within);
        if bounds.is_err() {
            // What a broker said that had just come back is remembered, for 15 minutes, also
            // where it did not know all partitions yet; asking anew replaces it.
            let renewed = self.inquiry.fetch_metadata(Some(topic), within);
            tracing::debug!(failed = renewed.is_err(), "asked anew about {topic}");
        }
        bounds.map_err(|error| request_failed(&format!("the end of {topic} [{partition}]"), &error))
    }

    fn read_state(&self, partition: i32, from: i64) -> Result<StateReader, LogError> {
        StateReader::open(&self.kafka, &self.topics.state, self.shard, partition, from)
    }

    fn register(&self) -> Result<Producer, LogError> {
        Producer::register(&self.kafka, &self.topics, self.shard)
    }

    fn worker(&self) -> Result<Worker, LogError> {
        Worker::start(self.shard)
    }

    fn transactional_id(&self) -> String {
        settings::transactional_id(&self.kafka, self.shard)
    }

    fn leave(&mut self) {
        self.answer_and_leave();
        self.forwarded.clear();
    }
}

/// A consumer that asks the group for partitions of the events.
fn join(
    kafka: &Kafka,
    topics: &Topics,
    shard: usize,
) -> Result<Arc<BaseConsumer<Context>>, LogError> {
    let refused = |error: KafkaError| LogError::Fatal(format!("the Kafka settings: {error}"));
    let consumer: BaseConsumer<Context> = settings::input(kafka, shard)
        .create_with_context(Context::default())
        .map_err(refused)?;
    consumer.subscribe(&[&topics.events]).map_err(refused)?;
    Ok(Arc::new(consumer))
}
