//! Reads a whole topic from its beginning and goes on following it.
//!
//! For what the edges keep in memory: open cases, receipts. No consumer group is involved:
//! every process reads every partition. Only what is committed is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::config;
use crate::kafka::settings::Quiet;
use crate::kafka::settings::common;

/// How long one question to a broker may take.
const ASK: Duration = Duration::from_secs(5);

/// A reader of one topic. It blocks, so it lives on a thread of its own.
pub struct Follower {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    /// Offset of the next record to read, by partition.
    next: BTreeMap<i32, i64>,
    /// Partitions whose end was reached at least once.
    ended: BTreeSet<i32>,
}

/// Why a topic cannot be followed, for now.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("cannot read {topic}: {error}")]
    Kafka { topic: String, error: KafkaError },
    #[error("the topic {0} does not exist; `doorward topics create` makes it")]
    Missing(String),
}

impl Follower {
    /// # Errors
    /// Where librdkafka refuses the settings; the broker is not asked yet.
    pub fn new(kafka: &config::Kafka, topic: &str) -> Result<Follower, FollowError> {
        let consumer = common(kafka, "follow")
            // librdkafka assigns nothing without a group id; nobody joins it.
            .set("group.id", format!("{}-reader", kafka.group))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "1")
            .create_with_context(Quiet)
            .map_err(|error| FollowError::Kafka {
                topic: topic.to_owned(),
                error,
            })?;
        Ok(Follower {
            consumer,
            topic: topic.to_owned(),
            next: BTreeMap::new(),
            ended: BTreeSet::new(),
        })
    }

    /// Begins to read every partition that the topic has and that is not read yet. Called
    /// again now and then, it finds partitions that were added.
    ///
    /// # Errors
    /// Where the broker does not answer or the topic is not there.
    pub fn find_partitions(&mut self) -> Result<(), FollowError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), ASK)
            .map_err(|error| self.failed(error))?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == self.topic)
            .flat_map(|topic| topic.partitions().iter().map(|p| p.id()))
            .collect();
        if partitions.is_empty() {
            return Err(FollowError::Missing(self.topic.clone()));
        }
        if partitions.iter().all(|p| self.next.contains_key(p)) {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            let from = match self.next.get(partition) {
                Some(next) if *next > 0 => Offset::Offset(*next),
                _ => Offset::Beginning,
            };
            assignment
                .add_partition_offset(&self.topic, *partition, from)
                .map_err(|error| self.failed(error))?;
        }
        self.consumer
            .assign(&assignment)
            .map_err(|error| self.failed(error))?;
        for partition in partitions {
            self.next.entry(partition).or_insert(0);
        }
        Ok(())
    }

    /// Waits at most `wait` for a record and hands key and value (`None`: tombstone) to
    /// `each`.
    ///
    /// # Errors
    /// Where reading failed; librdkafka goes on trying by itself.
    pub fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), FollowError> {
        match self.consumer.poll(wait) {
            None => Ok(()),
            Some(Ok(message)) => {
                self.next.insert(message.partition(), message.offset() + 1);
                each(message.key().unwrap_or_default(), message.payload());
                Ok(())
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.ended.insert(partition);
                Ok(())
            }
            Some(Err(error)) => Err(self.failed(error)),
        }
    }

    /// Whether every partition was read to its end at least once.
    pub fn has_caught_up(&self) -> bool {
        !self.next.is_empty() && self.next.keys().all(|p| self.ended.contains(p))
    }

    /// Reads on to where the topic ends as this call begins. Only for topics that are
    /// written without transactions: a commit marker takes an offset that is never read.
    ///
    /// # Errors
    /// Where the broker cannot be asked, or nothing arrived for `patience`.
    pub fn catch_up(
        &mut self,
        patience: Duration,
        each: &mut dyn FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), FollowError> {
        self.find_partitions()?;
        let mut ends = Vec::with_capacity(self.next.len());
        for partition in self.next.keys() {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, *partition, ASK)
                .map_err(|error| self.failed(error))?;
            ends.push((*partition, low, high));
        }
        let mut quiet = std::time::Instant::now();
        loop {
            let behind = ends.iter().any(|(partition, low, high)| {
                high > low && self.next.get(partition).is_none_or(|next| next < high)
            });
            if !behind {
                return Ok(());
            }
            let mut arrived = false;
            self.poll(Duration::from_millis(100), &mut |key, value| {
                arrived = true;
                each(key, value);
            })?;
            if arrived {
                quiet = std::time::Instant::now();
            } else if quiet.elapsed() > patience {
                return Err(self.failed(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                )));
            }
        }
    }

    fn failed(&self, error: KafkaError) -> FollowError {
        FollowError::Kafka {
            topic: self.topic.clone(),
            error,
        }
    }
}
