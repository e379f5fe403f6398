//! What follows an answer: the steps of a secured case, and the mails that ask nothing.

use doorward::engine::output::{CaseState, RecipientPart};
use serde_json::{Value, json};

use super::cases::{attack, control};
use crate::support::story::*;

fn secured() -> Story {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "not_me", &[]);
    story
}

fn event(kind: &str) -> Value {
    json!({ "type": kind, "account": "u" })
}

#[test]
fn new_api_keys_are_ordered_once_and_only_by_the_owner_of_a_secured_case() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    assert!(
        story
            .answer(2 * MINUTE, "u", "rotate_keys", &[])
            .is_silent()
    );
    story.answer(3 * MINUTE, "u", "not_me", &[]);
    let case = story.case("u");
    let by_co_owner = json!({ "type": "case_response", "account": "u", "case": case,
        "case_version": 1, "answer": "rotate_keys", "by": "co_owner" });
    assert!(control(&mut story, 4 * MINUTE, by_co_owner).is_silent());
    let said = story.answer(5 * MINUTE, "u", "rotate_keys", &[]);
    assert_eq!(said.commands(), ["rotate_api_keys"]);
    assert_eq!(said.commands[0].case.as_ref().map(|c| &*c.0), Some(&*case));
    assert!(story.view("u").steps.api_keys.is_some());
    let again = story.answer(6 * MINUTE, "u", "rotate_keys", &[]);
    assert!(again.is_silent(), "once is enough");
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn steps_tick_themselves_off_and_survive_a_restart() {
    let mut story = secured();
    let case = story.case("u");
    let steps = |story: &Story| story.view("u").steps;
    assert!(story.view("u").secured_at.is_some());
    control(&mut story, 3 * MINUTE, event("two_factor_enabled"));
    assert!(steps(&story).second_factor.is_some());
    control(&mut story, 4 * MINUTE, event("two_factor_disabled"));
    assert_eq!(steps(&story).second_factor, None);
    story.restart(&["u"]);
    let new = json!({ "type": "password_changed", "account": "u", "case": case });
    control(&mut story, 5 * MINUTE, new);
    assert_eq!(story.view("u").state, CaseState::Recovered);
    assert!(steps(&story).password.is_some());
    // What is left to do can still be done once the owner is back in.
    control(&mut story, 6 * MINUTE, event("two_factor_enabled"));
    let said = story.answer(7 * MINUTE, "u", "rotate_keys", &[]);
    assert_eq!(said.commands(), ["rotate_api_keys"]);
    assert!(steps(&story).second_factor.is_some() && steps(&story).password.is_some());
}

#[test]
fn what_the_thief_did_before_ticks_nothing_off_however_late_it_comes() {
    let mut story = secured();
    let late = story.event_received(MINUTE, 3 * MINUTE, event("two_factor_enabled"));
    assert!(late.is_silent() && story.view("u").steps.second_factor.is_none());
    // Nor is anything noted of an account that nobody disowned.
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    control(&mut story, 2 * MINUTE, event("two_factor_enabled"));
    assert_eq!(story.view("u").version, 1);
    assert!(
        control(
            &mut story,
            3 * MINUTE,
            json!({ "type": "two_factor_enabled",
        "account": "nobody" })
        )
        .changed_keys
        .is_empty()
    );
}

#[test]
fn an_operator_who_lets_the_owner_in_ticks_no_password() {
    let mut story = secured();
    let unlock = json!({ "type": "operator_request", "account": "u", "request": "unlock",
                         "operator": "support desk", "reason": "owner called" });
    control(&mut story, 3 * MINUTE, unlock);
    assert_eq!(story.view("u").state, CaseState::Recovered);
    assert_eq!(story.view("u").steps.password, None);
}

/// `template part` of each mail.
fn told(said: &Said) -> Vec<String> {
    let mails = said.mails.iter();
    mails
        .map(|mail| format!("{} {}", mail.template, mail.part.as_str()))
        .collect()
}

