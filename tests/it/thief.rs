//! The thief's seat: what somebody can do who controls the new address, the mailbox, a
//! co-owner's mailbox, the login form, or accounts of their own.

use doorward::engine::mailing::is_calm;
use doorward::engine::output::{CaseState, RecipientPart};
use doorward::event::wire::{MacKey, MacKeys};
use doorward::mail::content::{Leads, render};
use doorward::record::MailRecord;
use serde_json::{Value, json};

use crate::meaning::bounces::bounced;
use crate::meaning::cases::attack;
use crate::owner::config;
use crate::support::story::*;

/// What the recipient of each mail can press.
fn links(said: &Said) -> Vec<(String, Option<Leads>)> {
    let mails = said.mails.iter();
    mails
        .map(|mail| (mail.to.to_string(), Leads::of(&mail.template, mail.part)))
        .collect()
}

/// The mails of `said` to `address`, as they would be read there.
fn read(said: &Said, address: &str) -> Vec<String> {
    let config = config("");
    let to = said.mails.iter().filter(|mail| &*mail.to == address);
    to.map(|mail| {
        let record = MailRecord::new(mail);
        let content = render(
            &record,
            mail.part,
            None,
            &config.web.public_url,
            &config.site,
        )
        .expect("a mail");
        format!("{}\n{}\n{}", content.subject, content.text, content.html)
    })
    .collect()
}

fn changed_address(story: &mut Story, at: i64, from: &str, to: &str) -> Said {
    story.event(
        at,
        json!({ "type": "email_changed", "account": "u", "email": to, "previous_email": from }),
    )
}

fn reset(email: &str) -> Value {
    json!({ "type": "password_reset", "outcome": "requested", "account": "u",
            "ip": MALICIOUS, "email": email, "account_name": "ann" })
}

fn response(story: &Story, answer: &str, by: &str) -> Value {
    json!({ "type": "case_response", "account": "u", "case": story.case("u"),
            "case_version": story.version("u"), "answer": answer, "by": by,
            "places": ["country:BR"] })
}

#[test]
fn the_new_address_gets_no_link_for_seven_days_whatever_is_asked_from_there() {
    let mut story = Story::new();
    changed_address(&mut story, 0, "owner@example.org", "thief@example.net");
    let said = story.event(MINUTE, reset("thief@example.net"));
    let expected = [
        ("owner@example.org".to_owned(), Some(Leads::Question)),
        ("thief@example.net".to_owned(), None),
    ];
    assert_eq!(links(&said), expected);
    for mail in read(&said, "thief@example.net") {
        assert!(!mail.contains("/c/"), "{mail}");
        assert!(!mail.contains("ann") && !mail.contains("Brazil"), "{mail}");
    }
    // It names the case, with which the mail can be asked for again: to the same two.
    let again = response(&story, "resend", "help");
    assert_eq!(links(&story.event(2 * MINUTE, again)), expected);
    // A second change moves no trust to the first one's address.
    changed_address(&mut story, HOUR, "thief@example.net", "other@example.net");
    let again = response(&story, "resend", "help");
    let said = story.event(2 * HOUR, again);
    assert_eq!(links(&said)[0], expected[0]);
    assert!(links(&said)[1..].iter().all(|(_, leads)| leads.is_none()));
    // Nor does a recovery send one there, or a report at the help desk.
    let recovery = json!({ "type": "recovery", "outcome": "requested", "account": "u",
                           "email": "thief@example.net" });
    let said = story.event(3 * HOUR, recovery);
    assert_eq!(links(&said)[0].1, Some(Leads::Recovery));
    assert_eq!(&*said.mails[0].to, "owner@example.org");
    assert!(links(&said)[1..].iter().all(|(_, leads)| leads.is_none()));
    let stolen = json!({ "type": "reported_stolen", "account": "u",
                         "email": "thief@example.net" });
    let said = story.event(4 * HOUR, stolen);
    assert_eq!(&*said.mails[0].to, "owner@example.org");
    assert!(links(&said)[1..].iter().all(|(_, leads)| leads.is_none()));
}

