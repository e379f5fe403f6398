//! Where the time of one event goes on its way to a command, stage by stage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use doorward::log::{
    EachState, InputRecord, KafkaLog, Log, LogError, OutputTopic, Restored, Restoring, Transaction,
    Wakeup,
};
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use super::figures::Latencies;

/// Keys of events that are followed begin like this.
pub const FOLLOWED: &[u8] = b"locked-";

/// What happens to an event, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Sent,
    Acknowledged,
    Handed,
    Begun,
    Committed,
    Read,
}

const STAGES: [(Stage, &str); 6] = [
    (Stage::Sent, ""),
    (Stage::Acknowledged, "acknowledged to the publisher"),
    (Stage::Handed, "handed to the shard"),
    (Stage::Begun, "commit begun"),
    (Stage::Committed, "commit returned"),
    (Stage::Read, "read by the pipeline"),
];

/// When each followed event came to each stage. Clones share it.
#[derive(Clone, Default)]
pub struct Stages(Arc<Mutex<HashMap<Vec<u8>, [Option<Instant>; 6]>>>);

impl Stages {
    /// Forgets everything.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The event of `key` has come to `stage`, now.
    pub fn note(&self, key: &[u8], stage: Stage) {
        if key.starts_with(FOLLOWED) {
            let at = Instant::now();
            let mut all = self.lock();
            all.entry(key.to_vec()).or_default()[stage as usize].get_or_insert(at);
        }
    }

    /// Of the whole way, from `from` to the reader.
    pub fn until_read(&self, from: Stage) -> Latencies {
        self.between(from, Stage::Read)
    }

    /// One line a stage: how long after the one before.
    pub fn print(&self) {
        for pair in STAGES.windows(2) {
            let ((before, _), (stage, name)) = (pair[0], pair[1]);
            println!("  {name:32} after {}", self.between(before, stage).text());
        }
    }

    fn between(&self, from: Stage, to: Stage) -> Latencies {
        let mut latencies = Latencies::default();
        for at in self.lock().values() {
            if let (Some(from), Some(to)) = (at[from as usize], at[to as usize]) {
                latencies.push(to.saturating_duration_since(from));
            }
        }
        latencies
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, [Option<Instant>; 6]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acknowledgements, as the publisher hears of them.
impl ClientContext for Stages {}

impl ProducerContext<NoCustomPartitioner> for Stages {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Ok(message) = result
            && let Some(key) = message.key()
        {
            self.note(key, Stage::Acknowledged);
        }
    }
}

/// A shard's log, watched.
pub struct Watched {
    log: KafkaLog,
    stages: Stages,
    under_way: Option<Arc<Transaction>>,
}

impl Watched {
    pub fn new(log: KafkaLog, stages: Stages) -> Watched {
        Watched {
            log,
            stages,
            under_way: None,
        }
    }

    fn note_all(&self, transaction: &Transaction, stage: Stage) {
        let commands = transaction.records.iter();
        for record in commands.filter(|record| record.topic == OutputTopic::Commands) {
            self.stages.note(&record.key, stage);
        }
    }
}

impl Log for Watched {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let stages = &self.stages;
        self.log.poll(wait, &mut |record| {
            if let Some(key) = record.key {
                stages.note(key, Stage::Handed);
            }
            each(record);
        })
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        self.log.restore(partition, each)
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        self.log.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.log.release(partitions)
    }

    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        self.note_all(transaction, Stage::Begun);
        self.under_way = Some(Arc::clone(transaction));
        self.log.begin_commit(transaction)
    }

    fn poll_commit(&mut self, wait: Duration) -> Option<Result<(), LogError>> {
        let ended = self.log.poll_commit(wait)?;
        if let (Ok(()), Some(transaction)) = (&ended, self.under_way.take()) {
            self.note_all(&transaction, Stage::Committed);
        }
        Some(ended)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.log.high_watermark(partition)
    }

    fn close(&mut self) {
        self.log.close();
    }
}
