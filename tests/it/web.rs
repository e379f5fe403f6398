//! The owner's pages, over HTTP, on the embedded broker.

mod guide;
mod recovery;
mod robots;

use std::time::Duration;

use doorward::config::Kafka;
use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::event::wire::Signed;
use doorward::link::mac_keys;
use doorward::publish::Publisher;
use doorward::record::CaseRecord;

use crate::support::{PATIENCE, eventually};

use crate::owner::{Broker, Pages, Stored, case, config, evidence, expired_token, redacted, token};

/// Broker, pages, one case that they know, and its owner's link.
fn with_case(case: &CaseRecord) -> (Broker, Pages, String) {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    broker.write_case(case);
    pages.wait_for_case(case);
    let link = format!("/c/{}", token(&broker.config, case, RecipientPart::Owner));
    (broker, pages, link)
}

/// The answer in `stored`, with its MAC checked.
#[track_caller]
fn genuine(stored: &Stored) -> serde_json::Value {
    let json = stored.json();
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let places: Vec<&str> = json["places"]
        .as_array()
        .map(|places| places.iter().filter_map(|place| place.as_str()).collect())
        .unwrap_or_default();
    let keys = mac_keys(&config("").keys.answer);
    let signed = Signed {
        kind: &text("type"),
        id: &text("id"),
        account: &text("account"),
        case: &text("case"),
        case_version: json["case_version"].as_u64().expect("a version") as u32,
        verb: &text("answer"),
        places: &places,
        by: &text("by"),
        reason: "",
        time: Timestamp(json["time"].as_i64().expect("a time")),
    };
    assert!(
        keys.verify(&signed, &text("key_id"), &text("mac")),
        "{json}"
    );
    json
}

#[test]
fn an_open_case_asks_and_shows_what_happened() {
    let (_broker, pages, link) = with_case(&case("open"));
    let page = pages.get(&link);
    assert_eq!(page.status, 200);
    insta::assert_snapshot!("page_open", page.content());
}

#[test]
fn the_answer_that_was_chosen_in_the_mail_stands_first() {
    let (_broker, pages, link) = with_case(&case("open"));
    let html = pages.get(&format!("{link}?answer=not-me")).body;
    assert!(html.find("/not-me\"") < html.find("/me\""), "{html}");
    let html = pages.get(&format!("{link}?answer=me")).body;
    assert!(html.find("/me\"") < html.find("/not-me\""), "{html}");
}

#[test]
fn every_state_has_a_page_in_both_languages() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    for state in ["asked", "unlocked", "secured", "recovered", "closed"] {
        for locale in ["en", "de"] {
            let case = CaseRecord {
                id: format!("k-{state}-{locale}"),
                locale: Some(locale.into()),
                ..case(state)
            };
            broker.write_case(&case);
            pages.wait_for_case(&case);
            let link = token(&broker.config, &case, RecipientPart::Owner);
            let page = pages.get(&format!("/c/{link}"));
            assert!(page.body.contains(&format!("<html lang=\"{locale}\">")));
            let shown = guide::still(&page.content());
            insta::assert_snapshot!(format!("page_{state}_{locale}"), shown);
        }
    }
}

#[test]
fn expired_forged_and_cut_links_say_so() {
    let (broker, pages, link) = with_case(&case("open"));
    let expired = pages.get(&format!(
        "/c/{}",
        expired_token(&broker.config, &case("open"))
    ));
    assert_eq!(expired.status, 410);
    insta::assert_snapshot!("page_expired", expired.content());

    let mut forged = link.clone();
    let at = forged.len() / 2;
    let other = if &forged[at..=at] == "A" { "B" } else { "A" };
    forged.replace_range(at..=at, other);
    let forged = pages.get(&forged);
    assert_eq!(forged.status, 404);
    insta::assert_snapshot!("page_forged", forged.content());

    for path in [&link[..link.len() / 2], "/c/x", "/c/v4.local.", "/c/%00"] {
        let cut = pages.get(path);
        assert_eq!(
            (cut.status, cut.content()),
            (404, forged.content()),
            "{path}"
        );
    }
    assert!(broker.answers().is_empty());
}

