//! What an account's durable record holds, and that yesterday's bytes are read today.

mod damage;
mod golden;
mod recovery;

use doorward::engine::output::Outputs;
use doorward::engine::{Partition, StateError};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use serde_json::json;

use crate::support::story::*;

/// The story's state, written and read back by another process.
fn restarted(story: &mut Story, keys: &[doorward::engine::StateKey]) -> Partition {
    let mut partition = Partition::default();
    for key in keys {
        let bytes = story.engine.encode_state(&story.partition, *key);
        story
            .engine
            .restore_state(&mut partition, &key.0, bytes.as_deref())
            .unwrap();
    }
    partition
}

/// Handles an event and says which records it changed.
fn changed(story: &mut Story, fields: serde_json::Value) -> Vec<doorward::engine::StateKey> {
    let decoder = story.engine.rules().decoder();
    let payload = serde_json::to_vec(&fields).unwrap();
    let mut out = Outputs::default();
    let event = decoder.decode(&payload, &mut Dropped::new()).unwrap();
    let source = Source {
        partition: 0,
        offset: story.said.decisions.len() as i64,
    };
    let now = Timestamp(START);
    story
        .engine
        .handle(&mut story.partition, &event, source, now, &mut out);
    out.changed
}

fn event(id: &str, kind: &str, outcome: &str, ip: &str) -> serde_json::Value {
    json!({ "id": id, "type": kind, "outcome": outcome, "account": "u", "ip": ip,
            "time": START, "session": "s", "email": "u@example.org", "locale": "de" })
}

