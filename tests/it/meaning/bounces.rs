//! Mails that bounce (docs/rules.md 17): who hears of it, and that it opens nothing.

use doorward::engine::output::{CaseState, RecipientPart};
use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys, MailBounced};
use doorward::mail::content::Leads;
use serde_json::{Value, json};

use crate::support::story::*;

/// The mailer's word that the mail about `case` to this address will not arrive.
pub fn bounced(case: &str, to: &str) -> Value {
    json!({ "type": "mail_bounced", "account": "u", "case": case, "case_version": 1,
            "to": to, "by": "owner", "reason": "refused" })
}

/// A new country, in a team's account: its owner and two co-owners are told.
fn team() -> Story {
    let mut story = Story::new();
    sign_in(&mut story, 0, "NO");
    let said = sign_in(&mut story, MINUTE, "BR");
    assert!(said.locked());
    let told: Vec<&str> = said.mails.iter().map(|mail| &*mail.to).collect();
    assert_eq!(
        told,
        ["u@example.org", "boss@example.org", "cto@example.org"]
    );
    story
}

fn sign_in(story: &mut Story, at: i64, country: &str) -> Said {
    let login = json!({ "type": "login", "outcome": "success", "account": "u",
                        "country": country, "session": format!("s-{at}"),
                        "email": "u@example.org", "account_name": "ann", "locale": "de",
                        "owners": ["boss@example.org", "cto@example.org"] });
    story.event(at, login)
}

fn bounce(story: &mut Story, at: i64, to: &str) -> Said {
    let event = bounced(&story.case("u"), to);
    story.event(at, event)
}

/// Template, address and what can be pressed of each mail.
fn mails(said: &Said) -> Vec<(&str, &str, Option<Leads>)> {
    let mails = said.mails.iter();
    mails
        .map(|mail| {
            let leads = Leads::of(&mail.template, mail.part);
            (&*mail.template, &*mail.to, leads)
        })
        .collect()
}

/// What `doorward.cases` says of bounces.
fn noted(story: &Story) -> Vec<(RecipientPart, i64)> {
    let bounced = story.view("u").bounced.iter();
    bounced
        .map(|bounced| (bounced.part, bounced.time.0 - START))
        .collect()
}

