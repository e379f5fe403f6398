//! Real failures on a real three-broker cluster: whatever dies, freezes, or is cut off, a
//! reader of committed records sees what a plain single pass over the events says, each
//! exactly once.
//!
//! All tests play on one stage, one after the other: a cluster takes long to start.
//! `make soak` plays the same acts at random for as long as one wants.

mod acts;
mod hang;
mod soak;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::support::kafka::Cluster;
use crate::support::proxy::Mode;
use crate::support::stage::{self, Scene, Stage};

use acts::OUT_OF_THE_GROUP;

/// How long the whole cluster is away, beside the time to notice and to start again: in all
/// longer than the watchdog's patience. `DOORWARD_AWAY_MINUTES` says otherwise.
fn away_for() -> Duration {
    match std::env::var("DOORWARD_AWAY_MINUTES") {
        Ok(minutes) => Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes")),
        Err(_) => Duration::from_secs(45),
    }
}

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
        "{what}: {events} events, {commands} commands, {} attacks and {} answers so far",
        stage.attacks(),
        stage.answers()
    );
    *kept = Some(stage);
}

#[test]
fn an_instance_that_is_killed_and_comes_back_loses_and_repeats_nothing() {
    with_stage("killed", |scene| acts::kill(scene, 0));
}

#[test]
fn an_instance_that_freezes_past_its_session_wakes_as_nobody() {
    with_stage("frozen", |scene| acts::freeze(scene, 1, OUT_OF_THE_GROUP));
}

#[test]
fn an_instance_that_freezes_amid_a_rebalance_believes_nothing_that_it_held() {
    with_stage("frozen in a rebalance", |scene| {
        acts::freeze_in_a_rebalance(scene, 0, OUT_OF_THE_GROUP);
    });
}

#[test]
fn an_instance_that_is_cut_off_past_its_session_comes_back_as_nobody() {
    with_stage("cut off", |scene| {
        acts::cut_off(scene, 0, Mode::Cut, OUT_OF_THE_GROUP);
    });
}

#[test]
fn a_rolling_restart_hands_everything_on() {
    with_stage("rolling restart", acts::rolling_restart);
}

#[test]
fn the_death_of_a_broker_that_leads_or_coordinates_costs_time_only() {
    with_stage("brokers killed", |scene| {
        let mut brokers = acts::coordinators(scene);
        brokers.push(acts::leader(scene));
        brokers.sort_unstable();
        brokers.dedup();
        for broker in brokers {
            acts::kill_broker(scene, broker);
        }
    });
}

#[test]
fn a_full_disk_of_the_broker_that_leads_costs_time_only() {
    with_stage("a full disk", |scene| {
        let leader = acts::leader(scene);
        acts::fill_disk(scene, leader);
    });
}

#[test]
fn a_connection_that_is_lost_in_the_middle_of_a_commit_is_found_out_about() {
    with_stage("commits cut in the middle", |scene| {
        for (at, (what, kind, then)) in acts::TRAPS.into_iter().enumerate() {
            acts::trap(scene, at % stage::INSTANCES, what, kind, then);
        }
    });
}

#[test]
fn a_slow_connection_costs_time_only() {
    with_stage("slowed", |scene| acts::slow(scene, 1));
}

#[test]
fn records_that_brokers_refuse_for_a_while_are_written_later() {
    with_stage("refused", acts::refuse_commands);
}

#[test]
fn a_cluster_that_is_away_is_waited_for_in_the_same_memory() {
    with_stage("away", |scene| acts::away(scene, away_for()));
}
