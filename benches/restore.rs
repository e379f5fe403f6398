//! How long a million accounts take to come back from `doorward.state`, as `run` reads them
//! at its start, beside a reader that does nothing with the same records.
//!
//! Seven in ten are quiet, two hold a failed sign-in, one a run of second factors, and one in
//! a thousand an open case: a site on an ordinary day.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench restore`; `DOORWARD_BENCH_ACCOUNTS` sets how
//! many.

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

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::config::Topics;
use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition, Settings};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use doorward::log::KafkaLog;
use doorward::metrics::Metrics;
use doorward::shard::control::Stop;
use figures::figure;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use support::kafka::Cluster;

const PARTITIONS: i32 = 4;
const START_MS: i64 = 1_795_327_200_000;

fn main() {
    if figures::is_trial() {
        return;
    }
    let Some(cluster) = rig::broker() else { return };
    let accounts = std::env::var("DOORWARD_BENCH_ACCOUNTS").map_or(1_000_000, |text| {
        text.parse().expect("a number of accounts")
    });
    let topics = rig::make_topics(cluster, PARTITIONS, 1);
    let began = Instant::now();
    let bytes = fill(cluster, &topics, accounts);
    println!(
        "{accounts} records of {} bytes on average, written in {:.1} s",
        bytes / accounts,
        began.elapsed().as_secs_f64()
    );
    // The first reading warms the broker's page cache.
    read_bare(cluster, &topics.state, accounts);
    let bare = read_bare(cluster, &topics.state, accounts);
    let restored = restore(cluster, &topics, accounts);
    let millions = accounts as f64 / 1e6;
    figure(
        "restore, a million accounts (aim: 5 s at most)",
        &format!("{:.2} s", restored.as_secs_f64() / millions),
        &format!(
            "{:.2} times a reader that does nothing ({:.2} s)",
            restored.as_secs_f64() / bare.as_secs_f64(),
            bare.as_secs_f64() / millions
        ),
    );
}

/// Writes the state of `accounts` as the engine encodes it, and returns its bytes.
fn fill(cluster: &Cluster, topics: &Topics, accounts: usize) -> usize {
    let (engine, _) = figures::engine(PARTITIONS as u32, Settings::MAX_FORGETTABLE_BYTES);
    let producer: ThreadedProducer<DefaultProducerContext> = cluster
        .client()
        .set("linger.ms", "20")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "200000")
        .create()
        .expect("a producer");
    let mut bytes = 0;
    for n in 0..accounts {
        let (key, value) = record(&engine, n);
        bytes += key.len() + value.len();
        let mut record = Some(
            BaseRecord::<[u8], [u8]>::to(&topics.state)
                .partition((n % PARTITIONS as usize) as i32)
                .key(&key)
                .payload(&value),
        );
        while let Some(waiting) = record.take() {
            match producer.send(waiting) {
                Ok(()) => {}
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = Some(back);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
    producer.flush(rig::STALLED).expect("all written");
    bytes
}

/// The durable record of the `n`th account.
fn record(engine: &Engine, n: usize) -> (Vec<u8>, Vec<u8>) {
    let mut partition = Partition::default();
    let mut out = Outputs::default();
    let decoder = engine.rules().decoder();
    let event = |id: &str, kind: &str, outcome: &str, ip: &str| {
        format!(
            r#"{{"id":"01890a5d-ac96-774b-{id}-{n:012}","type":"{kind}","time":{START_MS},"account":"u-{n}","outcome":"{outcome}","ip":"{ip}","email":"u-{n}@example.org","session":"s-{n}"}}"#
        )
    };
    let mut told = vec![event("0000", "login", "success", "81.167.144.58")];
    match n % 1_000 {
        0 => told.push(event("0001", "login", "success", "200.160.2.3")),
        _ if n % 10 < 2 => told.push(event("0002", "login", "failure", "192.0.2.1")),
        _ if n % 10 < 3 => told.push(event("0003", "two_factor", "success", "81.167.144.58")),
        _ => {}
    }
    for (offset, line) in told.iter().enumerate() {
        let event = decoder
            .decode(line.as_bytes(), &mut Dropped::new())
            .expect("an event");
        let source = Source {
            partition: 0,
            offset: offset as i64,
        };
        engine.handle(
            &mut partition,
            &event,
            source,
            Timestamp(START_MS),
            &mut out,
        );
    }
    let key = out.changed[0];
    let value = engine.encode_state(&partition, key).expect("a record");
    (key.0.to_vec(), value)
}

/// A committed reader of the whole topic that looks at nothing.
fn read_bare(cluster: &Cluster, topic: &str, count: usize) -> Duration {
    let consumer: BaseConsumer = cluster
        .client()
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.min.messages", "100000")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    let began = Instant::now();
    consumer.assign(&list).expect("an assignment");
    for _ in 0..count {
        let message = consumer
            .poll(rig::STALLED)
            .expect("records in time")
            .expect("no error");
        std::hint::black_box(message.payload());
    }
    began.elapsed()
}

/// One shard that takes all partitions, from their assignment to the last one's start.
fn restore(cluster: &Cluster, topics: &Topics, accounts: usize) -> Duration {
    let kafka = rig::kafka_settings(cluster, true);
    let metrics = Arc::new(Metrics::new());
    let stop = Stop::new();
    let log = rig::Watched {
        log: KafkaLog::connect(&kafka, topics, 0, Arc::clone(&metrics)).expect("a log"),
        watch: rig::Counted {
            records_left: None,
            restores_left: Some(PARTITIONS as usize),
            stop: stop.clone(),
        },
    };
    let mut shard = rig::shard(log, PARTITIONS, Arc::clone(&metrics), stop);
    shard.run().expect("no failure");
    assert_eq!(
        metrics.state_accounts.get(),
        accounts as i64,
        "all are back"
    );
    let histogram = &metrics.state_restore_seconds;
    assert_eq!(histogram.get_sample_count(), PARTITIONS as u64);
    Duration::from_secs_f64(histogram.get_sample_sum())
}
