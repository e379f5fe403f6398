//! From an event's publication to its command in the hands of a read_committed reader, while
//! ordinary traffic goes by: half of what this machine can do, and 50,000 events a second.
//! The same without transactions, and the same with a bare loop in the shard's place, which
//! reads, decides nothing, and commits what a lock causes for each event that would lock: the
//! floor.
//!
//! "What it can do" is measured first: the same traffic as fast as it can be published, with
//! broker, publisher, shard and reader on the same cores. Where the time goes is printed stage
//! by stage.
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
mod stages;
#[path = "../tests/it/support.rs"]
mod support;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use doorward::config::Topics;
use doorward::log::{KafkaLog, Log, OutputRecord, OutputTopic, Transaction};
use doorward::metrics::Metrics;
use doorward::shard::control::Stop;
use figures::{Latencies, figure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use rig::Watched;
use stages::{Noted, Stage, Stages};
use support::kafka::Cluster;

const PARTITIONS: i32 = 4;
const ACCOUNTS: usize = 20_000;
/// Accounts that are locked while it is measured, and how many a second.
const LOCKS: usize = 800;
const FIXED: f64 = 50_000.0;
const LOCKS_PER_SECOND: f64 = 50.0;
const FULL: Duration = Duration::from_secs(5);

fn main() {
    if figures::is_trial() {
        return;
    }
    let Some(cluster) = rig::broker() else { return };
    let mut ordinary: Vec<Fresh> = traffic::events(200_000, ACCOUNTS)
        .into_iter()
        .map(Fresh::new)
        .collect();
    let bare = Site::run(cluster, Runs::Bare, |site| site.measure(&mut ordinary));
    let plain = Site::run(cluster, Runs::Plain, |site| site.measure(&mut ordinary));
    let with = Site::run(cluster, Runs::Shard, |site| site.measure(&mut ordinary));
    let all = [&with, &plain, &bare];
    report("half load", all.map(|measured| &measured.half));
    report("50,000 events/s", all.map(|measured| &measured.fixed));
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

fn report(at: &str, [with, plain, bare]: [&Ways; 3]) {
    let beside = |with: &Latencies, plain: &Latencies, bare: &Latencies| {
        format!(
            "{:.1} times a bare loop ({}), {:.1} times no transactions ({})",
            with.at(0.5) / bare.at(0.5),
            bare.text(),
            with.at(0.5) / plain.at(0.5),
            plain.text()
        )
    };
    figure(
        &format!("event published to command read, p50 / p99, {at}"),
        &with.published.text(),
        &beside(&with.published, &plain.published, &bare.published),
    );
    figure(
        &format!("event received to command read, {at} (aim: p99 20 ms)"),
        &with.received.text(),
        &beside(&with.received, &plain.received, &bare.received),
    );
}

struct Measured {
    /// Events a second at full load.
    full: f64,
    half: Ways,
    fixed: Ways,
}

/// How long it took until the command was read.
struct Ways {
    /// Since the publisher sent the event.
    published: Latencies,
    /// Since doorward had it.
    received: Latencies,
}

/// What handles the events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    Shard,
    /// Without transactions.
    Plain,
    /// No shard at all.
    Bare,
}

/// Something that reads events, and what it is fed by.
struct Site<'c> {
    cluster: &'c Cluster,
    topics: Topics,
    handled: Box<dyn Fn() -> u64>,
    producer: ThreadedProducer<Stages>,
    stages: Stages,
    sent: usize,
    /// Accounts that have been locked.
    locked: usize,
}

