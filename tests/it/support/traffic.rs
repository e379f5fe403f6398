//! Steady traffic with planted attacks and their victims' answers, and a ledger of what the brokers acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use doorward::event::Timestamp;
use doorward::facts;
use doorward::generate::{Attack, Settings, Traffic, World};
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::kafka::{Cluster, Record};
use super::owners::Owners;
use super::{PATIENCE, eventually};

/// Events a second while it plays.
const RATE: f64 = 200.0;
/// An attack takes a minute or so of event time; a test has less of its own.
const FASTER: i64 = 8;
/// Between two attacks.
const ATTACK_EVERY: Duration = Duration::from_millis(100);
const ACCOUNTS: u32 = 20_000;
/// How far back the first event is, so that sped-up events never lie ahead of the broker.
const HEAD_START: Duration = Duration::from_secs(12 * 60 * 60);
const TICK: Duration = Duration::from_millis(10);

/// Somebody's login pipeline.
pub struct Pipeline {
    traffic: Traffic,
    topic: String,
    producer: ThreadedProducer<Ledger>,
    /// Event time that was played to so far.
    played: Timestamp,
    attacks: usize,
    owners: Owners,
    waiting: Option<doorward::generate::TrafficEvent>,
}

/// What was acknowledged, and what was not.
#[derive(Default)]
struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    acknowledged: BTreeMap<(i32, i64), String>,
    failed: Vec<String>,
}

impl ClientContext for Ledger {}

impl ProducerContext for Ledger {
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<String>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let place = (message.partition(), message.offset());
                entries.acknowledged.insert(place, *id);
            }
            Err((error, _)) => entries.failed.push(format!("{id}: {error}")),
        }
    }
}

impl Pipeline {
    /// A pipeline that writes to `topic`; the same seed has the same people and habits.
    pub fn new(cluster: &Cluster, topic: &str, seed: u64, owners: Owners) -> Pipeline {
        let facts = facts::load(&doorward::config::GeoIp::default(), None)
            .expect("the built-in facts")
            .facts;
        let world = World::new(seed, ACCOUNTS, &facts).expect("a database with networks");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock after 1970");
        let start = Timestamp((now - HEAD_START).as_millis() as i64);
        let settings = Settings {
            seed,
            start,
            per_second: RATE / FASTER as f64,
        };
        let producer = cluster
            .client()
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", "0")
            .create_with_context(Ledger::default())
            .expect("a producer");
        Pipeline {
            traffic: Traffic::new(world, settings),
            topic: topic.to_owned(),
            producer,
            played: start,
            attacks: 0,
            owners,
            waiting: None,
        }
    }

    /// Plays until `stop`, at the pace of the clock.
    pub fn play(&mut self, stop: &AtomicBool) {
        let (from, began) = (self.played, Instant::now());
        let mut next_attack = began + ATTACK_EVERY;
        while !stop.load(Ordering::Acquire) {
            let elapsed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            self.played = from.plus_ms(elapsed * FASTER);
            if Instant::now() >= next_attack {
                next_attack += ATTACK_EVERY;
                let attack = Attack::ALL[self.attacks % Attack::ALL.len()];
                // Nobody is left, or nobody has signed in yet.
                if self.traffic.attack(attack).is_some() {
                    self.attacks += 1;
                }
            }
            self.send_due();
            for answer in self.owners.answers() {
                self.send(&answer.account, &answer.id, &answer.payload);
            }
            std::thread::sleep(TICK);
        }
    }

    fn send_due(&mut self) {
        loop {
            let event = match self.waiting.take() {
                Some(event) => event,
                None => self.traffic.next().expect("traffic without end"),
            };
            if event.time > self.played {
                self.waiting = Some(event);
                return;
            }
            let payload = event.json().expect("JSON");
            self.send(&event.account, &event.id, &payload);
        }
    }

    /// Writes one event, keyed as a Java client would.
    pub fn send(&self, key: &str, id: &str, payload: &str) {
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new(id.to_owned()))
            .key(key)
            .payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(TICK);
                }
                Err((e, _)) => panic!("cannot write to {}: {e}", self.topic),
            }
        }
    }

    /// Attacks begun so far.
    pub fn attacks(&self) -> usize {
        self.attacks
    }

    /// Waits until everything is acknowledged; how many events that were.
    ///
    /// # Panics
    /// Where the brokers refused one.
    #[track_caller]
    pub fn settle(&self) -> usize {
        self.producer
            .flush(2 * PATIENCE)
            .expect("messages acknowledged");
        let entries = self.lock();
        assert!(entries.failed.is_empty(), "refused: {:?}", entries.failed);
        entries.acknowledged.len()
    }

    /// # Panics
    /// Where the topic, as it was read, lacks an event that was acknowledged.
    #[track_caller]
    pub fn assert_all_there(&self, records: &[Record]) {
        let there: BTreeMap<(i32, i64), &Record> = records
            .iter()
            .map(|record| ((record.partition, record.offset), record))
            .collect();
        for (place, id) in &self.lock().acknowledged {
            let found = there.get(place).map(|record| record.json());
            let found = found.as_ref().and_then(|event| event["id"].as_str());
            assert_eq!(found, Some(id.as_str()), "acknowledged at {place:?}");
        }
    }

    /// Waits until something more than what is there by now was acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self) {
        let before = self.lock().acknowledged.len();
        eventually("an acknowledged event", 2 * PATIENCE, || {
            (self.lock().acknowledged.len() > before).then_some(())
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        let ledger = self.producer.context();
        ledger
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
