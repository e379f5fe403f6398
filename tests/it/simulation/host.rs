//! The processes: each with its shards, started, ended, killed and started again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use doorward::admin::Readiness;
use doorward::clock::Clock;
use doorward::deliver::Deliver;
use doorward::engine::{Engine, Settings};
use doorward::enrich::Facts;
use doorward::event::wire::{MacKey, MacKeys};
use doorward::log::LogError;
use doorward::metrics::Metrics;
use doorward::record::Provenance;
use doorward::rules::RuleSet;
use doorward::shard::control::{Pulse, Stop};
use doorward::shard::latest::{Knowledge, Latest};
use doorward::shard::{Parts, Shard, ShardError};
use doorward::sim::client::{DIED, SimClient};
use doorward::sim::clock::SimClock;
use doorward::sim::world::{Actor, ProcessId, World};

use super::START;
use super::bug::{Bug, LocalClock, PlantedClient, PlantedLog};
use crate::support::story::{lists, rule_set, settings};

/// The brokers' time-out for a transaction.
pub const TRANSACTION_MS: u64 = 5_000;

const RULES: [&str; 6] = [
    r"
schema: 1
id: wrong-codes
title: Three wrong codes in a row
severity: high
mode: enforce
when: { type: two_factor, outcome: failure }
by: account
detect:
  streak: { at_least: 3, max_gap: 24h, broken_by: [{ type: two_factor, outcome: success }] }
lock_budget: 1
then:
  - lock_account: { reason: second_factor_guessing, until: 15m }
  - email_user: { template: was_this_you }
cooldown: 5m
",
    r"
schema: 1
id: many-addresses
title: Wrong passwords from three addresses
severity: high
mode: enforce
when: { type: login, outcome: failure }
by: account
detect:
  distinct: { of: ip, at_least: 3, within: 5m }
then:
  - lock_account: { reason: credential_stuffing, scope: unfamiliar }
  - email_user: { template: was_this_you }
cooldown: 5m
",
    r"
schema: 1
id: new-country
title: A sign-in from a new country
severity: medium
mode: enforce
when: { type: login, outcome: success, country: { exists: true } }
by: account
detect:
  first_seen: { of: country, forget_after: 365d, learn: { events: 1 } }
then:
  - lock_account: { reason: new_country, until: 20m }
  - email_user: { template: was_this_you }
",
    r"
schema: 1
id: malicious-reset
title: A reset from an address on the list
severity: critical
mode: enforce
when: { type: password_reset, outcome: { not: cancelled }, ip: { in_list: malicious_ips } }
by: account
detect: each
then:
  - lock_account: { reason: reset_from_malicious_ip, scope: unfamiliar }
  - email_user: { template: was_this_you }
cooldown: 1h
lock_budget: 1
",
    r"
schema: 1
id: spraying
title: Wrong passwords for two accounts from one address
severity: low
mode: shadow
when: { type: login, outcome: failure }
by: ip
detect:
  distinct: { of: account, at_least: 2, within: 5m }
",
    r"
schema: 1
id: any-reset
title: A reset, which is asked about and locks nothing
severity: low
mode: enforce
when: { type: password_reset, outcome: { not: cancelled } }
by: account
detect: each
then:
  - email_user: { template: was_this_you }
",
];

/// A rule that no event matches. Where a process starts with it, it has the accounts' own
/// bytes, and what `new-country` knows stands in their boxes.
const NOBODY: &str = r"
schema: 1
id: another-country
title: A sign-in that nobody makes
severity: low
mode: shadow
when: { type: login, outcome: success, country: [NZ, AU] }
by: account
detect:
  first_seen: { of: country, forget_after: 365d, learn: { events: 1 } }
";

static SHARED: LazyLock<(Arc<RuleSet>, Arc<Facts>, Arc<Metrics>)> = LazyLock::new(|| {
    let facts = Facts {
        asn: None,
        lists: lists(),
        ..Facts::default()
    };
    (
        Arc::new(rule_set(&RULES)),
        Arc::new(facts),
        Arc::new(Metrics::new()),
    )
});

