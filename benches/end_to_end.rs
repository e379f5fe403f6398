//! Events a second through `run`'s own shard on a real broker, transactions on, beside what
//! the same machine does at most: a bare `poll()` loop of the crate and librdkafka's batch
//! call, over the same topic in the same run.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench end_to_end` (`make services` installs the jars);
//! `DOORWARD_BENCH_EVENTS` sets how many events, 1,000,000 by default. The CPU time is this
//! process' own, librdkafka's threads included and the broker's not.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

#[path = "../tests/it/support.rs"]
mod support;
mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::admin::Readiness;
use doorward::clock::SystemClock;
use doorward::config::{GeoIp, Kafka, Topics};
use doorward::document::Diagnostics;
use doorward::engine::{Engine, Settings};
use doorward::facts::{self, Folder};
use doorward::kafka::raw::{Buffer, Item, Queue};
use doorward::log::{
    EachState, InputRecord, KafkaLog, Log, LogError, Restored, Restoring, Transaction, Wakeup,
};
use doorward::metrics::Metrics;
use doorward::rules::RuleSet;
use doorward::shard::control::{Pulse, Stop};
use doorward::shard::{Parts, Shard};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::kafka::{self, Cluster};

const PARTITIONS: i32 = 4;
const ACCOUNTS: usize = 20_000;
/// A reader that gets nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(60);

/// What one way of reading cost.
struct Measured {
    name: &'static str,
    events: usize,
    wall: Duration,
    cpu: Duration,
}

impl Measured {
    /// Runs `read`, which returns how many events it read.
    fn of(name: &'static str, read: impl FnOnce() -> usize) -> Measured {
        let (began, cpu) = (Instant::now(), cpu_time());
        let events = read();
        Measured {
            name,
            events,
            wall: began.elapsed(),
            cpu: cpu_time() - cpu,
        }
    }

    fn per_second(&self) -> f64 {
        self.events as f64 / self.wall.as_secs_f64()
    }

    fn per_cpu_second(&self) -> f64 {
        self.events as f64 / self.cpu.as_secs_f64()
    }
}

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let Some(cluster) = kafka::shared() else {
        println!(
            "no Kafka: `make services` installs one; then set DOORWARD_KAFKA_LIB to the folder \
             of its jars"
        );
        return;
    };
    let count = std::env::var("DOORWARD_BENCH_EVENTS")
        .map_or(1_000_000, |text| text.parse().expect("a number of events"));
    let topics = make_topics(cluster);
    fill(cluster, &topics.events, count);

    // The first reading warms the broker's page cache for all.
    read_with_poll(cluster, &topics.events, count);
    let measured = [
        Measured::of("poll() of the crate", || {
            read_with_poll(cluster, &topics.events, count)
        }),
        Measured::of("batch call of librdkafka", || {
            read_in_batches(cluster, &topics.events, count)
        }),
        Measured::of("doorward's shard", || run_shard(cluster, &topics, count)),
    ];
    report(&measured);
}

fn report(measured: &[Measured]) {
    println!("{:28} {:>12} {:>14}", "", "events/s", "per CPU-second");
    for one in measured {
        println!(
            "{:28} {:12.0} {:14.0}",
            one.name,
            one.per_second(),
            one.per_cpu_second()
        );
    }
    let [poll, batch, shard] = measured else {
        unreachable!("three were measured");
    };
    for (name, other) in [("poll()", poll), ("the batch call", batch)] {
        println!(
            "shard to {name}: {:.2} by the clock, {:.2} by CPU time",
            shard.per_second() / other.per_second(),
            shard.per_cpu_second() / other.per_cpu_second(),
        );
    }
}

fn make_topics(cluster: &Cluster) -> Topics {
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
    for spec in doorward::topics::specs(&topics, PARTITIONS, 1) {
        cluster.create_topic(&spec.name, spec.partitions, &spec.settings);
    }
    topics
}

fn fill(cluster: &Cluster, topic: &str, count: usize) {
    let events = traffic::events(count, ACCOUNTS);
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("u-{n:07}")).collect();
    let messages = events.iter().enumerate().map(|(n, event)| {
        let text = std::str::from_utf8(event).expect("JSON is UTF-8");
        (accounts[n % ACCOUNTS].as_str(), text)
    });
    cluster.produce(topic, messages);
}