#[test]
fn rules_17_co_owners_hear_that_the_owner_was_not_reached() {
    let mut story = team();
    let before = story.version("u");
    let said = bounce(&mut story, 2 * MINUTE, "u@example.org");
    assert_eq!(
        mails(&said),
        [
            ("owner_unreached", "boss@example.org", Some(Leads::Question)),
            ("owner_unreached", "cto@example.org", Some(Leads::Question)),
        ]
    );
    for mail in &said.mails {
        assert_eq!(
            mail.part,
            RecipientPart::CoOwner,
            "\"this wasn't the owner\" only"
        );
        assert_eq!(
            (mail.case.to_string(), mail.case_version),
            (story.case("u"), before)
        );
        assert_eq!(mail.locale.as_deref(), Some("de"));
        let earlier = story.said.mails.iter().filter(|other| other.id == mail.id);
        assert_eq!(earlier.count(), 1, "it is another mail than the first");
    }
    assert!(said.commands.is_empty() && said.decisions.is_empty());
    assert_eq!(noted(&story), [(RecipientPart::Owner, 2 * MINUTE)]);
    assert_eq!(
        story.version("u"),
        before,
        "the owner's answer to it still counts"
    );
    assert_eq!(story.said.counts.answers_applied, 1);
    assert_eq!(story.said.counts.mail_unreached, 0);
    // What a co-owner says then is believed as ever.
    let denied = json!({ "type": "case_response", "account": "u", "case": story.case("u"),
                         "case_version": before, "answer": "not_me", "by": "co_owner" });
    story.event(3 * MINUTE, denied);
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn rules_17_a_repeated_bounce_tells_nobody_twice_whatever_restarts_in_between() {
    let mut story = team();
    let event = json!({ "id": "b-1", "type": "mail_bounced", "account": "u",
                        "case": story.case("u"), "to": "u@example.org", "by": "owner" });
    assert_eq!(story.event(2 * MINUTE, event.clone()).mails.len(), 2);
    // The mailer died before it wrote the receipt, and its next life tells again.
    let again = story.event(3 * MINUTE, event.clone());
    assert!(again.is_silent() && again.changed == 0);
    story.restart(&["u"]);
    assert!(story.event(4 * MINUTE, event).is_silent());
    // Another mail of the same case to the same address says nothing new.
    assert!(bounce(&mut story, HOUR, "u@example.org").is_silent());
    assert_eq!(noted(&story).len(), 1);
    assert_eq!(story.said.counts.answers_ignored, 3);
}

#[test]
fn rules_17_the_same_bounce_gives_the_same_mails() {
    let tell = || {
        let mut story = team();
        let event = json!({ "id": "b-1", "type": "mail_bounced", "account": "u",
                            "case": story.case("u"), "to": "u@example.org" });
        let said = story.event(2 * MINUTE, event);
        said.mails
            .into_iter()
            .map(|mail| mail.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(tell(), tell());
}

#[test]
fn rules_17_where_nobody_is_left_operators_are_told_once() {
    let mut story = team();
    let said = bounce(&mut story, 2 * MINUTE, "boss@example.org");
    assert!(said.is_silent(), "the owner has the mail");
    let said = bounce(&mut story, 3 * MINUTE, "u@example.org");
    assert_eq!(said.mails.len(), 1, "who bounced gets no other");
    assert_eq!(&*said.mails[0].to, "cto@example.org");
    assert_eq!(story.said.counts.mail_unreached, 0);
    assert!(bounce(&mut story, 4 * MINUTE, "cto@example.org").is_silent());
    assert_eq!(story.said.counts.mail_unreached, 1);
    let case = story.case("u");
    let unreached: Vec<String> = story
        .said
        .unreached
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(unreached, [case]);
    assert_eq!(noted(&story).len(), 3);
    assert!(bounce(&mut story, 5 * MINUTE, "cto@example.org").is_silent());
    assert_eq!(story.said.counts.mail_unreached, 1);
}

#[test]
fn rules_17_an_owner_without_co_owners_who_is_not_reached_is_for_operators() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(MINUTE, "u", BRAZIL);
    let said = bounce(&mut story, 2 * MINUTE, "u@example.org");
    assert!(said.is_silent());
    assert_eq!(said.cases, 1, "support sees it in the case");
    assert_eq!(story.said.counts.mail_unreached, 1);
    assert_eq!(story.said.unreached.len(), 1);
}

#[test]
fn rules_17_a_secured_case_tells_co_owners_without_a_link() {
    let mut story = team();
    let stolen = json!({ "type": "reported_stolen", "account": "u" });
    assert_eq!(story.event(2 * MINUTE, stolen).mails.len(), 3);
    let said = bounce(&mut story, 3 * MINUTE, "u@example.org");
    assert_eq!(
        mails(&said),
        [
            ("owner_unreached_secured", "boss@example.org", None),
            ("owner_unreached_secured", "cto@example.org", None),
        ]
    );
}

#[test]
fn rules_17_nobody_hears_of_a_bounce_when_the_case_is_answered_or_another() {
    let mut story = team();
    let case = story.case("u");
    story.answer(2 * MINUTE, "u", "me", &["country:BR"]);
    assert!(
        story
            .event(3 * MINUTE, bounced(&case, "u@example.org"))
            .is_silent()
    );
    assert!(sign_in(&mut story, HOUR, "JP").locked());
    assert_ne!(story.case("u"), case);
    assert!(
        story
            .event(2 * HOUR, bounced(&case, "u@example.org"))
            .is_silent()
    );
    // Nor of a mail to an address that is not the account's: support's `resend --to`.
    assert!(bounce(&mut story, 2 * HOUR, "holiday@example.org").is_silent());
    assert!(noted(&story).is_empty());
    // Of an account that nobody knows it creates nothing.
    let mut other = bounced(&case, "x@example.org");
    other["account"] = json!("x");
    let said = story.event(2 * HOUR, other);
    assert!(said.is_silent() && said.changed == 0);
    assert_eq!(story.partition.accounts(), 1);
}

#[test]
fn rules_17_the_previous_address_is_the_owners_for_seven_days() {
    let mut story = Story::new();
    let change = json!({ "type": "email_changed", "account": "u", "email": "new@example.org",
                         "previous_email": "old@example.org" });
    story.event(0, change);
    let reset = json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                        "ip": MALICIOUS, "email": "new@example.org",
                        "owners": ["boss@example.org"] });
    assert_eq!(story.event(MINUTE, reset).mails.len(), 3);
    // That the new one has no mailbox says nothing: the owner has the links.
    assert!(bounce(&mut story, 2 * MINUTE, "new@example.org").is_silent());
    let said = bounce(&mut story, 3 * MINUTE, "old@example.org");
    let expected = [("owner_unreached", "boss@example.org", Some(Leads::Question))];
    assert_eq!(mails(&said), expected);
    assert_eq!(story.said.counts.mail_unreached, 0);
    bounce(&mut story, 4 * MINUTE, "boss@example.org");
    assert_eq!(story.said.counts.mail_unreached, 1);
}

