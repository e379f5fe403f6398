//! Real failures on a real three-broker cluster: whatever dies, freezes, or is cut off, a
//! reader of committed records sees what a plain single pass over the events says, each
//! exactly once.
//!
//! All tests play on one stage, one after the other: a cluster takes long to start.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::support::kafka::Cluster;
use crate::support::stage::{self, Scene, Stage};

/// Longer than the session timeout of the tests' instances.
const OUT_OF_THE_GROUP: Duration = Duration::from_secs(9);

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
        scene.wait_until_ready();
    });
}
