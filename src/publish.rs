//! Writes single records to Kafka and waits until they are there.
//!
//! For the edges: answers, receipts, operators' requests. What a shard writes goes through
//! [`crate::deliver`] and its transactions instead. Each record here may be repeated without
//! harm (its reader knows it by its id), so the producer is not idempotent: an idempotent one
//! can fail for good, and then has to be replaced.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::config;
use crate::event::Timestamp;
use crate::kafka::settings::{Quiet, common};

/// This machine's clock. Only the edges read it; in the core the broker's decides.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// One record to write.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub topic: &'a str,
    /// `None`: murmur2 of the key, as the Java client does it.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

/// A record that is not known to be in the log. It may be there all the same.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot write to {topic}: {error}")]
    Refused { topic: String, error: KafkaError },
    #[error("the producer was closed before {topic} acknowledged")]
    Closed { topic: String },
}

impl PublishError {
    /// Whether the topic lacks the partition that was asked for.
    pub fn is_unknown_partition(&self) -> bool {
        matches!(
            self,
            PublishError::Refused { error, .. }
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition)
        )
    }
}

type Acknowledgement = Result<(), KafkaError>;

/// Passes each delivery report to whoever waits for it.
struct Acknowledge;

impl ClientContext for Acknowledge {
    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext for Acknowledge {
    type DeliveryOpaque = Box<oneshot::Sender<Acknowledgement>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // Whoever waited may have gone: an HTTP client that hung up.
        let _ = waiting.send(result);
    }
}

/// Writes records and waits for all in-sync replicas. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    producer: Arc<ThreadedProducer<Acknowledge>>,
}

impl Publisher {
    /// `give_up` bounds how long a record is tried.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings; the broker is not asked yet.
    pub fn new(kafka: &config::Kafka, give_up: Duration) -> Result<Publisher, KafkaError> {
        let producer = common(kafka, "edge")
            .set("acks", "all")
            .set("enable.idempotence", "false")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .set("message.timeout.ms", give_up.as_millis().to_string())
            .create_with_context(Acknowledge)?;
        Ok(Publisher {
            producer: Arc::new(producer),
        })
    }

    /// Returns when the record is acknowledged.
    ///
    /// # Errors
    /// Where it was not, within the time given to [`Publisher::new`].
    pub async fn publish(&self, record: Record<'_>) -> Result<(), PublishError> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let mut message =
            BaseRecord::<[u8], [u8], _>::with_opaque_to(record.topic, Box::new(acknowledge))
                .payload(record.payload);
        message.key = record.key;
        message.partition = record.partition;
        let refused = |error| PublishError::Refused {
            topic: record.topic.to_owned(),
            error,
        };
        self.producer
            .send(message)
            .map_err(|(error, _)| refused(error))?;
        match acknowledged.await {
            Ok(result) => result.map_err(refused),
            Err(_) => Err(PublishError::Closed {
                topic: record.topic.to_owned(),
            }),
        }
    }
}
