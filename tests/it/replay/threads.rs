//! The same stream gives the same decisions, byte for byte, however it is read.

use std::sync::Arc;

use doorward::document::Diagnostics;
use doorward::facts::Folder;
use doorward::generate::{Attack, Settings, Traffic, World};
use doorward::replay::Replay;
use doorward::rules::RuleSet;
use serde_json::{Value, json};

use super::{decisions, doorward};
use crate::support::story;

/// Ordinary traffic with attacks in it, as lines of JSON.
pub fn traffic(seed: u64, events: usize) -> Vec<u8> {
    let facts = story::facts();
    let settings = Settings {
        seed,
        start: doorward::event::Timestamp(story::START),
        per_second: 20.0,
    };
    let world = World::new(seed, 200, &facts).unwrap();
    let mut traffic = Traffic::new(world, settings);
    let mut lines = Vec::new();
    for at in 0..events {
        if at == events / 2 {
            for attack in Attack::ALL {
                traffic.attack(*attack).unwrap();
            }
        }
        let event = traffic.next().unwrap();
        lines.extend_from_slice(event.json().unwrap().as_bytes());
        lines.push(b'\n');
    }
    lines
}

#[test]
fn any_number_of_threads_says_the_same() {
    for seed in [1, 2] {
        let lines = traffic(seed, 20_000);
        let one = doorward(&["replay", "--threads", "1", "-"], &lines);
        assert!(decisions(&one).len() >= 4);
        for threads in ["2", "7"] {
            let many = doorward(&["replay", "--threads", threads, "-"], &lines);
            assert_eq!(one.stdout, many.stdout, "seed {seed}, {threads} threads");
        }
    }
}

#[test]
fn line_by_line_says_the_same_as_all_at_once() {
    let lines = traffic(3, 5_000);
    let all: Vec<String> = decisions(&doorward(&["replay", "-"], &lines))
        .iter()
        .map(|decision| {
            let source = &decision["source"];
            format!(
                "{} {} {}",
                decision["id"], source["partition"], source["offset"]
            )
        })
        .collect();
    let facts = story::facts();
    let mut found = Diagnostics::default();
    let files = Folder(None).rule_files(&mut found);
    let rules = RuleSet::load(&files, &facts.lists, &mut found).unwrap();
    let mut replay = Replay::new(Arc::new(rules), facts, 12);
    let mut one_by_one = Vec::new();
    for (at, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        let said = replay.line(at as u64 + 1, line).unwrap();
        for decision in &said.decisions {
            let source = decision.source;
            one_by_one.push(format!(
                "\"{}\" {} {}",
                decision.id, source.partition, source.offset
            ));
        }
    }
    assert_eq!(all, one_by_one);
}

#[test]
fn rules_2_the_clock_of_a_bare_stream_runs_over_all_partitions() {
    let reset = |id: &str, account: &str, time: i64| {
        json!({ "id": id, "type": "password_reset", "outcome": "requested", "time": time,
                "account": account, "ip": story::MALICIOUS })
    };
    // Another account, on another partition, has moved the clock on by two days.
    let lines = super::ndjson(&[
        reset("1", "first", story::START + 2 * story::DAY),
        reset("2", "third", story::START),
    ]);
    let said = decisions(&doorward(&["replay", "-"], &lines));
    assert_ne!(
        said[0]["source"]["partition"],
        said[1]["source"]["partition"]
    );
    assert_eq!(said[0]["effect"], "acted");
    assert_eq!(said[1]["effect"], "stale");
}

#[test]
fn rules_11_an_answer_without_an_account_finds_its_case_on_any_partition() {
    let at = |seconds: i64| story::START + seconds * 1_000;
    let reset = |id: &str, time: i64| {
        json!({ "id": id, "type": "password_reset", "outcome": "requested", "time": time,
                "account": "u", "ip": story::MALICIOUS })
    };
    let first = decisions(&doorward(
        &["replay", "-"],
        &super::ndjson(&[reset("1", at(0))]),
    ));
    let case = first[0]["case"].clone();
    let answer = json!({ "id": "a", "type": "case_response", "time": at(60), "case": case,
                         "case_version": 1, "answer": "me", "by": "owner" });
    // Cooldown is an hour; without the answer the case would be open.
    let lines = super::ndjson(&[reset("1", at(0)), answer, reset("2", at(4_000))]);
    let effects: Vec<Value> = decisions(&doorward(&["replay", "-"], &lines))
        .iter()
        .map(|decision| decision["effect"].clone())
        .collect();
    assert_eq!(effects, ["acted", "acted"]);
}

#[test]
fn rules_11_a_lock_that_ends_by_itself_ends_in_a_replay_too() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "schema: 1\nid: brief\ntitle: A lock for half an hour\nseverity: high\n\
                mode: enforce\nwhen: { type: password_reset }\nby: account\ndetect: each\n\
                then:\n  - lock_account: { reason: brief, until: 30m }\n";
    std::fs::write(folder.path().join("brief.rule.yaml"), rule).unwrap();
    let replay = |lines: &[u8]| {
        let args = ["replay", "--rules", folder.path().to_str().unwrap(), "-"];
        let effects: Vec<Value> = decisions(&doorward(&args, lines))
            .iter()
            .map(|decision| decision["effect"].clone())
            .collect();
        effects
    };
    // What joins the case puts its end off.
    let minutes = [0, 30, 60, 91, 200];
    let event = |at: i64| {
        json!({ "id": at.to_string(), "type": "password_reset", "outcome": "requested",
                "time": story::START + at * story::MINUTE, "account": "u", "ip": story::NORWAY })
    };
    let bare: Vec<Value> = minutes.iter().map(|at| event(*at)).collect();
    // What came at the very millisecond stands before the timer in the log.
    let expected = ["acted", "case_open", "case_open", "acted", "acted"];
    assert_eq!(replay(&super::ndjson(&bare)), expected);

    // A recording brings the timer itself, or is given one a minute later.
    let envelope = |at: i64, millisecond: i64, event: Value| {
        json!({ "broker_time": story::START + at * story::MINUTE + millisecond, "partition": 2,
                "offset": at * 10 + millisecond, "event": event })
    };
    let mut recorded: Vec<Value> = minutes
        .iter()
        .map(|at| envelope(*at, 0, event(*at)))
        .collect();
    assert_eq!(replay(&super::ndjson(&recorded)), expected);
    recorded[3] = envelope(90, 59_999, event(91));
    let without = ["acted", "case_open", "case_open", "case_open", "acted"];
    assert_eq!(replay(&super::ndjson(&recorded)), without);
    let case = {
        let args = ["replay", "--rules", folder.path().to_str().unwrap(), "-"];
        decisions(&doorward(&args, &super::ndjson(&bare)))[0]["case"].clone()
    };
    let timer = json!({ "id": "t", "type": "timer_due", "account": "u", "case": case,
                        "kind": "lock_until", "time": story::START + 90 * story::MINUTE,
                        "deadline": story::START + 90 * story::MINUTE });
    recorded.insert(3, envelope(90, 5, timer));
    assert_eq!(replay(&super::ndjson(&recorded)), expected);
}
