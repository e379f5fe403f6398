//! What falls due when: the life of cases after their end, restarts, and clocks that jump
//! (docs/rules.md 11).

use doorward::engine::output::CaseState;
use doorward::event::Timestamp;
use doorward::event::wire;
use serde_json::{Value, json};

use super::cases::attack;
use crate::support::story::*;

/// Bytes of an account's durable record.
fn bytes_of(story: &Story, account: &str) -> usize {
    let key = story.engine.state_key(account);
    let bytes = story.engine.encode_state(&story.partition, key);
    bytes.map_or(0, |bytes| bytes.len())
}

#[test]
fn rules_11_a_closed_case_is_kept_72_hours_then_its_details_go_and_at_30_days_its_record() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    story.answer(HOUR, "u", "me", &[]);
    story.wait_until(73 * HOUR - 1);
    let before = bytes_of(&story, "u");
    assert_eq!(story.case("u"), case);
    let said = story.wait_until(73 * HOUR);
    assert!(said.changed > 0, "the smaller record is written");
    assert!(story.engine.case_of(&story.partition, "u").is_none());
    let after = bytes_of(&story, "u");
    assert!(after * 4 < before, "{after} of {before} bytes are left");
    story.restart(&["u"]);
    story.wait_until(HOUR + 30 * DAY - 1);
    assert!(story.said.dropped_cases.is_empty());
    let said = story.wait_until(HOUR + 30 * DAY);
    assert_eq!(&*story.said.dropped_cases[0].0, case);
    assert!(said.changed > 0);
    // Nothing of the account is left, and nothing is due.
    assert_eq!(bytes_of(&story, "u"), 0);
    assert_eq!(story.partition.accounts(), 0);
    assert_eq!(story.engine.next_deadline(&story.partition), None);
}

/// A rule that asks and locks nothing.
fn asks(id: &str, when: &str, detect: &str) -> String {
    format!(
        "schema: 1\nid: {id}\ntitle: T\nseverity: low\nmode: enforce\n\
         when: {{ {when} }}\nby: account\ndetect: {detect}\nthen: [ email_user ]\n"
    )
}

fn off(kind: &str) -> Value {
    json!({ "type": kind, "account": "u", "email": "u@example.org" })
}

#[test]
fn rules_11_a_question_that_nobody_answers_ends_72_hours_after_its_last_change() {
    let one = asks("one", "type: two_factor_disabled", "each");
    let two = asks("two", "type: recovery_code_used", "each");
    let mut story = Story::with(rule_set(&[&one, &two]), facts(), settings());
    assert!(story.event(0, off("two_factor_disabled")).acted());
    let joined = story.event(HOUR, off("recovery_code_used"));
    assert_eq!(joined.decisions(), ["two case_open 1"]);
    // A repeat changes nothing.
    let again = story.event(2 * HOUR, off("two_factor_disabled"));
    assert_eq!(again.decisions(), ["one case_open 1"]);
    story.restart(&["u"]);
    assert_eq!(story.partition.questions(), 1);
    story.wait_until(73 * HOUR - 1);
    assert_eq!(story.view("u").state, CaseState::Asked);
    let said = story.wait_until(73 * HOUR);
    assert_eq!(story.view("u").state, CaseState::Closed);
    assert!(said.commands.is_empty() && said.mails.is_empty());
    assert_eq!(story.partition.questions(), 0);
    // Its record goes like any other closed case's.
    let case = story.case("u");
    story.wait_until(145 * HOUR);
    assert!(story.engine.case_of(&story.partition, "u").is_none());
    let dropped = |story: &Story| story.said.dropped_cases.iter().any(|gone| *gone.0 == *case);
    assert!(!dropped(&story));
    story.wait_until(73 * HOUR + 30 * DAY);
    assert!(dropped(&story));
    assert_eq!(story.engine.next_deadline(&story.partition), None);
}

