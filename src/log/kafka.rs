//! The log on a Kafka cluster: reading by [`Ingest`], writing by [`Deliver`].

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::{EachState, InputRecord, Log, LogError, Restored, Restoring, Transaction, Wakeup};
use crate::config::{Kafka, Topics};
use crate::deliver::Deliver;
use crate::ingest::Ingest;
use crate::kafka::KafkaClient;
use crate::metrics::Metrics;

/// How long one wait for records lasts while a commit is under way: its end may be what
/// the shard waits for.
const LOOK: Duration = Duration::from_millis(1);

/// One shard's log.
pub struct KafkaLog<C: Client = KafkaClient> {
    // Dropped first: an open transaction ends before the group is left.
    deliver: Deliver<C>,
    ingest: Ingest<C>,
}

impl KafkaLog {
    /// Joins the group through librdkafka.
    ///
    /// # Errors
    /// [`LogError::Fatal`] where librdkafka refuses the settings. A cluster that does not
    /// answer is no error here: `poll` says so.
    pub fn connect(
        kafka: &Kafka,
        topics: &Topics,
        shard: usize,
        metrics: Arc<Metrics>,
    ) -> Result<KafkaLog, LogError> {
        let client = KafkaClient::new(kafka, topics, shard)?;
        let deliver = Deliver::new(kafka.transactions, kafka.transaction_timeout, metrics);
        Ok(KafkaLog::new(client, deliver))
    }
}

impl<C: Client> KafkaLog<C> {
    pub fn new(client: C, deliver: Deliver<C>) -> KafkaLog<C> {
        KafkaLog {
            deliver,
            ingest: Ingest::new(client),
        }
    }
}

impl<C: Client> Log for KafkaLog<C> {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        if !self.deliver.is_under_way() {
            return self.ingest.poll(wait, each);
        }
        if self.ingest.is_rebalancing()? {
            self.deliver.wait(wait)?;
            return Ok(Wakeup::Records);
        }
        self.ingest.read(wait.min(LOOK), each)
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        // An open transaction of this shard's last life withholds the committed offset
        // until it ends; registering the id ends it.
        self.deliver.prepare(self.ingest.client())?;
        self.ingest.restore(partition, each)
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        self.ingest.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.ingest.release(partitions)
    }

    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        self.deliver.begin(transaction, &mut self.ingest)
    }

    fn poll_commit(&mut self, wait: Duration) -> Option<Result<(), LogError>> {
        self.deliver.poll(wait, &mut self.ingest)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.ingest.client().high_watermark(partition)
    }

    fn close(&mut self) {
        self.deliver.close();
        self.ingest.close();
    }
}
