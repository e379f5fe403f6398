//! One attempt to commit a batch: everything that waits for brokers.
//!
//! It runs beside the shard's own thread ([`Worker`](crate::log::client::Worker)), which
//! reads and decides meanwhile. It changes nothing but the producer that it was given; what
//! follows from its outcome is decided when it has come back.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::clock::Clock;
use crate::kafka::classify;
use crate::log::client::{Producer, REQUEST_TIMEOUT, TxnError};
use crate::log::{LogError, Transaction};

/// Pause before a call is repeated that may be.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A batch, and all that is needed to commit it.
pub struct Attempt<P: Producer> {
    pub(super) producer: P,
    pub(super) transaction: Arc<Transaction>,
    /// Who vouches for the offsets; `None` without transactions: they are not sent then.
    pub(super) member: Option<P::Membership>,
    /// Bounds each call.
    pub(super) within: Duration,
}

/// What became of it.
pub struct Attempted<P> {
    pub(super) producer: P,
    pub(super) outcome: Result<(), Failure>,
    pub(super) took: Duration,
}

/// How an attempt failed.
pub(super) enum Failure {
    /// The transaction is aborted, or was never begun; the producer is good.
    Aborted(LogError),
    /// Nobody knows.
    Unclear(String),
    /// It is not committed, and never will be.
    Refused(LogError),
    /// Somebody registered the same transactional id.
    Fenced,
}

impl<P: Producer> Attempt<P> {
    /// Does it. Every call has its limit, so this has one, too.
    pub fn run(self, clock: &dyn Clock) -> Attempted<P> {
        let began = clock.monotonic();
        let outcome = match &self.member {
            Some(member) => self.in_transaction(member, clock),
            None => self.plainly(),
        };
        Attempted {
            producer: self.producer,
            outcome,
            took: clock.monotonic().saturating_sub(began),
        }
    }

    fn in_transaction(&self, member: &P::Membership, clock: &dyn Clock) -> Result<(), Failure> {
        let producer = &self.producer;
        producer.begin().map_err(|error| judge(&error))?;
        // Offsets first: where markers of the last transaction are still being written, the
        // coordinator refuses the first request of the next one, and librdkafka repeats this
        // one after `retry.backoff.ms`, but that for partitions of records after 20 ms.
        self.send_offsets(member, clock)
            .and_then(|()| producer.send_all(&self.transaction.records, self.within))
            .map_err(|error| match error.must_abort {
                true => self.abort(&error),
                false => judge(&error),
            })?;
        // Even where the library says "abort", the commit may be on its way: aborting here
        // and going on with the same producer would let it end the next transaction.
        producer
            .commit(self.within)
            .map_err(|error| match producer.take_failure() {
                Some((topic, code)) => undelivered(&topic, code),
                None => judge(&error),
            })
    }

    fn send_offsets(&self, member: &P::Membership, clock: &dyn Clock) -> Result<(), TxnError> {
        let Transaction {
            offsets, batch_id, ..
        } = &*self.transaction;
        let deadline = clock.monotonic() + self.within;
        loop {
            let sent = self
                .producer
                .send_offsets(offsets, batch_id, member, self.within);
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

    fn abort(&self, cause: &TxnError) -> Failure {
        let delivery = self.producer.take_failure();
        match self.producer.abort(self.within) {
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

    /// Without transactions: outputs now, and the offsets after them, so that a crash repeats
    /// rather than loses.
    fn plainly(&self) -> Result<(), Failure> {
        let producer = &self.producer;
        producer
            .send_all(&self.transaction.records, REQUEST_TIMEOUT)
            .and_then(|()| producer.flush(REQUEST_TIMEOUT))
            .map_err(|error| {
                Failure::Aborted(LogError::Unavailable(format!("writing: {}", error.text)))
            })?;
        match producer.take_failure() {
            Some((topic, code)) => {
                let error = classify(code, &format!("writing to {topic}"));
                Err(Failure::Aborted(error))
            }
            None => Ok(()),
        }
    }
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
