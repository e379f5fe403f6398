//! How an account's recovery is held, stopped, decided and released (docs/rules.md 16).

mod hostile;

use doorward::engine::output::{CaseState, RecipientPart};
use doorward::event::Timestamp;
use doorward::event::wire;
use serde_json::{Value, json};

use super::cases::attack;
use crate::support::story::*;

/// Somebody asks for a recovery of `u`.
pub fn asks(story: &mut Story, at: i64, id: &str) -> Said {
    recovery(story, at, "requested", json!({ "id": id }))
}

pub fn recovery(story: &mut Story, at: i64, outcome: &str, fields: Value) -> Said {
    let mut event = json!({ "type": "recovery", "outcome": outcome, "account": "u",
                            "ip": BRAZIL, "email": "u@example.org" });
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    story.event(at, event)
}

/// The owner presses "Stop this recovery" behind the mail about `case`.
pub fn stops(story: &mut Story, at: i64, case: &str) -> Said {
    story.event(
        at,
        json!({ "type": "case_response", "account": "u", "case": case, "case_version": 1,
                "answer": "cancel_recovery", "by": "owner" }),
    )
}

fn operator(story: &mut Story, at: i64, request: &str) -> Said {
    story.event(
        at,
        json!({ "type": "operator_request", "account": "u", "request": request,
                "operator": "support desk", "reason": "spoke to the owner" }),
    )
}

pub fn state(story: &Story) -> CaseState {
    story.shown(&story.recovery("u")).state
}

/// Two recoveries, the second of them disputed; the second was asked for at `at`.
fn dispute(story: &mut Story, at: i64) {
    asks(story, at - 2 * HOUR, "r-1");
    let first = story.recovery("u");
    stops(story, at - HOUR, &first);
    asks(story, at, "r-2");
    let second = story.recovery("u");
    assert!(stops(story, at + HOUR, &second).is_silent());
    assert_eq!(state(story), CaseState::NeedsOperator);
}

#[test]
fn rules_16_a_recovery_is_held_its_owner_told_and_released_after_24_hours() {
    let mut story = Story::new();
    let said = asks(&mut story, 0, "r-1");
    assert_eq!(said.commands(), ["hold_recovery"]);
    let hold = &said.commands[0];
    assert_eq!(hold.until, Some(Timestamp(START + DAY)));
    assert_eq!(&*hold.evidence[0], "r-1");
    assert_eq!(hold.case.as_ref().unwrap().to_string(), story.recovery("u"));
    let mail = &said.mails[0];
    assert_eq!(
        (&*mail.to, mail.part),
        ("u@example.org", RecipientPart::Owner)
    );
    assert_eq!(&*mail.template, "recovery_held");
    assert_eq!(mail.until, Some(Timestamp(START + DAY)));
    assert_eq!(state(&story), CaseState::Held);

    assert!(story.wait_until(DAY - 1).is_silent());
    let said = story.wait_until(DAY);
    assert_eq!(said.commands(), ["release_recovery"]);
    assert_eq!(said.commands[0].evidence, hold.evidence);
    assert_eq!(said.commands[0].case, hold.case);
    assert_eq!(state(&story), CaseState::Released);
    // Once: a repeated timer finds nothing.
    let again = wire::timer_due(
        "t-x",
        "u",
        &story.recovery("u"),
        "recovery_hold",
        Timestamp(START + DAY),
        Timestamp(START + DAY),
    );
    assert!(story.bytes(DAY + MINUTE, &again).is_silent());
}

#[test]
fn rules_16_the_hold_counts_by_the_brokers_clock_however_old_the_request_is() {
    let mut story = Story::new();
    let request = json!({ "type": "recovery", "outcome": "requested", "account": "u",
                          "email": "u@example.org" });
    // A day under way, and yet held for a day.
    let said = story.event_received(-DAY, HOUR, request);
    assert_eq!(said.commands(), ["hold_recovery"]);
    assert!(story.wait_until(DAY).is_silent());
    assert_eq!(
        story.wait_until(DAY + HOUR).commands(),
        ["release_recovery"]
    );
}

#[test]
fn rules_16_the_owner_stops_it_and_nothing_releases_it_any_more() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    let said = stops(&mut story, HOUR, &case);
    assert_eq!(said.commands(), ["cancel_recovery"]);
    assert_eq!(&*said.commands[0].reason, "owner_cancelled");
    assert_eq!(&*said.commands[0].evidence[0], "r-1");
    assert_eq!(state(&story), CaseState::Cancelled);
    // Pressed twice.
    assert!(stops(&mut story, 2 * HOUR, &case).is_silent());
    assert!(story.wait_until(3 * DAY).is_silent());
}

