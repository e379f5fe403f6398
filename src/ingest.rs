//! Reads `auth.events` as one member of the consumer group, and state back from its topic.
//!
//! Owns a shard's consumer and its partition queues. Rebalances come to the shard as
//! messages ([`Wakeup`]); between an assignment and [`Ingest::start`] a partition is not
//! fetched at all, so that its state can be restored first. It knows nothing of what the
//! records mean.

pub mod client;
mod context;
pub mod raw;
mod restore;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{Kafka, Topics};
use crate::log::{EachState, InputRecord, LogError, Restored, Wakeup};

use client::REQUEST_TIMEOUT;
use context::{Context, Rebalance};
use raw::{Batch, Buffer, Item, Membership, Queue};

/// Records that one call to librdkafka takes.
const TAKE: usize = 1_024;
/// Records that one [`Ingest::poll`] hands out before the shard looks at everything else:
/// some ten milliseconds of work.
const MAX_PER_POLL: usize = 8_192;
/// How often brokers are asked for life while none answers.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// The reading half of a shard's log.
pub struct Ingest {
    kafka: Kafka,
    topics: Topics,
    shard: usize,
    events: CString,
    consumer: Arc<BaseConsumer<Context>>,
    queue: Queue<Context>,
    /// Of every assigned partition, held until it is revoked: dropping one strands it.
    forwarded: BTreeMap<i32, Queue<Context>>,
    /// Partitions that are fetched.
    started: Vec<i32>,
    buffer: Buffer,
    membership: Option<Membership>,
    /// Reads uncommitted, for high watermarks.
    inquiry: Client<client::Quiet>,
    last_probe: Option<Instant>,
}

impl Ingest {
    /// Joins the group; the first assignment comes with a later [`Self::poll`].
    ///
    /// # Errors
    /// [`LogError::Fatal`] where librdkafka refuses the settings.
    pub fn new(kafka: &Kafka, topics: &Topics, shard: usize) -> Result<Ingest, LogError> {
        let refused = |error: KafkaError| LogError::Fatal(format!("the Kafka settings: {error}"));
        let consumer: BaseConsumer<Context> = client::input(kafka, shard)
            .create_with_context(Context::default())
            .map_err(refused)?;
        consumer.subscribe(&[&topics.events]).map_err(refused)?;
        let consumer = Arc::new(consumer);
        let events = CString::new(topics.events.as_str())
            .map_err(|_| LogError::Fatal("the name of the events topic holds a NUL".into()))?;
        let inquiry = client::inquiry(kafka);
        let inquiry = Client::new(
            &inquiry,
            inquiry.create_native_config().map_err(refused)?,
            rdkafka::types::RDKafkaType::RD_KAFKA_CONSUMER,
            client::Quiet,
        )
        .map_err(refused)?;
        Ok(Ingest {
            kafka: kafka.clone(),
            topics: topics.clone(),
            shard,
            events,
            queue: Queue::new(&consumer),
            consumer,
            forwarded: BTreeMap::new(),
            started: Vec::new(),
            buffer: Buffer::new(TAKE),
            membership: None,
            inquiry,
            last_probe: None,
        })
    }

