//! One producer of librdkafka, from registration to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer,
};

use crate::config::{Kafka, Topics};
use crate::ingest::classify;
use crate::ingest::client::{self, REQUEST_TIMEOUT};
use crate::ingest::raw::{self, Membership, TxnError};
use crate::log::{LogError, OutputRecord, OutputTopic};

/// How long a full queue is left to drain before the next try.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// A registered producer. Its own thread serves delivery reports, so that the raw commit
/// call returns as soon as the broker has answered.
pub struct Producer {
    inner: ThreadedProducer<Reports>,
    names: Topics,
}

/// Remembers the first record that could not be delivered.
#[derive(Default)]
pub struct Reports {
    // Written by the producer's thread, read after a failed commit.
    first_failure: Arc<Mutex<Option<(String, RDKafkaErrorCode)>>>,
}

impl ClientContext for Reports {
    fn error(&self, _: KafkaError, _: &str) {
        // librdkafka logs the same by itself.
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.lock()
                .get_or_insert_with(|| (message.topic().to_owned(), code));
        }
    }
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(String, RDKafkaErrorCode)>> {
        self.first_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Producer {
    /// Connects and, with transactions, registers the transactional id: the transaction
    /// that an earlier producer of it left open has ended when this returns.
    pub fn register(kafka: &Kafka, topics: &Topics, shard: usize) -> Result<Producer, LogError> {
        let config = if kafka.transactions {
            client::transactional(kafka, shard)
        } else {
            client::producer(kafka, &format!("output-{shard}"))
        };
        let inner: ThreadedProducer<Reports> = config
            .create_with_context(Reports::default())
            .map_err(|error| LogError::Fatal(format!("the producer's settings: {error}")))?;
        if kafka.transactions {
            raw::init_transactions(inner.client(), REQUEST_TIMEOUT).map_err(|error| {
                classify(
                    error.code,
                    &format!(
                        "registering the transactional id {}: {}",
                        client::transactional_id(kafka, shard),
                        error.text
                    ),
                )
            })?;
        }
        Ok(Producer {
            inner,
            names: topics.clone(),
        })
    }

    pub fn begin(&self) -> Result<(), TxnError> {
        self.take_failure();
        raw::begin_transaction(self.inner.client())
    }

    /// Puts every record into the producer's queue, waiting until `deadline` where it is
    /// full.
    pub fn send_all(&self, records: &[OutputRecord], deadline: Instant) -> Result<(), TxnError> {
        for record in records {
            self.send(record, deadline)?;
        }
        Ok(())
    }

    pub fn send_offsets(
        &self,
        offsets: &TopicPartitionList,
        member: &Membership,
        timeout: Duration,
    ) -> Result<(), TxnError> {
        raw::send_offsets(self.inner.client(), offsets, member, timeout)
    }

    pub fn commit(&self, timeout: Duration) -> Result<(), TxnError> {
        raw::commit_transaction(self.inner.client(), timeout)
    }

    pub fn abort(&self, timeout: Duration) -> Result<(), TxnError> {
        raw::abort_transaction(self.inner.client(), timeout)
    }

    /// Waits until everything is delivered.
    pub fn flush(&self, timeout: Duration) -> Result<(), TxnError> {
        if raw::flush(self.inner.client(), timeout) {
            Ok(())
        } else {
            Err(failed(
                RDKafkaErrorCode::OperationTimedOut,
                "records were not delivered in time",
            ))
        }
    }

    /// The first record that could not be delivered since the last call.
    pub fn take_failure(&self) -> Option<(String, RDKafkaErrorCode)> {
        self.inner.client().context().lock().take()
    }

    fn send(&self, record: &OutputRecord, deadline: Instant) -> Result<(), TxnError> {
        let topic = self.names.of(record.topic);
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        if !record.key.is_empty() {
            message = message.key(&record.key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(payload);
        }
        if let Some(partition) = record.partition {
            message = message.partition(partition);
        }
        if !record.headers.is_empty() {
            message = message.headers(headers(record));
        }
        loop {
            let Err((error, back)) = self.inner.send(message) else {
                return Ok(());
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            if code != RDKafkaErrorCode::QueueFull || Instant::now() >= deadline {
                let mut error = failed(code, &format!("writing to {topic}: {error}"));
                if code == RDKafkaErrorCode::MessageSizeTooLarge {
                    self.inner
                        .client()
                        .context()
                        .lock()
                        .get_or_insert((topic.to_owned(), code));
                }
                error.must_abort = true;
                return Err(error);
            }
            message = back;
            std::thread::sleep(FULL_QUEUE_PAUSE);
        }
    }
}

fn headers(record: &OutputRecord) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    record.headers.iter().fold(empty, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: Some(value.as_str()),
        })
    })
}

fn failed(code: RDKafkaErrorCode, text: &str) -> TxnError {
    TxnError {
        code,
        text: text.to_owned(),
        fatal: false,
        retriable: false,
        must_abort: false,
    }
}

impl Topics {
    /// The name of the topic that plays `role`.
    pub fn of(&self, role: OutputTopic) -> &str {
        match role {
            OutputTopic::Commands => &self.commands,
            OutputTopic::Decisions => &self.decisions,
            OutputTopic::Cases => &self.cases,
            OutputTopic::Mail => &self.mail,
            OutputTopic::State => &self.state,
            OutputTopic::DeadLetters => &self.dead_letters,
            OutputTopic::Events => &self.events,
        }
    }
}