#[test]
fn rules_11_of_an_ended_question_only_a_denial_is_believed() {
    let mut story = Story::of_rule(&asks("ask", "type: two_factor_disabled", "each"));
    assert!(story.event(0, off("two_factor_disabled")).acted());
    let timer = |story: &Story| {
        let deadline = Timestamp(START + 72 * HOUR);
        wire::timer_due(
            "t-late",
            "u",
            &story.case("u"),
            "case_asked",
            deadline,
            deadline,
        )
    };
    let early = timer(&story);
    assert_eq!(story.bytes(72 * HOUR - 1, &early).cases, 0);
    assert_eq!(story.bytes(72 * HOUR, &early).cases, 1);
    assert_eq!(story.bytes(72 * HOUR + 1, &early).cases, 0);
    let late = story.answer(80 * HOUR, "u", "me", &[]);
    assert_eq!((late.cases, late.changed), (0, 0));
    assert_eq!(story.said.counts.answers_ignored, 1);
    let said = story.answer(81 * HOUR, "u", "not_me", &[]);
    assert_eq!(
        said.commands(),
        ["lock_account", "revoke_sessions", "require_password_change"]
    );
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn rules_11_the_end_of_a_question_teaches_nothing_and_forgives_nothing() {
    let place = asks(
        "place",
        "type: login, outcome: success",
        "{ first_seen: { of: country, learn: { events: 1 } } }",
    );
    let codes = "schema: 1\nid: codes\ntitle: T\nseverity: low\nmode: enforce\n\
                 when: { type: two_factor, outcome: failure }\nby: account\n\
                 detect: { count: { at_least: 3, within: 1h } }\n\
                 then: [ { lock_account: { reason: trial } } ]\n";
    let mut story = Story::with(rule_set(&[&place, codes]), facts(), settings());
    let login = |country: &str| json!({ "type": "login", "outcome": "success", "account": "u", "country": country });
    story.event(0, login("NO"));
    assert!(story.event(HOUR, login("BR")).acted());
    story.wait_until(73 * HOUR - 10 * MINUTE);
    for minute in [10, 5] {
        story.second_factor(73 * HOUR - minute * MINUTE, "u", "failure");
    }
    story.wait_until(73 * HOUR);
    assert_eq!(story.view("u").state, CaseState::Closed);
    // Nobody said that these were the owner's.
    let third = story.second_factor(73 * HOUR + MINUTE, "u", "failure");
    assert!(third.locked(), "{:?}", third.decisions());
    story.answer(74 * HOUR, "u", "me", &[]);
    let asked = story.event(75 * HOUR, login("BR"));
    assert_eq!(asked.decisions(), ["place acted 1"]);
}

#[test]
fn rules_11_an_answer_before_the_timer_in_the_log_is_applied_however_late() {
    let mut story = Story::of_rule(&asks("ask", "type: two_factor_disabled", "each"));
    assert!(story.event(0, off("two_factor_disabled")).acted());
    let answered = story.answer(80 * HOUR, "u", "me", &[]);
    assert_eq!(answered.cases, 1);
    assert_eq!(story.said.counts.answers_applied, 1);
    assert_eq!(story.view("u").state, CaseState::Closed);
    let deadline = Timestamp(START + 72 * HOUR);
    let case = story.case("u");
    let timer = wire::timer_due("t-1", "u", &case, "case_asked", deadline, deadline);
    assert_eq!(story.bytes(80 * HOUR + 1, &timer).cases, 0);
}

#[test]
fn a_case_that_follows_another_does_not_make_it_forgotten() {
    let mut story = Story::new();
    let mut cases = Vec::new();
    for n in 0..3 {
        attack(&mut story, n * HOUR + MINUTE, "u");
        cases.push(story.case("u"));
        story.answer(n * HOUR + 2 * MINUTE, "u", "me", &[]);
    }
    story.restart(&["u"]);
    story.wait_until(31 * DAY);
    let gone: Vec<String> = story
        .said
        .dropped_cases
        .iter()
        .map(|c| c.to_string())
        .collect();
    assert_eq!(gone, cases);
}

#[test]
fn rules_15_of_very_many_cases_the_oldest_record_goes_early() {
    let rule = "
schema: 1
id: each
title: Each failure
severity: low
mode: enforce
when: { type: two_factor, outcome: failure }
by: account
detect: each
then: [ { lock_account: { reason: trial } } ]
";
    let mut story = Story::of_rule(rule);
    for n in 0..40 {
        let at = n * MINUTE;
        story.second_factor(at, "u", "failure");
        story.answer(at + SECOND, "u", "me", &[]);
        story.wait_until(at + 2 * SECOND);
    }
    assert_eq!(
        story.said.dropped_cases.len(),
        7,
        "32 are remembered, and one is kept"
    );
    assert_eq!(*story.said.dropped_cases[0].0, *story.said.cases[0].id.0);
}

#[test]
fn a_locked_account_is_never_forgotten() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.wait_until(400 * DAY);
    assert_eq!(story.view("u").state, CaseState::Open);
    assert!(story.said.dropped_cases.is_empty());
}

