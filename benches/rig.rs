//! What benchmarks on a real broker share: topics, a shard, a member of its group.

#![allow(
    dead_code,
    reason = "helpers are used by some benchmarks and not by others"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::admin::Readiness;
use doorward::clock::SystemClock;
use doorward::config::{Kafka, Topics};
use doorward::engine::Settings;
use doorward::log::{
    EachState, InputRecord, KafkaLog, Log, LogError, Restored, Restoring, Transaction, Wakeup,
};
use doorward::metrics::Metrics;
use doorward::shard::control::{Pulse, Stop};
use doorward::shard::latest::{Knowledge, Latest};
use doorward::shard::{Parts, Shard};

use super::figures::engine;
use super::support::kafka::{self, Cluster};

/// A broker that says nothing for so long has failed.
pub const STALLED: Duration = Duration::from_secs(60);

/// A broker, or a printed line about how to come by one.
pub fn broker() -> Option<&'static Cluster> {
    let cluster = kafka::shared();
    if cluster.is_none() {
        no_kafka();
    }
    cluster
}

pub fn no_kafka() {
    println!(
        "no Kafka: `make services` installs one; then set DOORWARD_KAFKA_LIB to the folder of \
         its jars"
    );
}

/// Topics of one run, as `doorward topics create` makes them.
pub fn make_topics(cluster: &Cluster, partitions: i32, replicas: i32) -> Topics {
    let site = cluster.unique("bench");
    let name = |role: &str| format!("{site}.{role}");
    let topics = Topics {
        events: name("events"),
        commands: name("commands"),
        decisions: name("decisions"),
        cases: name("cases"),
        mail: name("mail"),
        receipts: name("receipts"),
        state: name("state"),
        dead_letters: name("dead-letters"),
    };
    for spec in doorward::topics::specs(&topics, partitions, replicas) {
        cluster.create_topic(&spec.name, spec.partitions, &spec.settings);
    }
    topics
}

pub fn kafka_settings(cluster: &Cluster, transactions: bool) -> Kafka {
    Kafka {
        brokers: cluster.bootstrap(),
        group: cluster.unique("bench"),
        instance: "one".into(),
        properties: BTreeMap::new(),
        secrets: BTreeMap::new(),
        session_timeout: Duration::from_secs(45),
        transaction_timeout: Duration::from_secs(5),
        transactions,
    }
}

/// A shard as `doorward run` starts it.
pub fn shard<L: Log>(log: L, partitions: i32, metrics: Arc<Metrics>, stop: Stop) -> Shard<L> {
    let (engine, provenance) = engine(partitions as u32, Settings::MAX_FORGETTABLE_BYTES);
    let latest = Latest::new(Knowledge {
        rules: Arc::clone(engine.rules()),
        facts: Arc::clone(engine.facts()),
        provenance,
    });
    shard_by(log, engine.settings().clone(), metrics, stop, latest)
}

/// The same by the rules and facts that `latest` has.
pub fn shard_by<L: Log>(
    log: L,
    settings: Settings,
    metrics: Arc<Metrics>,
    stop: Stop,
    latest: Latest,
) -> Shard<L> {
    let parts = Parts {
        shard: 0,
        batch_prefix: "bench".into(),
        settings,
        latest,
        commit_every: Duration::from_secs(1),
        commit_accounts: 10_000,
        metrics,
        readiness: Readiness::new(),
        clock: Box::new(SystemClock::new()),
        stop,
        pulse: Pulse::new(),
    };
    Shard::new(log, parts)
}

/// What somebody does who watches the calls of a shard's log.
pub trait Watch {
    fn poll(
        &mut self,
        log: &mut KafkaLog,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        log.poll(wait, each)
    }

    /// A partition was restored.
    fn restored(&mut self) {}

    fn begins(&mut self, _: &Arc<Transaction>) {}

    fn ended(&mut self, _: &Result<(), LogError>) {}
}

/// A log whose shard is watched.
pub struct Watched<W> {
    pub log: KafkaLog,
    pub watch: W,
}

impl<W: Watch> Log for Watched<W> {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        self.watch.poll(&mut self.log, wait, each)
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        self.log.restore(partition, each)
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        self.watch.restored();
        self.log.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.log.release(partitions)
    }

    fn begin_commit(&mut self, transaction: &Arc<Transaction>) -> Result<(), LogError> {
        self.watch.begins(transaction);
        self.log.begin_commit(transaction)
    }

    fn poll_commit(&mut self, wait: Duration) -> Option<Result<(), LogError>> {
        let ended = self.log.poll_commit(wait)?;
        self.watch.ended(&ended);
        Some(ended)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.log.high_watermark(partition)
    }

    fn close(&mut self) {
        self.log.close();
    }
}

/// Asks the shard to end when a number of records was handed to it, or when as many
/// partitions have been restored.
pub struct Counted {
    pub records_left: Option<usize>,
    pub restores_left: Option<usize>,
    pub stop: Stop,
}

impl Counted {
    fn note(&self) {
        if self.records_left == Some(0) || self.restores_left == Some(0) {
            self.stop.request(STALLED);
        }
    }
}

impl Watch for Counted {
    fn poll(
        &mut self,
        log: &mut KafkaLog,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let left = &mut self.records_left;
        let woken = log.poll(wait, &mut |record| {
            if let Some(left) = left {
                *left = left.saturating_sub(1);
            }
            each(record);
        });
        self.note();
        woken
    }

    fn restored(&mut self) {
        if let Some(left) = &mut self.restores_left {
            *left = left.saturating_sub(1);
        }
        self.note();
    }
}

/// A member of the group that has restored and started all its partitions.
pub fn joined(kafka: &Kafka, topics: &Topics, metrics: &Arc<Metrics>) -> KafkaLog {
    let mut log = KafkaLog::connect(kafka, topics, 0, Arc::clone(metrics)).expect("a log");
    let deadline = Instant::now() + STALLED;
    loop {
        assert!(Instant::now() < deadline, "no partitions were assigned");
        match log.poll(Duration::from_millis(20), &mut |_| {}) {
            Ok(Wakeup::Assigned(partitions)) if !partitions.is_empty() => {
                for partition in partitions {
                    let restored = loop {
                        match log.restore(partition, &mut |_| {}).expect("a restore") {
                            Restoring::More { .. } => {}
                            Restoring::Done(restored) => break restored,
                        }
                    };
                    log.start(partition, &restored).expect("a start");
                }
                return log;
            }
            Ok(_) | Err(LogError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
