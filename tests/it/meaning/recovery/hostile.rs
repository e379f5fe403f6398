//! Whoever wants an account through its recovery, or wants its owner not to have it back.

use doorward::engine::output::{CaseState, CommandKind, RecipientPart};
use doorward::event::Timestamp;
use doorward::event::wire::{self, CaseResponse, MacKey, MacKeys, OperatorRequest};
use serde_json::json;

use super::{asks, recovery, state, stops};
use crate::meaning::cases::attack;
use crate::support::story::*;

fn keys() -> MacKeys {
    MacKeys(vec![MacKey {
        id: "k".into(),
        bytes: vec![1; 32],
    }])
}

#[test]
fn rules_16_a_forged_timer_releases_nothing_before_its_time() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let forged = wire::timer_due(
        "t-x",
        "u",
        &story.recovery("u"),
        "recovery_hold",
        Timestamp(START),
        Timestamp(START),
    );
    assert!(story.bytes(DAY - 1, &forged).is_silent());
}

#[test]
fn rules_16_asking_again_neither_restarts_the_hold_nor_mails_nor_is_released_with_it() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    for n in 1..40 {
        let said = asks(&mut story, n * 30 * MINUTE, &format!("thief-{n}"));
        assert!(said.is_silent());
    }
    let view = story.shown(&story.recovery("u"));
    assert_eq!(
        view.evidence.len(),
        16,
        "the page shows that, up to a bound"
    );
    let said = story.wait_until(DAY);
    assert_eq!(said.commands(), ["release_recovery"]);
    let released: Vec<&str> = said.commands[0].evidence.iter().map(|id| &**id).collect();
    assert_eq!(released, ["r-1"]);
}

#[test]
fn rules_16_a_repeated_request_is_the_same_request_as_long_as_it_is_remembered() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    assert!(asks(&mut story, MINUTE, "r-1").is_silent());
    let case = story.recovery("u");
    stops(&mut story, HOUR, &case);
    assert!(asks(&mut story, 2 * HOUR, "r-1").is_silent());
    story.wait_until(4 * DAY);
    assert!(asks(&mut story, 5 * DAY, "r-1").is_silent());
    assert_eq!(
        asks(&mut story, 5 * DAY, "r-2").commands(),
        ["hold_recovery"]
    );
}

#[test]
fn rules_16_a_refused_member_neither_ends_an_owners_recovery_nor_uses_up_its_mails() {
    let mut story = Story::new();
    for n in 0..5 {
        let said = recovery(&mut story, n, "requested", json!({ "role": "member" }));
        assert_eq!(said.commands(), ["cancel_recovery"]);
        assert_eq!(said.mails.is_empty(), n > 1, "two mails, then silence");
    }
    assert_eq!(
        asks(&mut story, MINUTE, "r-1").commands(),
        ["hold_recovery"]
    );
    let said = recovery(&mut story, HOUR, "requested", json!({ "role": "member" }));
    assert_eq!(said.commands(), ["cancel_recovery"]);
    assert_eq!(
        said.commands[0].case, None,
        "it names its own request alone"
    );
    assert_eq!(story.wait_until(2 * DAY).commands(), ["release_recovery"]);
}

#[test]
fn rules_16_a_co_owner_may_stop_a_recovery_and_a_stranger_may_not() {
    for (by, stopped) in [("co_owner", true), ("notice", false), ("help", false)] {
        let mut story = Story::new();
        asks(&mut story, 0, "r-1");
        let case = story.recovery("u");
        let said = story.event(
            HOUR,
            json!({ "type": "case_response", "account": "u", "case": case, "case_version": 1,
                    "answer": "cancel_recovery", "by": by }),
        );
        assert_eq!(!said.commands.is_empty(), stopped, "{by}");
    }
}

#[test]
fn rules_16_the_end_of_another_recovery_ends_nothing() {
    let mut story = Story::new();
    asks(&mut story, HOUR, "r-1");
    let other = json!({ "case": "k-another" });
    recovery(&mut story, 2 * HOUR, "cancelled", other.clone());
    recovery(&mut story, 2 * HOUR, "success", other);
    // The echo of what ended before this one began.
    story.event_received(
        0,
        3 * HOUR,
        json!({ "type": "recovery", "outcome": "cancelled", "account": "u" }),
    );
    // Somebody's wrong code.
    recovery(&mut story, 4 * HOUR, "failure", json!({}));
    assert_eq!(state(&story), CaseState::Held);
    assert_eq!(story.wait_until(2 * DAY).commands(), ["release_recovery"]);
}

#[test]
fn rules_16_asking_and_withdrawing_cannot_hide_a_hold_among_mails() {
    let mut story = Story::new();
    let mut held = 0;
    for n in 0..20 {
        let said = asks(&mut story, n * MINUTE, &format!("r-{n}"));
        // Whatever is held was mailed; what cannot be mailed is refused.
        match said.commands[0].kind {
            CommandKind::HoldRecovery => assert_eq!(said.mails.len(), 1),
            kind => {
                assert_eq!(kind, CommandKind::CancelRecovery);
                assert_eq!(&*said.commands[0].reason, "too_many_requests");
                continue;
            }
        }
        held += 1;
        recovery(&mut story, n * MINUTE + SECOND, "cancelled", json!({}));
    }
    assert_eq!(held, 3, "three mails an hour");
}

