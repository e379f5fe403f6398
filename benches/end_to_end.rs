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

mod figures;
mod rig;
#[path = "../tests/it/support.rs"]
mod support;
mod traffic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::config::Topics;
use doorward::kafka::raw::{Buffer, Item, Queue};
use doorward::log::KafkaLog;
use doorward::metrics::Metrics;
use doorward::shard::control::Stop;
use figures::{cpu_time, figure};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rig::STALLED;
use support::kafka::Cluster;

const PARTITIONS: i32 = 4;
const ACCOUNTS: usize = 20_000;
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
    if figures::is_trial() {
        return;
    }
    let Some(cluster) = rig::broker() else { return };
    let count = std::env::var("DOORWARD_BENCH_EVENTS")
        .map_or(1_000_000, |text| text.parse().expect("a number of events"));
    let topics = rig::make_topics(cluster, PARTITIONS, 1);
    fill(cluster, &topics.events, count);

    // The first reading warms the broker's page cache for all.
    read_with_poll(cluster, &topics.events, count);
    let poll = Measured::of("poll() of the crate", || {
        read_with_poll(cluster, &topics.events, count)
    });
    let batch = Measured::of("batch call of librdkafka", || {
        read_in_batches(cluster, &topics.events, count)
    });
    let plain = Measured::of("doorward's shard, no transactions", || {
        run_shard(cluster, &topics, count, false)
    });
    let shard = Measured::of("doorward's shard", || {
        run_shard(cluster, &topics, count, true)
    });
    println!("{:34} {:>12} {:>14}", "", "events/s", "per CPU-second");
    for one in [&poll, &batch, &plain, &shard] {
        println!(
            "{:34} {:12.0} {:14.0}",
            one.name,
            one.per_second(),
            one.per_cpu_second()
        );
    }
    figure(
        "events a second, one shard",
        &format!("{:.0}", shard.per_second()),
        &format!(
            "{:.2} of a bare batch reader, {:.2} of bare poll(), {:.2} of no transactions",
            shard.per_second() / batch.per_second(),
            shard.per_second() / poll.per_second(),
            shard.per_second() / plain.per_second()
        ),
    );
    figure(
        "events a CPU-second, all of its threads",
        &format!("{:.0}", shard.per_cpu_second()),
        &format!(
            "{:.2} of a bare batch reader, {:.2} of bare poll()",
            shard.per_cpu_second() / batch.per_cpu_second(),
            shard.per_cpu_second() / poll.per_cpu_second()
        ),
    );
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
fn run_shard(cluster: &Cluster, topics: &Topics, count: usize, transactions: bool) -> usize {
    let kafka = rig::kafka_settings(cluster, transactions);
    let metrics = Arc::new(Metrics::new());
    let stop = Stop::new();
    let log = rig::Watched {
        log: KafkaLog::connect(&kafka, topics, 0, Arc::clone(&metrics)).expect("a log"),
        watch: rig::Counted {
            records_left: Some(count),
            restores_left: None,
            stop: stop.clone(),
        },
    };
    let mut shard = rig::shard(log, PARTITIONS, metrics, stop);
    shard.run().expect("no failure");
    count
}
