//! Mail scanners, and pages of other sites: what they open, follow and press.

use std::collections::BTreeSet;

use doorward::engine::output::RecipientPart;
use doorward::record::CaseRecord;
use regex::Regex;

use super::with_case;
use crate::owner::{Answer, Broker, Pages, STATES, case, expired_token, token};

/// Addresses in a page that a scanner opens: links, style sheets, a refresh, what a script
/// could read; and, where it presses buttons, its forms.
fn addresses(html: &str, name: &str) -> Vec<String> {
    let pattern = Regex::new(&format!(r#"{name}="([^"]*)""#)).expect("a pattern");
    let found = pattern.captures_iter(html);
    found
        .map(|found| found[1].replace("&amp;", "&").replace("&#38;", "&"))
        .collect()
}

fn is_ours(path: &str) -> bool {
    path.starts_with('/')
}

/// Opens everything that can be reached without a button, a few steps deep.
fn crawl(pages: &Pages, from: &str) -> BTreeSet<String> {
    let refresh = Regex::new(r#"content="\d+; url=([^"]*)""#).expect("a pattern");
    let mut seen = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(path) = next.pop() {
        if seen.len() > 60 || !seen.insert(path.clone()) {
            continue;
        }
        pages.head(&path);
        let answer = pages.get(&path);
        next.extend(answer.headers.get("location").cloned());
        let refreshed = refresh.captures_iter(&answer.body);
        next.extend(refreshed.map(|found| found[1].replace("&amp;", "&")));
        for attribute in ["href", "src", "action"] {
            let found = addresses(&answer.body, attribute).into_iter();
            next.extend(found.filter(|path| is_ours(path)));
        }
    }
    seen
}

/// Submits every form of a page as it stands, with something in each text field.
fn press_everything(pages: &Pages, page: &Answer) -> usize {
    let form = Regex::new(r#"(?s)<form method="post" action="([^"]*)">(.*?)</form>"#);
    let input = Regex::new(r#"<input[^>]*name="([^"]*)"(?:[^>]*value="([^"]*)")?"#);
    let (form, input) = (form.expect("a pattern"), input.expect("a pattern"));
    let mut pressed = 0;
    for found in form.captures_iter(&page.body) {
        let fields: Vec<(String, String)> = input
            .captures_iter(&found[2])
            .map(|field| {
                let value = field.get(2).map_or("test", |value| value.as_str());
                (field[1].to_owned(), value.to_owned())
            })
            .collect();
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        pages.post(&found[1], &fields);
        pressed += 1;
    }
    pressed
}

#[test]
fn a_scanner_that_opens_and_follows_everything_changes_nothing() {
    let broker = Broker::start();
    let pages = Pages::start(&broker);
    for state in STATES.into_iter().chain(["held"]) {
        let case = CaseRecord {
            id: format!("k-{state}"),
            until: Some("2999-01-01T00:00:00Z".into()),
            ..case(state)
        };
        broker.write_case(&case);
        pages.wait_for_case(&case);
        for part in [RecipientPart::Owner, RecipientPart::CoOwner] {
            let link = token(&broker.config, &case, part);
            for answer in ["?answer=me", "?answer=not-me", "?answer=cancel-recovery"] {
                let seen = crawl(&pages, &format!("/c/{link}{answer}"));
                assert!(seen.len() >= 2, "{state}: {seen:?}");
            }
        }
    }
    crawl(
        &pages,
        &format!("/c/{}", expired_token(&broker.config, &case("open"))),
    );
    crawl(&pages, "/c/v4.local.AAAA");
    assert!(broker.answers().is_empty());
}

#[test]
fn a_scanner_that_presses_buttons_unlocks_nothing_where_a_code_is_asked() {
    let mut broker = Broker::start();
    broker.config.web.typed_code = true;
    let pages = Pages::start(&broker);
    broker.write_case(&case("open"));
    pages.wait_for_case(&case("open"));
    let link = token(&broker.config, &case("open"), RecipientPart::Owner);
    for answer in ["?answer=me", "?answer=not-me", ""] {
        let page = pages.get(&format!("/c/{link}{answer}"));
        assert_eq!(press_everything(&pages, &page), 2);
    }
    let answers = broker.wait_for(&broker.config.topics.events, 3);
    for stored in &answers {
        assert_eq!(stored.json()["answer"], "not_me", "the safe one of two");
    }
}

#[test]
fn a_page_of_another_site_presses_nothing() {
    let (broker, pages, link) = with_case(&case("open"));
    for headers in [
        &[("sec-fetch-site", "cross-site"), ("origin", "null")][..],
        &[("origin", "https://evil.example")],
    ] {
        for (path, fields) in [
            (format!("{link}/not-me"), &[("version", "1")][..]),
            ("/help".to_owned(), &[("case", "k-9c41d2")]),
        ] {
            let refused = pages.post_with(&path, fields, headers);
            assert_eq!(refused.status, 403, "{path}");
            insta::assert_snapshot!("page_foreign", refused.content());
        }
    }
    assert!(broker.answers().is_empty());
    let own = [("sec-fetch-site", "same-origin"), ("origin", "null")];
    let fields = [("version", "1")];
    pages
        .post_with(&format!("{link}/not-me"), &fields, &own)
        .location();
    assert_eq!(broker.wait_for(&broker.config.topics.events, 1).len(), 1);
}

#[test]
fn no_page_sets_a_cookie_or_needs_one() {
    let (_broker, pages, link) = with_case(&case("open"));
    for path in [link.as_str(), "/help", "/c/nonsense", "/"] {
        assert!(
            !pages.get(path).headers.contains_key("set-cookie"),
            "{path}"
        );
    }
}

#[test]
fn one_link_is_not_pressed_for_ever() {
    let (_broker, pages, link) = with_case(&case("secured"));
    let limited = (0..40)
        .map(|_| {
            pages
                .post(&format!("{link}/me"), &[("version", "1")])
                .status
        })
        .filter(|status| *status == 429)
        .count();
    assert!((20..=28).contains(&limited), "{limited}");
}

#[test]
fn every_forged_link_gets_the_same_answer() {
    let (broker, pages, link) = with_case(&case("open"));
    let another = |change: &dyn Fn(&mut doorward::config::Config)| {
        let mut config = broker.config.clone();
        change(&mut config);
        format!("/c/{}", token(&config, &case("open"), RecipientPart::Owner))
    };
    let other_key = another(&|config| config.keys.link[0].bytes = vec![9; 32]);
    let gone_key = another(&|config| config.keys.link[0].id = "old".into());
    let notice = format!(
        "/c/{}",
        token(&broker.config, &case("open"), RecipientPart::Notice)
    );
    let cut = link[..link.len() - 3].to_owned();
    let other_version = link.replacen("v4.local", "v3.local", 1);
    let public = link.replacen("v4.local", "v4.public", 1);
    let plain = "/c/k-9c41d2".to_owned();
    let expected = pages.get("/c/x");
    for path in [
        other_key,
        gone_key,
        notice,
        cut,
        other_version,
        public,
        plain,
    ] {
        let answer = pages.get(&path);
        assert_eq!(
            (answer.status, &answer.body),
            (404, &expected.body),
            "{path}"
        );
        let pressed = pages.post(&format!("{path}/me"), &[("version", "1")]);
        assert_eq!((pressed.status, &pressed.body), (404, &expected.body));
    }
    assert!(broker.answers().is_empty());
}