impl Site<'_> {
    fn run<R>(cluster: &Cluster, runs: Runs, measure: impl FnOnce(&mut Site<'_>) -> R) -> R {
        let topics = rig::make_topics(cluster, PARTITIONS, 1);
        let kafka = rig::kafka_settings(cluster, runs != Runs::Plain);
        let metrics = Arc::new(Metrics::new());
        let stop = Stop::new();
        let stages = Stages::default();
        let counted = Arc::new(AtomicU64::new(0));
        let watched = |log| Watched {
            log,
            watch: Noted::new(stages.clone()),
        };
        let running = if runs == Runs::Bare {
            let log = watched(rig::joined(&kafka, &topics, &metrics));
            let (counted, asked) = (Arc::clone(&counted), stop.clone());
            std::thread::spawn(move || bare_loop(log, &counted, &asked))
        } else {
            let log = KafkaLog::connect(&kafka, &topics, 0, Arc::clone(&metrics));
            let log = watched(log.expect("a log"));
            let (metrics, asked) = (Arc::clone(&metrics), stop.clone());
            std::thread::spawn(move || {
                rig::shard(log, PARTITIONS, metrics, asked)
                    .run()
                    .expect("no failure");
            })
        };
        let producer = cluster
            .client()
            .set("partitioner", "murmur2_random")
            // The default of librdkafka and of the Java client, which pipelines use.
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "20000")
            .create_with_context(stages.clone())
            .expect("a producer");
        let handled: Box<dyn Fn() -> u64> = match runs {
            Runs::Bare => Box::new(move || counted.load(Ordering::Relaxed)),
            _ => Box::new(move || handled(&metrics)),
        };
        let mut site = Site {
            cluster,
            topics,
            handled,
            producer,
            stages,
            sent: 0,
            locked: 0,
        };
        let measured = measure(&mut site);
        stop.request(rig::STALLED);
        running.join().expect("no panic");
        measured
    }

    fn measure(&mut self, ordinary: &mut [Fresh]) -> Measured {
        for n in 0..2 * LOCKS {
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
        let half = self.lock_at(full / 2.0, ordinary);
        let fixed = self.lock_at(FIXED, ordinary);
        Measured { full, half, fixed }
    }

    /// Locks account after account while `rate` ordinary events a second go by.
    fn lock_at(&mut self, rate: f64, ordinary: &mut [Fresh]) -> Ways {
        self.stages.clear();
        let reading = AtomicBool::new(false);
        let (cluster, commands) = (self.cluster, self.topics.commands.clone());
        let (stages, locks) = (self.stages.clone(), self.locked..self.locked + LOCKS);
        std::thread::scope(|scope| {
            let (commands, reading, stages) = (&commands, &reading, &stages);
            let wanted = locks.end;
            let reader =
                scope.spawn(move || read_commands(cluster, commands, reading, stages, wanted));
            while !reading.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let began = Instant::now();
            let mut ordinary_sent = 0.0;
            while self.locked < locks.end {
                let elapsed = began.elapsed().as_secs_f64();
                let done = (self.locked - locks.start) as f64;
                if elapsed * LOCKS_PER_SECOND > done {
                    let name = account(self.locked);
                    self.stages.note(name.as_bytes(), Stage::Sent);
                    self.send(&name, &login(self.locked, "second", "200.160.2.3"));
                    self.locked += 1;
                }
                let due = elapsed * rate - ordinary_sent;
                if due >= 1.0 {
                    self.send_ordinary(ordinary, due as usize);
                    ordinary_sent += due.floor();
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            println!(
                "{:.0} of {rate:.0} events/s published",
                ordinary_sent / began.elapsed().as_secs_f64(),
            );
            reader.join().expect("no panic");
        });
        self.stages.print();
        Ways {
            published: self.stages.until_read(Stage::Sent),
            received: self.stages.until_read(Stage::Handed),
        }
    }

    fn send_ordinary(&mut self, ordinary: &mut [Fresh], count: usize) {
        let now = format!("{:.3}", jiff::Timestamp::now());
        for _ in 0..count {
            let n = self.sent;
            let event = &mut ordinary[n % ordinary.len()];
            event.renew(n, &now);
            let key = format!("u-{:07}", n % ordinary.len() % ACCOUNTS);
            self.send(&key, &ordinary[n % ordinary.len()].payload);
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
        while (self.handled)() < self.sent as u64 {
            assert!(Instant::now() < deadline, "{} handled", (self.handled)());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads, decides nothing, and commits what each event that would lock causes, through the
/// same log as a shard does.
fn bare_loop(mut log: Watched<Noted>, counted: &AtomicU64, stop: &Stop) {
    let mut batches = 0;
    while !stop.is_requested() {
        let mut transaction = Transaction::default();
        let (records, offsets) = (&mut transaction.records, &mut transaction.offsets);
        let mut seen = 0;
        log.poll(Duration::from_millis(100), &mut |record| {
            seen += 1;
            let key = record.key.unwrap_or_default();
            let payload = record.payload.unwrap_or_default();
            offsets.retain(|(partition, _)| *partition != record.partition);
            offsets.push((record.partition, record.offset + 1));
            if key.starts_with(stages::FOLLOWED) && payload.starts_with(br#"{"id":"second"#) {
                records.extend(lock(key, record.partition));
            }
        })
        .expect("records");
        counted.fetch_add(seen, Ordering::Relaxed);
        if !transaction.records.is_empty() {
            batches += 1;
            transaction.batch_id = format!("bare-{batches}");
            log.commit(&Arc::new(transaction)).expect("a commit");
        }
    }
    log.close();
}

/// As many records, as large, as a lock causes.
fn lock(account: &[u8], partition: i32) -> Vec<OutputRecord> {
    let record = |topic, bytes: usize, partition| OutputRecord {
        topic,
        key: account.to_vec(),
        payload: Some(vec![b'x'; bytes]),
        partition,
        headers: Vec::new(),
    };
    vec![
        record(OutputTopic::Commands, 500, None),
        record(OutputTopic::Decisions, 900, None),
        record(OutputTopic::Cases, 900, None),
        record(OutputTopic::Mail, 900, None),
        record(OutputTopic::State, 600, Some(partition)),
    ]
}

/// An event that can be sent again as another one: one that was seen before, or that is a week
/// old, changes no account.
struct Fresh {
    payload: Vec<u8>,
    id: usize,
    time: usize,
}

impl Fresh {
    fn new(payload: Vec<u8>) -> Fresh {
        let after = |name: &[u8]| {
            let at = memchr::memmem::find(&payload, name).expect("the field");
            at + name.len()
        };
        Fresh {
            id: after(br#""id":""#),
            time: after(br#""time":""#),
            payload,
        }
    }

    /// Makes it the event `number`, of the time `now`.
    fn renew(&mut self, number: usize, now: &str) {
        let id = format!("{number:016x}");
        self.payload[self.id..self.id + id.len()].copy_from_slice(id.as_bytes());
        self.payload[self.time..self.time + now.len()].copy_from_slice(now.as_bytes());
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

/// Notes each lock command's arrival, as a login pipeline reads them, until `wanted` came.
fn read_commands(
    cluster: &Cluster,
    topic: &str,
    reading: &AtomicBool,
    stages: &Stages,
    wanted: usize,
) {
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
    let mut seen = 0;
    // Connected to every partition before anything is measured.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        if consumer.poll(Duration::from_millis(100)).is_some() {
            seen += 1;
        }
    }
    reading.store(true, Ordering::Release);
    while seen < wanted {
        let message = consumer
            .poll(rig::STALLED)
            .expect("commands in time")
            .expect("no error");
        stages.note(message.key().expect("a key"), Stage::Read);
        seen += 1;
    }
}
