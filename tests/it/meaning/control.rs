//! Who may change a case: answers with their MAC, operators, the pipeline, timers
//! (docs/rules.md 11), and who is mailed about it.

use doorward::engine::output::{CaseState, Scope};
use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys, OperatorRequest};
use serde_json::json;

use super::cases::{attack, control};
use crate::support::story::*;

fn keys() -> MacKeys {
    MacKeys(vec![
        MacKey {
            id: "new".into(),
            bytes: vec![1; 32],
        },
        MacKey {
            id: "old".into(),
            bytes: vec![2; 32],
        },
    ])
}

#[test]
fn an_answer_acts_only_with_a_mac_by_one_of_the_keys() {
    let mut story = Story::with_keys(keys());
    attack(&mut story, MINUTE, "u");
    // Without one.
    assert!(story.answer(2 * MINUTE, "u", "me", &[]).is_silent());
    assert_eq!(story.said.counts.answers_forged, 1);
    let case = story.case("u");
    let signed = |keys: &MacKeys, answer: &str| {
        wire::case_response(
            &wire::CaseResponse {
                id: "a-1",
                account: Some("u"),
                case: &case,
                case_version: 1,
                answer,
                places: &[],
                by: "owner",
                time: Timestamp(START),
            },
            keys,
        )
    };
    // By a key that is not ours, though it has the right name.
    let stranger = MacKeys(vec![MacKey {
        id: "new".into(),
        bytes: vec![3; 32],
    }]);
    assert!(
        story
            .bytes(3 * MINUTE, &signed(&stranger, "me"))
            .is_silent()
    );
    // With another word put in its place.
    let tampered = String::from_utf8(signed(&keys(), "not_me"))
        .unwrap()
        .replace("not_me", "me");
    assert!(story.bytes(3 * MINUTE, tampered.as_bytes()).is_silent());
    // By the older of two keys, while they rotate.
    let old = MacKeys(vec![keys().0[1].clone()]);
    let said = story.bytes(4 * MINUTE, &signed(&old, "me"));
    assert_eq!(said.commands(), ["unlock_account"]);
}

#[test]
fn rules_8_an_operators_unlock_teaches_and_an_undo_does_not() {
    let told = |request: &str| {
        let mut story = Story::with_keys(keys());
        story.login(0, "u", NORWAY);
        story.login(MINUTE, "u", BRAZIL);
        let payload = wire::operator_request(
            &OperatorRequest {
                id: "o-1",
                account: "u",
                case: None,
                request,
                operator: "support desk",
                reason: "owner called",
                time: Timestamp(START),
                ..OperatorRequest::default()
            },
            &keys(),
        );
        let said = story.bytes(2 * MINUTE, &payload);
        assert_eq!(said.commands(), ["unlock_account"]);
        assert_eq!(story.view("u").state, CaseState::Unlocked);
        story.login(HOUR, "u", BRAZIL).locked()
    };
    assert!(!told("unlock"), "an operator's unlock teaches the place");
    assert!(told("undo"), "an undo teaches nothing");
}

#[test]
fn rules_8_the_pipelines_own_unlock_closes_the_case_and_teaches_only_when_it_names_it() {
    let told = |named: bool| {
        let mut story = Story::new();
        story.login(0, "u", NORWAY);
        story.login(MINUTE, "u", BRAZIL);
        let mut event = json!({ "type": "account_unlocked", "account": "u" });
        if named {
            event["case"] = json!(story.case("u"));
        }
        let said = control(&mut story, 2 * MINUTE, event);
        assert!(said.commands.is_empty());
        assert_eq!(story.view("u").state, CaseState::Unlocked);
        story.login(HOUR, "u", BRAZIL).locked()
    };
    assert!(!told(true));
    assert!(told(false));
    // Another case's name is old news.
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let old = json!({ "type": "account_unlocked", "account": "u", "case": "k-old" });
    control(&mut story, 2 * MINUTE, old);
    assert_eq!(story.view("u").state, CaseState::Open);
}

