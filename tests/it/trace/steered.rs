//! What the engine says of events that steer cases: that they were carried out, or why not.

use doorward::engine::output::{CaseState, Outputs};
use doorward::engine::trace::{Declined, Steered};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::meaning::cases::attack;
use crate::support::story::*;

/// The word of the engine about the next event.
#[track_caller]
fn said(story: &mut Story, at: i64, event: Value) -> Result<(), Declined> {
    match story.event(at, event).trace.steered.expect("it steers") {
        Steered::Applied => Ok(()),
        Steered::Declined(why) => Err(why),
    }
}

fn answer(case: &str, version: u32, answer: &str, by: &str) -> Value {
    json!({ "type": "case_response", "account": "u", "case": case, "case_version": version,
            "answer": answer, "by": by })
}

fn request(request: &str, more: Value) -> Value {
    let mut event = json!({ "type": "operator_request", "account": "u", "request": request,
                            "operator": "ann", "reason": "asked" });
    for (name, value) in more.as_object().expect("fields") {
        event[name] = value.clone();
    }
    event
}

/// An account that is locked at a minute, and the id of its case.
fn locked() -> (Story, String) {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    (story, case)
}

#[test]
fn answers_say_why_they_were_not_taken() {
    let (mut story, case) = locked();
    let current = story.view("u").id.clone();
    let mut ask = |at: i64, event: Value| said(&mut story, at * MINUTE, event);
    assert_eq!(
        ask(2, answer(&case, 7, "me", "owner")),
        Err(Declined::OtherVersion {
            named: 7,
            current: 1
        })
    );
    assert_eq!(
        ask(3, answer(&case, 1, "me", "co_owner")),
        Err(Declined::NotTheOwner)
    );
    let other = Err(Declined::OtherCase {
        current: current.clone(),
    });
    assert_eq!(ask(4, answer("k-other", 1, "me", "owner")), other);
    assert_eq!(
        ask(5, answer(&case, 1, "perhaps", "owner")),
        Err(Declined::Unknown)
    );
    let early = Err(Declined::InState(CaseState::Open));
    assert_eq!(ask(6, answer(&case, 1, "rotate_keys", "owner")), early);
    assert_eq!(ask(7, answer(&case, 1, "not_me", "owner")), Ok(()));
    let already = Err(Declined::InState(CaseState::Secured));
    assert_eq!(ask(8, answer(&case, 1, "not_me", "owner")), already);
    assert_eq!(ask(9, answer(&case, 2, "me", "owner")), already);
    assert_eq!(ask(10, answer(&case, 2, "rotate_keys", "owner")), Ok(()));
    assert_eq!(
        ask(11, answer(&case, 2, "rotate_keys", "owner")),
        Err(Declined::Repeated)
    );
    let changed = |case: Value| json!({ "type": "password_changed", "account": "u", "case": case });
    assert_eq!(
        ask(12, changed(Value::Null)),
        Err(Declined::Unnamed { current })
    );
    assert_eq!(ask(13, changed(json!("k-other"))), other);
    assert_eq!(ask(14, changed(json!(case))), Ok(()));
    let over = answer(&case, 3, "not_me", "owner");
    assert!(matches!(
        ask(80 * 60, over),
        Err(Declined::Over { .. } | Declined::NoCase)
    ));
    let stranger = json!({ "type": "case_response", "account": "nobody", "case": case,
                           "case_version": 1, "answer": "me", "by": "owner" });
    assert_eq!(ask(80 * 60, stranger), Err(Declined::NoCase));
}

#[test]
fn operators_are_told_why_nothing_was_done() {
    let (mut story, case) = locked();
    let current = story.view("u").id.clone();
    let none = || json!({});
    let mut ask = |at: i64, event: Value| said(&mut story, at * MINUTE, event);
    assert_eq!(ask(2, request("promote", none())), Err(Declined::Unknown));
    assert_eq!(
        ask(3, request("unlock", json!({ "case": "k-other" }))),
        Err(Declined::OtherCase { current })
    );
    let by_another = json!({ "case": case, "rule": "first-seen-country" });
    assert_eq!(
        ask(4, request("undo", by_another)),
        Err(Declined::OtherRule)
    );
    let nowhere = json!({ "case": case, "to": "nonsense" });
    assert_eq!(
        ask(5, request("resend", nowhere)),
        Err(Declined::NobodyToTell)
    );
    assert_eq!(
        ask(6, request("cancel_recovery", none())),
        Err(Declined::NoCase)
    );
    assert_eq!(ask(7, request("unlock", json!({ "case": case }))), Ok(()));
    assert_eq!(
        ask(8, request("unlock", json!({ "case": case }))),
        Err(Declined::InState(CaseState::Unlocked))
    );
}