#[test]
fn everything_that_counts_survives_a_restart() {
    let mut story = Story::new();
    let mut keys = Vec::new();
    keys.extend(changed(&mut story, event("a", "login", "success", NORWAY)));
    for n in 0..3 {
        let failure = event(&format!("f{n}"), "two_factor", "failure", NORWAY);
        keys.extend(changed(&mut story, failure));
    }
    for n in 0..4 {
        let failure = event(
            &format!("l{n}"),
            "login",
            "failure",
            &format!("192.0.2.{n}"),
        );
        keys.extend(changed(&mut story, failure));
    }
    story.partition = restarted(&mut story, &keys);
    assert_eq!(story.partition.accounts(), 1);
    // The streak goes on, the window goes on, the country is known.
    assert!(story.second_factor(1, "u", "failure").is_silent());
    assert!(story.second_factor(2, "u", "failure").locked());
    let said = story.failed_login(3, "u", "192.0.2.9");
    assert_eq!(said.decisions(), ["failed-logins-many-ips case_open 5"]);
    let said = story.login(4, "u", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country case_open 1"]);
}

#[test]
fn a_case_survives_a_restart_with_its_answer_and_its_end() {
    let mut story = Story::new();
    let mut keys = changed(&mut story, event("a", "login", "success", NORWAY));
    keys.extend(changed(&mut story, event("b", "login", "success", BRAZIL)));
    story.partition = restarted(&mut story, &keys);
    assert_eq!(story.partition.open_cases(), 1);
    let case = story.engine.case_of(&story.partition, "u").unwrap();
    // Found by the case alone, as an answer that names no account needs it.
    let said = story.event(
        1,
        json!({ "type": "case_response", "case": &*case.0, "case_version": 1, "answer": "me",
                "places": ["country:BR"], "by": "owner" }),
    );
    assert_eq!(said.commands(), ["unlock_account"]);
    assert!(story.login(2, "u", BRAZIL).is_silent());
}

/// The end of a run moves into the account's own bytes when the next event of its rule comes,
/// even one that says nothing new.
#[test]
fn what_is_written_is_what_is_known_after_a_repeat_too() {
    let ordered = |events: &[(&str, &str, &str)]| {
        let mut story = Story::new();
        let key = story.engine.state_key("u");
        let mut written = None;
        for (id, kind, outcome) in events {
            let said = story.event(0, event(id, kind, outcome, NORWAY));
            if said.changed > 0 {
                written = story.engine.encode_state(&story.partition, key);
            }
        }
        assert_eq!(
            written,
            story.engine.encode_state(&story.partition, key),
            "{events:?}"
        );
    };
    let (ended, login) = (("a", "two_factor", "success"), ("b", "login", "success"));
    let failed = ("c", "two_factor", "failure");
    ordered(&[ended, login, ended]);
    ordered(&[ended, login, failed, failed]);
    ordered(&[login, ended, ended, failed, ended, failed]);
}

#[test]
fn a_tombstone_forgets_and_an_account_without_knowledge_writes_one() {
    let mut story = Story::new();
    let keys = changed(&mut story, event("a", "login", "success", NORWAY));
    let key = keys[0];
    assert!(story.engine.encode_state(&story.partition, key).is_some());
    story
        .engine
        .restore_state(&mut story.partition, &key.0, None)
        .unwrap();
    assert_eq!(story.partition.accounts(), 0);
    assert_eq!(story.engine.encode_state(&story.partition, key), None);
}

#[test]
fn bytes_that_cannot_be_read_are_refused_with_a_clear_error() {
    let story = Story::new();
    let restore = |key: &[u8], bytes: &[u8]| {
        story
            .engine
            .restore_state(&mut Partition::default(), key, Some(bytes))
            .unwrap_err()
    };
    assert_eq!(restore(&[0; 16], &[9, 1, 2]), StateError::UnknownVersion(9));
    assert!(
        restore(&[0; 16], &[9])
            .to_string()
            .contains("a newer one wrote it")
    );
    assert!(matches!(restore(&[0; 16], &[]), StateError::Damaged(_)));
    assert!(matches!(
        restore(&[0; 16], &[1, 0xff]),
        StateError::Damaged(_)
    ));
    assert!(matches!(restore(&[0; 15], &[1]), StateError::Damaged(_)));
}

#[test]
fn everything_else_that_is_kept_survives_too() {
    let rule = "
schema: 1
id: brief
title: Locked for an hour
severity: low
mode: enforce
when: { type: two_factor, outcome: failure }
by: [account, user]
detect: { count: { at_least: 2, within: 5m } }
then: [ { lock_account: { reason: trial, until: 1h } }, email_user ]
cooldown: 2h
";
    let mut story = Story::of_rule(rule);
    let fail = |id: &str, user: &str| {
        json!({ "id": id, "type": "two_factor", "outcome": "failure", "account": "u",
                "user": user, "time": START, "email": "new@example.org" })
    };
    let change = json!({ "id": "m", "type": "email_changed", "account": "u", "time": START,
                         "email": "new@example.org", "previous_email": "old@example.org" });
    let mut keys = changed(&mut story, change);
    for (id, user) in [("a1", "ann"), ("b1", "bob"), ("a2", "ann")] {
        keys.extend(changed(&mut story, fail(id, user)));
    }
    story.partition = restarted(&mut story, &keys);
    // The lock's end is still due.
    let end = Timestamp(START + HOUR);
    assert_eq!(story.engine.next_deadline(&story.partition), Some(end));
    let due = story.engine.due_timers(&mut story.partition, end);
    let timer =
        doorward::event::wire::timer_due(&due[0].id, "u", &due[0].case, due[0].kind, end, end);
    assert_eq!(story.bytes(HOUR, &timer).commands(), ["unlock_account"]);
    // The cut holds, and so do each person's cooldown and the change of address.
    story.partition = restarted(&mut story, &keys[..1]);
    let before_the_cut = serde_json::to_vec(&fail("b2", "bob")).unwrap();
    assert!(story.bytes(HOUR, &before_the_cut).is_silent());
    let again = |story: &mut Story, user: &str| {
        let mut said = Vec::new();
        let mut mails = Vec::new();
        for n in 0..2 {
            let event = json!({ "type": "two_factor", "outcome": "failure", "account": "u",
                                "user": user, "email": "new@example.org" });
            let one = story.event(HOUR + MINUTE + n, event);
            said.extend(one.decisions());
            mails.extend(one.mails.iter().map(|mail| mail.to.to_string()));
        }
        (said, mails)
    };
    assert_eq!(again(&mut story, "ann").0, ["brief cooldown 2"]);
    let (said, mails) = again(&mut story, "bob");
    assert_eq!(said, ["brief acted 2"]);
    assert_eq!(mails, ["old@example.org", "new@example.org"]);
}

/// A record that version 0.1.0 wrote: a known country, a run of two, an open case. It must
/// be read for ever; a change that breaks this test loses people's state.
#[test]
fn a_record_of_the_first_version_is_still_read() {
    let bytes = golden::bytes(include_str!("state/v1-open-case.hex"));
    let mut story = Story::new();
    let keys = changed(&mut story, event("a", "login", "success", NORWAY));
    story
        .engine
        .restore_state(&mut story.partition, &keys[0].0, Some(&bytes))
        .unwrap();
    assert_eq!(story.partition.open_cases(), 1);
    assert!(
        story
            .engine
            .encode_state(&story.partition, keys[0])
            .is_some()
    );
    let said = story.login(1, "u", NORWAY);
    assert!(said.is_silent(), "Norway is known");
    let said = story.login(2, "u", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country case_open 1"]);
    for n in 0..2 {
        assert!(story.second_factor(3 + n, "u", "failure").is_silent());
    }
    let said = story.second_factor(5, "u", "failure");
    assert_eq!(said.decisions(), ["two-factor-failure-streak case_open 5"]);
}

#[test]
fn a_quiet_account_writes_few_bytes() {
    let mut story = Story::new();
    let keys = changed(&mut story, event("a", "login", "success", NORWAY));
    let bytes = story
        .engine
        .encode_state(&story.partition, keys[0])
        .unwrap();
    assert!(bytes.len() <= 48, "{}", bytes.len());
}