#[test]
fn rules_11_control_events_apply_however_old_they_are() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    let said = story.event_received(
        -DAY,
        2 * DAY,
        json!({ "type": "case_response", "account": "u", "case": case, "case_version": 1,
                "answer": "me", "by": "owner" }),
    );
    assert_eq!(said.commands(), ["unlock_account"]);
}

const FOR_AN_HOUR: &str = "
schema: 1
id: brief
title: Locked for an hour
severity: low
mode: enforce
when: { type: two_factor, outcome: failure }
by: account
detect: each
then: [ { lock_account: { reason: trial, until: 1h } }, email_user ]
";

#[test]
fn rules_11_a_timer_acts_when_it_is_read_back_and_its_time_has_come() {
    let mut story = Story::of_rule(FOR_AN_HOUR);
    let said = story.second_factor(0, "u", "failure");
    assert_eq!(said.commands[0].until, Some(Timestamp(START + HOUR)));
    let deadline = story.engine.next_deadline(&story.partition).unwrap();
    assert_eq!(deadline, Timestamp(START + HOUR));
    // The shard's clock runs ahead: it publishes too early, and nothing happens.
    let early = Timestamp(START + HOUR);
    let due = story.engine.due_timers(&mut story.partition, early);
    assert_eq!(due.len(), 1);
    let timer = |id: &str| wire::timer_due(id, "u", &due[0].case, due[0].kind, deadline, early);
    assert!(story.bytes(HOUR - 1, &timer("t-1")).is_silent());
    // It is published again after a minute, not before.
    let soon = early.plus_ms(MINUTE - 2);
    assert!(
        story
            .engine
            .due_timers(&mut story.partition, soon)
            .is_empty()
    );
    let later = early.plus_ms(MINUTE);
    assert_eq!(
        story.engine.due_timers(&mut story.partition, later).len(),
        1
    );
    let said = story.bytes(HOUR, &timer("t-2"));
    assert_eq!(said.commands(), ["unlock_account"]);
    assert_eq!(story.view("u").state, CaseState::Unlocked);
    // Repeats do nothing.
    assert!(story.bytes(HOUR + 1, &timer("t-3")).is_silent());
    // What is left is the end of the closed case.
    let kept = Timestamp(START + HOUR + 72 * HOUR);
    assert_eq!(story.engine.next_deadline(&story.partition), Some(kept));
}

#[test]
fn rules_11_a_forged_timer_cannot_unlock_before_its_time() {
    let mut story = Story::of_rule(FOR_AN_HOUR);
    story.second_factor(0, "u", "failure");
    let forged = wire::timer_due(
        "t-x",
        "u",
        &story.case("u"),
        "lock_until",
        Timestamp(START),
        Timestamp(START),
    );
    assert!(story.bytes(MINUTE, &forged).is_silent());
}

#[test]
fn rules_11_an_owners_denial_outlasts_the_locks_end() {
    let mut story = Story::of_rule(FOR_AN_HOUR);
    story.second_factor(0, "u", "failure");
    story.answer(MINUTE, "u", "not_me", &[]);
    assert_eq!(story.engine.next_deadline(&story.partition), None);
    let timer = wire::timer_due(
        "t-1",
        "u",
        &story.case("u"),
        "lock_until",
        Timestamp(START + HOUR),
        Timestamp(START + HOUR),
    );
    assert!(story.bytes(2 * HOUR, &timer).is_silent());
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn after_a_change_of_address_links_go_to_the_previous_one_for_a_week() {
    let recipients = |at: i64| {
        let mut story = Story::new();
        control(
            &mut story,
            0,
            json!({ "type": "email_changed", "account": "u", "email": "u@example.org",
                    "previous_email": "old@example.org" }),
        );
        attack(&mut story, at, "u")
            .mails
            .iter()
            .map(|mail| format!("{} {}", mail.to, mail.part.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        recipients(7 * DAY - 1),
        ["old@example.org owner", "u@example.org notice"]
    );
    assert_eq!(recipients(7 * DAY + MINUTE), ["u@example.org owner"]);
}

#[test]
fn an_unverified_address_gets_a_notice_and_co_owners_their_own_mail() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                "ip": MALICIOUS, "email": "u@example.org", "email_verified": false,
                "owners": ["boss@example.org", "u@example.org"] }),
    );
    let told: Vec<String> = said
        .mails
        .iter()
        .map(|mail| format!("{} {}", mail.to, mail.part.as_str()))
        .collect();
    assert_eq!(told, ["u@example.org notice", "boss@example.org co_owner"]);
}

