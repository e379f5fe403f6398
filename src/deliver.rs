//! Writes what a shard decided, all of a batch or nothing.
//!
//! The commit protocol, whatever client speaks it. What waits for brokers runs beside the
//! shard's own thread (`attempt`), one attempt at a time; what follows from its outcome is
//! decided here.
//!
//! A commit whose outcome is unclear is found out: librdkafka lacks KIP-890, so a delayed end
//! of a transaction could land on the next one (librdkafka#5423). The producer is therefore
//! destroyed and another one with the same transactional id registered, which ends the old
//! transaction one way or the other; then the batch id beside the committed input offset
//! tells which way it was.

mod attempt;

use std::sync::Arc;
use std::time::Duration;

use crate::ingest::Ingest;
use crate::log::client::{Client, Producer, REQUEST_TIMEOUT, Worker};
use crate::log::{LogError, Transaction};
use crate::metrics::Metrics;

pub use attempt::{Attempt, Attempted};

use attempt::Failure;

/// Outside of the group for so long, a shard waits for something that will not come: while it
/// tries to commit it answers no rebalance, and a member that owes an answer cannot join
/// again. Shorter than the watchdog's patience, so that this says what hangs.
const OUTSIDE_FOR: Duration = Duration::from_secs(40);
/// Fenced once, a producer may have been overtaken by a registration of its own that was late
/// on its way; fenced twice within this time, it has a twin.
const FENCED_AGAIN: Duration = Duration::from_secs(60);

/// The writing half of a shard's log.
pub struct Deliver<C: Client> {
    /// Without them (the demo's embedded broker has none), a crash may repeat a batch.
    transactions: bool,
    transaction_timeout: Duration,
    metrics: Arc<Metrics>,
    /// `None` until it is registered, and while an attempt has it.
    producer: Option<C::Producer>,
    worker: Option<C::Worker>,
    under_way: Option<UnderWay>,
    /// Whether the last transaction may have been committed without our knowing.
    unclear: bool,
    /// When the coordinator last refused the producer's epoch.
    fenced_at: Option<Duration>,
    /// Since when a batch waits for this member to be one again.
    outside_since: Option<Duration>,
}

/// A commit that was begun and whose end the shard has not heard of.
enum UnderWay {
    /// An earlier attempt had landed.
    Landed,
    Attempt(Arc<Transaction>),
}

impl<C: Client> Deliver<C> {
    /// `transaction_timeout` is the broker's for one transaction, and bounds each call.
    pub fn new(
        transactions: bool,
        transaction_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Deliver<C> {
        Deliver {
            transactions,
            transaction_timeout,
            metrics,
            producer: None,
            worker: None,
            under_way: None,
            unclear: false,
            fenced_at: None,
            outside_since: None,
        }
    }

    /// Registers the producer, where there is none.
    pub fn prepare(&mut self, client: &C) -> Result<(), LogError> {
        if self.producer.is_none() && self.under_way.is_none() {
            self.producer = Some(client.register()?);
        }
        Ok(())
    }

    /// As [`crate::log::Log::begin_commit`].
    pub fn begin(
        &mut self,
        transaction: &Arc<Transaction>,
        ingest: &mut Ingest<C>,
    ) -> Result<(), LogError> {
        if self.under_way.is_some() {
            let text = "a commit was begun while another one was under way";
            return Err(LogError::Fatal(text.into()));
        }
        ingest.tend()?;
        self.retire_disturbed();
        self.prepare(ingest.client())?;
        if self.unclear {
            let landed = landed(transaction, ingest)?;
            self.unclear = false;
            tracing::info!(landed, "found out what became of an unclear commit");
            if landed {
                self.count("committed");
                self.under_way = Some(UnderWay::Landed);
                return Ok(());
            }
        }
        let lost = ingest.lost(&transaction.offsets);
        if !lost.is_empty() {
            self.outside_since = None;
            return Err(LogError::Lost(lost));
        }
        let member = self.membership(ingest)?;
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(ingest.client().worker()?),
        };
        if let Some(producer) = self.producer.take() {
            worker.begin(Attempt {
                producer,
                transaction: Arc::clone(transaction),
                member,
                within: self.transaction_timeout,
            });
            self.under_way = Some(UnderWay::Attempt(Arc::clone(transaction)));
        }
        Ok(())
    }

    /// Whether a commit was begun whose end [`Self::poll`] has not told.
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Waits at most `wait` for the end of what is under way.
    pub fn wait(&mut self, wait: Duration) -> Result<bool, LogError> {
        match (&self.under_way, &mut self.worker) {
            (Some(UnderWay::Attempt(_)), Some(worker)) => worker.wait(wait),
            _ => Ok(true),
        }
    }

    /// As [`crate::log::Log::poll_commit`].
    pub fn poll(&mut self, wait: Duration, ingest: &mut Ingest<C>) -> Option<Result<(), LogError>> {
        match self.wait(wait) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                self.under_way = None;
                return Some(Err(error));
            }
        }
        let UnderWay::Attempt(transaction) = self.under_way.take()? else {
            return Some(Ok(()));
        };
        let Attempted {
            producer,
            mut outcome,
            took,
        } = self.worker.as_mut()?.take()?;
        self.producer = Some(producer);
        if outcome.is_ok() && !self.transactions {
            outcome = ingest
                .client()
                .commit_offsets(&transaction.offsets, &transaction.batch_id)
                .map_err(Failure::Aborted);
        }
        self.metrics.transaction_seconds.observe(took.as_secs_f64());
        Some(self.conclude(outcome, took, ingest))
    }

    /// Who vouches for offsets; `None` without transactions. An error where there is nobody,
    /// and soon one that ends the shard.
    fn membership(&mut self, ingest: &mut Ingest<C>) -> Result<Option<C::Membership>, LogError> {
        if !self.transactions {
            return Ok(None);
        }
        if let Some(member) = ingest.membership() {
            self.outside_since = None;
            return Ok(Some(member.clone()));
        }
        let now = ingest.client().clock().monotonic();
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
        let is_disturbed = |producer: &mut C::Producer| producer.is_disturbed();
        if self.transactions && self.producer.take_if(is_disturbed).is_some() {
            tracing::debug!("a connection was lost; the transactional id is registered anew");
        }
    }

    /// Ends the producer; an open transaction is aborted by the next one of its id.
    pub fn close(&mut self) {
        self.producer = None;
        self.worker = None;
        self.under_way = None;
    }

    fn conclude(
        &mut self,
        outcome: Result<(), Failure>,
        took: Duration,
        ingest: &mut Ingest<C>,
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
    let lost = ingest.lost(&transaction.offsets);
    let Some((partition, _)) = transaction.offsets.iter().find(|(p, _)| !lost.contains(p)) else {
        // Whoever owns them now reads what became of it.
        return Ok(false);
    };
    let committed = ingest.client().committed(*partition, REQUEST_TIMEOUT)?;
    Ok(committed.batch_id.as_deref() == Some(&transaction.batch_id))
}
