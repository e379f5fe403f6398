//! The log on a Kafka cluster: reading by [`Ingest`], writing by [`Deliver`].

use std::sync::Arc;
use std::time::Duration;

use super::{EachState, InputRecord, Log, LogError, Restored, Transaction, Wakeup};
use crate::config::{Kafka, Topics};
use crate::deliver::Deliver;
use crate::ingest::Ingest;
use crate::metrics::Metrics;

/// One shard's log.
pub struct KafkaLog {
    // Dropped first: an open transaction ends before the group is left.
    deliver: Deliver,
    ingest: Ingest,
}

impl KafkaLog {
    /// Registers the shard's transactional id, which ends what an earlier process of the
    /// same id left open, and joins the group.
    ///
    /// # Errors
    /// [`LogError::Fatal`] where librdkafka refuses the settings. A cluster that does not
    /// answer is no error here: `poll` says so.
    pub fn new(
        kafka: &Kafka,
        topics: &Topics,
        shard: usize,
        metrics: Arc<Metrics>,
    ) -> Result<KafkaLog, LogError> {
        Ok(KafkaLog {
            deliver: Deliver::new(kafka, topics, shard, metrics),
            ingest: Ingest::new(kafka, topics, shard)?,
        })
    }
}

impl Log for KafkaLog {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        self.ingest.poll(wait, each)
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restored, LogError> {
        // An open transaction of this shard's last life withholds the committed offset
        // until it ends; registering the id ends it.
        self.deliver.prepare()?;
        self.ingest.restore(partition, each)
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        self.ingest.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.ingest.release(partitions)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), LogError> {
        self.deliver.commit(transaction, &mut self.ingest)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.ingest.high_watermark(partition)
    }

    fn close(&mut self) {
        self.deliver.close();
        self.ingest.close();
    }
}