#[test]
fn without_an_address_the_lock_stands() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                "ip": MALICIOUS }),
    );
    assert!(said.locked() && said.mails.is_empty());
    assert_eq!(story.said.counts.mail_no_address, 1);
}

#[test]
fn noise_cannot_use_up_the_mails_of_an_account() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    // Two cases of failures only use the two slots that they may.
    let mut mails = 0;
    for n in 1..=3 {
        let at = n * 31 * MINUTE - 30 * MINUTE;
        mails += attack(&mut story, at, "u").mails.len();
        story.answer(at + SECOND, "u", "me", &[]);
        if n == 2 {
            // The third slot of the hour is kept for a success.
            let said = story.login(at + 5 * MINUTE, "u", BRAZIL);
            mails += said.mails.len();
            story.answer(at + 6 * MINUTE, "u", "me", &["country:BR"]);
        }
    }
    assert_eq!(mails, 3);
    assert_eq!(story.said.counts.mail_capped, 1);
}

#[test]
fn a_deleted_account_takes_its_state_and_case_with_it() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let gone = json!({ "type": "account_deleted", "account": "u" });
    let said = control(&mut story, 2 * MINUTE, gone);
    assert_eq!(said.changed, 1);
    assert_eq!(story.said.dropped_cases.len(), 1);
    assert_eq!(story.partition.accounts(), 0);
    assert_eq!(story.partition.open_cases(), 0);
}

#[test]
fn a_stolen_account_is_secured_at_once() {
    let mut story = Story::new();
    let event = json!({ "type": "reported_stolen", "account": "u", "email": "u@example.org" });
    let said = control(&mut story, 0, event);
    assert_eq!(
        said.commands(),
        ["lock_account", "revoke_sessions", "require_password_change"]
    );
    assert_eq!(story.view("u").state, CaseState::Secured);
    assert_eq!(said.mails.len(), 1);
}

#[test]
fn a_rule_that_only_asks_locks_when_the_owner_denies() {
    let rule = "
schema: 1
id: second-factor-off
title: Second factor switched off
severity: medium
mode: enforce
when: { type: two_factor_disabled }
by: account
detect: each
then: [ email_user ]
";
    let mut story = Story::of_rule(rule);
    let event = json!({ "type": "two_factor_disabled", "account": "u", "email": "u@example.org" });
    let said = story.event(0, event);
    assert!(said.commands.is_empty());
    assert_eq!(story.view("u").state, CaseState::Asked);
    let said = story.answer(MINUTE, "u", "not_me", &[]);
    assert_eq!(
        said.commands(),
        ["lock_account", "revoke_sessions", "require_password_change"]
    );
}

#[test]
fn a_copied_operators_unlock_does_not_open_a_later_lock() {
    let mut story = Story::with_keys(keys());
    attack(&mut story, MINUTE, "u");
    let unlock = wire::operator_request(
        &OperatorRequest {
            id: "o-1",
            account: "u",
            case: None,
            request: "unlock",
            operator: "support desk",
            reason: "owner called",
            time: Timestamp(START + 2 * MINUTE),
            ..OperatorRequest::default()
        },
        &keys(),
    );
    assert_eq!(
        story.bytes(2 * MINUTE, &unlock).commands(),
        ["unlock_account"]
    );
    assert!(attack(&mut story, HOUR, "u").locked());
    assert!(story.bytes(HOUR + MINUTE, &unlock).is_silent());
    assert_eq!(story.view("u").state, CaseState::Open);
}

