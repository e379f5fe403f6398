//! Messages that are broken, hostile or odd: each is an event or has its reason.

use doorward::event::decode::{Decoder, Dropped};
use doorward::event::{EventType, KnownType, Timestamp};
use serde_json::json;

use crate::support::story::*;

/// What became of one message: its reason, or the fields that were dropped.
fn told(payload: &[u8]) -> Result<Vec<&'static str>, String> {
    let mut dropped = Dropped::new();
    match Decoder::default().decode(payload, &mut dropped) {
        Ok(_) => Ok(dropped),
        Err(rejected) => Err(format!("{}: {}", rejected.kind, rejected.reason)),
    }
}

fn with(change: serde_json::Value) -> Vec<u8> {
    let mut event = json!({ "id": "e", "type": "login", "time": START, "account": "u",
                            "outcome": "failure" });
    for (name, value) in change.as_object().unwrap() {
        event[name] = value.clone();
    }
    serde_json::to_vec(&event).unwrap()
}

#[test]
fn what_is_no_event_has_its_reason() {
    let reason = |payload: &[u8]| told(payload).unwrap_err();
    assert_eq!(reason(b""), "empty: the message is empty");
    assert!(reason(b"hello").starts_with("not_object"));
    assert!(reason(b"[1,2,3]").starts_with("not_object"));
    assert!(reason(b"\xff\xfe{}").starts_with("not_json: not UTF-8 from byte 0"));
    assert!(reason(b"{\"id\":\"e\",\"type\":\"lo").starts_with("not_json"));
    assert!(reason(b"{\"id\":\"e\"} trailing").starts_with("not_json"));
    assert_eq!(reason(b"{}"), "bad_id: `id` is missing");
    assert_eq!(
        reason(&with(json!({ "id": 7 }))),
        "bad_id: `id` is a number, not a string"
    );
    assert_eq!(
        reason(&with(json!({ "id": "x".repeat(129) }))),
        "bad_id: `id` has 129 bytes; it must have 1 to 128"
    );
    assert_eq!(
        reason(&with(json!({ "id": null }))),
        "bad_id: `id` is missing"
    );
    assert!(reason(&with(json!({ "type": ["login"] }))).starts_with("bad_type"));
    assert!(reason(&with(json!({ "time": "yesterday" }))).starts_with("bad_time"));
    assert!(reason(&with(json!({ "time": "2026-11-22T06:00:00" }))).starts_with("bad_time"));
    assert!(reason(&with(json!({ "time": 1.5 }))).starts_with("bad_time"));
    assert!(reason(&with(json!({ "time": -1 }))).starts_with("bad_time"));
    assert!(reason(&with(json!({ "time": i64::MAX }))).starts_with("bad_time"));
    assert_eq!(
        reason(&with(json!({ "outcome": null }))),
        "bad_outcome: `outcome` is missing; a `login` needs `success` or `failure`"
    );
    assert!(reason(&with(json!({ "outcome": "requested" }))).starts_with("bad_outcome"));
    assert_eq!(
        reason(&with(json!({ "account": "a".repeat(300) }))),
        "bad_account: `account` has 300 bytes; it must have 1 to 256"
    );
    assert!(reason(&with(json!({ "account": "" }))).starts_with("bad_account"));
    assert_eq!(
        reason(&with(json!({ "account": 12 }))),
        "bad_account: `account` is a number, not a string"
    );
}

