//! The loop on a log in memory: whatever happens to a commit, each event has its effects
//! exactly once.

mod first;

use std::sync::Arc;
use std::time::Duration;

use doorward::admin::Readiness;
use doorward::document::Diagnostics;
use doorward::engine::Settings;
use doorward::enrich::Facts;
use doorward::enrich::iplist::Lists;
use doorward::event::Timestamp;
use doorward::facts::Folder;
use doorward::log::{LogError, OutputTopic};
use doorward::metrics::Metrics;
use doorward::record::Provenance;
use doorward::rules::RuleSet;
use doorward::shard::control::{Pulse, Stop};
use doorward::shard::latest::{Knowledge, Latest};
use doorward::shard::{Parts, Shard, ShardError};
use serde_json::json;

use crate::support::scripted::clock::SimClock;
use crate::support::scripted::{CRASHED, Fault, SimBroker, SimLog};

const START: Timestamp = Timestamp(1_795_327_200_000);

/// A broker, and the process that reads it at the moment.
struct World {
    broker: SimBroker,
    clock: SimClock,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    stop: Stop,
    rules: Arc<RuleSet>,
    process: Option<Shard<SimLog>>,
    /// How often commits of later processes must be asked for.
    slow: u32,
    /// Changed accounts after which later processes read nothing before those are on their way.
    commit_accounts: usize,
    starts: usize,
    events: usize,
}

impl World {
    fn new(partitions: usize) -> World {
        let lists = Lists::from_entries(&[("malicious_ips", &[]), ("anonymizers", &[])])
            .expect("two empty lists");
        let mut found = Diagnostics::default();
        let files = Folder(None).rule_files(&mut found);
        let rules = RuleSet::load(&files, &lists, &mut found).expect("the shipped rules");
        World {
            broker: SimBroker::new(partitions, START),
            clock: SimClock::new(START),
            readiness: Readiness::new(),
            metrics: Arc::new(Metrics::new()),
            stop: Stop::new(),
            rules: Arc::new(rules),
            process: None,
            slow: 0,
            commit_accounts: 100,
            starts: 0,
            events: 0,
        }
    }

    /// Starts a process; the one before it, if any, is gone as after a crash.
    fn start(&mut self) {
        self.process = None;
        self.broker.expel_all();
        let mut log = self.broker.join();
        log.slow = self.slow;
        self.process = Some(self.shard(log));
    }

    fn shard(&mut self, log: SimLog) -> Shard<SimLog> {
        self.starts += 1;
        let settings = Settings {
            max_lateness_ms: 300_000,
            act_within_ms: 86_400_000,
            link_valid_ms: 86_400_000,
            partitions: 4,
            max_forgettable_bytes: 1024 * 1024,
            state_key: [7; 16],
            answer_keys: None,
        };
        let parts = Parts {
            shard: 0,
            batch_prefix: format!("process-{}", self.starts),
            latest: Latest::new(Knowledge {
                rules: Arc::clone(&self.rules),
                facts: Arc::new(Facts::default()),
                provenance: Provenance {
                    topic: "auth.events".into(),
                    ..Provenance::default()
                },
            }),
            settings,
            commit_every: Duration::from_secs(1),
            commit_accounts: self.commit_accounts,
            metrics: Arc::clone(&self.metrics),
            readiness: self.readiness.clone(),
            clock: Box::new(self.clock.clone()),
            stop: self.stop.clone(),
            pulse: Pulse::new(),
        };
        Shard::new(log, parts)
    }

