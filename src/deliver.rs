//! Writes what a shard decided, all of a batch or nothing.
//!
//! The commit protocol, whatever client speaks it. A commit whose outcome is unclear is
//! found out: librdkafka lacks KIP-890, so a delayed end of a transaction could land on the
//! next one (librdkafka#5423). The producer is therefore destroyed and another one with the
//! same transactional id registered, which ends the old transaction one way or the other;
//! then the batch id beside the committed input offset tells which way it was.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::ingest::Ingest;
use crate::kafka::classify;
use crate::log::client::{Client, Producer, REQUEST_TIMEOUT, TxnError};
use crate::log::{LogError, Transaction};
use crate::metrics::Metrics;

/// Outside of the group for so long, a shard waits for something that will not come: while it
/// tries to commit it answers no rebalance, and a member that owes an answer cannot join
/// again. Shorter than the watchdog's patience, so that this says what hangs.
const OUTSIDE_FOR: Duration = Duration::from_secs(40);
/// Fenced once, a producer may have been overtaken by a registration of its own that was late
/// on its way; fenced twice within this time, it has a twin.
const FENCED_AGAIN: Duration = Duration::from_secs(60);
/// Pause before a call is repeated that may be.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The writing half of a shard's log.
pub struct Deliver<P> {
    /// Without them (the demo's embedded broker has none), a crash may repeat a batch.
    transactions: bool,
    transaction_timeout: Duration,
    metrics: Arc<Metrics>,
    producer: Option<P>,
    /// Whether the last transaction may have been committed without our knowing.
    unclear: bool,
    /// When the coordinator last refused the producer's epoch.
    fenced_at: Option<Duration>,
    /// Since when a batch waits for this member to be one again.
    outside_since: Option<Duration>,
}

/// How an attempt failed.
enum Failure {
    /// The transaction is aborted, or was never begun; the producer is good.
    Aborted(LogError),
    /// Nobody knows.
    Unclear(String),
    /// It is not committed, and never will be.
    Refused(LogError),
    /// Somebody registered the same transactional id.
    Fenced,
}

impl<P: Producer> Deliver<P> {
    /// `transaction_timeout` is the broker's for one transaction, and bounds each call.
    pub fn new(
        transactions: bool,
        transaction_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Deliver<P> {
        Deliver {
            transactions,
            transaction_timeout,
            metrics,
            producer: None,
            unclear: false,
            fenced_at: None,
            outside_since: None,
        }
    }

    /// Registers the producer, where there is none.
    pub fn prepare<C>(&mut self, client: &C) -> Result<(), LogError>
    where
        C: Client<Producer = P>,
    {
        if self.producer.is_none() {
            self.producer = Some(client.register()?);
        }
        Ok(())
    }

    /// As [`crate::log::Log::commit`].
    pub fn commit<C>(
        &mut self,
        transaction: &Transaction,
        ingest: &mut Ingest<C>,
    ) -> Result<(), LogError>
    where
        C: Client<Producer = P, Membership = P::Membership>,
    {
        ingest.tend()?;
        self.retire_disturbed();
        self.prepare(ingest.client())?;
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
            self.outside_since = None;
            return Err(LogError::Lost(lost));
        }
        let began = ingest.client().clock().monotonic();
        self.check_membership(began, ingest)?;
        let outcome = if self.transactions {
            self.attempt(transaction, ingest)
        } else {
            self.plain(transaction, ingest)
        };
        let took = ingest.client().clock().monotonic().saturating_sub(began);
        self.metrics.transaction_seconds.observe(took.as_secs_f64());
        self.conclude(outcome, took, ingest)
    }

    /// An error where there is no membership to commit with, and will be none.
    fn check_membership<C>(&mut self, now: Duration, ingest: &mut Ingest<C>) -> Result<(), LogError>
    where
        C: Client,
    {
        if !self.transactions || ingest.membership().is_some() {
            self.outside_since = None;
            return Ok(());
        }
        let since = *self.outside_since.get_or_insert(now);
        if now.saturating_sub(since) > OUTSIDE_FOR {
            return Err(LogError::Stalled(format!(
                "a batch waits to be committed, and for {} s this shard has been no member of \
                 the consumer group",
                OUTSIDE_FOR.as_secs()
            )));
        }
        Err(LogError::Unavailable(
            "not a member of the consumer group at the moment".into(),
        ))
    }

    /// Lets go of a producer whose last transaction may still be ended by a request that is on
    /// its way: sent again by librdkafka after a lost connection, it would end the next
    /// transaction of the same epoch.
    fn retire_disturbed(&mut self) {
        let is_disturbed = |producer: &mut P| producer.is_disturbed();
        if self.transactions && self.producer.take_if(is_disturbed).is_some() {
            tracing::debug!("a connection was lost; the transactional id is registered anew");
        }
    }

    /// Ends the producer; an open transaction is aborted by the next one of its id.
    pub fn close(&mut self) {
        self.producer = None;
    }