#[test]
fn rules_11_a_cancel_that_stands_before_the_timer_wins_even_after_an_outage() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    let deadline = Timestamp(START + DAY);
    let timer = wire::timer_due("t-1", "u", &case, "recovery_hold", deadline, deadline);
    // doorward was away for two days: the owner's answer lies in the log, then the timer.
    assert_eq!(
        stops(&mut story, 2 * DAY, &case).commands(),
        ["cancel_recovery"]
    );
    assert!(story.bytes(2 * DAY + 1, &timer).is_silent());
    // The other way round the recovery has gone through.
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    assert_eq!(
        story.bytes(2 * DAY, &timer).commands(),
        ["release_recovery"]
    );
    assert!(stops(&mut story, 2 * DAY + 1, &case).is_silent());
    assert_eq!(state(&story), CaseState::Released);
}

#[test]
fn rules_16_stopping_a_recovery_stops_every_request_that_joined_it() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    asks(&mut story, HOUR, "r-2");
    let case = story.recovery("u");
    let said = stops(&mut story, 2 * HOUR, &case);
    let stopped: Vec<&str> = said.commands[0].evidence.iter().map(|id| &**id).collect();
    assert_eq!(stopped, ["r-1", "r-2"]);
}

#[test]
fn rules_16_a_second_stop_in_a_row_is_for_an_operator_to_decide() {
    let mut story = Story::new();
    dispute(&mut story, 0);
    assert_eq!(story.said.counts.recovery_disputed, 1);
    // It stays held, whoever asks, answers or waits.
    let case = story.recovery("u");
    assert!(stops(&mut story, 2 * HOUR, &case).is_silent());
    assert!(asks(&mut story, 3 * HOUR, "r-3").is_silent());
    assert!(recovery(&mut story, 4 * HOUR, "cancelled", json!({})).is_silent());
    assert!(story.wait_until(90 * DAY).is_silent());
    assert_eq!(state(&story), CaseState::NeedsOperator);
    let said = operator(&mut story, 91 * DAY, "release_recovery");
    assert_eq!(said.commands(), ["release_recovery"]);
    assert_eq!(&*said.commands[0].evidence[0], "r-2");
    assert_eq!(state(&story), CaseState::Released);
}

#[test]
fn rules_16_an_operator_may_stop_a_recovery_and_the_next_stop_is_a_first_one() {
    let mut story = Story::new();
    dispute(&mut story, 0);
    let said = operator(&mut story, 2 * HOUR, "cancel_recovery");
    assert_eq!(said.commands(), ["cancel_recovery"]);
    assert_eq!(&*said.commands[0].reason, "operator_cancelled");
    asks(&mut story, 3 * HOUR, "r-3");
    let case = story.recovery("u");
    assert_eq!(
        stops(&mut story, 4 * HOUR, &case).commands(),
        ["cancel_recovery"]
    );
}

#[test]
fn rules_16_not_even_an_operator_shortens_the_hold() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-0");
    assert!(operator(&mut story, HOUR, "release_recovery").is_silent());
    assert_eq!(state(&story), CaseState::Held);
    let mut story = Story::new();
    dispute(&mut story, 0);
    // The hold goes on as if nobody had disputed it, and ends when it would have.
    assert!(operator(&mut story, 2 * HOUR, "release_recovery").is_silent());
    assert_eq!(state(&story), CaseState::Held);
    assert!(story.wait_until(DAY - 1).is_silent());
    assert_eq!(story.wait_until(DAY).commands(), ["release_recovery"]);
}

#[test]
fn rules_16_stops_are_in_a_row_for_30_days_and_until_a_recovery_goes_through() {
    let stop_twice = |between: i64, released: bool| {
        let mut story = Story::new();
        asks(&mut story, 0, "r-1");
        let case = story.recovery("u");
        stops(&mut story, HOUR, &case);
        if released {
            asks(&mut story, 2 * HOUR, "r-2");
            assert_eq!(story.wait_until(2 * DAY).commands(), ["release_recovery"]);
        }
        story.wait_until(between);
        asks(&mut story, between, "r-3");
        let case = story.recovery("u");
        let stopped = stops(&mut story, between + HOUR, &case);
        stopped.commands() == ["cancel_recovery"]
    };
    assert!(!stop_twice(30 * DAY - 1, false));
    assert!(stop_twice(30 * DAY, false));
    assert!(stop_twice(3 * DAY, true));
}

#[test]
fn rules_16_only_an_owner_recovers_a_team_account() {
    let team = json!({ "role": "member", "owners": ["boss@example.org"] });
    let mut story = Story::new();
    let said = recovery(&mut story, 0, "requested", team);
    assert_eq!(said.commands(), ["cancel_recovery"]);
    assert_eq!(&*said.commands[0].reason, "not_an_owner");
    assert_eq!(said.commands[0].case, None);
    let told: Vec<String> = said
        .mails
        .iter()
        .map(|mail| format!("{} {} {}", mail.to, mail.part.as_str(), mail.template))
        .collect();
    assert_eq!(
        told,
        [
            "u@example.org notice recovery_refused",
            "boss@example.org notice recovery_refused"
        ]
    );
    assert!(story.wait_until(3 * DAY).is_silent());
    let owner = json!({ "role": "Owner", "owners": ["boss@example.org"] });
    let said = recovery(&mut story, 3 * DAY, "requested", owner);
    assert_eq!(said.commands(), ["hold_recovery"]);
    let parts: Vec<_> = said.mails.iter().map(|mail| mail.part).collect();
    assert_eq!(parts, [RecipientPart::Owner, RecipientPart::CoOwner]);
}

