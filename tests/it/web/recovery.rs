//! The pages about a recovery: what was asked, the time left, one button, and what became
//! of it.

use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::locale::Words;
use doorward::publish::wall_clock;
use doorward::record::CaseRecord;

use super::{genuine, with_case};
use crate::owner::{Broker, Pages, case, expired_token, token};

/// A recovery that goes through in five and a half hours.
fn recovery(state: &str) -> CaseRecord {
    CaseRecord {
        id: "k-4e1f77".into(),
        rules: vec!["recovery".into()],
        reason: "recovery_requested".into(),
        places: Vec::new(),
        until: matches!(state, "held" | "needs_operator").then(|| until().to_string()),
        ..case(state)
    }
}

fn until() -> Timestamp {
    wall_clock().plus_ms(5 * 3_600_000 + 30 * 60_000 + 59_000)
}

/// The page with its end and what is left until then replaced, since both move.
fn still(content: &str, shown: &CaseRecord, language: &str) -> String {
    let until = shown.until.as_deref().expect("a recovery that is held");
    let until = doorward::locale::parse_time(until).expect("a time");
    let words = Words::of(language).expect("a language");
    content.replace(&words.time(until), "UNTIL")
}

#[test]
fn a_recovery_that_is_held_says_what_was_asked_when_it_goes_through_and_how_to_stop_it() {
    for language in ["en", "de"] {
        let held = CaseRecord {
            locale: Some(language.into()),
            ..recovery("held")
        };
        let (_broker, pages, link) = with_case(&held);
        let page = pages.get(&link);
        assert_eq!(page.status, 200);
        let content = still(&page.content(), &held, language);
        insta::assert_snapshot!(format!("page_recovery_held_{language}"), content);
    }
}

#[test]
fn how_a_recovery_ended_has_a_page_in_both_languages() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    for state in ["needs_operator", "released", "cancelled"] {
        for language in ["en", "de"] {
            let ended = CaseRecord {
                id: format!("k-{state}-{language}"),
                locale: Some(language.into()),
                ..recovery(state)
            };
            broker.write_case(&ended);
            pages.wait_for_case(&ended);
            let link = token(&broker.config, &ended, RecipientPart::Owner);
            let page = pages.get(&format!("/c/{link}"));
            assert!(!page.body.contains("<form"), "there is nothing to stop");
            let name = format!("page_recovery_{state}_{language}");
            insta::assert_snapshot!(name, page.content());
        }
    }
}

#[test]
fn stopping_a_recovery_is_recorded_and_then_seen_to_be_done() {
    let (broker, pages, link) = with_case(&recovery("held"));
    let page = pages.get(&format!("{link}?answer=cancel-recovery"));
    assert!(page.body.contains("Stop this recovery"), "{}", page.body);
    assert!(broker.answers().is_empty(), "looking changes nothing");
    let answer = pages.post(&format!("{link}/cancel-recovery"), &[("version", "1")]);
    let status = answer.location().to_owned();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    let json = genuine(&stored[0]);
    assert_eq!(stored[0].partition, 2, "the account's own partition");
    assert_eq!(json["answer"], "cancel_recovery");
    assert_eq!(json["case"], "k-4e1f77");

    let waiting = pages.get(&status);
    assert!(waiting.body.contains("http-equiv=\"refresh\""));
    assert!(waiting.body.contains("answer=cancel-recovery"));
    let stopped = CaseRecord {
        version: 2,
        ..recovery("cancelled")
    };
    broker.write_case(&stopped);
    pages.wait_for_case(&stopped);
    let done = pages.get(&status).body;
    assert!(done.contains("The recovery is stopped"), "{done}");
    assert!(!done.contains("http-equiv=\"refresh\""));
}

#[test]
fn looking_at_a_recovery_publishes_nothing_whatever_the_path() {
    let (broker, pages, link) = with_case(&recovery("held"));
    for path in [
        "",
        "?answer=cancel-recovery",
        "/cancel-recovery",
        "/status?answer=cancel-recovery",
    ] {
        pages.get(&format!("{link}{path}"));
        pages.head(&format!("{link}{path}"));
    }
    assert!(broker.answers().is_empty());
}

#[test]
fn a_mail_that_is_faster_than_the_page_can_stop_its_recovery() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    let link = token(&broker.config, &recovery("held"), RecipientPart::CoOwner);
    let page = pages.get(&format!("/c/{link}?answer=cancel-recovery"));
    assert_eq!(page.status, 200);
    insta::assert_snapshot!("page_recovery_general", page.content());
    pages
        .post(&format!("/c/{link}/cancel-recovery"), &[])
        .location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    let json = genuine(&stored[0]);
    assert_eq!(
        (&json["answer"], &json["by"]),
        (&"cancel_recovery".into(), &"co_owner".into())
    );
    assert!(json.get("account").is_none());
}

#[test]
fn not_me_stops_a_recovery_and_me_needs_not_be_said() {
    let (broker, pages, link) = with_case(&recovery("held"));
    let said = pages.post(&format!("{link}/me"), &[("version", "1")]);
    let page = pages.get(said.location());
    assert!(page.body.contains("Stop this recovery"), "{}", page.body);
    assert!(broker.answers().is_empty());
    pages.post(&format!("{link}/not-me"), &[]).location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["answer"], "cancel_recovery");
}

#[test]
fn an_expired_link_stops_nothing_and_offers_a_fresh_mail() {
    let (broker, pages, _) = with_case(&recovery("held"));
    let link = format!("/c/{}", expired_token(&broker.config, &recovery("held")));
    let refused = pages.post(&format!("{link}/cancel-recovery"), &[]);
    assert_eq!(refused.status, 410);
    assert!(broker.answers().is_empty());
    pages.post(&format!("{link}/resend"), &[]).location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["answer"], "resend");
}

#[test]
fn help_sends_the_mail_about_a_recovery_that_is_held_and_of_no_other() {
    let (broker, pages, _) = with_case(&recovery("held"));
    let over = CaseRecord {
        id: "k-000001".into(),
        ..recovery("cancelled")
    };
    broker.write_case(&over);
    pages.wait_for_case(&over);
    for reference in ["k-000001", "k-4e1f77"] {
        pages.post("/help", &[("case", reference)]).location();
    }
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(stored.len(), 1);
    assert_eq!(genuine(&stored[0])["case"], "k-4e1f77");
}

#[test]
fn a_recovery_whose_time_is_over_can_be_stopped_until_it_went_through() {
    let late = CaseRecord {
        until: Some(wall_clock().plus_ms(-1_000).to_string()),
        ..recovery("held")
    };
    let (_broker, pages, link) = with_case(&late);
    let page = pages.get(&link).body;
    assert!(page.contains("any moment"), "{page}");
    assert!(page.contains("/cancel-recovery\""), "{page}");
}
