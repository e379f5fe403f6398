//! Made-up traffic is what it says it is: the shipped rules decide about each attack once,
//! and about nothing else.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;

use doorward::engine::output::{Effect, Outputs};
use doorward::engine::{Engine, Partition};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use doorward::generate::{Attack, Settings, Traffic, TrafficEvent, World};

use crate::support::story;

const START: Timestamp = Timestamp(story::START);

fn traffic(seed: u64, accounts: u32) -> Traffic {
    let world = World::new(seed, accounts, &story::facts()).expect("it knows networks");
    let settings = Settings {
        seed,
        start: START,
        per_second: 5.0,
    };
    Traffic::new(world, settings)
}

/// `account rule effect` of every decision of the shipped rules.
fn decisions(events: &[TrafficEvent]) -> Vec<String> {
    let rules = Arc::new(story::built_in());
    let decoder = rules.decoder();
    let engine = Engine::new(rules, story::facts(), story::settings());
    let mut partition = Partition::default();
    let mut said = Vec::new();
    let mut dropped = Dropped::new();
    let mut out = Outputs::default();
    for (offset, event) in events.iter().enumerate() {
        let json = event.json().expect("text and numbers");
        dropped.clear();
        let decoded = decoder.decode(json.as_bytes(), &mut dropped);
        let decoded = decoded.unwrap_or_else(|why| panic!("{why}: {json}"));
        assert!(dropped.is_empty(), "{dropped:?} in {json}");
        let source = Source {
            partition: 0,
            offset: offset as i64,
        };
        out.clear();
        engine.handle(&mut partition, &decoded, source, event.time, &mut out);
        for decision in &out.decisions {
            // Twenty accounts that are busy all day fail often, which one rule in shadow
            // notes down.
            if decision.effect == Effect::Shadow {
                continue;
            }
            assert_eq!(decision.effect, Effect::Acted, "{decision:?}");
            said.push(format!("{} {}", decision.account, decision.rule));
        }
    }
    said
}

#[test]
fn ordinary_traffic_trips_no_shipped_rule() {
    for seed in 1..=3 {
        let events: Vec<TrafficEvent> = traffic(seed, 20).take(6_000).collect();
        assert_eq!(decisions(&events), [""; 0], "seed {seed}");
    }
}

#[test]
fn each_attack_trips_its_rule_once() {
    let mut traffic = traffic(7, 300);
    let mut events: Vec<TrafficEvent> = traffic.by_ref().take(2_000).collect();
    let mut expected = BTreeSet::new();
    for attack in Attack::ALL.repeat(5) {
        let account = traffic.attack(attack).expect("somebody has signed in");
        expected.insert(format!("{account} {}", attack.rule()));
        events.extend(traffic.by_ref().take(50));
    }
    events.extend(traffic.take(2_000));
    let said = decisions(&events);
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert_eq!(said.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn events_come_in_order_with_ids_of_their_own_and_say_what_they_are() {
    let mut traffic = traffic(3, 50);
    let mut events: Vec<TrafficEvent> = traffic.by_ref().take(500).collect();
    traffic
        .attack(Attack::TwoFactor)
        .expect("somebody signed in");
    events.extend(traffic.take(500));
    assert!(events.is_sorted_by_key(|event| event.time));
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len());
    let label = |event: &TrafficEvent| event.attributes["label"];
    let labels: BTreeSet<&str> = events.iter().map(label).collect();
    assert_eq!(labels, BTreeSet::from(["ordinary", "two-factor"]));
    let kinds: BTreeSet<&str> = events.iter().map(|event| event.kind).collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
}

#[test]
fn traffic_flows_at_the_rate_asked_for() {
    let events: Vec<TrafficEvent> = traffic(5, 5_000).take(20_000).collect();
    let last = events.last().expect("there are some").time;
    let per_second = events.len() as f64 * 1_000.0 / last.since_ms(START) as f64;
    assert!((4.0..6.0).contains(&per_second), "{per_second}");
}

fn generate(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .arg("generate")
        .args(args)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_same_arguments_give_the_same_events_and_another_seed_others() {
    let args = [
        "--events",
        "300",
        "--accounts",
        "20",
        "--attacks",
        "all",
        "--seed",
    ];
    let of = |seed: &'static str| generate(&[&args[..], &[seed]].concat());
    let (status, first, said) = of("1");
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert_eq!(of("1").1, first);
    assert_ne!(of("2").1, first);
    let count = |label: &str| first.matches(&format!("\"label\":\"{label}\"")).count();
    assert_eq!(count("ordinary"), 300);
    assert_eq!(count("many-ips"), 6);
    assert_eq!(count("two-factor"), 6);
    assert_eq!(count("new-country"), 1);
    assert_eq!(count("malicious-reset"), 1);
}

#[test]
fn what_cannot_be_made_is_said() {
    let (status, _, said) = generate(&["--events", "2", "--accounts", "1", "--attacks", "all"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("ask for more --events or --accounts"),
        "{said}"
    );
    let (status, _, said) = generate(&["--attacks", "many-ip"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("it can be many-ips, two-factor"), "{said}");
    let (status, _, said) = generate(&["--start", "yesterday"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("write it as 2026-01-01T00:00:00Z"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["generate", "--events", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
