//! What of a batch is committed first, and what becomes of the rest when a process dies in
//! between.

use doorward::log::OutputTopic;
use serde_json::json;

use super::{START, World};

/// So many accounts failed once each, and nothing of them is committed.
fn failures(accounts: usize) -> World {
    let mut world = World::new(1);
    world.commit_accounts = 10_000;
    world.start();
    world.turns(2);
    for n in 0..accounts {
        world.failed_second_factor(0, &format!("user-{n}"));
    }
    world
}

#[test]
fn a_command_waits_for_no_other_partitions_state() {
    let mut world = World::new(2);
    world.start();
    world.turns(2);
    world.failed_second_factor(1, "patient");
    world.turns(1);
    world.attack(0, "ada");
    world.turns(2);
    assert_eq!(world.locked(), ["ada"]);
    assert_eq!(world.broker.committed(0), Some(5));
    assert_eq!(world.broker.committed(1), None, "nothing of it is urgent");
    assert!(world.broker.state_of(1).is_empty());
    world.turns(10);
    assert_eq!(world.broker.committed(1), Some(1));
    assert_eq!(world.broker.state_of(1).len(), 1);
}

#[test]
fn commands_without_end_keep_no_other_partition_from_its_commit() {
    let mut world = World::new(2);
    world.start();
    world.turns(2);
    world.failed_second_factor(1, "patient");
    for n in 0..12 {
        world.attack(0, &format!("victim-{n}"));
        world.turns(1);
    }
    assert_eq!(world.broker.committed(1), Some(1));
}

#[test]
fn a_large_partition_is_committed_alone_so_that_commands_find_the_way_free() {
    let mut world = World::new(2);
    (world.slow, world.commit_accounts) = (3, 10_000);
    world.start();
    world.turns(2);
    for partition in [0, 1] {
        for n in 0..500 {
            world.failed_second_factor(partition, &format!("user-{partition}-{n}"));
        }
    }
    world.turns(13);
    assert_eq!(world.broker.committed(0), Some(500));
    assert_eq!(world.broker.committed(1), None, "it waits for the first");
    world.attack(1, "ada");
    world.turns(10);
    assert_eq!(world.broker.committed(1), Some(505));
    assert_eq!(world.locked(), ["ada"]);
}

#[test]
fn a_command_waits_neither_for_the_state_of_others_nor_is_it_repeated_after_a_crash() {
    let mut world = failures(300);
    world.attack(0, "ada");
    world.turns(1);
    assert_eq!(world.locked(), ["ada"]);
    // With the fifty oldest; whoever comes next goes on behind them.
    assert_eq!(world.broker.committed(0), Some(50));
    let state = world.broker.state_of(0).len();
    assert_eq!(state, 50 + 2, "ada's, and what her lock took of the budget");

    // The process dies: what was not committed is handled again, ada's events are not.
    world.start();
    for _ in 0..4 {
        world.failed_second_factor(0, "user-299");
    }
    world.turns(30);
    assert_eq!(world.locked(), ["ada", "user-299"]);
    assert_eq!(world.broker.committed(0), Some(309));
}

#[test]
fn a_dead_letter_comes_once_though_a_later_event_was_committed_before_it() {
    let mut world = World::new(1);
    world.start();
    world.turns(2);
    world.failed_second_factor(0, "ben");
    world.broker.produce(0, Some(b"cy"), Some(b"no event"));
    world.attack(0, "ada");
    world.turns(1);
    assert_eq!(world.locked(), ["ada"]);
    assert_eq!(world.broker.committed(0), Some(0), "ben's event waits");
    assert!(world.broker.output(OutputTopic::DeadLetters).is_empty());
    world.start();
    world.turns(20);
    assert_eq!(world.broker.output(OutputTopic::DeadLetters).len(), 1);
    assert_eq!(world.broker.committed(0), Some(7));
    assert_eq!(world.locked(), ["ada"]);
}

#[test]
fn an_event_that_its_account_holds_already_still_counts_for_its_address() {
    let mut world = World::new(1);
    world.start();
    world.turns(2);
    let failed = json!({"type": "login", "outcome": "failure", "ip": "192.0.2.7"});
    for n in 0..8 {
        world.event(0, &format!("user-{n}"), failed.clone());
    }
    world.event(0, "ada", failed.clone());
    world.attack(0, "ada");
    world.turns(1);
    assert_eq!(world.locked(), ["ada"]);
    assert_eq!(world.broker.committed(0), Some(0), "the others wait");
    world.start();
    world.event(0, "ben", failed);
    world.turns(20);
    let decisions = world.broker.output(OutputTopic::Decisions);
    let values: Vec<_> = decisions
        .iter()
        .filter_map(|record| serde_json::from_slice(record.payload.as_deref()?).ok())
        .filter(|decision: &serde_json::Value| decision["rule"] == "password-spraying")
        .map(|decision| decision["value"].clone())
        .collect();
    assert_eq!(values, [10], "of ten accounts, ada among them, once");
    assert_eq!(world.locked(), ["ada"]);
}

#[test]
fn an_input_topic_that_was_made_anew_is_judged_from_its_beginning() {
    let mut world = failures(60);
    world.failed_second_factor(0, "user-0");
    world.attack(0, "ada");
    world.turns(1);
    assert_eq!(world.broker.committed(0), Some(50));

    // What the records of ada and user-0 hold, they hold of another topic.
    world.broker.make_input_anew();
    world.broker.set_now(START.plus_ms(10_000));
    world.start();
    world.failed_second_factor(0, "user-19");
    world.turns(12);
    assert_eq!(world.broker.committed(0), Some(1));
    world.start();
    for _ in 0..3 {
        world.failed_second_factor(0, "user-0");
    }
    world.turns(20);
    assert_eq!(world.locked(), ["ada", "user-0"]);
}
