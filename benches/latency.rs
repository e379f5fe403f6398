//! From an event's publication to its command in the hands of a read_committed reader, while
//! ordinary traffic takes half of what this machine can do; the same without transactions.
//!
//! "What it can do" is measured first: the same traffic as fast as it can be published, with
//! broker, publisher, shard and reader on the same cores.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench latency`

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

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use doorward::config::Topics;
use doorward::log::KafkaLog;
use doorward::metrics::Metrics;
use doorward::shard::control::Stop;
use figures::{Latencies, figure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use support::kafka::Cluster;

const PARTITIONS: i32 = 4;
const ACCOUNTS: usize = 20_000;
/// Accounts that are locked while it is measured, and how many a second.
const LOCKS: usize = 400;
const LOCKS_PER_SECOND: f64 = 50.0;
const FULL: Duration = Duration::from_secs(5);

fn main() {
    if figures::is_trial() {
        return;
    }
    let Some(cluster) = rig::broker() else { return };
    let ordinary = traffic::events(200_000, ACCOUNTS);
    let plain = Site::run(cluster, false, |site| site.measure(&ordinary));
    let with = Site::run(cluster, true, |site| site.measure(&ordinary));
    figure(
        "event to command, p50 / p99, half load (aim: p99 20 ms)",
        &with.latencies.text(),
        &format!(
            "{:.1} times the same without transactions ({})",
            with.latencies.at(0.5) / plain.latencies.at(0.5),
            plain.latencies.text()
        ),
    );
    figure(
        "events a second, published and decided at once",
        &format!("{:.0}", with.full),
        &format!(
            "{:.2} of the same without transactions ({:.0})",
            with.full / plain.full,
            plain.full
        ),
    );
}

struct Measured {
    /// Events a second at full load.
    full: f64,
    latencies: Latencies,
}

/// A running shard and what it is fed by.
struct Site<'c> {
    cluster: &'c Cluster,
    topics: Topics,
    metrics: Arc<Metrics>,
    producer: ThreadedProducer<DefaultProducerContext>,
    sent: usize,
}

impl Site<'_> {
    fn run<R>(
        cluster: &Cluster,
        transactions: bool,
        measure: impl FnOnce(&mut Site<'_>) -> R,
    ) -> R {
        let topics = rig::make_topics(cluster, PARTITIONS, 1);
        let kafka = rig::kafka_settings(cluster, transactions);
        let metrics = Arc::new(Metrics::new());
        let stop = Stop::new();
        let log = KafkaLog::connect(&kafka, &topics, 0, Arc::clone(&metrics)).expect("a log");
        let (counted, asked) = (Arc::clone(&metrics), stop.clone());
        let shard = std::thread::spawn(move || {
            rig::shard(log, PARTITIONS, counted, asked)
                .run()
                .expect("no failure");
        });
        let producer = cluster
            .client()
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "1")
            .set("queue.buffering.max.messages", "20000")
            .create()
            .expect("a producer");
        let mut site = Site {
            cluster,
            topics,
            metrics,
            producer,
            sent: 0,
        };
        let measured = measure(&mut site);
        stop.request(rig::STALLED);
        shard.join().expect("no panic");
        measured
    }

    fn measure(&mut self, ordinary: &[Vec<u8>]) -> Measured {
        for n in 0..LOCKS {
            self.send(&account(n), &login(n, "first", "81.167.144.58"));
        }
        // Warm, and everybody known.
        self.send_ordinary(ordinary, ACCOUNTS);
        self.wait_until_handled();
        let began = Instant::now();
        let from = self.sent;
        while began.elapsed() < FULL {
            self.send_ordinary(ordinary, 1_000);
        }
        self.wait_until_handled();
        let full = (self.sent - from) as f64 / began.elapsed().as_secs_f64();
        let latencies = self.lock_at(full / 2.0, ordinary);
        println!(
            "full load {full:.0} events/s, measured at {:.0}",
            full / 2.0
        );
        Measured { full, latencies }
    }

    /// Locks account after account while `rate` ordinary events a second go by.
    fn lock_at(&mut self, rate: f64, ordinary: &[Vec<u8>]) -> Latencies {
        let reading = AtomicBool::new(false);
        let (cluster, commands) = (self.cluster, self.topics.commands.clone());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_commands(cluster, &commands, &reading));
            while !reading.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut published = HashMap::new();
            let began = Instant::now();
            let (mut locked, mut ordinary_sent) = (0, 0.0);
            while locked < LOCKS {
                let elapsed = began.elapsed().as_secs_f64();
                if elapsed * LOCKS_PER_SECOND > locked as f64 {
                    let name = account(locked);
                    published.insert(name.clone(), Instant::now());
                    self.send(&name, &login(locked, "second", "200.160.2.3"));
                    locked += 1;
                }
                let due = elapsed * rate - ordinary_sent;
                if due >= 1.0 {
                    self.send_ordinary(ordinary, due as usize);
                    ordinary_sent += due.floor();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            let arrived = reader.join().expect("no panic");
            let mut latencies = Latencies::default();
            for (name, at) in arrived {
                latencies.push(at.duration_since(published[&name]));
            }
            latencies
        })
    }

    fn send_ordinary(&mut self, ordinary: &[Vec<u8>], count: usize) {
        for _ in 0..count {
            let n = self.sent;
            self.send(
                &format!("u-{:07}", n % ordinary.len() % ACCOUNTS),
                &ordinary[n % ordinary.len()],
            );
        }
    }

    fn send(&mut self, key: &str, payload: &[u8]) {
        let mut record = Some(
            BaseRecord::<str, [u8]>::to(&self.topics.events)
                .key(key)
                .payload(payload),
        );
        while let Some(waiting) = record.take() {
            match self.producer.send(waiting) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = Some(back);
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        self.sent += 1;
    }

    /// Until the shard has counted everything that was sent.
    fn wait_until_handled(&self) {
        let deadline = Instant::now() + rig::STALLED;
        while handled(&self.metrics) < self.sent as u64 {
            assert!(
                Instant::now() < deadline,
                "{} handled",
                handled(&self.metrics)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Events that the shard has counted; it does so every half second.
fn handled(metrics: &Metrics) -> u64 {
    metrics
        .text()
        .lines()
        .filter(|line| line.starts_with("doorward_events_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

fn account(n: usize) -> String {
    format!("locked-{n}")
}

fn login(n: usize, id: &str, ip: &str) -> Vec<u8> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    format!(
        r#"{{"id":"{id}-{n}","type":"login","time":{now},"account":"{}","outcome":"success","ip":"{ip}","session":"s-{n}","email":"{n}@example.org"}}"#,
        account(n)
    )
    .into_bytes()
}

/// Accounts of all lock commands, each with its arrival, as a login pipeline reads them.
fn read_commands(cluster: &Cluster, topic: &str, reading: &AtomicBool) -> Vec<(String, Instant)> {
    let consumer: BaseConsumer = cluster
        .client()
        .set("group.id", "bench-pipeline")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    consumer.assign(&list).expect("an assignment");
    // Connected to every partition before anything is measured.
    consumer.poll(Duration::from_secs(1));
    reading.store(true, Ordering::Release);
    let mut arrived = Vec::with_capacity(LOCKS);
    while arrived.len() < LOCKS {
        let message = consumer
            .poll(rig::STALLED)
            .expect("commands in time")
            .expect("no error");
        let at = Instant::now();
        let key = message.key().expect("a key");
        arrived.push((String::from_utf8_lossy(key).into_owned(), at));
    }
    arrived
}
