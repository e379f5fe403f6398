//! `first_seen` (docs/rules.md 8).

use std::sync::Arc;

use serde_json::json;

use doorward::enrich::Facts;

use crate::support::story::*;

#[test]
fn rules_8_the_first_country_only_teaches_and_a_new_one_locks() {
    let mut story = Story::new();
    assert!(story.login(0, "u", NORWAY).is_silent());
    assert!(story.login(DAY, "u", NORWAY).is_silent());
    let said = story.login(2 * DAY, "u", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country acted 1"]);
    assert_eq!(said.commands(), ["lock_account"]);
    assert_eq!(
        said.decisions[0].evidence[0].country.unwrap().as_str(),
        "BR"
    );
}

#[test]
fn rules_8_a_judged_country_is_not_known_until_its_owner_says_so() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    assert!(story.login(DAY, "u", BRAZIL).locked());
    story.answer(DAY + HOUR, "u", "me", &["country:BR"]);
    assert!(story.login(DAY + 2 * HOUR, "u", BRAZIL).is_silent());
    // Another account's owner said nothing.
    story.login(0, "v", NORWAY);
    assert!(story.login(DAY + 3 * HOUR, "v", BRAZIL).locked());
    story.answer(DAY + 4 * HOUR, "v", "not_me", &[]);
    let said = story.login(DAY + 5 * HOUR, "v", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country case_open 1"]);
}

#[test]
fn rules_8_an_event_that_names_its_country_wins_over_the_address() {
    let mut story = Story::new();
    let login = |country: &str| {
        json!({ "type": "login", "outcome": "success", "account": "u", "ip": NORWAY,
                "country": country })
    };
    story.event(0, login("de"));
    assert!(story.event(1, login("DE")).is_silent());
    assert!(story.event(2, login("NO")).acted());
}

#[test]
fn rules_8_an_unknown_or_private_address_is_no_new_country() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    for (n, ip) in [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "fe80::1",
        "fc00::1",
    ]
    .iter()
    .enumerate()
    {
        assert!(story.login(n as i64, "u", ip).is_silent(), "{ip}");
    }
    assert_eq!(story.said.counts.geo_special, 6);
    for code in ["XX", "T1", "EU", "AP", "A1", "A2", "O1"] {
        let said = story.event(
            DAY,
            json!({ "type": "login", "outcome": "success", "account": "u", "country": code }),
        );
        assert!(said.is_silent(), "{code}");
    }
}

#[test]
fn rules_8_without_a_database_the_rule_does_not_apply() {
    let facts = Facts {
        geo: None,
        previous_geo: None,
        asn: None,
        lists: lists(),
    };
    let mut story = Story::with(shipped(), facts, settings());
    for (at, ip) in [NORWAY, BRAZIL, JAPAN].iter().enumerate() {
        assert!(story.login(at as i64, "u", ip).is_silent());
    }
    assert_eq!(story.said.counts.geo_no_database, 3);
}

#[test]
fn rules_8_a_known_country_is_forgotten_after_a_year_and_a_month_and_the_last_one_never() {
    let return_after = |days: i64| {
        let mut story = Story::new();
        story.login(0, "u", NORWAY);
        story.login(DAY, "u", BRAZIL);
        story.answer(DAY, "u", "me", &["country:BR"]);
        // Brazil was seen a day after Norway, and is used until then.
        story.login((days - 1) * DAY, "u", BRAZIL);
        story.login(days * DAY, "u", NORWAY).is_silent()
    };
    assert!(return_after(365 + 30));
    assert!(!return_after(365 + 31));
    // The only country is known for ever.
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    assert!(story.login(4_000 * DAY, "u", NORWAY).is_silent());
    assert!(story.login(4_001 * DAY, "u", BRAZIL).acted());
}

#[test]
fn rules_8_last_seen_is_rewritten_once_a_month() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    let writes = |story: &mut Story, day: i64| story.login(day * DAY, "u", NORWAY).changed;
    assert_eq!(writes(&mut story, 1), 0);
    assert_eq!(writes(&mut story, 29), 0);
    assert_eq!(writes(&mut story, 30), 1);
    assert_eq!(writes(&mut story, 31), 0);
}

#[test]
fn rules_8_shadow_hits_teach_after_seven_days() {
    let rule = doorward::builtin::rules_file("first-seen-country.rule.yaml")
        .unwrap()
        .replace("mode: enforce", "mode: shadow");
    let mut story = Story::of_rule(&rule);
    story.login(0, "u", NORWAY);
    assert_eq!(
        story.login(DAY, "u", BRAZIL).decisions(),
        ["first-seen-country shadow 1"]
    );
    let week = DAY + 7 * DAY;
    assert_eq!(
        story.login(week - 1, "u", BRAZIL).decisions(),
        ["first-seen-country shadow 1"]
    );
    assert!(story.login(week, "u", BRAZIL).is_silent());
    assert!(story.login(week + 1, "u", BRAZIL).is_silent());
}