/// Decides as the first set does, and is another.
static OTHER: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    let texts: Vec<&str> = [NOBODY].into_iter().chain(RULES).collect();
    Arc::new(rule_set(&texts))
});

/// The other of the two, as the reloader of a process with `rules` would hand it out.
fn other_than(rules: &RuleSet) -> Arc<RuleSet> {
    match rules.hash() == OTHER.hash() {
        true => Arc::clone(&SHARED.0),
        false => {
            let texts: Vec<&str> = [NOBODY].into_iter().chain(RULES).collect();
            let mut other = rule_set(&texts);
            other.keep_residents_of(rules);
            Arc::new(other)
        }
    }
}

fn knowledge(rules: Arc<RuleSet>) -> Knowledge {
    Knowledge {
        rules,
        facts: Arc::clone(&SHARED.1),
        provenance: provenance(),
    }
}

/// The keys that sign answers.
pub fn answer_keys() -> MacKeys {
    MacKeys(vec![MacKey {
        id: "a".into(),
        bytes: vec![7; 32],
    }])
}

fn settings_of(partitions: i32) -> Settings {
    Settings {
        partitions: partitions.unsigned_abs(),
        answer_keys: Some(answer_keys()),
        ..settings()
    }
}

pub fn engine(partitions: i32) -> Engine {
    let settings = settings_of(partitions);
    Engine::new(Arc::clone(&SHARED.0), Arc::clone(&SHARED.1), settings)
}

pub fn provenance() -> Provenance {
    Provenance {
        topic: "auth.events".into(),
        ..Provenance::default()
    }
}

/// One process.
pub struct Host {
    pub name: String,
    pub process: ProcessId,
    stop: Stop,
    /// The rules that its shards take over.
    latest: Latest,
    /// Whether it should run: one that was not asked to end is started again.
    pub wanted: bool,
}

/// All processes, and what went wrong with them.
pub struct Hosts {
    world: World,
    bug: Option<Bug>,
    partitions: i32,
    shards: usize,
    pub all: Vec<Host>,
    starts: usize,
    pub complaints: Vec<String>,
    /// Names that two processes have at once, so that one is fenced.
    pub twins: Vec<String>,
}

pub type SharedHosts = Rc<RefCell<Hosts>>;

impl Hosts {
    pub fn new(world: &World, partitions: i32, shards: usize, bug: Option<Bug>) -> SharedHosts {
        Rc::new(RefCell::new(Hosts {
            world: world.clone(),
            bug,
            partitions,
            shards,
            all: Vec::new(),
            starts: 0,
            complaints: Vec::new(),
            twins: Vec::new(),
        }))
    }

    fn start_process(
        &mut self,
        this: &SharedHosts,
        name: &str,
        rules: Arc<RuleSet>,
    ) -> (ProcessId, Stop, Latest) {
        self.starts += 1;
        let latest = Latest::new(knowledge(rules));
        let world = &self.world;
        let process = world.add_process();
        let stop = Stop::new();
        world.note(|| format!("{name} starts as process {process}"));
        let readiness = Readiness::new();
        for shard in 0..self.shards {
            let id = format!("doorward-{name}-{shard}");
            let client = SimClient::new(world, process, world.next_actor(), id);
            let member = client.member();
            let timeout = Duration::from_millis(TRANSACTION_MS);
            let deliver = Deliver::new(true, timeout, Arc::clone(&SHARED.2));
            let client = PlantedClient::new(client, self.bug);
            let log = client.log(SimClock::of(process), deliver);
            let clock: Box<dyn Clock> = match self.bug {
                Some(Bug::LocalClock) => Box::new(LocalClock {
                    inner: SimClock::of(process),
                    start: START,
                }),
                _ => Box::new(SimClock::of(process)),
            };
            let parts = Parts {
                shard,
                batch_prefix: format!("{name}-{}", self.starts),
                latest: latest.clone(),
                settings: settings_of(self.partitions),
                commit_every: Duration::from_secs(1),
                commit_accounts: 100,
                metrics: Arc::clone(&SHARED.2),
                readiness: readiness.clone(),
                clock,
                stop: stop.clone(),
                pulse: Pulse::new(),
            };
            let actor = ShardActor {
                shard: Some(Shard::new(log, parts)),
                process,
                member,
                name: name.to_owned(),
                stop: stop.clone(),
                hosts: Rc::clone(this),
            };
            world.add_actor(Box::new(actor), world.now() + 1);
        }
        (process, stop, latest)
    }
}

