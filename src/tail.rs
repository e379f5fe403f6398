//! Reads topics to their end and on, as any consumer outside doorward would: without a
//! group, from where they stood when the reading began, committed records only.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::event::Timestamp;

/// How long the brokers may take to answer at the start, and the time between two questions.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// A consumer that is assigned every partition of its topics.
pub struct Tail {
    consumer: BaseConsumer,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: String,
    pub time: Timestamp,
    pub payload: Vec<u8>,
}

impl Tail {
    /// Begins at the present end of every partition of `topics`.
    ///
    /// # Errors
    /// Where the broker cannot be reached or a topic does not exist.
    pub fn start(config: &ClientConfig, topics: &[&str]) -> anyhow::Result<Tail> {
        let consumer: BaseConsumer = config
            .clone()
            // librdkafka wants a group's name even where nobody joins it.
            .set("group.id", "doorward-observer")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384")
            .create()
            .context("no consumer for reading topics")?;
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            let metadata = patiently(|wait| consumer.fetch_metadata(Some(topic), wait))
                .with_context(|| format!("the topic {topic} cannot be looked up"))?;
            let partitions = metadata
                .topics()
                .first()
                .map_or(&[][..], |t| t.partitions());
            anyhow::ensure!(!partitions.is_empty(), "the topic {topic} does not exist");
            for partition in partitions {
                let ask = |wait| consumer.fetch_watermarks(topic, partition.id(), wait);
                let (_, end) = patiently(ask)
                    .with_context(|| format!("the end of the topic {topic} cannot be read"))?;
                assignment
                    .add_partition_offset(topic, partition.id(), Offset::Offset(end))
                    .context("a partition that cannot be assigned")?;
            }
        }
        consumer
            .assign(&assignment)
            .context("the topics cannot be read")?;
        Ok(Tail { consumer })
    }

    /// The next record; `None` where none came within `wait`.
    ///
    /// # Errors
    /// Where the broker says that waiting will not mend it.
    pub fn next(&self, wait: Duration) -> anyhow::Result<Option<Record>> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Record {
                topic: message.topic().to_owned(),
                time: Timestamp(message.timestamp().to_millis().unwrap_or_default()),
                payload: message.payload().unwrap_or_default().to_vec(),
            })),
            Some(Err(error)) if is_passing(&error) => {
                tracing::debug!(%error, "waits for the broker");
                Ok(None)
            }
            Some(Err(error)) => Err(error).context("the topics can no longer be read"),
        }
    }
}

/// Asks until there is an answer: a topic that was created a moment ago has no leader yet.
fn patiently<T>(mut ask: impl FnMut(Duration) -> KafkaResult<T>) -> KafkaResult<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(deadline.saturating_duration_since(Instant::now())) {
            Err(_) if Instant::now() + PAUSE < deadline => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

/// Whether librdkafka goes on trying by itself.
fn is_passing(error: &KafkaError) -> bool {
    !matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::Authentication
        )
    )
}