#[test]
fn rules_11_a_deleted_account_takes_the_records_of_its_ended_cases_too() {
    let mut story = Story::new();
    for n in 0..2 {
        attack(&mut story, n * HOUR + MINUTE, "u");
        story.answer(n * HOUR + 2 * MINUTE, "u", "me", &[]);
    }
    story.event(DAY, json!({ "type": "account_deleted", "account": "u" }));
    assert_eq!(story.said.dropped_cases.len(), 2);
    assert_eq!(story.engine.next_deadline(&story.partition), None);
}

#[test]
fn rules_11_a_clock_that_ran_a_year_ahead_delays_nothing() {
    let mut story = Story::new();
    let request = json!({ "type": "recovery", "outcome": "requested", "account": "u" });
    story.event(0, request);
    // A restarted machine believes in next year, and publishes the timer.
    story.restart(&["u"]);
    let wrong = Timestamp(START + 365 * DAY);
    let due = story.engine.due_timers(&mut story.partition, wrong);
    assert_eq!(due.len(), 1);
    let timer = wire::timer_due(
        "t-1",
        "u",
        &due[0].case,
        due[0].kind,
        due[0].deadline,
        wrong,
    );
    assert!(story.bytes(HOUR, &timer).is_silent());
    // Read back, it is known to have been too early, and is due in its time.
    let end = Timestamp(START + DAY);
    assert_eq!(story.engine.next_deadline(&story.partition), Some(end));
    assert_eq!(story.wait_until(DAY).commands(), ["release_recovery"]);
}

#[test]
fn rules_11_the_same_timer_gives_the_same_command_whenever_it_is_read_back() {
    let told = |at: i64| {
        let mut story = Story::new();
        let request = json!({ "id": "r-1", "type": "recovery", "outcome": "requested",
                              "account": "u" });
        story.event_received(0, 0, request);
        let timer = wire::timer_due(
            &format!("t-{at}"),
            "u",
            &story.recovery("u"),
            "recovery_hold",
            Timestamp(START + DAY),
            Timestamp(START + at),
        );
        story.bytes(at, &timer).commands[0].id.clone()
    };
    assert_eq!(told(DAY), told(3 * DAY));
}

#[test]
fn the_timers_of_very_many_accounts_are_handed_out_by_and_by() {
    let mut story = Story::new();
    for n in 0..2_500 {
        let request = json!({ "type": "recovery", "outcome": "requested",
                              "account": format!("u-{n}") });
        story.event(0, request);
    }
    let now = Timestamp(START + 2 * DAY);
    let mut handed_out = Vec::new();
    loop {
        let due = story.engine.due_timers(&mut story.partition, now);
        if due.is_empty() {
            break;
        }
        assert!(due.len() <= 1_000);
        handed_out.extend(due.iter().map(|timer| timer.case.clone()));
    }
    handed_out.sort_unstable();
    handed_out.dedup();
    assert_eq!(handed_out.len(), 2_500);
    let again = now.plus_ms(MINUTE);
    assert_eq!(story.engine.next_deadline(&story.partition), Some(again));
}