#[test]
fn what_the_pipeline_says_is_told_with_why_it_changed_nothing() {
    let (mut story, case) = locked();
    let current = story.view("u").id.clone();
    let of = |kind: &str, more: Value| {
        let mut event = json!({ "type": kind, "account": "u" });
        for (name, value) in more.as_object().expect("fields") {
            event[name] = value.clone();
        }
        event
    };
    let mut ask = |at: i64, event: Value| said(&mut story, at, event);
    let email = |more: Value| {
        let mut event = of("email_changed", json!({ "email": "new@example.org" }));
        if !more.is_null() {
            event["previous_email"] = more;
        }
        event
    };
    assert_eq!(
        ask(2 * MINUTE, email(Value::Null)),
        Err(Declined::NoPreviousAddress)
    );
    assert_eq!(ask(3 * MINUTE, email(json!("old@example.org"))), Ok(()));
    assert_eq!(
        ask(4 * MINUTE, email(json!("new@example.org"))),
        Err(Declined::StillGuarded)
    );
    assert_eq!(
        ask(0, of("account_unlocked", json!({}))),
        Err(Declined::Earlier { current })
    );
    assert_eq!(
        ask(5 * MINUTE, of("password_changed", json!({ "case": case }))),
        Err(Declined::InState(CaseState::Open))
    );
    let early = json!({ "type": "recovery", "outcome": "cancelled", "account": "u" });
    assert_eq!(ask(6 * MINUTE, early), Err(Declined::NoCase));
    let requested = |id: &str| {
        json!({ "id": id, "type": "recovery", "outcome": "requested",
                                       "account": "u" })
    };
    assert_eq!(ask(7 * MINUTE, requested("r-1")), Ok(()));
    assert_eq!(ask(7 * MINUTE, requested("r-1")), Err(Declined::Repeated));
    let failed = json!({ "type": "recovery", "outcome": "failure", "account": "u" });
    assert_eq!(ask(8 * MINUTE, failed), Err(Declined::EndsNothing));
    assert_eq!(ask(9 * MINUTE, of("account_deleted", json!({}))), Ok(()));
    assert_eq!(
        ask(9 * MINUTE, of("account_deleted", json!({}))),
        Err(Declined::NoCase)
    );
    assert_eq!(
        ask(9 * MINUTE, of("account_unlocked", json!({}))),
        Err(Declined::NoCase)
    );
}

#[test]
fn an_event_that_steers_nothing_has_no_such_word() {
    let mut story = Story::new();
    assert_eq!(story.failed_login(0, "u", NORWAY).trace.steered, None);
}

/// What happens to an account: attacks, and words about its case, right and wrong.
fn history() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..8_u8, 0..6_u8, 0..4_u8), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The word of the trace is what was done: an answer or a request that was applied is
    /// counted as one, one that was not as another; what was not carried out orders nothing.
    #[test]
    fn the_word_is_what_was_done(history in history()) {
        let mut story = Story::new();
        let decoder = story.engine.rules().decoder();
        for (at, (kind, which, number)) in history.into_iter().enumerate() {
            let time = at as i64 * 10 * MINUTE;
            if kind == 0 {
                attack(&mut story, time, "u");
                continue;
            }
            let known = story.said.cases.last().map(|case| case.id.to_string());
            let case = match number {
                0 => "k-other".to_owned(),
                _ => known.unwrap_or_default(),
            };
            let words = ["me", "not_me", "resend", "rotate_keys", "perhaps", "me"];
            let requests = ["unlock", "undo", "resend", "promote", "unlock", "undo"];
            let mut event = match kind {
                1..=3 => answer(&case, u32::from(number), words[usize::from(which)], "owner"),
                4 => request(requests[usize::from(which)], json!({ "case": case })),
                5 => request(requests[usize::from(which)], json!({})),
                6 => json!({ "type": "password_changed", "account": "u", "case": case }),
                _ => json!({ "type": "account_unlocked", "account": "u", "case": case }),
            };
            event["id"] = format!("c-{at}").into();
            event["time"] = (START + time).into();
            let bytes = serde_json::to_vec(&event).unwrap();
            let event = decoder.decode(&bytes, &mut Dropped::new()).unwrap();
            let source = Source { partition: 0, offset: 1_000_000 + at as i64 };
            let mut out = Outputs::default();
            let now = Timestamp(START + time);
            let trace =
                story.engine.handle_traced(&mut story.partition, &event, source, now, &mut out);
            let applied = trace.steered == Some(Steered::Applied);
            prop_assert!(trace.steered.is_some());
            if kind <= 5 {
                prop_assert_eq!(out.counts.answers_applied, u32::from(applied), "{:?}", trace);
                prop_assert_eq!(out.counts.answers_ignored, u32::from(!applied), "{:?}", trace);
            }
            if applied {
                let did = out.commands.len() + out.mails.len() + out.changed.len();
                let resent = kind <= 3 && which == 2;
                prop_assert!(did > 0 || resent, "{:?}", trace);
            } else {
                prop_assert!(out.commands.is_empty() && out.mails.is_empty(), "{:?}", trace);
            }
            story.said.cases.append(&mut out.cases);
        }
    }
}