    fn conclude<C>(
        &mut self,
        outcome: Result<(), Failure>,
        took: Duration,
        ingest: &mut Ingest<C>,
    ) -> Result<(), LogError>
    where
        C: Client<Producer = P>,
    {
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
            Err(Failure::Fenced) if took >= self.transaction_timeout => {
                Err(self.start_over("the transaction took too long".into()))
            }
            Err(Failure::Fenced) => {
                let now = ingest.client().clock().monotonic();
                let before = self.fenced_at.replace(now);
                if before.is_none_or(|before| now.saturating_sub(before) > FENCED_AGAIN) {
                    let why = "the transactional id was registered anew";
                    return Err(self.start_over(why.into()));
                }
                self.count("fenced");
                self.producer = None;
                Err(LogError::Fenced(ingest.client().transactional_id()))
            }
            Err(Failure::Unclear(text)) => Err(self.start_over(text)),
            Err(Failure::Refused(error)) => {
                self.count("aborted");
                self.producer = None;
                Err(error)
            }
        }
    }

    fn start_over(&mut self, text: String) -> LogError {
        self.count("unclear");
        self.producer = None;
        self.unclear = true;
        LogError::Unavailable(format!("the commit's outcome is unclear: {text}"))
    }

    fn attempt<C>(&self, transaction: &Transaction, ingest: &mut Ingest<C>) -> Result<(), Failure>
    where
        C: Client<Producer = P, Membership = P::Membership>,
    {
        let Some(producer) = &self.producer else {
            return Err(Failure::Unclear("there is no producer".into()));
        };
        let within = self.transaction_timeout;
        producer.begin().map_err(|error| judge(&error))?;
        producer
            .send_all(&transaction.records, within)
            .and_then(|()| self.send_offsets(producer, transaction, ingest))
            .map_err(|error| match error.must_abort {
                true => self.abort(producer, &error),
                false => judge(&error),
            })?;
        // Even where the library says "abort", the commit may be on its way: aborting here
        // and going on with the same producer would let it end the next transaction.
        producer
            .commit(within)
            .map_err(|error| match producer.take_failure() {
                Some((topic, code)) => undelivered(&topic, code),
                None => judge(&error),
            })
    }

    fn send_offsets<C>(
        &self,
        producer: &P,
        transaction: &Transaction,
        ingest: &mut Ingest<C>,
    ) -> Result<(), TxnError>
    where
        C: Client<Producer = P, Membership = P::Membership>,
    {
        let within = self.transaction_timeout;
        let deadline = ingest.client().clock().monotonic() + within;
        loop {
            let Some(member) = ingest.membership() else {
                return Err(no_member());
            };
            let sent =
                producer.send_offsets(&transaction.offsets, &transaction.batch_id, member, within);
            let clock = ingest.client().clock();
            match sent {
                Err(error)
                    if error.retriable
                        && !error.must_abort
                        && !error.fatal
                        && clock.monotonic() < deadline =>
                {
                    clock.sleep(RETRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn abort(&self, producer: &P, cause: &TxnError) -> Failure {
        let delivery = producer.take_failure();
        match producer.abort(self.transaction_timeout) {
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

    /// Without transactions: outputs first, then the offsets, so that a crash repeats rather
    /// than loses.
    fn plain<C>(&self, transaction: &Transaction, ingest: &Ingest<C>) -> Result<(), Failure>
    where
        C: Client<Producer = P>,
    {
        let Some(producer) = &self.producer else {
            return Err(Failure::Unclear("there is no producer".into()));
        };
        let failed = |error: TxnError| {
            Failure::Aborted(LogError::Unavailable(format!("writing: {}", error.text)))
        };
        producer
            .send_all(&transaction.records, REQUEST_TIMEOUT)
            .and_then(|()| producer.flush(REQUEST_TIMEOUT))
            .map_err(failed)?;
        if let Some((topic, code)) = producer.take_failure() {
            let error = classify(code, &format!("writing to {topic}"));
            return Err(Failure::Aborted(error));
        }
        ingest
            .client()
            .commit_offsets(&transaction.offsets, &transaction.batch_id)
            .map_err(Failure::Aborted)
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
fn landed<C: Client>(transaction: &Transaction, ingest: &Ingest<C>) -> Result<bool, LogError> {
    let lost = ingest.lost();
    let Some((partition, _)) = transaction.offsets.iter().find(|(p, _)| !lost.contains(p)) else {
        // Whoever owns them now reads what became of it.
        return Ok(false);
    };
    let committed = ingest.client().committed(*partition, REQUEST_TIMEOUT)?;
    Ok(committed.batch_id.as_deref() == Some(&transaction.batch_id))
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

/// A record did not reach its topic, so that the commit was not even asked for.
fn undelivered(topic: &str, code: RDKafkaErrorCode) -> Failure {
    match classify(code, &format!("writing to {topic}")) {
        error @ LogError::Fatal(_) => Failure::Refused(error),
        error => Failure::Unclear(error.to_string()),
    }
}

/// The member left the group between two tries; the transaction is given up.
fn no_member() -> TxnError {
    TxnError {
        code: RDKafkaErrorCode::UnknownMemberId,
        text: "not a member of the consumer group at the moment".into(),
        fatal: false,
        retriable: false,
        must_abort: true,
    }
}
