//! Cases, cooldown, answers, timers (RULES.md 10 and 11; CONTRACT.md section 3).

use doorward::engine::output::{CaseState, RecipientPart, Scope};
use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys, OperatorRequest};
use serde_json::json;

use crate::support::story::*;

/// Five failures from five addresses, a second apart, the last of them at `at`.
fn attack(story: &mut Story, at: i64, account: &str) -> Said {
    for n in 0..4 {
        story.failed_login(at - (4 - n) * SECOND, account, &format!("192.0.2.{n}"));
    }
    story.failed_login(at, account, "192.0.2.4")
}

fn control(story: &mut Story, at: i64, fields: serde_json::Value) -> Said {
    story.event(at, fields)
}

#[test]
fn a_hit_locks_mails_and_opens_a_case_at_once() {
    let mut story = Story::new();
    let said = attack(&mut story, MINUTE, "u");
    let lock = &said.commands[0];
    assert_eq!(said.commands(), ["lock_account"]);
    assert_eq!(lock.scope, Some(Scope::Unfamiliar));
    assert_eq!(lock.since, Some(Timestamp(START + MINUTE - 4 * SECOND)));
    assert_eq!(lock.reason.as_ref(), "credential_stuffing");
    assert_eq!(lock.evidence.len(), 5);
    assert_eq!(lock.seq, lock.source.offset * 16);
    assert_eq!(said.mails.len(), 1);
    assert_eq!(&*said.mails[0].to, "u@example.org");
    assert_eq!(said.mails[0].part, RecipientPart::Owner);
    assert_eq!(story.view("u").state, CaseState::Open);
    assert_eq!(story.view("u").version, 1);
}

#[test]
fn the_same_cause_gives_the_same_ids_for_ever() {
    let tell = || {
        let mut story = Story::new();
        let said = attack(&mut story, MINUTE, "u");
        (
            said.commands[0].id.clone(),
            said.decisions[0].id.clone(),
            said.mails[0].id.clone(),
            story.case("u"),
        )
    };
    assert_eq!(tell(), tell());
}

#[test]
fn rules_10_cooldown_runs_from_the_last_decision_that_acted_by_broker_time() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "me", &[]);
    let second = attack(&mut story, 20 * MINUTE, "u");
    assert_eq!(second.decisions(), ["failed-logins-many-ips cooldown 5"]);
    assert!(second.commands.is_empty() && second.mails.is_empty());
    // A decision in the cooldown does not prolong it.
    let third = attack(&mut story, 31 * MINUTE, "u");
    assert_eq!(third.decisions(), ["failed-logins-many-ips acted 5"]);
}

#[test]
fn rules_10_while_a_case_is_open_hits_join_it() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let again = attack(&mut story, 2 * MINUTE, "u");
    assert_eq!(again.decisions(), ["failed-logins-many-ips case_open 5"]);
    assert!(again.commands.is_empty() && again.mails.is_empty());
    assert_eq!(story.view("u").version, 1);
    // Another rule's first hit raises the version and widens the lock.
    for n in 0..5 {
        story.second_factor(3 * MINUTE + n, "u", "failure");
    }
    assert_eq!(story.view("u").version, 2);
    assert_eq!(story.view("u").rules.len(), 2);
    let locks: Vec<_> = story
        .said
        .commands
        .iter()
        .map(|c| c.scope.unwrap())
        .collect();
    assert_eq!(locks, [Scope::Unfamiliar, Scope::All]);
    assert_eq!(story.said.mails.len(), 1);
}

#[test]
fn rules_10_a_success_that_joins_a_case_of_failures_sends_a_new_mail() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    attack(&mut story, MINUTE, "u");
    let said = story.login(2 * MINUTE, "u", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country case_open 1"]);
    assert_eq!(said.commands(), ["lock_account"]);
    assert_eq!(said.commands[0].sessions, ["s-120000"]);
    assert_eq!(said.mails.len(), 1);
    assert_eq!(said.mails[0].case_version, 2);
    // A second new place joins without another mail.
    let said = story.login(3 * MINUTE, "u", JAPAN);
    assert!(said.mails.is_empty());
    assert_eq!(story.view("u").version, 3);
    assert_eq!(story.view("u").places.len(), 2);
}

#[test]
fn rules_10_closing_sets_the_cut() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    // Three more are held when the owner answers.
    for n in 5..8 {
        story.failed_login(2 * MINUTE + n, "u", &format!("192.0.2.{n}"));
    }
    story.answer(3 * MINUTE, "u", "me", &[]);
    // After the cooldown: what was at or before the cut never counts again, however it
    // is delivered.
    let later = HOUR;
    for n in 0..8 {
        let said = story.event_received(
            2 * MINUTE + 7 - n,
            later,
            json!({ "type": "login", "outcome": "failure", "account": "u",
                    "ip": format!("198.18.0.{n}") }),
        );
        assert!(said.is_silent());
    }
    // A millisecond after the cut counts.
    let mut locked = false;
    for n in 0..5 {
        locked |= story
            .event_received(
                2 * MINUTE + 8 + n,
                later,
                json!({ "type": "login", "outcome": "failure", "account": "u",
                        "ip": format!("198.18.1.{n}") }),
            )
            .locked();
    }
    assert!(locked);
}

