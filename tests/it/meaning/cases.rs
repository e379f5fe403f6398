//! Cases, cooldown, the cut (docs/rules.md 10; docs/contract.md section 3), and the owner's answers.

use doorward::engine::output::{CaseState, RecipientPart, Scope};
use doorward::event::Timestamp;
use serde_json::json;

use crate::support::story::*;

/// Five failures from five addresses, a second apart, the last of them at `at`.
pub fn attack(story: &mut Story, at: i64, account: &str) -> Said {
    for n in 0..4 {
        story.failed_login(at - (4 - n) * SECOND, account, &format!("192.0.2.{n}"));
    }
    story.failed_login(at, account, "192.0.2.4")
}

pub fn control(story: &mut Story, at: i64, fields: serde_json::Value) -> Said {
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
    // A decision in the cooldown does not prolong it. Events of the cooldown that the broker
    // receives after it act: its clock decides.
    let mut third = Vec::new();
    for n in 0..5 {
        let said = story.event_received(
            25 * MINUTE + n,
            31 * MINUTE,
            json!({ "type": "login", "outcome": "failure", "account": "u",
                    "ip": format!("198.18.0.{n}"), "email": "u@example.org" }),
        );
        third.extend(said.decisions());
    }
    assert_eq!(third, ["failed-logins-many-ips acted 5"]);
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
fn rules_10_an_answer_to_an_older_version_is_asked_again() {
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
