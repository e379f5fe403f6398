//! Writes what a shard decided, all of a batch or nothing.
//!
//! Owns the shard's producer. A commit whose outcome is unclear is found out: librdkafka
//! lacks KIP-890, so a delayed end of a transaction could land on the next one
//! (librdkafka#5423). The producer is therefore destroyed and another one with the same
//! transactional id registered, which ends the old transaction one way or the other; then
//! the batch id beside the committed input offset tells which way it was.

pub mod producer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::config::{Kafka, Topics};
use crate::ingest::client::{REQUEST_TIMEOUT, transactional_id};
use crate::ingest::raw::TxnError;
use crate::ingest::{Ingest, classify, request_failed};
use crate::log::{LogError, Transaction};
use crate::metrics::Metrics;

use producer::Producer;

/// The writing half of a shard's log.
pub struct Deliver {
    kafka: Kafka,
    topics: Topics,
    shard: usize,
    metrics: Arc<Metrics>,
    producer: Option<Producer>,
    /// Whether the last transaction may have been committed without our knowing.
    unclear: bool,
}

/// How an attempt failed.
enum Failure {
    /// The transaction is aborted, or was never begun; the producer is good.
    Aborted(LogError),
    /// Nobody knows.
    Unclear(String),
    /// Somebody registered the same transactional id.
    Fenced,
}

impl Deliver {
    pub fn new(kafka: &Kafka, topics: &Topics, shard: usize, metrics: Arc<Metrics>) -> Deliver {
        Deliver {
            kafka: kafka.clone(),
            topics: topics.clone(),
            shard,
            metrics,
            producer: None,
            unclear: false,
        }
    }