    /// As [`crate::log::Log::poll`].
    pub fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        self.tend()?;
        if let Some(step) = self.consumer.context().next_rebalance() {
            return self.hand_on(step);
        }
        let mut seen = self.take(Duration::ZERO, TAKE, each)?;
        if seen == 0 {
            // A wait ends with the first record; what came with it is taken below.
            seen = self.take(wait, 1, each)?;
            if seen == 0 {
                self.check_reachable()?;
                return Ok(Wakeup::Records);
            }
        }
        while seen < MAX_PER_POLL {
            match self.take(Duration::ZERO, TAKE, each)? {
                0 => break,
                more => seen += more,
            }
        }
        self.consumer.context().set_reachable();
        self.membership = Membership::of(self.consumer.client());
        Ok(Wakeup::Records)
    }

    /// Serves the group protocol and log lines without taking records. Whoever does
    /// something else for long must call it now and then, or the group thinks this member
    /// dead.
    pub fn tend(&self) -> Result<(), LogError> {
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
        Ok(())
    }

    /// Partitions that were lost and of which the shard has not heard yet.
    pub fn lost(&self) -> Vec<i32> {
        self.consumer.context().lost()
    }

    /// Who this member was when it last took records or was assigned partitions; asks anew
    /// where that is not known.
    pub fn membership(&mut self) -> Option<&Membership> {
        if self.membership.is_none() {
            self.membership = Membership::of(self.consumer.client());
        }
        self.membership.as_ref()
    }

    /// After the broker refused the membership that it was shown.
    pub fn forget_membership(&mut self) {
        self.membership = None;
    }

    /// The committed, stable offset of an input partition and the batch id beside it.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] also while a transaction on it is still open.
    pub fn committed(&self, partition: i32) -> Result<Restored, LogError> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(&self.topics.events, partition);
        let found = self
            .consumer
            .committed_offsets(wanted, REQUEST_TIMEOUT)
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

    /// As [`crate::log::Log::restore`].
    pub fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restored, LogError> {
        let restored = self.committed(partition)?;
        restore::read(self, partition, each)?;
        Ok(restored)
    }

    /// As [`crate::log::Log::start`].
    pub fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        // An assignment that was lost must not look sound again because of this call.
        if self.consumer.assignment_lost() || !self.forwarded.contains_key(&partition) {
            return Err(LogError::Lost(vec![partition]));
        }
        let mut list = TopicPartitionList::new();
        let offset = from.next_offset.map_or(Offset::Beginning, Offset::Offset);
        list.add_partition_offset(&self.topics.events, partition, offset)
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(|error| {
                LogError::Fatal(format!("partition {partition} cannot be read: {error}"))
            })?;
        self.started.push(partition);
        Ok(())
    }

    /// As [`crate::log::Log::release`].
    pub fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        self.started.retain(|started| {
            let goes = partitions.contains(started);
            if goes {
                list.add_partition(&self.topics.events, *started);
            }
            !goes
        });
        let released = self.consumer.incremental_unassign(&list);
        for partition in partitions {
            self.forwarded.remove(partition);
        }
        self.membership = None;
        released.map_err(|error| LogError::Fatal(format!("partitions cannot be given up: {error}")))
    }

    pub fn high_watermark(&self, partition: i32) -> Option<i64> {
        raw::cached_high_watermark(self.consumer.client(), &self.events, partition)
    }

    pub fn consumer(&self) -> &BaseConsumer<impl rdkafka::consumer::ConsumerContext> {
        &self.consumer
    }

    pub fn events_topic(&self) -> &str {
        &self.topics.events
    }

    /// Gives everything up, so that dropping the consumer leaves the group without waiting.
    pub fn close(&mut self) {
        self.consumer.context().begin_close();
        let all = std::mem::take(&mut self.started);
        if let Err(error) = self.release_all(&all) {
            tracing::warn!(%error, "partitions could not be given up before leaving the group");
        }
    }

    fn release_all(&mut self, started: &[i32]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in started {
            list.add_partition(&self.topics.events, *partition);
        }
        let released = self.consumer.incremental_unassign(&list);
        self.forwarded.clear();
        released
    }

    fn hand_on(&mut self, step: Rebalance) -> Result<Wakeup, LogError> {
        self.membership = None;
        match step {
            Rebalance::Assigned(partitions) => {
                for partition in &partitions {
                    let queue = Queue::forwarded(&self.topics.events, *partition, &self.queue)
                        .ok_or_else(|| {
                            LogError::Unavailable(format!("partition {partition} has no queue"))
                        })?;
                    self.forwarded.insert(*partition, queue);
                }
                // The group goes on at once; each partition joins what is fetched when its
                // state is there (`start`).
                self.consumer
                    .incremental_assign(&TopicPartitionList::new())
                    .map_err(|error| LogError::Fatal(format!("the assignment: {error}")))?;
                Ok(Wakeup::Assigned(partitions))
            }
            Rebalance::Revoked { partitions, lost } => Ok(Wakeup::Revoked { partitions, lost }),
        }
    }

    fn take(
        &mut self,
        wait: Duration,
        limit: usize,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<usize, LogError> {
        let batch: Batch<'_> = self.queue.take(wait, limit, &mut self.buffer);
        let mut failed = None;
        for item in batch.items() {
            match item {
                Item::Record(record) => each(record),
                Item::End { .. } => {}
                Item::Error { partition, code } => failed = Some((partition, code)),
            }
        }
        match failed {
            Some((partition, code)) if !is_passing(code) => Err(classify(
                code,
                &format!("reading {} [{partition}]", self.topics.events),
            )),
            _ => Ok(batch.len()),
        }
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
                self.consumer.context().set_reachable();
                return Ok(());
            }
        }
        Err(LogError::Unavailable("no Kafka broker answers".into()))
    }
}

/// Errors that librdkafka mends by itself and that say nothing about the next call.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
    )
}

/// What `code` means for the loop, `doing` being what failed.
pub fn classify(code: RDKafkaErrorCode, doing: &str) -> LogError {
    let text = format!("{doing}: {code}");
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed
        | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::UnsupportedVersion
        | RDKafkaErrorCode::InvalidTopic
        | RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidMessageSize => LogError::Fatal(text),
        _ => LogError::Unavailable(text),
    }
}

/// What a failed request means for the loop.
pub fn request_failed(what: &str, error: &KafkaError) -> LogError {
    match error.rdkafka_error_code() {
        Some(code) => classify(code, &format!("asking for {what}")),
        None => LogError::Unavailable(format!("asking for {what}: {error}")),
    }
}