#[test]
fn pages_carry_headers_that_let_nothing_else_in() {
    let (_broker, pages, link) = with_case(&case("open"));
    let headers = pages.get(&link).headers;
    let shown: Vec<String> = [
        "content-security-policy",
        "cache-control",
        "referrer-policy",
        "strict-transport-security",
        "x-content-type-options",
        "x-frame-options",
        "x-robots-tag",
    ]
    .iter()
    .map(|name| format!("{name}: {}", headers[*name]))
    .collect();
    insta::assert_snapshot!("page_headers", shown.join("\n"));
    let html = pages.get(&link).body;
    assert!(
        !html.contains("<script") && !html.contains(" style="),
        "{html}"
    );
}

#[test]
fn looking_never_publishes_whatever_the_path() {
    let (broker, pages, link) = with_case(&case("open"));
    let expired = format!("/c/{}", expired_token(&broker.config, &case("open")));
    for base in [link.as_str(), expired.as_str(), "/c/nonsense"] {
        for path in [
            "",
            "/me",
            "/not-me",
            "/resend",
            "/status",
            "/status?answer=me",
        ] {
            pages.get(&format!("{base}{path}"));
            pages.head(&format!("{base}{path}"));
        }
        pages.get(&format!("{base}?answer=not-me"));
    }
    for path in ["/help", "/help?case=k-9c41d2", "/", "/assets/x"] {
        pages.get(path);
        pages.head(path);
    }
    assert!(broker.answers().is_empty());
}

#[test]
fn this_was_me_carries_the_ticked_places_and_leads_to_the_status() {
    let (broker, pages, link) = with_case(&case("open"));
    let answer = pages.post(
        &format!("{link}/me"),
        &[
            ("version", "1"),
            ("place", "country:BR"),
            ("place", "country:XX"),
        ],
    );
    let status = answer.location().to_owned();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    let json = genuine(&stored[0]);
    assert_eq!(stored[0].partition, 2, "the account's own partition");
    assert_eq!(stored[0].key.as_deref(), Some(b"u-123".as_slice()));
    assert_eq!(json["answer"], "me");
    assert_eq!(json["by"], "owner");
    assert_eq!(json["places"], serde_json::json!(["country:BR"]));

    let waiting = pages.get(&status);
    assert!(waiting.body.contains("http-equiv=\"refresh\""));
    insta::assert_snapshot!("page_processing", waiting.content());

    let unlocked = CaseRecord {
        version: 2,
        ..case("unlocked")
    };
    broker.write_case(&unlocked);
    pages.wait_for_case(&unlocked);
    let done = pages.get(&status);
    assert!(!done.body.contains("http-equiv=\"refresh\""));
    assert!(done.body.contains("Your account is unlocked"));
}

#[test]
fn this_wasnt_me_secures_and_leads_to_a_new_password() {
    let (broker, pages, link) = with_case(&case("open"));
    let answer = pages.post(&format!("{link}/not-me"), &[("version", "1")]);
    let status = answer.location().to_owned();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["answer"], "not_me");

    let secured = CaseRecord {
        version: 2,
        ..case("secured")
    };
    broker.write_case(&secured);
    pages.wait_for_case(&secured);
    let html = pages.get(&status).body;
    assert!(
        html.contains("https://example.com/password/new?case=k-9c41d2"),
        "{html}"
    );
}

#[test]
fn a_case_that_grew_is_shown_again_before_me_counts_and_never_stops_not_me() {
    let (broker, pages, link) = with_case(&case("open"));
    let mut grown = CaseRecord {
        version: 2,
        ..case("open")
    };
    grown.evidence.push(evidence(
        "e-2",
        "2026-11-22T07:00:00.000Z",
        "198.51.100.2",
        "VN",
    ));
    broker.write_case(&grown);
    pages.wait_for_case(&grown);

    let newer = pages.get(&link);
    assert!(newer.body.contains("since this mail was sent"));
    let again = pages.post(
        &format!("{link}/me"),
        &[("version", "1"), ("place", "country:BR")],
    );
    assert_eq!(again.status, 409);
    assert!(again.body.contains("name=\"version\" value=\"2\""));
    assert!(broker.answers().is_empty());

    pages
        .post(&format!("{link}/not-me"), &[("version", "1")])
        .location();
    pages.post(&format!("{link}/not-me"), &[]).location();
    assert_eq!(broker.wait_for(&broker.config.topics.events, 2).len(), 2);
}