    /// Registers the producer, where there is none.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        if self.producer.is_none() {
            let producer = Producer::register(&self.kafka, &self.topics, self.shard)?;
            self.producer = Some(producer);
        }
        Ok(())
    }

    /// As [`crate::log::Log::commit`].
    pub fn commit(
        &mut self,
        transaction: &Transaction,
        ingest: &mut Ingest,
    ) -> Result<(), LogError> {
        ingest.tend()?;
        self.prepare()?;
        if self.unclear {
            let landed = landed(transaction, ingest)?;
            self.unclear = false;
            tracing::info!(landed, "found out what became of an unclear commit");
            if landed {
                self.count("committed");
                return Ok(());
            }
        }
        let lost: Vec<i32> = ingest
            .lost()
            .into_iter()
            .filter(|lost| transaction.offsets.iter().any(|(p, _)| p == lost))
            .collect();
        if !lost.is_empty() {
            return Err(LogError::Lost(lost));
        }
        let began = Instant::now();
        let outcome = if self.kafka.transactions {
            self.attempt(transaction, ingest)
        } else {
            self.plain(transaction, ingest)
        };
        self.metrics
            .transaction_seconds
            .observe(began.elapsed().as_secs_f64());
        self.conclude(outcome, began, ingest)
    }

    /// Ends the producer; an open transaction is aborted by the next one of its id.
    pub fn close(&mut self) {
        self.producer = None;
    }

    fn conclude(
        &mut self,
        outcome: Result<(), Failure>,
        began: Instant,
        ingest: &mut Ingest,
    ) -> Result<(), LogError> {
        match outcome {
            Ok(()) => {
                self.count("committed");
                Ok(())
            }
            Err(Failure::Aborted(error)) => {
                self.count("aborted");
                ingest.forget_membership();
                Err(error)
            }
            // The coordinator, too, fences a producer whose transaction took too long.
            Err(Failure::Fenced) if began.elapsed() < self.kafka.transaction_timeout => {
                self.count("fenced");
                self.producer = None;
                Err(LogError::Fenced(transactional_id(&self.kafka, self.shard)))
            }
            Err(Failure::Fenced) => Err(self.start_over("the transaction took too long".into())),
            Err(Failure::Unclear(text)) => Err(self.start_over(text)),
        }
    }

    fn start_over(&mut self, text: String) -> LogError {
        self.count("unclear");
        self.producer = None;
        self.unclear = true;
        LogError::Unavailable(format!("the commit's outcome is unclear: {text}"))
    }

    fn attempt(&self, transaction: &Transaction, ingest: &mut Ingest) -> Result<(), Failure> {
        let Some(producer) = &self.producer else {
            return Err(Failure::Unclear("there is no producer".into()));
        };
        let offsets = offsets(transaction, ingest.events_topic()).map_err(Failure::Aborted)?;
        let Some(member) = ingest.membership() else {
            return Err(Failure::Aborted(LogError::Unavailable(
                "not a member of the consumer group at the moment".into(),
            )));
        };
        let within = self.kafka.transaction_timeout;
        producer.begin().map_err(|error| judge(&error))?;
        let deadline = Instant::now() + within;
        let outcome = producer
            .send_all(&transaction.records, deadline)
            .and_then(|()| retrying(deadline, || producer.send_offsets(&offsets, member, within)))
            .and_then(|()| producer.commit(within));
        let Err(error) = outcome else { return Ok(()) };
        if error.must_abort {
            return Err(self.abort(producer, &error));
        }
        Err(judge(&error))
    }

    fn abort(&self, producer: &Producer, cause: &TxnError) -> Failure {
        let delivery = producer.take_failure();
        match producer.abort(self.kafka.transaction_timeout) {
            Ok(()) => Failure::Aborted(match delivery {
                Some((topic, code)) => classify(code, &format!("writing to {topic}")),
                None => classify(cause.code, &format!("the transaction: {}", cause.text)),
            }),
            Err(error) => match judge(&error) {
                Failure::Fenced => Failure::Fenced,
                _ => Failure::Unclear(format!("{}; then {}", cause.text, error.text)),
            },
        }
    }

    /// Without transactions, for the demo's mock broker: outputs first, then the offsets, so
    /// that a crash repeats rather than loses.
    fn plain(&self, transaction: &Transaction, ingest: &mut Ingest) -> Result<(), Failure> {
        let Some(producer) = &self.producer else {
            return Err(Failure::Unclear("there is no producer".into()));
        };
        let failed = |error: TxnError| {
            Failure::Aborted(LogError::Unavailable(format!("writing: {}", error.text)))
        };
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        producer
            .send_all(&transaction.records, deadline)
            .and_then(|()| producer.flush(REQUEST_TIMEOUT))
            .map_err(failed)?;
        if let Some((topic, code)) = producer.take_failure() {
            let error = classify(code, &format!("writing to {topic}"));
            return Err(Failure::Aborted(error));
        }
        let offsets = offsets(transaction, ingest.events_topic()).map_err(Failure::Aborted)?;
        ingest
            .consumer()
            .commit(&offsets, CommitMode::Sync)
            .map_err(|error| Failure::Aborted(request_failed("the commit of offsets", &error)))
    }

    fn count(&self, result: &str) {
        self.metrics
            .transactions_total
            .with_label_values(&[result])
            .inc();
    }
}

/// Whether the batch of `transaction` is the one that was committed last. Equal offsets
/// prove nothing, so its id is compared. One of its partitions is as good as all: they were
/// committed together.
fn landed(transaction: &Transaction, ingest: &Ingest) -> Result<bool, LogError> {
    let lost = ingest.lost();
    let Some((partition, _)) = transaction.offsets.iter().find(|(p, _)| !lost.contains(p)) else {
        // Whoever owns them now reads what became of it.
        return Ok(false);
    };
    let committed = ingest.committed(*partition)?;
    Ok(committed.batch_id.as_deref() == Some(&transaction.batch_id))
}

fn offsets(transaction: &Transaction, topic: &str) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(transaction.offsets.len());
    for (partition, offset) in &transaction.offsets {
        let mut element = list.add_partition(topic, *partition);
        element
            .set_offset(rdkafka::Offset::Offset(*offset))
            .map_err(|error| LogError::Fatal(format!("offset {offset}: {error}")))?;
        element.set_metadata(&transaction.batch_id);
    }
    Ok(list)
}

/// An error after which the transaction was neither committed nor can be aborted.
fn judge(error: &TxnError) -> Failure {
    match error.code {
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => Failure::Fenced,
        _ => Failure::Unclear(error.text.clone()),
    }
}

/// Calls until it works, fails for good, or `deadline` has passed.
fn retrying(
    deadline: Instant,
    mut call: impl FnMut() -> Result<(), TxnError>,
) -> Result<(), TxnError> {
    loop {
        match call() {
            Err(error)
                if error.retriable
                    && !error.must_abort
                    && !error.fatal
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}
