//! What may happen to a system at work. Each act ends with everything healed, and with
//! nothing said about the outcome: that is the oracle's.

use std::time::Duration;

use crate::support::doorward::Doorward;
use crate::support::proxy::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, Mode, PRODUCE, TXN_OFFSET_COMMIT, Then,
};
use crate::support::stage::{BROKERS, INSTANCES, Scene};
use crate::support::{PATIENCE, eventually};

/// Longer than the session timeout of the tests' instances.
pub const OUT_OF_THE_GROUP: Duration = Duration::from_secs(8);
/// Long enough for some commits.
const SOME_WORK: Duration = Duration::from_secs(2);
/// How much later a delayed request arrives: after the transaction has another producer.
const A_WHILE: Duration = Duration::from_secs(3);
/// What memory may vary by while the cluster is away.
const GROWTH_KIB: u64 = 8 * 1024;

/// SIGKILL, and a supervisor that starts it again at once.
pub fn kill(scene: &mut Scene, at: usize) {
    scene.instances[at].kill();
    scene.instances[at].start();
    scene.instances[at].wait_until_ready();
}

/// SIGKILL, and nobody starts it again before the others have taken over.
pub fn kill_and_leave(scene: &mut Scene, at: usize, away: Duration) {
    scene.instances[at].kill();
    std::thread::sleep(away);
    scene.instances[at].start();
}

/// SIGSTOP for so long, then SIGCONT.
pub fn freeze(scene: &mut Scene, at: usize, so_long: Duration) {
    scene.instances[at].signal("STOP");
    std::thread::sleep(so_long);
    scene.instances[at].signal("CONT");
}

/// The same while the group is handing partitions round: what it has asked is answered
/// by a member that it has forgotten meanwhile.
pub fn freeze_in_a_rebalance(scene: &mut Scene, at: usize, so_long: Duration) {
    let other = INSTANCES - 1 - at;
    assert_eq!(scene.instances[other].terminate().code(), Some(0));
    scene.instances[other].start();
    let joins = "\"started\"";
    eventually("the other to join", PATIENCE, || {
        scene.instances[other].log().contains(joins).then_some(())
    });
    freeze(scene, at, so_long);
}

/// Neither the process nor the brokers know why the other is silent.
pub fn cut_off(scene: &mut Scene, at: usize, how: Mode, so_long: Duration) {
    scene.cluster.door(at).set(how);
    std::thread::sleep(so_long);
    scene.cluster.door(at).heal();
}

/// SIGTERM for each, one after the other.
pub fn rolling_restart(scene: &mut Scene) {
    for instance in &mut scene.instances {
        assert_eq!(instance.terminate().code(), Some(0));
        instance.start();
        instance.wait_until_ready();
    }
}

/// A power cut for one broker.
pub fn kill_broker(scene: &mut Scene, at: usize) {
    scene.cluster.kill_broker(at);
    std::thread::sleep(SOME_WORK);
    scene.cluster.restart_brokers();
}

/// A broker's disk is full until somebody has made room.
pub fn fill_disk(scene: &mut Scene, at: usize) {
    scene.cluster.fill_disk(at);
    std::thread::sleep(SOME_WORK);
    scene.cluster.restart_brokers();
}

/// The broker that leads the first partition of the events.
pub fn leader(scene: &Scene) -> usize {
    scene.cluster.leader_of(&scene.topic("events"), 0)
}

/// The brokers that coordinate the group and a shard's transactions, which may be one.
pub fn coordinators(scene: &Scene) -> Vec<usize> {
    let group = &scene.instances[0].prefix;
    let of_transactions = scene
        .cluster
        .transaction_coordinator(&format!("{group}-i0-0"));
    vec![of_transactions, scene.cluster.group_coordinator(group)]
}

/// Requests of a transaction that are lost on the way, or whose answers are.
pub const TRAPS: [(&str, i16, Then); 9] = [
    ("the end was lost", END_TXN, Then::LoseRequest),
    ("the answer to the end was lost", END_TXN, Then::LoseAnswer),
    ("the end came late", END_TXN, Then::Delay(A_WHILE)),
    (
        "the offsets were lost",
        TXN_OFFSET_COMMIT,
        Then::LoseRequest,
    ),
    (
        "the answer to the offsets was lost",
        TXN_OFFSET_COMMIT,
        Then::LoseAnswer,
    ),
    (
        "the offsets came late",
        TXN_OFFSET_COMMIT,
        Then::Delay(A_WHILE),
    ),
    (
        "the answer to the records was lost",
        PRODUCE,
        Then::LoseAnswer,
    ),
    (
        "the group was not added",
        ADD_OFFSETS_TO_TXN,
        Then::LoseAnswer,
    ),
    (
        "the partitions were added late",
        ADD_PARTITIONS_TO_TXN,
        Then::Delay(A_WHILE),
    ),
];

/// A connection of one instance breaks in the middle of a transaction.
pub fn trap(scene: &Scene, at: usize, what: &str, kind: i16, then: Then) {
    let door = scene.cluster.door(at);
    door.trap(kind, then);
    eventually(what, PATIENCE, || door.has_sprung().then_some(()));
    std::thread::sleep(SOME_WORK);
    door.heal();
}

/// Every message takes this long, and little comes through at once.
pub fn slow(scene: &mut Scene, at: usize) {
    let mode = Mode::Slow {
        delay: Duration::from_millis(150),
        bytes_per_second: 200_000,
    };
    cut_off(scene, at, mode, 2 * SOME_WORK);
}

/// Brokers refuse the commands for want of replicas, since one of them is dead.
pub fn refuse_commands(scene: &mut Scene) {
    let topic = scene.topic("commands");
    let in_sync = |count| [("cleanup.policy", "delete"), ("min.insync.replicas", count)];
    scene.cluster.configure_topic(&topic, &in_sync("3"));
    scene.cluster.kill_broker(0);
    eventually("an instance that is not ready", PATIENCE, || {
        let mut said = scene.instances.iter_mut().map(Doorward::readiness);
        said.find(|(status, _)| *status == 503)
    });
    std::thread::sleep(SOME_WORK);
    scene.cluster.restart_brokers();
    scene.cluster.configure_topic(&topic, &in_sync("2"));
}

/// All brokers are away for so long: in the middle for one instance, at the start for the
/// other. Memory stays flat and readiness says why.
pub fn away(scene: &mut Scene, so_long: Duration) {
    for broker in 0..BROKERS {
        scene.cluster.kill_broker(broker);
    }
    let last = INSTANCES - 1;
    scene.instances[last].kill();
    scene.instances[last].start();
    for instance in &mut scene.instances {
        let said = eventually("a reason", PATIENCE, || {
            let (status, said) = instance.readiness();
            (status == 503).then_some(said)
        });
        assert!(said.contains("shard") || said.contains("kafka"), "{said}");
    }
    std::thread::sleep(SOME_WORK);
    let before = scene.memory_kib();
    std::thread::sleep(so_long);
    for (before, after) in before.into_iter().zip(scene.memory_kib()) {
        assert!(after < before + GROWTH_KIB, "{before} KiB, then {after}");
    }
    for instance in &mut scene.instances {
        assert_eq!(instance.readiness().0, 503);
    }
    scene.cluster.restart_brokers();
}
