//! What operators ask for, and what is remembered of it.

use doorward::engine::output::CaseState;
use doorward::event::Timestamp;
use doorward::event::wire::{self, MacKey, MacKeys, OperatorRequest};
use serde_json::json;

use crate::support::story::*;

fn keys() -> MacKeys {
    MacKeys(vec![MacKey {
        id: "1".into(),
        bytes: vec![7; 32],
    }])
}

/// A request of this moment about the account's case.
fn ask(story: &mut Story, at: i64, id: &str, details: OperatorRequest<'_>) -> Said {
    let case = story.case("u");
    let request = OperatorRequest {
        id,
        account: "u",
        case: Some(&case),
        operator: "ann",
        reason: "spoke to the owner",
        time: Timestamp(START + at),
        ..details
    };
    story.bytes(at, &wire::operator_request(&request, &keys()))
}

fn undo(story: &mut Story, at: i64, rule: &str) -> Said {
    let details = OperatorRequest {
        request: "undo",
        rule: Some(rule),
        ..OperatorRequest::default()
    };
    ask(story, at, &format!("o-{at}"), details)
}

/// Locked by a new country.
fn locked() -> Story {
    let mut story = Story::with_keys(keys());
    story.login(0, "u", NORWAY);
    assert!(story.login(MINUTE, "u", BRAZIL).locked());
    story
}

#[test]
fn an_undo_takes_back_what_its_rule_locked_and_tells_the_owner() {
    let mut story = locked();
    let said = undo(&mut story, 2 * MINUTE, "first-seen-country");
    assert_eq!(said.commands(), ["unlock_account"]);
    assert_eq!(&*said.commands[0].reason, "operator_undo");
    let operator = said.commands[0].operator.as_ref().unwrap();
    assert_eq!(
        (&*operator.name, &*operator.reason),
        ("ann", "spoke to the owner")
    );
    let [mail] = &said.mails[..] else {
        panic!("{:?}", said.mails);
    };
    assert_eq!(
        (&*mail.template, &*mail.to),
        ("our_mistake", "u@example.org")
    );
    assert_eq!(mail.part.as_str(), "notice", "there is nothing to press");
    let case = story.view("u");
    assert_eq!(case.state, CaseState::Unlocked);
    let [note] = &case.notes[..] else {
        panic!("{:?}", case.notes);
    };
    assert_eq!(
        (&*note.operator, &*note.request, note.done),
        ("ann", "undo", true)
    );
    // Again it does nothing, and says so.
    let said = undo(&mut story, 3 * MINUTE, "first-seen-country");
    assert!(said.is_silent());
    assert_eq!(story.view("u").notes.len(), 2);
    assert!(!story.view("u").notes[1].done);
    // And nothing was learned.
    assert!(story.login(HOUR, "u", BRAZIL).locked());
}

#[test]
fn the_mail_about_our_mistake_passes_the_caps_and_takes_no_slot() {
    let mut story = locked();
    let again = json!({ "type": "case_response", "account": "u", "case": story.case("u"),
                        "case_version": 1, "answer": "resend", "by": "owner" });
    // Without a MAC it asks for nothing; operators' own mails do not count.
    assert!(story.event(2 * MINUTE, again).is_silent());
    for n in 0..5 {
        let details = OperatorRequest {
            request: "resend",
            ..OperatorRequest::default()
        };
        let said = ask(&mut story, 3 * MINUTE + n, &format!("o-{n}"), details);
        assert_eq!(said.mails.len(), 1, "{n}");
    }
    let said = undo(&mut story, 4 * MINUTE, "first-seen-country");
    assert_eq!(&*said.mails[0].template, "our_mistake");
    // One was sent by a rule; two more go out within the hour, as if there had been no other.
    for (at, capped) in [(5, 0), (6, 0), (7, 1)] {
        assert!(story.login(at * MINUTE, "u", BRAZIL).locked());
        assert_eq!(story.said.counts.mail_capped, capped, "{at}");
        let said = undo(&mut story, at * MINUTE + 1, "first-seen-country");
        assert_eq!(
            said.mails.len(),
            1,
            "the mistake is told however many were sent"
        );
    }
}