/// Starts one more process; returns its number among all.
pub fn add(hosts: &SharedHosts, name: String) -> usize {
    let mut of = hosts.borrow_mut();
    let rules = Arc::clone(&SHARED.0);
    let (process, stop, latest) = of.start_process(hosts, &name, rules);
    of.all.push(Host {
        name,
        process,
        stop,
        latest,
        wanted: true,
    });
    of.all.len() - 1
}

/// Starts a process anew under its own name, unless it lives.
pub fn start_again(hosts: &SharedHosts, host: usize) {
    let mut of = hosts.borrow_mut();
    let is_gone = of.world.is_dead(of.all[host].process) || of.all[host].stop.is_requested();
    if !of.all[host].wanted || !is_gone {
        return;
    }
    // Whoever was asked to end and did not is ended before another takes its place.
    of.world.kill(of.all[host].process);
    let name = of.all[host].name.clone();
    // It reads the files that its predecessor took over.
    let is_other = of.all[host].latest.get().rules.hash() == OTHER.hash();
    let rules = Arc::clone(if is_other { &OTHER } else { &SHARED.0 });
    let (process, stop, latest) = of.start_process(hosts, &name, rules);
    let of = &mut of.all[host];
    (of.process, of.stop, of.latest) = (process, stop, latest);
}

/// Hands a process the other rule set.
pub fn reload(hosts: &SharedHosts, host: usize) {
    let of = hosts.borrow();
    let (world, host) = (&of.world, &of.all[host]);
    let other = other_than(&host.latest.get().rules);
    world.note(|| format!("{} takes over the rule set {}", host.name, other.hash()));
    host.latest.publish(knowledge(other));
}

/// Asks a process to end.
pub fn stop(hosts: &SharedHosts, host: usize) {
    let of = hosts.borrow();
    of.world
        .note(|| format!("{} is asked to end", of.all[host].name));
    of.all[host].stop.request(Duration::from_secs(3_600));
}

struct ShardActor {
    shard: Option<Shard<PlantedLog>>,
    process: ProcessId,
    member: usize,
    name: String,
    stop: Stop,
    hosts: SharedHosts,
}

impl Actor for ShardActor {
    fn step(&mut self, world: &World) -> Option<u64> {
        if world.is_dead(self.process) {
            self.shard = None;
            return None;
        }
        if let Some(until) = world.frozen_until(self.process) {
            return Some(until);
        }
        let shard = self.shard.as_mut()?;
        // Whoever waits for an attempt that waits further down the stack waits in vain.
        let ends = self.stop.is_requested() && !shard.is_committing();
        let outcome = if ends { shard.run() } else { shard.turn() };
        match outcome {
            Ok(()) if ends => {
                world.note(|| format!("a shard of {} ended", self.name));
                self.shard = None;
                None
            }
            Ok(()) => Some(world.resume_at(self.member).unwrap_or(0)),
            Err(error) => {
                self.shard = None;
                self.ended(world, &error);
                None
            }
        }
    }
}

impl ShardActor {
    /// One shard's end by an error is the whole process' end.
    fn ended(&self, world: &World, error: &ShardError) {
        if matches!(error, ShardError::Log(LogError::Fatal(why)) if why == DIED) {
            return;
        }
        world.note(|| format!("a shard of {} ends: {error}", self.name));
        world.kill(self.process);
        let mut hosts = self.hosts.borrow_mut();
        let expected = match error {
            ShardError::Log(LogError::Fenced(_)) => hosts.twins.contains(&self.name),
            // While time leapt or the process stood still nothing moved.
            ShardError::Log(LogError::Stalled(_)) => true,
            _ => false,
        };
        if expected {
            return;
        }
        hosts
            .complaints
            .push(format!("a shard of {} ended: {error}", self.name));
    }
}
