//! One producer of librdkafka, from registration to its end.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::{Kafka, Topics};
use crate::log::client::{self, REQUEST_TIMEOUT, TxnError};
use crate::log::{LogError, OutputRecord, OutputTopic};

use super::classify;
use super::patience::{OffsetThread, Offsets};
use super::raw::{self, Membership};
use super::settings;

/// How long a full queue is left to drain before the next try.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// How long, in steps, news in librdkafka's queue are waited for, which take microseconds.
const NEWS_PAUSE: Duration = Duration::from_micros(100);
const NEWS_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How librdkafka's log calls the states of a connection on which requests are sent.
const WORKING: [&str; 2] = [" in state UP", " in state REAUTH"];
/// How it calls the connection of the first metadata, which every producer closes as soon as
/// it knows the brokers. No transaction goes through it.
const BOOTSTRAP: &str = "/bootstrap: ";

/// A registered producer. Its own thread serves delivery reports, so that the raw commit
/// call returns as soon as the broker has answered.
pub struct Producer {
    inner: Arc<ThreadedProducer<Reports>>,
    /// `None` without transactions.
    offsets: Option<RefCell<OffsetThread>>,
    names: Topics,
}

/// Remembers the first record that could not be delivered, and whether a connection was lost.
#[derive(Default)]
pub struct Reports {
    // Written by the producer's thread, read after a failed commit.
    first_failure: Arc<Mutex<Option<(String, RDKafkaErrorCode)>>>,
    disturbed: AtomicBool,
}

impl ClientContext for Reports {
    // librdkafka logs the same by itself.
    fn error(&self, _: KafkaError, _: &str) {}

    /// The error callback is not told of a connection that merely closes, and the log only
    /// at the level of debugging (`rd_kafka_broker_set_error`): before requests that were
    /// under way are sent again.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let was_working = WORKING.iter().any(|state| text.contains(state));
        if facility == "FAIL" && was_working && !text.contains(BOOTSTRAP) {
            self.disturbed.store(true, Ordering::Release);
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", "{facility} {text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility} {text}"),
            _ => tracing::debug!(target: "librdkafka", "{facility} {text}"),
        }
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
            settings::transactional(kafka, shard)
        } else {
            settings::producer(kafka, &format!("output-{shard}"))
        };
        let inner: ThreadedProducer<Reports> = config
            .create_with_context(Reports::default())
            .map_err(|error| LogError::Fatal(format!("the producer's settings: {error}")))?;
        let inner = Arc::new(inner);
        let offsets = if kafka.transactions {
            raw::init_transactions(inner.client(), REQUEST_TIMEOUT).map_err(|error| {
                classify(
                    error.code,
                    &format!(
                        "registering the transactional id {}: {}",
                        settings::transactional_id(kafka, shard),
                        error.text
                    ),
                )
            })?;
            Some(RefCell::new(offset_thread(&inner, shard)?))
        } else {
            None
        };
        Ok(Producer {
            inner,
            offsets,
            names: topics.clone(),
        })
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

impl client::Producer for Producer {
    type Membership = Arc<Membership>;

    fn begin(&self) -> Result<(), TxnError> {
        self.take_failure();
        raw::begin_transaction(self.inner.client())
    }

    fn send_all(&self, records: &[OutputRecord], within: Duration) -> Result<(), TxnError> {
        let deadline = Instant::now() + within;
        for record in records {
            self.send(record, deadline)?;
        }
        Ok(())
    }

    fn send_offsets(
        &self,
        offsets: &[(i32, i64)],
        metadata: &str,
        member: &Arc<Membership>,
        within: Duration,
    ) -> Result<(), TxnError> {
        let list = self::offsets(offsets, metadata, &self.names.events)
            .map_err(|error| failed(RDKafkaErrorCode::InvalidArgument, &error.to_string()))?;
        let Some(thread) = &self.offsets else {
            return Err(failed(
                RDKafkaErrorCode::State,
                "offsets without transactions",
            ));
        };
        thread.borrow_mut().send(Offsets {
            list,
            member: Arc::clone(member),
            within,
        })
    }

    fn commit(&self, within: Duration) -> Result<(), TxnError> {
        raw::commit_transaction(self.inner.client(), within)
    }

    fn abort(&self, within: Duration) -> Result<(), TxnError> {
        raw::abort_transaction(self.inner.client(), within)
    }

    fn flush(&self, within: Duration) -> Result<(), TxnError> {
        if raw::flush(self.inner.client(), within) {
            Ok(())
        } else {
            Err(failed(
                RDKafkaErrorCode::OperationTimedOut,
                "records were not delivered in time",
            ))
        }
    }

    fn is_disturbed(&self) -> bool {
        // What happened before the last answer stands in the queue that the producer's
        // thread empties.
        let deadline = Instant::now() + NEWS_PAUSE_MAX;
        while self.inner.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(NEWS_PAUSE);
        }
        let reports = self.inner.client().context();
        reports.disturbed.load(Ordering::Acquire) || self.inner.in_flight_count() > 0
    }

    fn take_failure(&self) -> Option<(String, RDKafkaErrorCode)> {
        self.inner.client().context().lock().take()
    }
}

fn offset_thread(
    inner: &Arc<ThreadedProducer<Reports>>,
    shard: usize,
) -> Result<OffsetThread, LogError> {
    let producer = Arc::clone(inner);
    let send = move |offsets: &Offsets| {
        raw::send_offsets(
            producer.client(),
            &offsets.list,
            &offsets.member,
            offsets.within,
        )
    };
    OffsetThread::start(format!("offsets-{shard}"), send)
        .map_err(|error| LogError::Unavailable(format!("a thread for offsets: {error}")))
}

/// Offsets of input partitions, each with `metadata`.
pub fn offsets(
    offsets: &[(i32, i64)],
    metadata: &str,
    topic: &str,
) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element
            .set_offset(Offset::Offset(*offset))
            .map_err(|error| LogError::Fatal(format!("offset {offset}: {error}")))?;
        element.set_metadata(metadata);
    }
    Ok(list)
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
