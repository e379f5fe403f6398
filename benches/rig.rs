//! What benchmarks share: topics and a shard on a real broker, figures in one form.
//!
//! A line that begins with `= ` is a figure; `make bench` prints them all once more at the
//! end.

#![allow(
    dead_code,
    reason = "helpers are used by some benchmarks and not by others"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::admin::Readiness;
use doorward::clock::SystemClock;
use doorward::config::{GeoIp, Kafka, Topics};
use doorward::document::Diagnostics;
use doorward::engine::{Engine, Settings};
use doorward::facts::{self, Folder};
use doorward::log::{
    EachState, InputRecord, KafkaLog, Log, LogError, Restored, Restoring, Transaction, Wakeup,
};
use doorward::metrics::Metrics;
use doorward::record::Provenance;
use doorward::rules::RuleSet;
use doorward::shard::control::{Pulse, Stop};
use doorward::shard::{Parts, Shard};

use super::support::kafka::{self, Cluster};

/// A broker that says nothing for so long has failed.
pub const STALLED: Duration = Duration::from_secs(60);

/// Prints one figure: a value, and what it is beside something else on this machine.
pub fn figure(what: &str, value: &str, beside: &str) {
    println!("= {what:58} {value:>16}   {beside}");
}

/// Whether this is cargo's trial of what a benchmark would do; a benchmark does nothing then.
pub fn is_trial() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

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

/// The shipped rules, with the built-in database; and what its outputs say of them.
pub fn engine(partitions: u32, max_forgettable_bytes: usize) -> (Engine, Provenance) {
    let loaded = facts::load(&GeoIp::default(), None).expect("the built-in facts");
    let mut found = Diagnostics::default();
    let files = Folder(None).rule_files(&mut found);
    let rules = RuleSet::load(&files, &loaded.facts.lists, &mut found).expect("the shipped rules");
    let provenance = loaded.provenance("auth.events", rules.hash());
    let settings = Settings {
        max_lateness_ms: 300_000,
        act_within_ms: 86_400_000,
        link_valid_ms: 86_400_000,
        partitions,
        max_forgettable_bytes,
        state_key: [7; 16],
        answer_keys: None,
    };
    let engine = Engine::new(Arc::new(rules), Arc::new(loaded.facts), settings);
    (engine, provenance)
}

/// A shard as `doorward run` starts it.
pub fn shard<L: Log>(log: L, partitions: i32, metrics: Arc<Metrics>, stop: Stop) -> Shard<L> {
    let (engine, provenance) = engine(partitions as u32, Settings::MAX_FORGETTABLE_BYTES);
    let parts = Parts {
        shard: 0,
        batch_prefix: "bench".into(),
        engine,
        provenance,
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

/// A log that asks its shard to end when a number of records was handed to it, or when as
/// many partitions have been restored.
pub struct Counted {
    pub log: KafkaLog,
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

impl Log for Counted {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let left = &mut self.records_left;
        let woken = self.log.poll(wait, &mut |record| {
            if let Some(left) = left {
                *left = left.saturating_sub(1);
            }
            each(record);
        });
        self.note();
        woken
    }

    fn restore(&mut self, partition: i32, each: EachState<'_>) -> Result<Restoring, LogError> {
        self.log.restore(partition, each)
    }

    fn start(&mut self, partition: i32, from: &Restored) -> Result<(), LogError> {
        if let Some(left) = &mut self.restores_left {
            *left = left.saturating_sub(1);
        }
        self.note();
        self.log.start(partition, from)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), LogError> {
        self.log.release(partitions)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), LogError> {
        self.log.commit(transaction)
    }

    fn high_watermark(&self, partition: i32) -> Option<i64> {
        self.log.high_watermark(partition)
    }

    fn close(&mut self) {
        self.log.close();
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
                        match log.restore(partition, &mut |_, _| {}).expect("a restore") {
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

/// Latencies of one run.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn push(&mut self, one: Duration) {
        self.0.push(one);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; `share` is 0.5 for the median.
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted
            .get(at)
            .map_or(f64::NAN, |one| one.as_secs_f64() * 1e3)
    }

    /// `p50 / p99 ms`.
    pub fn text(&self) -> String {
        format!("{:.1} / {:.1} ms", self.at(0.5), self.at(0.99))
    }
}

/// User and system time of this process, all its threads together.
#[allow(unsafe_code, reason = "libc has the only call that tells it exactly")]
pub fn cpu_time() -> Duration {
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec as u64)
    };
    // SAFETY: zeroes are a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