#[test]
fn rules_17_an_address_that_was_never_confirmed_is_all_that_there_is() {
    let mut story = Story::new();
    let reset = json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                        "ip": MALICIOUS, "email": "u@example.org", "email_verified": false,
                        "owners": ["boss@example.org"] });
    story.event(0, reset);
    let said = bounce(&mut story, MINUTE, "u@example.org");
    assert_eq!(&*said.mails[0].to, "boss@example.org");
}

#[test]
fn rules_17_whoever_may_stop_a_recovery_hears_that_its_owner_does_not_know() {
    let mut story = Story::new();
    let request = json!({ "type": "recovery", "outcome": "requested", "account": "u",
                          "email": "u@example.org", "owners": ["boss@example.org"] });
    assert_eq!(story.event(0, request).mails.len(), 2);
    let case = story.recovery("u");
    let until = story.shown(&case).until;
    let said = story.event(MINUTE, bounced(&case, "u@example.org"));
    let expected = [(
        "recovery_owner_unreached",
        "boss@example.org",
        Some(Leads::Recovery),
    )];
    assert_eq!(mails(&said), expected);
    assert_eq!(
        said.mails[0].until, until,
        "its link lives as long as the hold"
    );
    assert_eq!(story.shown(&case).bounced.len(), 1);
    story.restart(&["u"]);
    assert!(
        story
            .event(HOUR, bounced(&case, "u@example.org"))
            .is_silent()
    );
    story.event(HOUR, bounced(&case, "boss@example.org"));
    assert_eq!(story.said.counts.mail_unreached, 1);
    // A bounce shortens and ends nothing.
    assert!(story.wait_until(DAY - 1).is_silent());
    assert_eq!(story.wait_until(DAY).commands(), ["release_recovery"]);
    assert!(
        story
            .event(DAY + HOUR, bounced(&case, "u@example.org"))
            .is_silent()
    );
}

#[test]
fn rules_17_a_bounce_without_a_mac_of_ours_does_nothing() {
    let keys = MacKeys(vec![MacKey {
        id: "a".into(),
        bytes: vec![1; 32],
    }]);
    let mut story = Story::with_keys(keys.clone());
    sign_in(&mut story, 0, "NO");
    sign_in(&mut story, MINUTE, "BR");
    let case = story.case("u");
    let genuine = MailBounced {
        id: "b-1",
        account: "u",
        case: &case,
        case_version: 1,
        to: "u@example.org",
        by: "owner",
        reason: "refused",
        time: Timestamp(START + 2 * MINUTE),
    };
    let said = |story: &mut Story, bounced: &MailBounced<'_>, keys: &MacKeys| {
        let bytes = wire::mail_bounced(bounced, keys);
        story.bytes(2 * MINUTE, &bytes)
    };
    // None, another's key, and every field changed under a MAC of ours.
    let other = MacKeys(vec![MacKey {
        id: "a".into(),
        bytes: vec![2; 32],
    }]);
    assert!(said(&mut story, &genuine, &MacKeys::default()).is_silent());
    assert!(said(&mut story, &genuine, &other).is_silent());
    let text = String::from_utf8(wire::mail_bounced(&genuine, &keys)).unwrap();
    for (field, forged) in [
        ("id", json!("b-2")),
        ("account", json!("v")),
        ("case_version", json!(2)),
        ("to", json!("boss@example.org")),
        ("by", json!("co_owner")),
        ("reason", json!("time_up")),
        ("time", json!(START)),
        ("type", json!("case_response")),
    ] {
        let mut event: Value = serde_json::from_str(&text).unwrap();
        event[field] = forged;
        let bytes = serde_json::to_vec(&event).unwrap();
        assert!(story.bytes(2 * MINUTE, &bytes).is_silent(), "{field}");
    }
    // An account that is not there is not looked at so far.
    assert_eq!(story.said.counts.answers_forged, 9);
    assert!(noted(&story).is_empty());
    assert_eq!(said(&mut story, &genuine, &keys).mails.len(), 2);
}

#[test]
fn rules_17_bounces_are_bounded_and_go_with_their_account() {
    let mut story = Story::new();
    for n in 0..40 {
        // Whoever is in can change who is told; the case remembers no more than can be.
        let owners: Vec<String> = (0..16).map(|at| format!("{n}-{at}@example.org")).collect();
        let reset = json!({ "id": format!("r{n}"), "type": "password_reset",
                            "outcome": "requested", "account": "u", "ip": MALICIOUS,
                            "email": "u@example.org", "owners": owners });
        story.event(n * 61 * MINUTE, reset);
        for owner in &owners {
            bounce(&mut story, n * 61 * MINUTE + 1, owner);
        }
    }
    assert_eq!(story.view("u").bounced.len(), 18);
    story.event(
        DAY * 3,
        json!({ "type": "account_deleted", "account": "u" }),
    );
    assert_eq!(story.partition.accounts(), 0);
}