#[test]
fn me_without_a_tick_is_asked_again() {
    let (broker, pages, link) = with_case(&case("open"));
    let again = pages.post(&format!("{link}/me"), &[("version", "1")]);
    assert_eq!(again.status, 422);
    assert!(again.body.contains("role=\"alert\""));
    assert!(broker.answers().is_empty());
}

#[test]
fn me_after_the_case_is_settled_only_says_how_it_stands() {
    let (broker, pages, link) = with_case(&case("secured"));
    let status = pages.post(&format!("{link}/me"), &[("version", "1")]);
    let page = pages.get(status.location());
    assert!(page.body.contains("Your account is safe"), "{}", page.body);
    assert!(broker.answers().is_empty(), "“me” never beats “not me”");
}

#[test]
fn a_co_owner_can_only_say_not_me() {
    let (broker, pages, _) = with_case(&case("open"));
    let link = format!(
        "/c/{}",
        token(&broker.config, &case("open"), RecipientPart::CoOwner)
    );
    let page = pages.get(&link);
    assert!(!page.body.contains("/me\""), "{}", page.body);
    let refused = pages.post(
        &format!("{link}/me"),
        &[("version", "1"), ("place", "country:BR")],
    );
    assert_eq!(refused.status, 403);
    assert!(broker.answers().is_empty());
    pages
        .post(&format!("{link}/not-me"), &[("version", "1")])
        .location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["by"], "co_owner");
}

#[test]
fn a_mail_that_is_faster_than_the_case_can_be_answered() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    let link = format!(
        "/c/{}",
        token(&broker.config, &case("open"), RecipientPart::Owner)
    );
    let page = pages.get(&link);
    assert_eq!(page.status, 200, "never “not found”");
    insta::assert_snapshot!("page_general", page.content());
    pages
        .post(&format!("{link}/not-me"), &[("version", "1")])
        .location();
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    let json = genuine(&stored[0]);
    assert_eq!((stored[0].partition, &stored[0].key), (2, &None));
    assert_eq!(json["case_version"], 1);
    assert!(json.get("account").is_none());
}

#[test]
fn an_expired_link_gets_a_fresh_mail() {
    let (broker, pages, _) = with_case(&case("open"));
    let link = format!("/c/{}", expired_token(&broker.config, &case("open")));
    for answer in ["me", "not-me"] {
        let refused = pages.post(&format!("{link}/{answer}"), &[("version", "1")]);
        assert_eq!(refused.status, 410);
    }
    assert!(broker.answers().is_empty());
    let sent = pages.post(&format!("{link}/resend"), &[]);
    insta::assert_snapshot!("page_resent", pages.get(sent.location()).content());
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(genuine(&stored[0])["answer"], "resend");
}

#[test]
fn help_gives_the_same_answer_whether_the_case_exists_or_not() {
    let (broker, pages, _) = with_case(&case("open"));
    let known = pages.post("/help", &[("case", " K-9C41D2 ")]);
    let unknown = pages.post("/help", &[("case", "k-000000")]);
    let junk = pages.post("/help", &[("case", "<script>")]);
    assert_eq!(known.location(), unknown.location());
    assert_eq!(known.location(), junk.location());
    let stored = broker.wait_for(&broker.config.topics.events, 1);
    assert_eq!(stored.len(), 1);
    assert_eq!(genuine(&stored[0])["answer"], "resend");
    assert_eq!(genuine(&stored[0])["by"], "help");
    insta::assert_snapshot!("page_help", pages.get("/help").content());
    insta::assert_snapshot!(
        "page_help_de",
        pages.get_in("/help", "fr,de-AT;q=0.8,en;q=0.5").content()
    );
    insta::assert_snapshot!("page_help_done", pages.get(known.location()).content());
}