#[test]
fn an_address_that_nobody_confirmed_gets_no_link() {
    let mut story = Story::new();
    let mut event = reset("anybody@example.net");
    event["email_verified"] = json!(false);
    let said = story.event(0, event);
    assert_eq!(links(&said), [("anybody@example.net".to_owned(), None)]);
    assert!(!read(&said, "anybody@example.net")[0].contains("/c/"));
}

#[test]
fn who_reads_the_owners_mailbox_can_unlock_and_everybody_hears_of_it() {
    let mut story = Story::new();
    let mut event = reset("owner@example.org");
    event["owners"] = json!(["boss@example.org"]);
    story.event(0, event);
    let said = story.event(MINUTE, response(&story, "me", "owner"));
    assert_eq!(said.commands(), ["unlock_account"]);
    // Both may say that it was not the owner, and that is believed.
    let told = [
        ("owner@example.org".to_owned(), Some(Leads::NotMe)),
        ("boss@example.org".to_owned(), Some(Leads::NotMe)),
    ];
    assert_eq!(links(&said), told);
    let denied = response(&story, "not_me", "co_owner");
    let said = story.event(2 * MINUTE, denied);
    assert!(said.locked());
    // From there the mailbox opens nothing: no "me", no recovery by it alone, no reset that
    // the site did not tie to this case.
    assert!(
        story
            .event(3 * MINUTE, response(&story, "me", "owner"))
            .is_silent()
    );
    let own_reset = json!({ "type": "password_changed", "account": "u" });
    assert!(story.event(4 * MINUTE, own_reset).is_silent());
    assert_eq!(story.view("u").state, CaseState::Secured);
}

#[test]
fn a_co_owners_mailbox_unlocks_nothing_and_orders_nothing() {
    let mut story = Story::new();
    let mut event = reset("owner@example.org");
    event["owners"] = json!(["boss@example.org"]);
    let said = story.event(0, event);
    assert_eq!(said.mails[1].part, RecipientPart::CoOwner);
    for answer in ["me", "rotate_keys"] {
        let said = story.event(MINUTE, response(&story, answer, "co_owner"));
        assert!(said.is_silent(), "{answer}");
    }
    story.event(2 * MINUTE, response(&story, "not_me", "owner"));
    let keys = response(&story, "rotate_keys", "co_owner");
    assert!(story.event(3 * MINUTE, keys).is_silent());
    // The mail about the secured account leads the owner on, and nobody else.
    assert_eq!(Leads::of("secured", RecipientPart::CoOwner), None);
}

#[test]
fn the_login_form_teaches_no_address_and_locks_no_device_out() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    // Whatever was typed there, mail goes to the address on file, and familiar devices work.
    let said = attack(&mut story, MINUTE, "u");
    assert_eq!(
        said.commands[0].scope.map(|scope| scope.as_str()),
        Some("unfamiliar")
    );
    assert_eq!(&*said.mails[0].to, "u@example.org");
}

#[test]
fn noise_never_buries_the_mail_about_the_theft() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    // Two days of everything that a stranger can cause: failures, resends, recoveries.
    let mut at = MINUTE;
    while at < 2 * DAY {
        attack(&mut story, at, "u");
        for by in ["help", "owner"] {
            let again = response(&story, "resend", by);
            story.event(at + SECOND, again);
        }
        let recovery = json!({ "type": "recovery", "outcome": "requested", "account": "u",
                               "email": "u@example.org" });
        story.event(at + 2 * SECOND, recovery);
        story.event(at + 3 * SECOND, response(&story, "me", "owner"));
        at += 20 * MINUTE;
    }
    let said = story.login(at, "u", BRAZIL);
    let told = ("u@example.org".to_owned(), Some(Leads::Question));
    assert_eq!(links(&said), [told]);
}