#[test]
fn an_undo_leaves_what_another_rule_would_have_locked() {
    let mut story = locked();
    let case = story.view("u");
    assert_eq!(case.locks.len(), 1);
    assert_eq!(&*case.locks[0].rule, "first-seen-country");
    assert_eq!(case.locks[0].time, Timestamp(START + MINUTE));
    assert!(undo(&mut story, 2 * MINUTE, "two-factor-failure-streak").is_silent());
    assert_eq!(story.view("u").state, CaseState::Open, "it is not its rule");
    for n in 0..5 {
        story.second_factor(3 * MINUTE + n, "u", "failure");
    }
    let rules: Vec<&str> = story
        .view("u")
        .locks
        .iter()
        .map(|lock| &*lock.rule)
        .collect();
    assert_eq!(rules, ["first-seen-country", "two-factor-failure-streak"]);
    for rule in ["first-seen-country", "two-factor-failure-streak"] {
        assert!(undo(&mut story, 4 * MINUTE, rule).is_silent(), "{rule}");
    }
    assert_eq!(story.view("u").state, CaseState::Open);
}

#[test]
fn an_undo_leaves_what_the_owner_disowned() {
    let mut story = locked();
    let stolen = json!({ "type": "reported_stolen", "account": "u" });
    let said = story.event(2 * MINUTE, stolen);
    assert_eq!(
        said.commands(),
        ["revoke_sessions", "require_password_change"]
    );
    assert!(undo(&mut story, 3 * MINUTE, "first-seen-country").is_silent());
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn an_undo_knows_the_lock_of_a_rule_that_joined_a_question() {
    let asks = "
schema: 1
id: ask
title: The second factor was switched off
severity: medium
mode: enforce
when: { type: two_factor_disabled }
by: account
detect: each
then: [ email_user ]
";
    let texts: Vec<&str> = doorward::builtin::rules_file_names()
        .filter(|name| name.ends_with(".rule.yaml"))
        .filter_map(doorward::builtin::rules_file)
        .chain([asks])
        .collect();
    let mut with_keys = settings();
    with_keys.answer_keys = Some(keys());
    let mut story = Story::with(rule_set(&texts), facts(), with_keys);
    story.login(0, "u", NORWAY);
    story.event(
        1,
        json!({ "type": "two_factor_disabled", "account": "u", "ip": NORWAY }),
    );
    assert!(undo(&mut story, 2, "ask").is_silent(), "nothing is locked");
    assert!(story.login(MINUTE, "u", BRAZIL).locked());
    let said = undo(&mut story, 2 * MINUTE, "first-seen-country");
    assert_eq!(said.commands(), ["unlock_account"]);
}

#[test]
fn what_an_operators_request_names_is_under_its_mac() {
    let mut story = locked();
    let case = story.case("u");
    let signed = |to: Option<&str>, rule: Option<&str>, request: &str| {
        let request = OperatorRequest {
            id: "o-1",
            account: "u",
            case: Some(&case),
            request,
            to,
            rule,
            operator: "ann",
            reason: "the mailbox is dead",
            time: Timestamp(START),
        };
        String::from_utf8(wire::operator_request(&request, &keys())).unwrap()
    };
    let resend = signed(Some("ada@else.example"), None, "resend");
    let plain = signed(None, None, "resend");
    for forged in [
        resend.replace("ada@else.example", "eve@evil.example"),
        resend.replace(r#""to":"ada@else.example","#, ""),
        resend.replace(r#""to":"#, r#""rule":"#),
        plain.replace(r#""request":"#, r#""to":"eve@evil.example","request":"#),
        signed(None, Some("x"), "undo").replace(r#""x""#, r#""first-seen-country""#),
        signed(None, Some("x"), "undo").replace(r#""rule":"x","#, ""),
        // Nor do places stand for details.
        signed(None, Some("first-seen-country"), "undo").replace(
            r#""rule":"first-seen-country""#,
            r#""places":["rule","first-seen-country"]"#,
        ),
    ] {
        assert!(
            story.bytes(2 * MINUTE, forged.as_bytes()).is_silent(),
            "{forged}"
        );
    }
    assert_eq!(story.said.counts.answers_forged, 7);
    let said = story.bytes(2 * MINUTE, resend.as_bytes());
    let [mail] = &said.mails[..] else {
        panic!("{:?}", said.mails);
    };
    assert_eq!(
        (&*mail.to, mail.part.as_str()),
        ("ada@else.example", "owner")
    );
    assert_eq!(&*mail.template, "was_this_you");
}

#[test]
fn a_mail_that_an_operator_sends_again_is_recorded_and_changes_nothing() {
    let mut story = locked();
    let resend = |story: &mut Story, at: i64, to: Option<&str>| {
        let details = OperatorRequest {
            request: "resend",
            to,
            ..OperatorRequest::default()
        };
        ask(story, at, &format!("o-{at}"), details)
    };
    let version = story.version("u");
    // As often as it takes: the caps are there against noise.
    for n in 0..12 {
        let said = resend(&mut story, 2 * MINUTE + n, None);
        assert_eq!(said.mails.len(), 1);
        assert_eq!(&*said.mails[0].to, "u@example.org");
    }
    let said = resend(&mut story, 3 * MINUTE, Some("no address"));
    assert!(said.is_silent());
    let case = story.view("u");
    assert_eq!((case.version, case.state), (version, CaseState::Open));
    assert_eq!(case.notes.len(), 8, "the oldest go");
    assert!(!case.notes[7].done && case.notes[6].done);
    // Ids of mails differ, or the mailer would take them for one.
    let mut ids: Vec<&str> = story.said.mails.iter().map(|mail| &*mail.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 13);
}

#[test]
fn what_operators_did_survives_a_restart_and_an_unlock_without_a_case_names_them() {
    let mut story = locked();
    undo(&mut story, 2 * MINUTE, "another-rule");
    story.restart(&["u"]);
    let details = OperatorRequest {
        request: "unlock",
        ..OperatorRequest::default()
    };
    let said = ask(&mut story, 3 * MINUTE, "o-2", details);
    assert_eq!(said.commands(), ["unlock_account"]);
    assert_eq!(story.view("u").notes.len(), 2);
    assert_eq!(story.view("u").locks.len(), 1);
    let request = OperatorRequest {
        id: "o-3",
        account: "nobody",
        request: "unlock",
        operator: "bob",
        reason: "the console was down",
        time: Timestamp(START),
        ..OperatorRequest::default()
    };
    let said = story.bytes(4 * MINUTE, &wire::operator_request(&request, &keys()));
    let operator = said.commands[0].operator.as_ref().unwrap();
    assert_eq!((said.commands.len(), &*operator.name), (1, "bob"));
}

#[test]
fn a_shadow_rules_hit_is_counted_with_the_answer_of_the_case_that_it_falls_into() {
    let shadow = "
schema: 1
id: aa-shadow
title: A sign-in from Brazil
severity: low
mode: shadow
when: { type: login, country: BR }
by: account
detect: each
then: [ { lock_account: { reason: brazil } } ]
";
    let texts: Vec<&str> = doorward::builtin::rules_file_names()
        .filter(|name| name.ends_with(".rule.yaml"))
        .filter_map(doorward::builtin::rules_file)
        .chain([shadow])
        .collect();
    for (answer, later) in [("me", false), ("not_me", true)] {
        let mut story = Story::with(rule_set(&texts), facts(), settings());
        story.login(0, "u", NORWAY);
        // With the event that opens the case, or one that comes while it is open.
        let country = if later { JAPAN } else { BRAZIL };
        assert!(story.login(MINUTE, "u", country).locked());
        if later {
            let version = story.version("u");
            story.event(
                2 * MINUTE,
                json!({ "type": "login", "outcome": "failure", "account": "u", "country": "BR" }),
            );
            assert_eq!(story.version("u"), version, "the owner sees nothing of it");
            story.restart(&["u"]);
        }
        story.answer(3 * MINUTE, "u", answer, &["country:BR", "country:JP"]);
        assert_eq!(story.said.answers, [("first-seen-country".into(), answer)]);
        assert_eq!(story.said.shadow_answers, [("aa-shadow".into(), answer)]);
    }
}
