//! Three brokers, two instances of two shards each, steady traffic: a stage on which
//! something fails, with the oracle at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use doorward::config::written;
use doorward::document::Diagnostics;
use doorward::engine::{Engine, Settings};
use doorward::event::Timestamp;
use doorward::facts::{self, Folder};
use doorward::link::mac_keys;
use doorward::log::{InputRecord, OutputTopic};
use doorward::rules::RuleSet;

use super::doorward::Doorward;
use super::eventually;
use super::kafka::{Cluster, Record, start_cluster_with_doors};
use super::oracle::{Oracle, Seen};
use super::owners::Owners;
use super::traffic::Pipeline;

pub const BROKERS: usize = 3;
pub const INSTANCES: usize = 2;
pub const SHARDS: usize = 2;
pub const PARTITIONS: i32 = 6;

/// How long the system may take to catch up after a failure: a session that must end, a
/// rebalance, a restore and the broker's own recovery come one after the other.
const RECOVERY: Duration = Duration::from_secs(90);

/// A cluster for a stage; `None` (and a printed line) where no Kafka is installed. Each
/// instance has a door of its own.
pub fn cluster() -> Option<Cluster> {
    start_cluster_with_doors(BROKERS, INSTANCES)
}

/// The system at work.
pub struct Stage {
    pipeline: Pipeline,
    /// Answers that owners gave so far.
    answers: Arc<AtomicUsize>,
    /// Goes on where it ended at the last look.
    oracle: Oracle,
    pub scene: Scene,
}

/// What a failure may touch while the traffic goes on.
pub struct Scene {
    // Before the cluster, so that they end first.
    pub instances: Vec<Doorward>,
    pub cluster: Cluster,
}

impl Stage {
    /// Topics of its own on `cluster`, and everything running.
    pub fn new(cluster: Cluster, seed: u64) -> Stage {
        let engine = format!("shards = {SHARDS}\ncommit_every = \"200ms\"");
        let first = Doorward::new(&cluster, &engine);
        first.create_topics(PARTITIONS);
        let mut instances: Vec<Doorward> = (0..INSTANCES)
            .map(|at| first.sibling(&format!("i{at}"), &cluster.door(at).bootstrap()))
            .collect();
        for instance in &mut instances {
            // Acts follow each other for minutes, and once the rules had spent what they may
            // lock in five, no case came any more that an owner could answer.
            instance.lift_lock_budgets();
            instance.start();
        }
        let (config, _) = written::read(&instances[0].config(), &|name| std::env::var(name).ok());
        let config = config.expect("a configuration without mistakes");
        let keys = mac_keys(&config.keys.answer);
        let owners = Owners::new(&cluster, &first.topic("cases"), PARTITIONS, keys);
        let answers = owners.answered();
        let pipeline = Pipeline::new(&cluster, &first.topic("events"), seed, owners);
        let mut scene = Scene { instances, cluster };
        scene.wait_until_ready();
        let oracle = oracle_of(&scene.instances[0].config());
        Stage {
            pipeline,
            answers,
            oracle,
            scene,
        }
    }

    /// Lets `failure` happen while traffic flows, on until an owner has answered since.
    pub fn during_traffic<T>(&mut self, failure: impl FnOnce(&mut Scene) -> T) -> T {
        let stop = AtomicBool::new(false);
        let (pipeline, scene) = (&mut self.pipeline, &mut self.scene);
        let answers = || self.answers.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            // However `failure` ends, the traffic does.
            let _stop = Stopper(&stop);
            scope.spawn(|| pipeline.play(&stop));
            std::thread::sleep(WARM_UP);
            let told = failure(scene);
            let before = answers();
            eventually("an owner's answer", RECOVERY, || {
                (answers() > before).then_some(())
            });
            told
        })
    }

    /// Waits until every event is handled and everything is ready, and has the oracle
    /// compare. Returns how many events and commands there were.
    #[track_caller]
    pub fn assert_nothing_lost_nothing_twice(&mut self, what: &str) -> (usize, usize) {
        let acknowledged = self.pipeline.settle();
        let site = &self.scene.instances[0];
        let (topic, group) = (site.topic("events"), site.prefix.clone());
        let cluster = &self.scene.cluster;
        let events = cluster.read_committed(&topic);
        self.pipeline.assert_all_there(&events);
        let ends = ends(&events);
        eventually(&format!("every event handled, {what}"), RECOVERY, || {
            let done = cluster.committed(&group, &topic)?;
            let behind = |(partition, end): (&i32, &i64)| done.get(partition) < Some(end);
            (!ends.iter().any(behind)).then_some(())
        });
        self.scene.wait_until_ready();
        self.oracle.read_on(&events);
        let seen = self.scene.outputs();
        self.oracle.assert_agrees(what, &seen);
        assert!(events.len() >= acknowledged, "{what}");
        (
            self.oracle.events(),
            self.oracle.count(OutputTopic::Commands),
        )
    }

    pub fn attacks(&self) -> usize {
        self.pipeline.attacks()
    }

    /// Answers that owners gave so far.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Ends the instances and hands the cluster back.
    pub fn end(mut self) -> Cluster {
        for instance in &mut self.scene.instances {
            assert!(instance.terminate().success());
        }
        self.scene.cluster
    }
}