#[test]
fn every_end_of_a_lock_is_told() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    let said = story.answer(2 * MINUTE, "u", "me", &[]);
    assert_eq!(told(&said), ["unlocked owner"]);
    let said = story.answer(3 * MINUTE, "u", "not_me", &[]);
    assert_eq!(told(&said), ["secured owner"]);
    let case = story.case("u");
    let new = json!({ "type": "password_changed", "account": "u", "case": case });
    // The account had its three mails of this hour.
    assert_eq!(told(&control(&mut story, 4 * MINUTE, new)), [""; 0]);
    assert_eq!(story.said.counts.mail_untold, 1);

    let mut story = secured();
    let case = story.case("u");
    let new = json!({ "type": "password_changed", "account": "u", "case": case });
    assert_eq!(
        told(&control(&mut story, 2 * HOUR, new)),
        ["recovered owner"]
    );
}

#[test]
fn a_stolen_account_that_is_reported_gets_the_mail_that_leads_on() {
    let mut story = Story::new();
    let stolen = json!({ "type": "reported_stolen", "account": "u", "email": "u@example.org",
                         "owners": ["boss@example.org"] });
    let said = control(&mut story, 0, stolen);
    assert_eq!(told(&said), ["secured owner", "secured co_owner"]);
    let case = story.case("u");
    let resend = json!({ "type": "case_response", "account": "u", "case": case,
        "case_version": 1, "answer": "resend", "by": "help" });
    let said = control(&mut story, MINUTE, resend);
    assert_eq!(told(&said), ["secured owner", "secured co_owner"]);
}

#[test]
fn a_released_recovery_is_told_without_being_asked() {
    let mut story = Story::new();
    let request = json!({ "type": "recovery", "outcome": "requested", "account": "u",
                          "email": "u@example.org" });
    assert_eq!(told(&story.event(0, request)), ["recovery_held owner"]);
    let said = story.wait_until(DAY);
    assert_eq!(said.commands(), ["release_recovery"]);
    assert_eq!(told(&said), ["recovery_released owner"]);
}

#[test]
fn mails_that_ask_nothing_take_no_slot_from_those_that_ask() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    attack(&mut story, MINUTE, "u");
    assert_eq!(
        told(&story.answer(2 * MINUTE, "u", "me", &[])),
        ["unlocked owner"]
    );
    // Noise again, and its answer: the hour's three are used up.
    assert_eq!(attack(&mut story, 32 * MINUTE, "u").mails.len(), 1);
    assert!(story.answer(33 * MINUTE, "u", "me", &[]).mails.is_empty());
    // The theft is told all the same.
    let said = story.login(34 * MINUTE, "u", BRAZIL);
    assert_eq!(told(&said), ["was_this_you owner"]);
}

#[test]
fn who_knows_the_reference_cannot_use_up_the_mails_before_the_theft() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    attack(&mut story, MINUTE, "u");
    let case = story.case("u");
    let mut again = 0;
    for n in 0..200 {
        let resend = json!({ "type": "case_response", "account": "u", "case": case,
            "case_version": 1, "answer": "resend", "by": "help" });
        again += control(&mut story, (2 + n * 14) * MINUTE, resend)
            .mails
            .len();
    }
    assert_eq!(again, 6, "seven of ten within two days, with the first");
    let said = story.login(2_810 * MINUTE, "u", BRAZIL);
    assert_eq!(said.mails.len(), 1);
}

#[test]
fn a_closed_case_sends_nothing_again() {
    let mut story = Story::new();
    attack(&mut story, MINUTE, "u");
    story.answer(2 * MINUTE, "u", "me", &[]);
    assert!(story.answer(DAY, "u", "resend", &[]).is_silent());
}

#[test]
fn the_name_of_the_account_goes_to_its_people_and_never_into_a_notice() {
    let mut story = Story::new();
    let reset = json!({ "type": "password_reset", "outcome": "requested", "account": "u",
        "ip": MALICIOUS, "email": "new@example.org", "email_verified": false,
        "owners": ["boss@example.org"], "account_name": "ann" });
    let said = story.event(0, reset);
    let named: Vec<_> = said
        .mails
        .iter()
        .map(|mail| (mail.part, mail.account_name.as_deref()))
        .collect();
    assert_eq!(
        named,
        [
            (RecipientPart::Notice, None),
            (RecipientPart::CoOwner, Some("ann"))
        ]
    );
}