    /// Some turns of the loop, a tenth of a second each; starts again after each crash.
    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.clock.advance(Duration::from_millis(100));
            let process = self.process.as_mut().expect("a process");
            match process.turn() {
                Ok(()) => {}
                Err(ShardError::Log(LogError::Fatal(why))) if why == CRASHED => {
                    self.start();
                }
                Err(error) => panic!("the shard ended: {error}"),
            }
        }
    }

    fn event(&mut self, partition: i32, account: &str, fields: serde_json::Value) {
        self.events += 1;
        let mut event = json!({
            "id": format!("event-{}", self.events),
            "time": START.0 + self.events as i64,
            "account": account,
        });
        for (name, value) in fields.as_object().expect("an object") {
            event[name] = value.clone();
        }
        let payload = event.to_string();
        self.broker.produce(
            partition,
            Some(account.as_bytes()),
            Some(payload.as_bytes()),
        );
    }

    fn failed_second_factor(&mut self, partition: i32, account: &str) {
        let fields = json!({"type": "two_factor", "outcome": "failure"});
        self.event(partition, account, fields);
    }

    /// Five failures in a row, which lock.
    fn attack(&mut self, partition: i32, account: &str) {
        for _ in 0..5 {
            self.failed_second_factor(partition, account);
        }
    }

    /// Ada is locked, her command is on its way, and ben's attack is decided meanwhile.
    fn amid_a_commit(first: Option<Fault>) -> World {
        let mut world = World::new(2);
        world.slow = 4;
        world.broker.script([first]);
        world.start();
        world.attack(0, "ada");
        world.turns(3);
        world.attack(1, "ben");
        world.turns(1);
        let process = world.process.as_ref().expect("a process");
        assert!(process.is_committing());
        world
    }

    /// Accounts in the order in which they were locked.
    fn locked(&self) -> Vec<String> {
        let commands = self.broker.output(OutputTopic::Commands);
        commands
            .iter()
            .map(|record| String::from_utf8_lossy(&record.key).into_owned())
            .collect()
    }
}

#[test]
fn a_crash_before_or_after_a_commit_neither_loses_a_lock_nor_repeats_one() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for at in 0..4 {
            let mut world = World::new(2);
            let mut script = vec![None; at];
            script.push(Some(fault));
            world.broker.script(script);
            world.start();
            for (round, account) in ["ada", "bo", "cy", "di"].iter().enumerate() {
                world.attack(round as i32 % 2, account);
                world.turns(12);
            }
            world.turns(20);
            assert_eq!(
                world.locked(),
                ["ada", "bo", "cy", "di"],
                "{fault:?} at commit {at}"
            );
        }
    }
}

#[test]
fn an_unclear_commit_is_found_out_and_not_sent_again() {
    for fault in [Fault::Unclear, Fault::Unavailable] {
        let mut world = World::new(1);
        world.broker.script([Some(fault), Some(fault)]);
        world.start();
        world.attack(0, "ada");
        world.turns(20);
        assert_eq!(world.locked(), ["ada"], "{fault:?}");
        assert!(world.readiness.is_ready());
    }
}

#[test]
fn a_streak_of_three_before_a_crash_and_two_after_locks_once() {
    let mut world = World::new(1);
    world.start();
    for _ in 0..3 {
        world.failed_second_factor(0, "patient");
    }
    world.turns(20);
    assert_eq!(world.broker.committed(0), Some(3));
    assert!(world.locked().is_empty());

    world.start();
    for _ in 0..2 {
        world.failed_second_factor(0, "patient");
    }
    world.turns(20);
    assert_eq!(world.locked(), ["patient"]);
}

#[test]
fn state_is_written_once_an_account_however_often_it_changed() {
    let mut world = World::new(1);
    world.start();
    world.turns(2);
    for _ in 0..4 {
        world.failed_second_factor(0, "ada");
        world.failed_second_factor(0, "bo");
    }
    world.turns(20);
    assert_eq!(world.broker.output(OutputTopic::State).len(), 2);
    assert_eq!(world.broker.state_of(0).len(), 2);
}

#[test]
fn an_event_that_changes_nothing_writes_nothing_but_its_offset() {
    let mut world = World::new(1);
    world.start();
    world.event(0, "ada", json!({"type": "session_revoked"}));
    world.turns(20);
    assert_eq!(world.broker.committed(0), Some(1));
    for topic in [OutputTopic::State, OutputTopic::Commands] {
        assert!(world.broker.output(topic).is_empty(), "{topic:?}");
    }
}