/// Traffic before a failure.
const WARM_UP: Duration = Duration::from_millis(1_500);

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Scene {
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        for instance in &mut self.instances {
            instance.wait_until_ready_for(RECOVERY);
        }
    }

    /// What each instance holds.
    pub fn memory_kib(&self) -> Vec<u64> {
        let held = self.instances.iter().map(Doorward::resident_kib);
        held.map(|held| held.expect("a running process")).collect()
    }

    /// The topic that plays `role`.
    pub fn topic(&self, role: &str) -> String {
        self.instances[0].topic(role)
    }

    /// Everything that a reader of committed records sees in the output topics.
    pub fn outputs(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (role, topic) in [
            ("commands", OutputTopic::Commands),
            ("decisions", OutputTopic::Decisions),
            ("cases", OutputTopic::Cases),
            ("mail", OutputTopic::Mail),
            ("dead_letters", OutputTopic::DeadLetters),
        ] {
            let records = self.cluster.read_committed(&self.topic(role));
            seen.extend(records.into_iter().map(|record| Seen {
                topic,
                place: Some((record.partition, record.offset)),
                key: record.key.unwrap_or_default(),
                payload: record.payload,
                headers: record.headers,
            }));
        }
        seen
    }
}

/// The offset after the last record of each partition.
fn ends(records: &[Record]) -> BTreeMap<i32, i64> {
    let mut ends = BTreeMap::new();
    for record in records {
        ends.insert(record.partition, record.offset + 1);
    }
    ends
}

/// The oracle with rules, lists, database and keys of the configuration at `config`.
fn oracle_of(config: &Path) -> Oracle {
    let (config, mut found) = written::read(config, &|name| std::env::var(name).ok());
    let config = config.expect("a configuration without mistakes");
    let files = Folder(config.rules_dir.clone()).rule_files(&mut found);
    let loaded =
        facts::load(&config.geoip, config.rules_dir.as_deref()).expect("lists without mistakes");
    let mut found = Diagnostics::default();
    let rules = RuleSet::load(&files, &loaded.facts.lists, &mut found);
    let rules = rules.expect("rules without mistakes");
    let provenance = loaded.provenance(&config.topics.events, rules.hash());
    let settings = Settings {
        max_lateness_ms: config.engine.max_lateness.as_millis() as i64,
        act_within_ms: config.engine.act_within.as_millis() as i64,
        link_valid_ms: config.web.link_valid.as_millis() as i64,
        partitions: PARTITIONS as u32,
        max_forgettable_bytes: config.engine.memory_bytes / PARTITIONS as usize,
        state_key: config.keys.state,
        answer_keys: Some(mac_keys(&config.keys.answer)),
    };
    let engine = Engine::new(Arc::new(rules), Arc::new(loaded.facts), settings);
    Oracle::new(engine, provenance)
}

impl Oracle {
    /// Takes what of a whole log it has not taken before.
    fn read_on(&mut self, events: &[Record]) {
        for record in events {
            if record.offset < self.next_offset(record.partition) {
                continue;
            }
            self.read(InputRecord {
                partition: record.partition,
                offset: record.offset,
                broker_time: Timestamp(record.timestamp_ms),
                key: record.key.as_deref(),
                payload: record.payload.as_deref(),
            });
        }
    }
}