#[test]
fn making_the_owners_address_bounce_leads_nobody_to_a_link_that_opens() {
    // The thief is in: a new address of theirs, a co-owner of theirs, and the owner's mailbox
    // filled until it takes nothing.
    let mut story = Story::new();
    changed_address(&mut story, 0, "owner@example.org", "thief@example.net");
    let mut event = reset("thief@example.net");
    event["owners"] = json!(["accomplice@example.net"]);
    story.event(MINUTE, event);
    let mut mails = Vec::new();
    for (at, to) in [
        "owner@example.org",
        "thief@example.net",
        "nobody@example.net",
    ]
    .iter()
    .enumerate()
    {
        let bounced = bounced(&story.case("u"), to);
        let said = story.event(2 * MINUTE + at as i64, bounced);
        assert!(said.commands.is_empty(), "{to}: {:?}", said.commands);
        mails.extend(said.mails);
    }
    // The accomplice hears of it, and may say what locks the thief out.
    let [mail] = &mails[..] else {
        panic!("{mails:?}");
    };
    assert_eq!(&*mail.to, "accomplice@example.net");
    assert_eq!(mail.part, RecipientPart::CoOwner);
    let version = story.version("u");
    let me = response(&story, "me", "co_owner");
    assert!(
        story.event(HOUR, me).is_silent(),
        "a co-owner unlocks nothing"
    );
    // The owner's links go where they went, when the mail is asked for again.
    let again = response(&story, "resend", "help");
    let said = story.event(HOUR, again);
    let expected = [
        ("owner@example.org".to_owned(), Some(Leads::Question)),
        ("thief@example.net".to_owned(), None),
        ("accomplice@example.net".to_owned(), Some(Leads::Question)),
    ];
    assert_eq!(links(&said), expected);
    assert_eq!(said.mails[2].part, RecipientPart::CoOwner);
    assert_eq!(
        (story.version("u"), story.view("u").state),
        (version, CaseState::Open)
    );
}

#[test]
fn bounces_bury_no_mail_and_ask_for_none() {
    let mut story = Story::new();
    let team = |story: &mut Story, at: i64, country: &str| {
        let login = json!({ "type": "login", "outcome": "success", "account": "u",
                            "country": country, "email": "u@example.org",
                            "owners": ["boss@example.org"] });
        story.event(at, login)
    };
    team(&mut story, 0, "NO");
    // A bounce with every case that the caps allow, repeated a hundred times.
    let mut told = 0;
    let mut at = HOUR;
    while at < 2 * DAY {
        team(&mut story, at, "BR");
        for n in 0..100 {
            let bounced = bounced(&story.case("u"), "u@example.org");
            told += story.event(at + n, bounced).mails.len();
        }
        let me = response(&story, "me", "owner");
        story.event(at + MINUTE, me);
        at += 5 * HOUR;
    }
    // One for each case: never more than the mails that they are about.
    let asked = story.said.mails.iter();
    let asked = asked.filter(|mail| mail.part == RecipientPart::Owner && !is_calm(&mail.template));
    assert!((1..=asked.count()).contains(&told), "{told}");
    let said = team(&mut story, 4 * DAY, "JP");
    assert_eq!(links(&said).len(), 2, "the mail about the theft goes out");
}

#[test]
fn what_is_written_to_the_topic_without_a_key_of_ours_is_counted_and_no_more() {
    let keys = MacKeys(vec![MacKey {
        id: "a".into(),
        bytes: vec![1; 32],
    }]);
    let mut story = Story::with_keys(keys);
    attack(&mut story, MINUTE, "u");
    for answer in ["me", "not_me", "resend", "rotate_keys", "cancel_recovery"] {
        let forged = response(&story, answer, "owner");
        assert!(story.event(2 * MINUTE, forged).is_silent(), "{answer}");
    }
    let unlock = json!({ "type": "operator_request", "account": "u", "request": "unlock",
                         "operator": "thief", "reason": "please" });
    assert!(story.event(3 * MINUTE, unlock).is_silent());
    let bounce = bounced(&story.case("u"), "u@example.org");
    assert!(story.event(4 * MINUTE, bounce).is_silent());
    assert_eq!(story.said.counts.answers_forged, 7);
    assert_eq!(story.said.counts.mail_unreached, 0);
}

#[test]
fn an_answer_that_is_copied_from_the_log_opens_no_later_case() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(MINUTE, "u", BRAZIL);
    let me = response(&story, "me", "owner");
    assert_eq!(
        story.event(2 * MINUTE, me.clone()).commands(),
        ["unlock_account"]
    );
    let said = story.login(3 * MINUTE, "u", JAPAN);
    assert!(said.locked());
    assert!(story.event(4 * MINUTE, me).is_silent());
    assert_eq!(story.view("u").state, CaseState::Open);
}