#[test]
fn rules_8_stale_hits_teach_after_seven_days() {
    let mut story = Story::new();
    let login = |country: &str| json!({ "type": "login", "outcome": "success", "account": "u", "country": country });
    story.event_received(0, 0, login("NO"));
    let said = story.event_received(DAY, 3 * DAY, login("BR"));
    assert_eq!(said.decisions(), ["first-seen-country stale 1"]);
    assert!(
        story
            .event_received(8 * DAY, 8 * DAY, login("BR"))
            .is_silent()
    );
}

#[test]
fn rules_8_anonymizers_are_judged_and_never_taught() {
    let login = |ip: &str, country: &str| {
        json!({ "type": "login", "outcome": "success", "account": "u", "ip": ip,
                "country": country, "email": "u@example.org" })
    };
    // It does not teach at first …
    let mut story = Story::new();
    assert!(story.event(0, login(ANONYMIZER, "SE")).is_silent());
    assert!(story.event(1, login(NORWAY, "NO")).is_silent());
    // … and not when its owner confirms it.
    assert!(story.event(2, login(ANONYMIZER, "SE")).locked());
    let said = story.answer(3, "u", "me", &["country:SE"]);
    assert_eq!(said.commands(), ["unlock_account"]);
    assert!(story.event(4, login(ANONYMIZER, "SE")).locked());
}

#[test]
fn rules_8_learning_can_take_several_events_or_a_span_of_time() {
    let with = |learn: &str| {
        doorward::builtin::rules_file("first-seen-country.rule.yaml")
            .unwrap()
            .replace("learn: { events: 1 }", learn)
    };
    let mut story = Story::of_rule(&with("learn: { events: 3 }"));
    for (at, ip) in [NORWAY, BRAZIL, NORWAY].iter().enumerate() {
        assert!(story.login(at as i64, "u", ip).is_silent());
    }
    assert!(story.login(9, "u", JAPAN).acted());
    let mut story = Story::of_rule(&with("learn: { for: 14d }"));
    for (day, ip) in [(0, NORWAY), (7, BRAZIL), (14, GERMANY)] {
        assert!(story.login(day * DAY, "u", ip).is_silent());
    }
    assert!(story.login(14 * DAY + 1, "u", JAPAN).acted());
}

#[test]
fn rules_8_after_a_database_update_a_place_that_only_moved_on_the_map_is_not_new() {
    // The shipped database and MaxMind's test data disagree about this address, as a
    // database and its update do.
    let present = doorward::enrich::geoip::GeoDb::open(
        std::fs::read("tests/data/geoip/GeoLite2-Country-Test.mmdb").unwrap(),
    )
    .unwrap();
    let previous = doorward::builtin::geoip().unwrap();
    let moved: std::net::IpAddr = "67.43.156.1".parse().unwrap();
    let before = previous.country(moved).country().unwrap();
    let login = |country: Option<&str>| {
        let mut event = json!({ "type": "login", "outcome": "success", "account": "u",
                                "ip": moved.to_string() });
        if let Some(country) = country {
            event["country"] = json!(country);
        }
        event
    };
    assert_ne!(present.country(moved).country().unwrap(), before);
    let facts = Facts {
        geo: Some(Arc::new(present)),
        previous_geo: Some(Arc::new(previous)),
        asn: None,
        lists: lists(),
    };
    let mut story = Story::with(shipped(), facts, settings());
    story.event(0, login(Some(before.as_str())));
    assert!(story.event(1, login(None)).is_silent());
    assert!(story.event(2, login(Some("JP"))).acted());
}

#[test]
fn rules_3_a_late_unknown_place_is_judged_and_a_late_known_one_is_not() {
    let mut story = Story::new();
    story.login(0, "u", NORWAY);
    story.login(10 * DAY, "u", NORWAY);
    let late = |story: &mut Story, country: &str| {
        story.event_received(
            10 * DAY - HOUR,
            10 * DAY,
            json!({ "type": "login", "outcome": "success", "account": "u", "country": country }),
        )
    };
    assert!(late(&mut story, "NO").is_silent());
    assert!(late(&mut story, "BR").acted());
    assert_eq!(story.said.counts.late, 0);
}

#[test]
fn rules_8_a_place_of_another_kind_is_remembered_too() {
    let rule = "
schema: 1
id: new-device
title: Sign-in with a device this account has not used before
severity: low
mode: enforce
when: { type: login, outcome: success }
by: account
detect: { first_seen: { of: user_agent } }
then: [ { email_user: { template: was_this_you } } ]
";
    let mut story = Story::of_rule(rule);
    let mut login = |at: i64, agent: &str| {
        story.event(
            at,
            json!({ "type": "login", "outcome": "success", "account": "u",
                    "user_agent": agent, "email": "u@example.org" }),
        )
    };
    assert!(login(0, "Firefox").is_silent());
    assert!(login(1, "Firefox").is_silent());
    let said = login(2, "curl");
    assert_eq!(said.decisions(), ["new-device acted 1"]);
    assert!(said.commands.is_empty());
    assert_eq!(said.mails.len(), 1);
    let asked = story.answer(3, "u", "me", &["device:curl"]);
    assert!(asked.commands.is_empty());
    let again = story.event(
        4,
        json!({ "type": "login", "outcome": "success", "account": "u", "user_agent": "curl" }),
    );
    assert!(again.is_silent());
}