#[test]
fn what_is_no_event_goes_to_the_dead_letters_and_the_stream_goes_on() {
    let mut world = World::new(1);
    world.broker.script([Some(Fault::CrashAfter)]);
    world.start();
    let huge = vec![b'x'; 2_000_000];
    for payload in [Some(&b"{\"id\":"[..]), Some(&huge), None] {
        world.broker.produce(0, Some(b"who"), payload);
    }
    world.attack(0, "ada");
    world.turns(20);
    let letters = world.broker.output(OutputTopic::DeadLetters);
    assert_eq!(letters.len(), 3);
    for (offset, letter) in letters.iter().enumerate() {
        let header = |name| {
            let found = letter.headers.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(header("doorward.topic"), Some("auth.events"));
        assert_eq!(header("doorward.partition"), Some("0"));
        assert_eq!(header("doorward.offset"), Some(&*offset.to_string()));
        assert!(header("doorward.reason").is_some_and(|reason| !reason.is_empty()));
        assert!(letter.payload.as_ref().is_some_and(|p| p.len() < 1_000_000));
    }
    assert_eq!(world.locked(), ["ada"]);
}

#[test]
fn a_revoked_partition_is_committed_and_another_member_goes_on_where_it_ended() {
    let mut world = World::new(1);
    let first = world.broker.join();
    let mut first_shard = world.shard(first);
    for _ in 0..3 {
        world.failed_second_factor(0, "patient");
    }
    for _ in 0..4 {
        first_shard.turn().expect("a turn");
    }
    assert_eq!(world.broker.committed(0), None, "nothing is urgent yet");
    world.broker.revoke_all(false);
    first_shard.turn().expect("a turn");
    assert_eq!(world.broker.committed(0), Some(3));

    world.start();
    world.failed_second_factor(0, "patient");
    world.failed_second_factor(0, "patient");
    world.turns(20);
    assert_eq!(world.locked(), ["patient"]);
}

#[test]
fn what_a_lost_partition_had_not_committed_is_done_by_its_next_owner_alone() {
    let mut world = World::new(1);
    world.broker.script([Some(Fault::Lost)]);
    world.start();
    world.attack(0, "ada");
    world.turns(5);
    assert!(world.locked().is_empty());
    world.start();
    world.turns(20);
    assert_eq!(world.locked(), ["ada"]);
}

#[test]
fn the_next_batch_grows_while_one_is_on_its_way_and_leaves_after_it() {
    for fault in [None, Some(Fault::Unavailable), Some(Fault::Unclear)] {
        let mut world = World::amid_a_commit(fault);
        assert_eq!(world.broker.committed(1), None, "ben's waits");
        world.turns(20);
        assert_eq!(world.locked(), ["ada", "ben"], "{fault:?}");
        assert_eq!(world.broker.committed(1), Some(5));
    }
}

#[test]
fn who_must_give_a_partition_up_first_commits_what_is_on_its_way_and_what_grew() {
    for fault in [None, Some(Fault::Unavailable), Some(Fault::Unclear)] {
        let mut world = World::amid_a_commit(fault);
        world.broker.revoke_all(false);
        world.turns(20);
        assert_eq!(world.locked(), ["ada", "ben"], "{fault:?}");
        assert!(world.broker.owned().is_empty(), "{fault:?}");
    }
}

#[test]
fn partitions_lost_amid_a_commit_drop_out_of_it_and_of_what_grew() {
    let mut world = World::amid_a_commit(Some(Fault::Unavailable));
    world.broker.revoke_all(true);
    world.turns(20);
    assert!(world.locked().is_empty());
    world.start();
    world.turns(20);
    assert_eq!(world.locked(), ["ada", "ben"]);
}

#[test]
fn who_is_to_stop_amid_a_commit_ends_with_everything_committed() {
    let mut world = World::amid_a_commit(None);
    world.stop.request(Duration::from_secs(60));
    let process = world.process.as_mut().expect("a process");
    process.run().expect("an orderly end");
    assert_eq!(world.locked(), ["ada", "ben"]);
}

#[test]
fn two_full_batches_are_all_that_is_in_memory() {
    let mut world = World::new(1);
    world.slow = 50;
    world.start();
    for n in 0..3_000 {
        world.failed_second_factor(0, &format!("user-{n}"));
    }
    world.turns(20);
    let log_end = 3_000;
    let handled = log_end - world.metrics.consumer_lag.with_label_values(&["0"]).get();
    assert!((100..=1_500).contains(&handled), "{handled} handled");
    world.turns(1_000);
    assert_eq!(world.broker.committed(0), Some(log_end));
}

#[test]
fn a_log_that_was_away_for_a_while_costs_time_and_nothing_else() {
    let mut world = World::new(1);
    world.start();
    world.turns(5);
    world.broker.script(vec![Some(Fault::Unavailable); 8]);
    world.attack(0, "ada");
    world.turns(3);
    assert_eq!(world.locked(), ["ada"]);
    assert!(
        world.readiness.is_ready(),
        "{:?}",
        world.readiness.reasons()
    );
}

/// Commands so far, in order.
fn commands(world: &World) -> Vec<String> {
    let records = world.broker.output(OutputTopic::Commands);
    let command = |payload: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
        json["command"].as_str().expect("a command").to_owned()
    };
    records
        .iter()
        .filter_map(|record| record.payload.as_deref().map(command))
        .collect()
}

