//! Where the time of one event goes on its way to a command, stage by stage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use doorward::log::{InputRecord, KafkaLog, Log, LogError, OutputTopic, Transaction, Wakeup};
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use super::figures::Latencies;
use super::rig::Watch;

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

/// Notes the stages that a shard's log sees.
pub struct Noted {
    stages: Stages,
    under_way: Option<Arc<Transaction>>,
}

impl Noted {
    pub fn new(stages: Stages) -> Noted {
        Noted {
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

impl Watch for Noted {
    fn poll(
        &mut self,
        log: &mut KafkaLog,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let stages = &self.stages;
        log.poll(wait, &mut |record| {
            if let Some(key) = record.key {
                stages.note(key, Stage::Handed);
            }
            each(record);
        })
    }

    fn begins(&mut self, transaction: &Arc<Transaction>) {
        self.note_all(transaction, Stage::Begun);
        self.under_way = Some(Arc::clone(transaction));
    }

    fn ended(&mut self, outcome: &Result<(), LogError>) {
        if let (Ok(()), Some(transaction)) = (outcome, self.under_way.take()) {
            self.note_all(&transaction, Stage::Committed);
        }
    }
}
