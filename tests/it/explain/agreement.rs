//! `explain` says what the engine did: generated histories, told and replayed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use doorward::explain::record::{Explanation, Listed, Word};
use doorward::explain::{Answer, Question, Sources, explain};
use doorward::replay::Replay;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::story::*;

const COUNTING: &[&str] = &["count", "distinct", "streak"];

fn counting_rules() -> doorward::rules::RuleSet {
    let rule = |id: &str, detect: &str| {
        format!(
            "
schema: 1
id: {id}
title: Probe
severity: low
mode: enforce
when: {{ type: two_factor, outcome: failure, reason: {{ not: known }} }}
by: account
detect: {{ {detect} }}
"
        )
    };
    rule_set(&[
        &rule("count", "count: { at_least: 4, within: 1m }"),
        &rule("distinct", "distinct: { of: ip, at_least: 3, within: 1m }"),
        &rule(
            "streak",
            "streak: { at_least: 4, max_gap: 2m, broken_by: [ { type: two_factor, outcome: success } ] }",
        ),
    ])
}

/// One event, of two accounts.
fn event() -> impl Strategy<Value = Value> {
    let kinds = prop::sample::select(vec![
        ("two_factor", "failure"),
        ("two_factor", "failure"),
        ("two_factor", "failure"),
        ("two_factor", "success"),
        ("login", "failure"),
    ]);
    let reasons = prop::sample::select(vec!["", "", "", "known"]);
    (
        kinds,
        0..4_u8,
        reasons,
        0..400_i64,
        prop::bool::weighted(0.8),
    )
        .prop_map(|((kind, outcome), ip, reason, second, ann)| {
            let account = if ann { "ann" } else { "bob" };
            let mut event = json!({ "type": kind, "outcome": outcome, "account": account,
                    "ip": format!("192.0.2.{ip}"), "time": START + second * SECOND });
            if !reason.is_empty() {
                event["reason"] = reason.into();
            }
            event
        })
}

/// The history in its order, or in the order of its times, each event with an id.
fn history(in_order: bool) -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(event(), 1..60).prop_map(move |mut events| {
        if in_order {
            events.sort_by_key(|event| event["time"].as_i64());
        }
        for (at, event) in events.iter_mut().enumerate() {
            event["id"] = format!("e{at}").into();
        }
        events
    })
}

fn lines(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

/// Ids of the decisions of each account, as a replay gives them, and by which rule.
fn replayed(events: &[Value]) -> BTreeSet<(String, String, String)> {
    let mut replay = Replay::new(Arc::new(counting_rules()), facts(), 12);
    let mut decisions = BTreeSet::new();
    for (at, line) in lines(events).lines().enumerate() {
        let handled = replay.line_with(
            at as u64 + 1,
            line.as_bytes(),
            |engine, accounts, event, source, now, out| {
                engine.handle(accounts, event, source, now, out);
            },
        );
        for decision in &handled.unwrap().decisions {
            let (account, rule) = (decision.account.to_string(), decision.rule.to_string());
            decisions.insert((account, rule, decision.id.clone()));
        }
    }
    decisions
}

/// What is said of `ann`; `None` where no event is hers.
fn told(events: &[Value]) -> Option<Explanation> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    std::fs::write(&file, lines(events)).unwrap();
    let files: Vec<PathBuf> = vec![file];
    let nowhere = |list: &str, _| Listed {
        list: list.to_owned(),
        entry: None,
        file: None,
        line: None,
    };
    let sources = Sources {
        files: &files,
        rules: Arc::new(counting_rules()),
        facts: facts(),
        partitions: 12,
        lists: Default::default(),
        where_listed: &nowhere,
    };
    match explain(&Question::Account("ann".into()), &sources).unwrap() {
        Answer::Found(told) => Some(*told),
        Answer::Unknown(_) => None,
    }
}

/// The first hit of `rule` that is told: its decision, the ids of its evidence, its value,
/// and the index of the moment.
fn first_hit(told: &Explanation, rule: &str) -> Option<(String, Vec<String>, u32, usize)> {
    told.moments.iter().enumerate().find_map(|(at, moment)| {
        moment.rules.iter().find_map(|said| match &said.word {
            Word::Hit(hit) if said.rule == rule => Some((
                hit.decision.clone(),
                hit.evidence.iter().map(|e| e.id.clone()).collect(),
                hit.value,
                at,
            )),
            _ => None,
        })
    })
}

fn without(events: &[Value], gone: impl Fn(&Value) -> bool) -> Vec<Value> {
    events
        .iter()
        .filter(|event| !gone(event))
        .cloned()
        .collect()
}

fn is_decided(events: &[Value], rule: &str, decision: &str) -> bool {
    let wanted = ("ann".to_owned(), rule.to_owned(), decision.to_owned());
    replayed(events).contains(&wanted)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_decisions_that_are_told_are_those_of_a_replay(events in history(false)) {
        let mut hits = BTreeSet::new();
        for moment in told(&events).iter().flat_map(|told| &told.moments) {
            for said in &moment.rules {
                if let Word::Hit(hit) = &said.word {
                    hits.insert(("ann".to_owned(), said.rule.clone(), hit.decision.clone()));
                }
            }
        }
        let mut decided = replayed(&events);
        decided.retain(|(account, _, _)| account == "ann");
        prop_assert_eq!(hits, decided);
    }

    #[test]
    fn what_is_evidence_was_told_as_counted(events in history(false)) {
        let Some(told) = told(&events) else { return Ok(()) };
        for rule in COUNTING {
            let Some((_, evidence, _, hit_at)) = first_hit(&told, rule) else { continue };
            for id in evidence {
                let moment = told.moments.iter().take(hit_at + 1).find(|m| m.event == id);
                let said = moment.unwrap().rules.iter().filter(|said| said.rule == *rule);
                let counts = said.into_iter().any(|said| {
                    matches!(said.word, Word::Counted(_) | Word::Redundant(_) | Word::Hit(_))
                });
                prop_assert!(counts, "{} is evidence of {}", id, rule);
            }
        }
    }

    #[test]
    fn without_what_counted_there_is_no_hit_and_without_the_rest_there_is(events in history(true)) {
        let Some(told) = told(&events) else { return Ok(()) };
        for rule in COUNTING {
            let Some((decision, evidence, value, hit_at)) = first_hit(&told, rule) else { continue };
            // More than was needed came by: one fewer would still have done.
            if value as usize != evidence.len() || told.moments.is_empty() {
                continue;
            }
            for id in &evidence {
                let ip = events.iter().find(|e| e["id"] == **id).unwrap()["ip"].clone();
                let gone = |event: &Value| match *rule {
                    // An address counts, however often it came.
                    "distinct" => event["account"] == "ann" && event["ip"] == ip
                        && event["id"] != told.moments[hit_at].event.as_str(),
                    _ => event["id"] == **id,
                };
                if *id == told.moments[hit_at].event {
                    continue;
                }
                prop_assert!(!is_decided(&without(&events, gone), rule, &decision),
                    "{} hits without {}", rule, id);
            }
            for moment in told.moments.iter().take(hit_at) {
                let said = moment.rules.iter().filter(|said| said.rule == *rule);
                let uncounted = said.into_iter().all(|said| matches!(said.word,
                    Word::NotMatching { .. } | Word::Late { .. } | Word::Duplicate));
                if uncounted {
                    let fewer = without(&events, |event| event["id"] == moment.event.as_str());
                    prop_assert!(is_decided(&fewer, rule, &decision),
                        "{} needs {}", rule, moment.event);
                }
            }
        }
    }
}