#[test]
fn rules_16_a_withdrawn_recovery_is_over_and_counts_as_no_stop() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    assert!(recovery(&mut story, HOUR, "cancelled", json!({})).is_silent());
    assert_eq!(state(&story), CaseState::Cancelled);
    assert!(story.wait_until(2 * DAY).is_silent());
    asks(&mut story, 3 * DAY, "r-2");
    let case = story.recovery("u");
    let said = stops(&mut story, 3 * DAY + HOUR, &case);
    assert_eq!(said.commands(), ["cancel_recovery"]);
}

#[test]
fn rules_16_a_recovery_that_the_pipeline_completed_is_not_released_again() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    let said = recovery(&mut story, HOUR, "success", json!({ "case": case }));
    assert!(said.commands.is_empty());
    assert_eq!(&*said.mails[0].template, "recovery_released");
    assert_eq!(state(&story), CaseState::Released);
    assert!(story.wait_until(2 * DAY).is_silent());
}

#[test]
fn rules_16_an_address_that_comes_later_is_told_then() {
    let mut story = Story::new();
    let bare = json!({ "type": "recovery", "outcome": "requested", "account": "u" });
    let said = story.event(0, bare);
    assert_eq!(said.commands(), ["hold_recovery"]);
    assert_eq!(story.said.counts.mail_no_address, 1);
    let said = asks(&mut story, HOUR, "r-2");
    assert!(said.commands.is_empty());
    assert_eq!(said.mails.len(), 1);
}

#[test]
fn rules_16_an_answer_that_names_no_account_is_found_by_its_recovery() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    story.restart(&["u"]);
    let said = story.event(
        HOUR,
        json!({ "type": "case_response", "case": case, "case_version": 1,
                "answer": "cancel_recovery", "by": "owner" }),
    );
    assert_eq!(said.commands(), ["cancel_recovery"]);
}

#[test]
fn rules_16_a_deleted_account_takes_its_recovery_with_it() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    story.event(HOUR, json!({ "type": "account_deleted", "account": "u" }));
    assert_eq!(&*story.said.dropped_cases[0].0, case);
    assert_eq!(story.partition.open_cases(), 0);
    assert!(story.wait_until(2 * DAY).is_silent());
    assert!(stops(&mut story, 2 * DAY, &case).is_silent());
}

#[test]
fn rules_16_a_hold_survives_a_restart_with_its_end_and_its_dispute() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    story.restart(&["u"]);
    assert_eq!(story.partition.open_cases(), 1);
    let case = story.recovery("u");
    stops(&mut story, HOUR, &case);
    story.restart(&["u"]);
    asks(&mut story, 2 * HOUR, "r-2");
    story.restart(&["u"]);
    let case = story.recovery("u");
    assert!(stops(&mut story, 3 * HOUR, &case).is_silent());
    story.restart(&["u"]);
    operator(&mut story, 4 * HOUR, "release_recovery");
    story.restart(&["u"]);
    assert_eq!(
        story.wait_until(DAY + 2 * HOUR).commands(),
        ["release_recovery"]
    );
    story.restart(&["u"]);
    assert!(story.wait_until(40 * DAY).is_silent());
    assert_eq!(story.said.dropped_cases.len(), 2);
    assert_eq!(story.partition.accounts(), 0);
}

#[test]
fn rules_16_a_recovery_and_a_case_of_one_account_do_not_touch_each_other() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    attack(&mut story, HOUR, "u");
    let (case, recovery) = (story.case("u"), story.recovery("u"));
    assert_eq!(story.partition.open_cases(), 2);
    let said = story.event(
        2 * HOUR,
        json!({ "type": "case_response", "account": "u", "case": case, "case_version": 1,
                "answer": "not_me", "by": "owner" }),
    );
    assert_eq!(said.commands().len(), 3);
    assert_eq!(state(&story), CaseState::Held);
    // "Not me", said where the page did not know that it was about a recovery.
    let said = story.event(
        3 * HOUR,
        json!({ "type": "case_response", "account": "u", "case": recovery, "case_version": 1,
                "answer": "not_me", "by": "owner" }),
    );
    assert_eq!(said.commands(), ["cancel_recovery"]);
    assert_eq!(story.shown(&case).state, CaseState::Secured);
}

#[test]
fn rules_judge_recoveries_of_accounts_that_are_not_in_memory() {
    let rule = "
schema: 1
id: recovery-failed
title: A recovery failed
severity: medium
mode: enforce
when: { type: recovery, outcome: failure }
by: account
detect: each
then: [ { lock_account: { reason: trial } } ]
";
    let mut story = Story::of_rule(rule);
    assert!(recovery(&mut story, 0, "failure", json!({})).locked());
}