#[test]
fn a_copied_denial_does_not_secure_a_later_case() {
    let mut story = Story::with_keys(keys());
    attack(&mut story, MINUTE, "u");
    let denial = wire::case_response(
        &wire::CaseResponse {
            id: "a-1",
            account: Some("u"),
            case: &story.case("u"),
            case_version: 1,
            answer: "not_me",
            places: &[],
            by: "owner",
            time: Timestamp(START + 2 * MINUTE),
        },
        &keys(),
    );
    story.bytes(2 * MINUTE, &denial);
    let case = story.case("u");
    story.event(
        3 * MINUTE,
        json!({ "type": "password_changed", "account": "u", "case": case }),
    );
    assert!(attack(&mut story, HOUR, "u").locked());
    assert!(story.bytes(HOUR + MINUTE, &denial).is_silent());
    assert_eq!(story.view("u").state, CaseState::Open);
}

#[test]
fn support_can_unlock_an_account_that_is_not_in_memory() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "operator_request", "account": "u", "request": "unlock",
                "operator": "support desk", "reason": "owner called" }),
    );
    assert_eq!(said.commands(), ["unlock_account"]);
}

#[test]
fn a_repeated_report_does_not_lock_an_owner_who_is_back() {
    let mut story = Story::new();
    let report = json!({ "id": "r-1", "type": "reported_stolen", "account": "u",
                         "email": "u@example.org" });
    let said = story.event_received(0, 0, report.clone());
    assert_eq!(said.mails[0].time, Timestamp(START));
    let case = story.case("u");
    story.event(
        MINUTE,
        json!({ "type": "password_changed", "account": "u", "case": case }),
    );
    assert!(story.event_received(0, 2 * MINUTE, report).is_silent());
    assert_eq!(story.view("u").state, CaseState::Recovered);
}

#[test]
fn rules_8_a_place_that_the_owner_denies_is_not_known_whatever_was_said_before() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(MINUTE, "u", BRAZIL);
    // A thief in the mailbox confirms, then the owner denies.
    story.answer(2 * MINUTE, "u", "me", &["country:BR"]);
    story.answer(3 * MINUTE, "u", "not_me", &[]);
    let case = story.case("u");
    story.event(
        4 * MINUTE,
        json!({ "type": "password_changed", "account": "u", "case": case }),
    );
    assert!(story.login(HOUR, "u", BRAZIL).locked());
}

#[test]
fn an_account_that_was_only_asked_about_is_mailed_again_when_it_is_locked() {
    let asks = "
schema: 1
id: second-factor-off
title: Second factor switched off
severity: medium
mode: enforce
when: { type: two_factor_disabled }
by: account
detect: each
then: [ email_user ]
";
    let locks = doorward::builtin::rules_file("failed-logins-many-ips.rule.yaml").unwrap();
    let mut story = Story::with(rule_set(&[asks, locks]), facts(), settings());
    let off = json!({ "type": "two_factor_disabled", "account": "u", "email": "u@example.org" });
    assert_eq!(story.event(0, off).mails[0].locked, None);
    let said = attack(&mut story, MINUTE, "u");
    assert!(said.locked());
    assert_eq!(said.mails.len(), 1);
    assert_eq!(said.mails[0].locked, Some(Scope::Unfamiliar));
}

#[test]
fn undo_does_not_unlock_what_the_owner_denied() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "not_me", &[]);
    let undo = json!({ "type": "operator_request", "account": "u", "request": "undo",
                       "operator": "support desk", "reason": "bad rule" });
    assert!(story.event(3 * MINUTE, undo).is_silent());
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn a_case_with_more_places_than_it_lists_is_not_unlocked_by_ticks() {
    let mut story = Story::new();
    let mut ticks = Vec::new();
    let codes = [
        "NO", "BR", "JP", "DE", "FR", "IT", "ES", "PT", "SE", "FI", "DK", "PL", "CZ", "AT", "CH",
        "NL", "BE", "IE", "GB", "US",
    ];
    for (at, code) in codes.iter().enumerate() {
        story.event(
            at as i64,
            json!({ "type": "login", "outcome": "success", "account": "u", "country": code,
                    "email": "u@example.org" }),
        );
        ticks.push(format!("country:{code}"));
    }
    assert_eq!(story.view("u").places.len(), 16);
    let ticks: Vec<&str> = ticks.iter().map(String::as_str).collect();
    let said = story.answer(MINUTE, "u", "me", &ticks);
    assert!(said.commands.is_empty());
}