#[test]
fn a_megabyte_of_anything_is_answered() {
    let big = vec![b'x'; 1 << 20];
    assert!(told(&big).is_err());
    let deep = [b"{\"a\":".as_slice(), &vec![b'['; 1 << 20]].concat();
    assert!(told(&deep).unwrap_err().starts_with("not_json"));
    let closed = format!(
        r#"{{"id":"e","type":"x","time":1,"a":{}{}}}"#,
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    assert_eq!(
        told(closed.as_bytes()).unwrap_err(),
        "not_json: the JSON is nested more than 64 levels deep"
    );
    // Brackets within a string are no nesting.
    let text = with(json!({ "user_agent": "[{\\\"".repeat(10_000) }));
    assert_eq!(told(&text), Ok(vec![]));
    let flat = with(json!({ "list": vec![json!({}); 10_000] }));
    assert_eq!(told(&flat), Ok(vec![]));
    let wide = with(json!({ "user_agent": "x".repeat(1 << 20) }));
    assert_eq!(told(&wide), Ok(vec![]));
}

#[test]
fn an_optional_field_that_is_invalid_is_dropped_and_the_event_kept() {
    let dropped = |change: serde_json::Value| told(&with(change)).unwrap();
    assert_eq!(dropped(json!({ "ip": "999.1.2.3" })), ["ip"]);
    assert_eq!(dropped(json!({ "ip": 16909060 })), ["ip"]);
    assert_eq!(dropped(json!({ "country": "Norway" })), ["country"]);
    assert_eq!(dropped(json!({ "repeat": "yes" })), ["repeat"]);
    assert_eq!(dropped(json!({ "owners": "a@example.org" })), ["owners"]);
    assert_eq!(dropped(json!({ "owners": [1, 2] })), ["owners"]);
    assert_eq!(dropped(json!({ "reason": { "code": 1 } })), ["reason"]);
    // What an account's record keeps is bounded.
    assert_eq!(dropped(json!({ "email": "a".repeat(255) })), ["email"]);
    assert_eq!(dropped(json!({ "user": "a".repeat(257) })), ["user"]);
    assert_eq!(dropped(json!({ "locale": "a".repeat(36) })), ["locale"]);
    assert!(dropped(json!({ "reason": null, "ip": null, "owners": null })).is_empty());
    assert_eq!(
        dropped(json!({ "type": "password_reset", "outcome": "sent" })),
        ["outcome"]
    );
}

#[test]
fn addresses_are_read_in_every_form_that_pipelines_write() {
    for (written, meant) in [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        let payload = with(json!({ "ip": written }));
        let mut dropped = Dropped::new();
        let event = Decoder::default().decode(&payload, &mut dropped).unwrap();
        assert_eq!(event.ip, Some(meant.parse().unwrap()), "{written}");
    }
}

#[test]
fn times_are_milliseconds_or_rfc_3339_with_an_offset() {
    for time in [
        json!(START),
        json!("2026-11-22T06:00:00Z"),
        json!("2026-11-22T06:00:00.000000Z"),
        json!("2026-11-22T07:00:00+01:00"),
    ] {
        let payload = with(json!({ "time": time }));
        let event = Decoder::default()
            .decode(&payload, &mut Dropped::new())
            .unwrap();
        assert_eq!(event.time, Timestamp(START));
    }
    assert_eq!(Timestamp(START).to_string(), "2026-11-22T06:00:00.000Z");
}

#[test]
fn odd_text_is_kept_as_it_is() {
    for account in [
        "🦊",
        "tab\tand\u{0}nul",
        "ünï/çödé",
        " space ",
        "\u{202e}rtl",
        "\"quoted\"",
    ] {
        let payload = with(json!({ "account": account }));
        let event = Decoder::default()
            .decode(&payload, &mut Dropped::new())
            .unwrap();
        assert_eq!(event.account.as_deref(), Some(account));
    }
    let mut story = Story::new();
    for n in 0..5 {
        story.failed_login(n, "🦊\n\u{0}", &format!("192.0.2.{n}"));
    }
    assert_eq!(&*story.said.commands[0].account, "🦊\n\u{0}");
}

#[test]
fn a_type_that_nobody_knows_is_an_event_and_rules_can_use_it() {
    let rule = "
schema: 1
id: payout
title: Payout changed
severity: high
mode: enforce
when: { type: payout_changed, attributes.amount: 100, currency: { not: EUR } }
by: account
detect: each
";
    let mut story = Story::of_rule(rule);
    let payout = |amount: serde_json::Value, currency: &str| {
        json!({ "type": "payout_changed", "account": "u", "currency": currency,
                "attributes": { "amount": amount, "other": [1, { "deep": true }] } })
    };
    assert!(story.event(0, payout(json!(100), "USD")).acted());
    assert!(story.event(1, payout(json!(99), "USD")).is_silent());
    assert!(story.event(2, payout(json!("100"), "USD")).is_silent());
    assert!(story.event(3, payout(json!(100), "EUR")).is_silent());
    let payload = with(json!({ "type": "payout_changed", "outcome": null }));
    let event = Decoder::default()
        .decode(&payload, &mut Dropped::new())
        .unwrap();
    assert!(matches!(event.kind, EventType::Other(_)));
    assert_eq!(KnownType::parse("payout_changed"), None);
}

#[test]
fn a_field_that_stands_twice_takes_its_last_value_as_everywhere_in_json() {
    let payload = br#"{"id":"a","id":"b","type":"login","time":1,"outcome":"failure"}"#;
    let event = Decoder::default()
        .decode(payload, &mut Dropped::new())
        .unwrap();
    assert_eq!(event.id, "b");
}

#[test]
fn events_from_far_away_times_do_no_harm() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    // A year old, and a year ahead.
    let old = json!({ "type": "login", "outcome": "success", "account": "u", "country": "BR" });
    let said = story.event_received(-365 * DAY, 0, old);
    assert_eq!(said.decisions(), ["first-seen-country stale 1"]);
    let ahead = json!({ "type": "login", "outcome": "success", "account": "u", "country": "JP" });
    let said = story.event_received(365 * DAY, 0, ahead);
    assert_eq!(said.decisions(), ["first-seen-country acted 1"]);
    assert_eq!(said.decisions[0].time, Timestamp(START));
}