/// The settings of doorward's own consumer that bear on speed, without a group.
fn reader(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.client();
    config
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "65536");
    config
}

fn from_the_beginning(topic: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    list
}

fn read_with_poll(cluster: &Cluster, topic: &str, count: usize) -> usize {
    let consumer: BaseConsumer = reader(cluster).create().expect("a consumer");
    consumer
        .assign(&from_the_beginning(topic))
        .expect("an assignment");
    let mut seen = 0;
    while seen < count {
        consumer
            .poll(STALLED)
            .expect("records in time")
            .expect("no error");
        seen += 1;
    }
    seen
}

fn read_in_batches(cluster: &Cluster, topic: &str, count: usize) -> usize {
    let consumer: BaseConsumer<DefaultConsumerContext> =
        reader(cluster).create().expect("a consumer");
    let consumer = Arc::new(consumer);
    let queue = Queue::new(&consumer);
    let _partitions: Vec<_> = (0..PARTITIONS)
        .map(|partition| Queue::forwarded(topic, partition, &queue).expect("a queue"))
        .collect();
    consumer
        .assign(&from_the_beginning(topic))
        .expect("an assignment");
    let mut buffer = Buffer::new(1_024);
    let (mut seen, mut last) = (0, Instant::now());
    while seen < count {
        for (wait, limit) in [(Duration::from_millis(100), 1), (Duration::ZERO, 1_024)] {
            let batch = queue.take(wait, limit, &mut buffer);
            for item in batch.items() {
                if let Item::Record(record) = item {
                    std::hint::black_box(record.payload);
                    (seen, last) = (seen + 1, Instant::now());
                }
            }
        }
        assert!(last.elapsed() < STALLED, "{seen} of {count} came");
    }
    seen
}

/// The shard as `doorward run` starts it, from joining the group to the last commit.
fn run_shard(cluster: &Cluster, topics: &Topics, count: usize) -> usize {
    let kafka = Kafka {
        brokers: cluster.bootstrap(),
        group: cluster.unique("bench"),
        instance: "one".into(),
        properties: std::collections::BTreeMap::new(),
        secrets: std::collections::BTreeMap::new(),
        session_timeout: Duration::from_secs(45),
        transaction_timeout: Duration::from_secs(5),
        transactions: true,
    };
    let metrics = Arc::new(Metrics::new());
    let log = KafkaLog::connect(&kafka, topics, 0, Arc::clone(&metrics)).expect("a log");
    let stop = Stop::new();
    let log = Counting {
        log,
        left: count,
        stop: stop.clone(),
    };
    let loaded = facts::load(&GeoIp::default(), None).expect("the built-in facts");
    let mut found = Diagnostics::default();
    let files = Folder(None).rule_files(&mut found);
    let rules = RuleSet::load(&files, &loaded.facts.lists, &mut found).expect("the shipped rules");
    let provenance = loaded.provenance(&topics.events, rules.hash());
    let settings = Settings {
        max_lateness_ms: 300_000,
        act_within_ms: 86_400_000,
        link_valid_ms: 86_400_000,
        partitions: PARTITIONS as u32,
        max_unlearned: Settings::MAX_UNLEARNED,
        state_key: [7; 16],
        answer_keys: None,
    };
    let parts = Parts {
        shard: 0,
        batch_prefix: "bench".into(),
        engine: Engine::new(Arc::new(rules), Arc::new(loaded.facts), settings),
        provenance,
        commit_every: Duration::from_secs(1),
        commit_accounts: 10_000,
        metrics,
        readiness: Readiness::new(),
        clock: Box::new(SystemClock::new()),
        stop,
        pulse: Pulse::new(),
    };
    Shard::new(log, parts).run().expect("no failure");
    count
}

/// Asks the shard to end when it has been handed everything.
struct Counting {
    log: KafkaLog,
    left: usize,
    stop: Stop,
}

impl Log for Counting {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let left = &mut self.left;
        let woken = self.log.poll(wait, &mut |record| {
            *left = left.saturating_sub(1);
            each(record);
        });
        if self.left == 0 {
            self.stop.request(STALLED);
        }
        woken
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

/// User and system time of this process, all its threads together.
#[allow(unsafe_code, reason = "libc has the only call that tells it exactly")]
fn cpu_time() -> Duration {
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
