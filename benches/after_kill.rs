//! How long a reader of committed commands waits after an instance of doorward was killed.
//!
//! Three brokers, two instances of two shards, a steady stream of accounts that must be
//! locked. One instance gets SIGKILL in the middle of its work; what is measured is the
//! longest time from an event's acknowledgement until its lock is seen by a `read_committed`
//! reader. Two things hold it back: partitions that nobody reads before the dead member's
//! session ends, and a transaction left open, past which no reader of its partitions sees.
//! With the same instance back at once, its transactional id ends that transaction; without,
//! the broker's sweep does.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench after_kill` (`make services` installs the jars);
//! `DOORWARD_BENCH_KILLS` sets how often each way is tried, 5 by default.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

#[path = "../tests/it/support.rs"]
mod support;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;
use support::doorward::Doorward;
use support::eventually;
use support::kafka::{self, Cluster};

const PARTITIONS: i32 = 12;
/// Accounts to be locked a second.
const RATE: u32 = 50;
/// How long the stream goes on after a kill.
const AFTER: Duration = Duration::from_secs(25);
/// How long the stream has gone on before.
const BEFORE: Duration = Duration::from_secs(4);
/// Everything must have been seen by then.
const AT_LAST: Duration = Duration::from_secs(90);

/// When each account's event was sent, and when its lock was seen.
#[derive(Default)]
struct Times {
    /// What the names of this run's accounts begin with.
    prefix: String,
    sent: Mutex<Vec<(String, Instant)>>,
    seen: Mutex<HashMap<String, Instant>>,
    stop_sending: AtomicBool,
    stop_reading: AtomicBool,
}

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let Some(cluster) = kafka::start_cluster(3) else {
        println!(
            "no Kafka: `make services` installs one; then set DOORWARD_KAFKA_LIB to the folder \
             of its jars"
        );
        return;
    };
    let kills: usize = std::env::var("DOORWARD_BENCH_KILLS")
        .map_or(5, |text| text.parse().expect("a number of kills"));
    let first = Doorward::new(&cluster, "shards = 2");
    first.create_topics(PARTITIONS);
    first.lift_lock_budgets();
    let brokers = cluster.bootstrap();
    let mut instances = [
        first.sibling("one", &brokers),
        first.sibling("two", &brokers),
    ];
    for instance in &mut instances {
        // As it is by default.
        instance.reconfigure("session_timeout = \"6s\"\n", "");
        instance.start();
    }
    for instance in &mut instances {
        instance.wait_until_ready();
    }
    println!(
        "SIGKILL of one of two instances: the longest wait for a command, and the median of \
         all that were due within {AFTER:?}"
    );
    for (name, back) in [("back at once", true), ("not back", false)] {
        let mut longest = Vec::new();
        for kill in 0..kills {
            let waits = measure(&cluster, &mut instances, kill, back);
            let (last, middle) = (waits[waits.len() - 1], waits[waits.len() / 2]);
            println!(
                "{name:>12}: {:6.2} s, median {:6.1} ms",
                last.as_secs_f64(),
                middle.as_secs_f64() * 1e3
            );
            longest.push(last);
        }
        longest.sort();
        println!(
            "{name:>12}: between {:.2} and {:.2} s, median {:.2} s",
            longest[0].as_secs_f64(),
            longest[kills - 1].as_secs_f64(),
            longest[kills / 2].as_secs_f64()
        );
    }
}

/// Kills an instance amid the stream; the waits of all commands from then on, sorted.
fn measure(
    cluster: &Cluster,
    instances: &mut [Doorward; 2],
    kill: usize,
    back: bool,
) -> Vec<Duration> {
    let times = Times {
        prefix: format!("{}-{kill}-", if back { "back" } else { "gone" }),
        ..Times::default()
    };
    let (events, commands) = (instances[0].topic("events"), instances[0].topic("commands"));
    let killed = std::thread::scope(|scope| {
        scope.spawn(|| read(cluster, &commands, &times));
        scope.spawn(|| send(cluster, &events, &times));
        std::thread::sleep(BEFORE);
        let victim = &mut instances[kill % 2];
        victim.kill();
        let killed = Instant::now();
        if back {
            victim.start();
        }
        std::thread::sleep(AFTER);
        times.stop_sending.store(true, Ordering::Release);
        eventually("every lock", AT_LAST, || {
            let sent = times.sent.lock().unwrap().len();
            (times.seen.lock().unwrap().len() == sent).then_some(())
        });
        times.stop_reading.store(true, Ordering::Release);
        if !back {
            victim.start();
        }
        killed
    });
    for instance in instances {
        instance.wait_until_ready();
    }
    let seen = times.seen.lock().unwrap();
    let sent = times.sent.lock().unwrap();
    let mut waits: Vec<Duration> = sent
        .iter()
        .map(|(account, at)| (seen[account], *at))
        .filter(|(seen, _)| *seen >= killed)
        .map(|(seen, at)| seen.saturating_duration_since(at))
        .collect();
    waits.sort();
    waits
}

/// Password resets from an address in the list of malicious ones, each for another account:
/// one event, one lock.
fn send(cluster: &Cluster, topic: &str, times: &Times) {
    for number in 0.. {
        if times.stop_sending.load(Ordering::Acquire) {
            return;
        }
        let account = format!("{}{number}", times.prefix);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock after 1970");
        let event = json!({
            "id": format!("e-{account}"), "type": "password_reset", "outcome": "requested",
            "time": now.as_millis() as u64, "account": account, "ip": "198.51.100.7",
        });
        cluster.produce(topic, [(account.as_str(), event.to_string().as_str())]);
        times.sent.lock().unwrap().push((account, Instant::now()));
        std::thread::sleep(Duration::from_secs(1) / RATE);
    }
}

/// Notes when each lock is seen.
fn read(cluster: &Cluster, topic: &str, times: &Times) {
    let reader: BaseConsumer = cluster
        .client()
        .set("group.id", "after-kill")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a valid offset");
    }
    reader.assign(&all).expect("an assignment");
    while !times.stop_reading.load(Ordering::Acquire) {
        let Some(Ok(message)) = reader.poll(Duration::from_millis(50)) else {
            continue;
        };
        let account = String::from_utf8_lossy(message.key().expect("a key")).into_owned();
        if account.starts_with(&times.prefix) {
            let mut seen = times.seen.lock().unwrap();
            seen.entry(account).or_insert_with(Instant::now);
        }
    }
}