#[test]
fn an_answer_that_kafka_does_not_take_is_not_called_recorded() {
    let broker = Broker::start();
    // A port that was free a moment ago: nobody listens there.
    let away = Kafka {
        brokers: "127.0.0.1:1".into(),
        ..broker.config.kafka.clone()
    };
    let publisher = Publisher::new(&away, Duration::from_secs(1)).expect("a publisher");
    let pages = Pages::start_with(&broker, publisher);
    broker.write_case(&case("open"));
    pages.wait_for_case(&case("open"));
    let link = format!(
        "/c/{}",
        token(&broker.config, &case("open"), RecipientPart::Owner)
    );
    let page = pages.post(&format!("{link}/not-me"), &[("version", "1")]);
    assert_eq!(page.status, 503);
    insta::assert_snapshot!("page_unavailable", page.content());
}

#[test]
fn a_page_says_that_it_may_be_behind_for_as_long_as_kafka_is_away() {
    let (broker, pages, link) = with_case(&case("open"));
    let behind = |path: &str, language: &str, notice: &str| {
        pages.get_in(path, language).body.contains(notice)
    };
    let notice = "This page may be behind; what you answered is not lost.";
    let status = format!("{link}/status");
    assert!(!behind(&link, "en", notice) && !behind(&status, "en", notice));
    broker.go_away();
    eventually("the page to say so", PATIENCE, || {
        behind(&link, "en", notice).then_some(())
    });
    assert!(
        behind(&status, "en", notice),
        "where things stand says so, too"
    );
    // It still shows what it knows, and takes no answer for recorded that is not.
    let page = pages.get(&link);
    assert_eq!(page.status, 200);
    assert!(page.body.contains("/not-me\""), "{}", page.body);
    insta::assert_snapshot!("page_behind", redacted(&page.content()));
    let refused = pages.post(&format!("{link}/not-me"), &[("version", "1")]);
    assert_eq!(refused.status, 503);
    // Nor does it say of an answer that was not taken that it is not lost.
    assert!(!refused.body.contains(notice), "{}", refused.body);
    broker.come_back();
    eventually("the page to be up to date", PATIENCE, || {
        (!behind(&link, "en", notice)).then_some(())
    });
    // What is new since then arrives.
    let grown = CaseRecord {
        version: 2,
        state: "secured".into(),
        ..case("open")
    };
    broker.write_case(&grown);
    pages.wait_for_case(&grown);
    assert!(!behind(&status, "en", notice));
}

#[test]
fn who_posts_too_often_waits_and_nothing_big_is_read() {
    let (broker, pages, link) = with_case(&case("open"));
    let big = "x".repeat(64 * 1024);
    let refused = pages.post(&format!("{link}/me"), &[("version", &big)]);
    assert_eq!(refused.status, 400);
    // What was sent and not read would stand before the next request.
    assert_eq!(refused.headers["connection"], "close");
    let limited = (0..60)
        .map(|_| pages.post("/c/nonsense/not-me", &[]).status)
        .filter(|status| *status == 429)
        .count();
    assert!(limited >= 20, "{limited}");
    assert!(broker.answers().is_empty());
}

#[test]
fn nothing_in_a_case_becomes_markup() {
    let hostile = "<script>alert(1)</script>\r\n\u{202e}\"'>";
    let case = CaseRecord {
        id: "k-<b>\"".into(),
        reason: hostile.into(),
        scope: hostile.into(),
        evidence: vec![evidence(hostile, hostile, hostile, hostile)],
        places: vec![doorward::record::PlaceRecord {
            value: hostile.into(),
            time: hostile.into(),
            known: false,
        }],
        device: Some(hostile.repeat(10)),
        ..case("open")
    };
    let (_broker, pages, link) = with_case(&case);
    let page = pages.get(&link);
    assert!(!page.body.contains("<script"), "{}", page.body);
    insta::assert_snapshot!("page_hostile", redacted(&page.content()));
}