#[test]
fn rules_16_noise_about_cases_does_not_keep_a_recovery_from_being_mailed() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    for n in 1..=3 {
        let at = n * 31 * MINUTE - 30 * MINUTE;
        attack(&mut story, at, "u");
        story.answer(at + SECOND, "u", "me", &[]);
    }
    let said = asks(&mut story, 64 * MINUTE, "r-1");
    assert_eq!(said.mails.len(), 1);
}

#[test]
fn rules_16_after_a_change_of_address_the_previous_one_gets_the_button() {
    let mut story = Story::new();
    story.event(
        0,
        json!({ "type": "email_changed", "account": "u", "email": "u@example.org",
                "previous_email": "old@example.org" }),
    );
    let said = asks(&mut story, HOUR, "r-1");
    let told: Vec<(&str, RecipientPart)> = said
        .mails
        .iter()
        .map(|mail| (&*mail.to, mail.part))
        .collect();
    assert_eq!(
        told,
        [
            ("old@example.org", RecipientPart::Owner),
            ("u@example.org", RecipientPart::Notice)
        ]
    );
}

#[test]
fn rules_16_only_a_genuine_answer_to_this_recovery_stops_it() {
    let mut story = Story::with_keys(keys());
    for account in ["u", "other"] {
        let request = json!({ "type": "recovery", "outcome": "requested", "account": account });
        story.event(0, request);
    }
    let (case, other) = (story.recovery("u"), story.recovery("other"));
    let answer = |case: &str, account: &str, keys: &MacKeys| {
        wire::case_response(
            &CaseResponse {
                id: "a-1",
                account: Some(account),
                case,
                case_version: 1,
                answer: "cancel_recovery",
                places: &[],
                by: "owner",
                time: Timestamp(START + HOUR),
            },
            keys,
        )
    };
    let stranger = MacKeys(vec![MacKey {
        id: "k".into(),
        bytes: vec![9; 32],
    }]);
    assert!(
        story
            .bytes(HOUR, &answer(&case, "u", &stranger))
            .is_silent()
    );
    // The other owner's answer, copied to this account.
    let copied = String::from_utf8(answer(&other, "other", &keys())).unwrap();
    let copied = copied.replace("\"other\"", "\"u\"");
    assert!(story.bytes(HOUR, copied.as_bytes()).is_silent());
    assert_eq!(story.said.counts.answers_forged, 2);
    // A genuine one about the other's recovery, under this account's name.
    assert!(story.bytes(HOUR, &answer(&other, "u", &keys())).is_silent());
    let said = story.bytes(HOUR, &answer(&case, "u", &keys()));
    assert_eq!(said.commands(), ["cancel_recovery"]);
    // The same answer, copied to after the next request.
    let request = json!({ "type": "recovery", "outcome": "requested", "account": "u" });
    story.event(2 * HOUR, request);
    let copied = story.bytes(3 * HOUR, &answer(&case, "u", &keys()));
    assert!(copied.is_silent());
    assert_eq!(state(&story), CaseState::Held);
}

#[test]
fn rules_16_a_copied_operators_word_does_not_decide_a_later_dispute() {
    let mut story = Story::with_keys(keys());
    let request = |story: &mut Story, at: i64, id: &str| {
        let request = json!({ "id": id, "type": "recovery", "outcome": "requested",
                              "account": "u" });
        story.event(at, request);
        story.recovery("u")
    };
    let stop = |story: &mut Story, at: i64, case: &str| {
        let answer = wire::case_response(
            &CaseResponse {
                id: "a",
                account: Some("u"),
                case,
                case_version: 1,
                answer: "cancel_recovery",
                places: &[],
                by: "owner",
                time: Timestamp(START + at),
            },
            &keys(),
        );
        story.bytes(at, &answer)
    };
    let case = request(&mut story, 0, "r-1");
    stop(&mut story, HOUR, &case);
    let case = request(&mut story, 2 * HOUR, "r-2");
    stop(&mut story, 3 * HOUR, &case);
    let release = wire::operator_request(
        &OperatorRequest {
            id: "o-1",
            account: "u",
            case: Some(&case),
            request: "release_recovery",
            operator: "support desk",
            reason: "spoke to the owner",
            time: Timestamp(START + 4 * HOUR),
            ..OperatorRequest::default()
        },
        &keys(),
    );
    story.bytes(4 * HOUR, &release);
    assert_eq!(state(&story), CaseState::Held);
    stop(&mut story, 5 * HOUR, &case);
    assert_eq!(state(&story), CaseState::NeedsOperator);
    assert!(story.bytes(2 * DAY, &release).is_silent());
    assert_eq!(state(&story), CaseState::NeedsOperator);
}

#[test]
fn rules_16_the_mail_is_sent_again_to_whoever_asks_within_the_caps() {
    let mut story = Story::new();
    asks(&mut story, 0, "r-1");
    let case = story.recovery("u");
    let resend = |story: &mut Story, at: i64| {
        let ask = json!({ "type": "case_response", "account": "u", "case": case,
                          "case_version": 1, "answer": "resend", "by": "help" });
        story.event(at, ask).mails
    };
    let mails = resend(&mut story, MINUTE);
    assert_eq!(mails.len(), 1);
    assert_ne!(mails[0].id, story.said.mails[0].id);
    // The last slot of the hour is for a hold.
    assert!(resend(&mut story, 2 * MINUTE).is_empty());
    stops(&mut story, 2 * HOUR, &case);
    assert!(resend(&mut story, 3 * HOUR).is_empty(), "it is over");
}