#[test]
fn a_recovery_that_was_held_before_a_restart_is_released_after_it_and_once() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Unclear] {
        let mut world = World::new(2);
        world.start();
        world.event(
            1,
            "ada",
            json!({"type": "recovery", "outcome": "requested"}),
        );
        world.turns(20);
        assert_eq!(commands(&world), ["hold_recovery"]);
        // The machine's clock says so, and the log does not yet: nothing happens.
        world.clock.advance(Duration::from_secs(86_000));
        world.turns(20);
        assert_eq!(commands(&world), ["hold_recovery"]);
        world.broker.set_now(START.plus_ms(86_500_000));
        world.clock.advance(Duration::from_secs(500));
        world.broker.script([Some(fault), Some(fault)]);
        world.start();
        world.turns(1_500);
        assert_eq!(
            commands(&world),
            ["hold_recovery", "release_recovery"],
            "{fault:?}"
        );
    }
}

#[test]
fn a_stop_that_lay_in_the_log_during_an_outage_wins_over_the_timer() {
    let mut world = World::new(1);
    world.start();
    world.event(
        0,
        "ada",
        json!({"type": "recovery", "outcome": "requested"}),
    );
    world.turns(20);
    let cases = world.broker.output(OutputTopic::Cases);
    let case = String::from_utf8(cases[0].key.clone()).expect("a case's id");
    // Two days without anybody; the owner's answer waits in the log.
    world.broker.set_now(START.plus_ms(2 * 86_400_000));
    world.clock.advance(Duration::from_secs(2 * 86_400));
    let stop = json!({"type": "case_response", "case": case, "case_version": 1,
                      "answer": "cancel_recovery", "by": "owner"});
    world.event(0, "ada", stop);
    world.start();
    world.turns(1_500);
    assert_eq!(commands(&world), ["hold_recovery", "cancel_recovery"]);
}

#[test]
fn what_a_rule_may_still_lock_is_shown_survives_a_crash_and_is_refilled_by_time() {
    let left = |world: &World| {
        let name = "doorward_lock_budget_remaining{rule=\"two-factor-failure-streak\"} ";
        let text = world.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.parse::<i64>().ok()
    };
    let mut world = World::new(2);
    world.start();
    world.turns(10);
    assert_eq!(left(&world), Some(50));
    for n in 0..51 {
        world.attack(0, &format!("u{n}"));
    }
    world.turns(20);
    assert_eq!(
        left(&world),
        Some(0),
        "of the partition that has the fewest"
    );
    let held = "doorward_decisions_total{effect=\"held\",rule=\"two-factor-failure-streak\"} 1\n";
    assert!(
        world.metrics.text().contains(held),
        "{}",
        world.metrics.text()
    );
    world.start();
    world.turns(20);
    assert_eq!(left(&world), Some(0), "whoever owns it now");
    world.clock.advance(Duration::from_secs(300));
    world.turns(10);
    assert_eq!(left(&world), Some(50), "without an event");
}
