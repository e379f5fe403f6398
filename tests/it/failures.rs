//! Real failures on a real three-broker cluster: whatever dies, freezes, or is cut off, a
//! reader of committed records sees what a plain single pass over the events says, each
//! exactly once.
//!
//! All tests play on one stage, one after the other: a cluster takes long to start.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::support::doorward::Doorward;
use crate::support::kafka::Cluster;
use crate::support::proxy::{END_TXN, Mode, PRODUCE, TXN_OFFSET_COMMIT, Then};
use crate::support::stage::{self, Scene, Stage};
use crate::support::{PATIENCE, eventually};

/// Longer than the session timeout of the tests' instances.
const OUT_OF_THE_GROUP: Duration = Duration::from_secs(9);

/// Long enough for some commits.
const SOME_WORK: Duration = Duration::from_secs(3);
/// How much later a delayed request arrives: after the transaction has another producer.
const A_WHILE: Duration = Duration::from_secs(4);
/// How long the whole cluster is away: longer than the watchdog's patience.
const AWAY: Duration = Duration::from_secs(60);
/// What memory may vary by in that time.
const GROWTH_KIB: u64 = 8 * 1024;

/// Plays `failure` on the stage, and asks the oracle.
fn with_stage(what: &str, failure: impl FnOnce(&mut Scene)) {
    static STAGE: OnceLock<Option<Mutex<Option<Stage>>>> = OnceLock::new();
    let Some(stage) = STAGE.get_or_init(|| {
        let cluster: Cluster = stage::cluster()?;
        Some(Mutex::new(Some(Stage::new(cluster, 1))))
    }) else {
        return;
    };
    // A test that failed took its stage with it.
    let mut kept = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stage = kept.take().unwrap_or_else(|| {
        let cluster = stage::cluster().expect("a cluster, as before");
        Stage::new(cluster, 1)
    });
    stage.during_traffic(failure);
    let (events, commands) = stage.assert_nothing_lost_nothing_twice(what);
    println!(
        "{what}: {events} events, {commands} commands, {} attacks so far",
        stage.attacks()
    );
    *kept = Some(stage);
}

#[test]
fn an_instance_that_is_killed_and_comes_back_loses_and_repeats_nothing() {
    with_stage("killed", |scene| {
        scene.instances[0].kill();
        scene.instances[0].start();
        scene.instances[0].wait_until_ready();
    });
}

#[test]
fn an_instance_that_freezes_past_its_session_wakes_as_nobody() {
    with_stage("frozen", |scene| {
        scene.instances[1].signal("STOP");
        std::thread::sleep(OUT_OF_THE_GROUP);
        scene.instances[1].signal("CONT");
    });
}

#[test]
fn an_instance_that_is_cut_off_past_its_session_comes_back_as_nobody() {
    with_stage("cut off", |scene| {
        scene.cluster.door(0).set(Mode::Cut);
        std::thread::sleep(OUT_OF_THE_GROUP);
        scene.cluster.door(0).heal();
    });
}

#[test]
fn a_rolling_restart_hands_everything_on() {
    with_stage("rolling restart", |scene| {
        for instance in &mut scene.instances {
            assert_eq!(instance.terminate().code(), Some(0));
            instance.start();
            instance.wait_until_ready();
        }
    });
}

#[test]
fn the_death_of_the_broker_that_leads_events_costs_time_only() {
    with_stage("leader killed", |scene| {
        let leader = scene.cluster.leader_of(&scene.topic("events"), 0);
        scene.cluster.kill_broker(leader);
        std::thread::sleep(SOME_WORK);
        scene.cluster.restart_brokers();
    });
}

#[test]
fn the_death_of_the_broker_that_coordinates_costs_time_only() {
    with_stage("coordinator killed", |scene| {
        let group = scene.instances[0].prefix.clone();
        let id = format!("{group}-i0-0");
        let of_group = scene.cluster.group_coordinator(&group);
        let of_transaction = scene.cluster.transaction_coordinator(&id);
        scene.cluster.kill_broker(of_transaction);
        std::thread::sleep(SOME_WORK);
        scene.cluster.restart_brokers();
        if of_group != of_transaction {
            scene.cluster.kill_broker(of_group);
            std::thread::sleep(SOME_WORK);
            scene.cluster.restart_brokers();
        }
    });
}

#[test]
fn a_connection_that_is_lost_in_the_middle_of_a_commit_is_found_out_about() {
    for (what, kind, then) in [
        ("the end was lost", END_TXN, Then::LoseRequest),
        ("the answer to the end was lost", END_TXN, Then::LoseAnswer),
        ("the end came late", END_TXN, Then::Delay(A_WHILE)),
        ("offsets were lost", TXN_OFFSET_COMMIT, Then::LoseRequest),
        ("offsets unanswered", TXN_OFFSET_COMMIT, Then::LoseAnswer),
        ("records unanswered", PRODUCE, Then::LoseAnswer),
    ] {
        with_stage(what, |scene| {
            let door = scene.cluster.door(0);
            door.trap(kind, then);
            eventually(what, PATIENCE, || door.has_sprung().then_some(()));
            std::thread::sleep(SOME_WORK);
        });
    }
}

#[test]
fn a_slow_connection_costs_time_only() {
    with_stage("slowed", |scene| {
        scene.cluster.door(1).set(Mode::Slow {
            delay: Duration::from_millis(150),
            bytes_per_second: 200_000,
        });
        std::thread::sleep(2 * SOME_WORK);
        scene.cluster.door(1).heal();
    });
}

#[test]
fn records_that_brokers_refuse_for_a_while_are_written_later() {
    with_stage("refused", |scene| {
        let topic = scene.topic("commands");
        let usual = [("cleanup.policy", "delete"), ("min.insync.replicas", "2")];
        // More than there are.
        let too_many = [("cleanup.policy", "delete"), ("min.insync.replicas", "4")];
        scene.cluster.configure_topic(&topic, &too_many);
        eventually("an instance that is not ready", PATIENCE, || {
            let found = scene.instances.iter_mut().map(Doorward::readiness);
            found.into_iter().find(|(status, _)| *status == 503)
        });
        std::thread::sleep(SOME_WORK);
        scene.cluster.configure_topic(&topic, &usual);
    });
}

#[test]
fn a_cluster_that_is_away_is_waited_for_in_the_same_memory() {
    with_stage("away", |scene| {
        for broker in 0..stage::BROKERS {
            scene.cluster.kill_broker(broker);
        }
        // Away in the middle for one, and at the start for the other.
        scene.instances[1].kill();
        scene.instances[1].start();
        for instance in &mut scene.instances {
            let said = eventually("a reason", PATIENCE, || {
                let (status, said) = instance.readiness();
                (status == 503).then_some(said)
            });
            assert!(said.contains("shard") || said.contains("kafka"), "{said}");
        }
        std::thread::sleep(SOME_WORK);
        let before: Vec<u64> = scene.memory_kib();
        std::thread::sleep(AWAY);
        for (before, after) in before.into_iter().zip(scene.memory_kib()) {
            assert!(after < before + GROWTH_KIB, "{before} KiB, then {after}");
        }
        for instance in &mut scene.instances {
            assert_eq!(instance.readiness().0, 503);
        }
        scene.cluster.restart_brokers();
    });
}