#[test]
fn rules_10_the_cut_holds_for_every_rule() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "me", &[]);
    let said = story.event_received(
        MINUTE,
        3 * MINUTE,
        json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                "ip": MALICIOUS }),
    );
    assert!(said.is_silent());
}

#[test]
fn rules_10_an_unticked_place_keeps_the_lock() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(MINUTE, "u", BRAZIL);
    story.login(2 * MINUTE, "u", JAPAN);
    let said = story.answer(3 * MINUTE, "u", "me", &["country:BR"]);
    assert!(said.commands.is_empty());
    assert_eq!(story.view("u").state, CaseState::Open);
    let said = story.answer(4 * MINUTE, "u", "me", &["country:JP"]);
    assert_eq!(said.commands(), ["unlock_account"]);
    assert!(story.login(5 * MINUTE, "u", BRAZIL).is_silent());
    assert!(story.login(6 * MINUTE, "u", JAPAN).is_silent());
}

#[test]
fn an_answer_to_an_older_version_is_asked_again() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    for n in 0..5 {
        story.second_factor(2 * MINUTE + n, "u", "failure");
    }
    let said = control(
        &mut story,
        3 * MINUTE,
        json!({ "type": "case_response", "account": "u", "case": case, "case_version": 1,
                "answer": "me", "by": "owner" }),
    );
    assert!(said.commands.is_empty());
    assert_eq!(story.view("u").state, CaseState::Open);
    assert_eq!(story.said.counts.answers_ignored, 1);
}

#[test]
fn not_me_secures_and_only_a_password_change_that_names_the_case_ends_it() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let said = story.answer(2 * MINUTE, "u", "not_me", &[]);
    assert_eq!(
        said.commands(),
        ["lock_account", "revoke_sessions", "require_password_change"]
    );
    assert_eq!(said.commands[0].scope, Some(Scope::All));
    assert_eq!(said.commands[2].seq, said.commands[0].seq + 2);
    assert_eq!(story.view("u").state, CaseState::Secured);
    // A repeat is harmless, and "me" never beats "not me".
    assert!(story.answer(3 * MINUTE, "u", "not_me", &[]).is_silent());
    assert!(story.answer(4 * MINUTE, "u", "me", &[]).is_silent());
    // The thief's reset through a stolen mailbox names no case.
    let thief = json!({ "type": "password_changed", "account": "u" });
    assert!(control(&mut story, 5 * MINUTE, thief).is_silent());
    let other = json!({ "type": "password_changed", "account": "u", "case": "k-other" });
    assert!(control(&mut story, 6 * MINUTE, other).is_silent());
    let case = story.case("u");
    let owner = json!({ "type": "password_changed", "account": "u", "case": case });
    let said = control(&mut story, 7 * MINUTE, owner);
    assert_eq!(said.commands(), ["unlock_account"]);
    assert_eq!(story.view("u").state, CaseState::Recovered);
}

#[test]
fn not_me_after_me_locks_again() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    assert_eq!(
        story.answer(2 * MINUTE, "u", "me", &[]).commands(),
        ["unlock_account"]
    );
    assert_eq!(story.view("u").state, CaseState::Unlocked);
    let said = story.answer(3 * MINUTE, "u", "not_me", &[]);
    assert_eq!(
        said.commands(),
        ["lock_account", "revoke_sessions", "require_password_change"]
    );
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn a_co_owner_may_say_not_me_and_never_me() {
    let answer = |answer: &str| {
        let mut story = Story::new();
        attack(&mut story, MINUTE, "u");
        let case = story.case("u");
        let event = json!({ "type": "case_response", "account": "u", "case": case,
                            "case_version": 1, "answer": answer, "by": "co_owner" });
        control(&mut story, 2 * MINUTE, event).commands.len()
    };
    assert_eq!(answer("me"), 0);
    assert_eq!(answer("not_me"), 3);
}

#[test]
fn an_answer_that_names_no_account_is_found_by_its_case() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    let event = json!({ "type": "case_response", "case": case, "case_version": 1,
                        "answer": "me", "by": "owner" });
    assert_eq!(
        control(&mut story, 2 * MINUTE, event).commands(),
        ["unlock_account"]
    );
}

#[test]
fn a_closed_case_is_forgotten_after_three_days() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "me", &[]);
    let late = 2 * MINUTE + 72 * HOUR;
    let case = story.case("u");
    let event = json!({ "type": "case_response", "account": "u", "case": case,
                        "case_version": 1, "answer": "not_me", "by": "owner" });
    assert!(control(&mut story, late, event).is_silent());
}

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
fn an_operator_unlocks_with_a_record_and_undo_does_not_teach() {
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
fn the_pipelines_own_unlock_closes_the_case_and_teaches_only_when_it_names_it() {
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
    let soon = early.plus_ms(MINUTE - 1);
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
    assert_eq!(story.engine.next_deadline(&story.partition), None);
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
    assert_eq!(mails, 3 + usize::from(story.said.counts.mail_capped == 0));
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
