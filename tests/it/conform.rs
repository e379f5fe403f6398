//! What a login pipeline's team is told of their events.

use doorward::conform::{Record, Report, Survey, Weight};
use doorward::event::{Source, Timestamp};
use serde_json::{Value, json};

const NOW: i64 = 1_795_327_200_000;

/// A sign-in that lacks nothing.
fn login(n: usize) -> Value {
    json!({ "id": format!("e-{n}"), "type": "login", "outcome": "success", "time": NOW,
            "account": format!("u-{}", n % 40), "ip": format!("192.0.2.{}", n % 250),
            "method": "password", "session": format!("s-{n}"), "locale": "en",
            "user_agent": "Mozilla/5.0", "email": format!("u-{}@example.org", n % 40) })
}

struct Stretch {
    survey: Survey,
    offset: i64,
}

impl Stretch {
    fn new() -> Stretch {
        Stretch {
            survey: Survey::new(),
            offset: 0,
        }
    }

    fn event(&mut self, event: &Value) {
        let key = event["account"].as_str().map(str::to_owned);
        self.record(key.as_deref(), event.to_string().as_bytes(), 0, true);
    }

    fn record(&mut self, key: Option<&str>, payload: &[u8], partition: i32, append: bool) {
        self.survey.note(&Record {
            source: Source {
                partition,
                offset: self.offset,
            },
            time: Timestamp(NOW),
            is_append_time: append,
            key: key.map(str::as_bytes),
            payload: Some(payload),
        });
        self.offset += 1;
    }

    /// A hundred sign-ins that lack nothing, each changed by `change`.
    fn changed(change: impl Fn(usize, &mut Value)) -> Report {
        let mut stretch = Stretch::new();
        for n in 0..100 {
            let mut event = login(n);
            change(n, &mut event);
            stretch.event(&event);
        }
        stretch.survey.report()
    }
}

/// Names, weights and counts of what was found.
fn found(report: &Report) -> Vec<(&'static str, Weight, u64, u64)> {
    let findings = report.findings.iter();
    findings.map(|f| (f.id, f.weight, f.count, f.of)).collect()
}

#[test]
fn of_events_that_lack_nothing_nothing_is_said() {
    let report = Stretch::changed(|_, _| {});
    assert_eq!(found(&report), []);
    assert_eq!((report.events, report.accounts), (100, 40));
    assert!(!report.has_musts());
    assert!(report.not_seen.contains(&"email_changed"));
    assert!(!report.not_seen.contains(&"login"));
}

#[test]
fn each_field_that_is_missing_is_named_with_its_count_and_the_first_place() {
    for (field, id, weight) in [
        ("ip", "no_ip", Weight::Must),
        ("email", "no_email", Weight::Must),
        ("session", "no_session", Weight::Must),
        ("account", "no_account", Weight::Must),
        ("user_agent", "no_user_agent", Weight::Should),
    ] {
        let report = Stretch::changed(|n, event| {
            if n >= 90 {
                event.as_object_mut().unwrap().remove(field);
            }
        });
        assert_eq!(found(&report), [(id, weight, 10, 100)], "{field}");
        let example = report.findings[0].example.as_ref().unwrap();
        assert_eq!(example.offset, 90);
        assert_eq!(example.event.as_deref(), Some("e-90"));
        assert!(report.findings[0].text.contains("10 of 100"));
    }
}

#[test]
fn what_only_some_events_need_is_said_where_none_has_it() {
    let report = Stretch::changed(|n, event| {
        if n > 0 {
            event.as_object_mut().unwrap().remove("locale");
        }
    });
    assert_eq!(found(&report), [], "one event has it");
    let report = Stretch::changed(|_, event| {
        event.as_object_mut().unwrap().remove("locale");
    });
    assert_eq!(found(&report), [("no_locale", Weight::Note, 100, 100)]);
}

#[test]
fn failures_need_a_reason_and_a_word_about_repeats() {
    let report = Stretch::changed(|n, event| {
        if n < 5 {
            event["outcome"] = json!("failure");
        }
    });
    assert_eq!(
        found(&report),
        [
            ("no_reason", Weight::Should, 5, 5),
            ("never_repeat", Weight::Should, 5, 5)
        ]
    );
}

#[test]
fn an_address_that_is_everybodys_is_a_proxys() {
    let report = Stretch::changed(|n, event| {
        if n >= 45 {
            event["ip"] = json!("203.0.113.1");
        }
    });
    assert_eq!(found(&report), [("one_address", Weight::Must, 55, 100)]);
    let report = Stretch::changed(|_, event| event["ip"] = json!("10.0.0.1"));
    let ids: Vec<&str> = report.findings.iter().map(|f| f.id).collect();
    assert_eq!(ids, ["private_ip", "one_address"]);
}

#[test]
fn an_address_changed_without_the_one_before_lets_the_thief_have_the_links() {
    let report = Stretch::changed(|n, event| {
        if n == 7 {
            event["type"] = json!("email_changed");
        }
    });
    assert_eq!(found(&report), [("no_previous_email", Weight::Must, 1, 1)]);
}

#[test]
fn keys_and_partitions_that_tear_an_account_apart_are_found() {
    let mut stretch = Stretch::new();
    let event = login(1).to_string();
    stretch.record(Some("u-1"), event.as_bytes(), 0, true);
    let event = login(41).to_string();
    stretch.record(None, event.as_bytes(), 1, true);
    let report = stretch.survey.report();
    assert_eq!(
        found(&report),
        [
            ("wrong_key", Weight::Must, 1, 2),
            ("scattered", Weight::Must, 1, 2)
        ]
    );
}

#[test]
fn the_producers_clock_is_said_and_judges_nothing() {
    let mut stretch = Stretch::new();
    let mut event = login(1);
    event["time"] = json!(NOW - 3_600_000);
    stretch.record(Some("u-1"), event.to_string().as_bytes(), 0, false);
    let report = stretch.survey.report();
    assert_eq!(found(&report), [("create_time", Weight::Should, 1, 1)]);
}

#[test]
fn clocks_that_are_ahead_and_events_that_are_late_are_said() {
    let report = Stretch::changed(|n, event| match n {
        0 => event["time"] = json!(NOW + 60_001),
        1 => event["time"] = json!(NOW + 60_000),
        2 => event["time"] = json!(NOW - 300_001),
        3 => event["time"] = json!(NOW - 300_000),
        _ => {}
    });
    assert_eq!(
        found(&report),
        [
            ("ahead", Weight::Should, 1, 100),
            ("late", Weight::Should, 1, 100)
        ]
    );
}

#[test]
fn ids_must_be_new_and_repeats_are_harmless() {
    let report = Stretch::changed(|n, event| {
        if n == 50 {
            *event = login(10);
        }
        if n == 51 {
            event["id"] = json!("e-10");
            event["time"] = json!(NOW - 1);
        }
    });
    assert_eq!(
        found(&report),
        [
            ("id_conflict", Weight::Must, 1, 100),
            ("repeated", Weight::Note, 1, 100)
        ]
    );
}

#[test]
fn types_that_are_nearly_right_are_put_right() {
    let report = Stretch::changed(|n, event| match n {
        0 => event["type"] = json!("two-factor"),
        1 => event["type"] = json!("coffee"),
        _ => {}
    });
    let texts: Vec<&str> = report.findings.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "1 event of the type `two-factor`: is `two_factor` meant?",
            "1 event of the type `coffee`, which rules of yours can use and doorward's own do not"
        ]
    );
}

#[test]
fn what_is_no_event_and_what_is_invalid_in_one_is_said() {
    let mut stretch = Stretch::new();
    stretch.record(None, b"{\"id\":", 0, true);
    let mut event = login(1);
    event["ip"] = json!("nobody");
    event["email_verified"] = json!("yes");
    stretch.event(&event);
    let report = stretch.survey.report();
    let ids: Vec<&str> = report.findings.iter().map(|f| f.id).collect();
    assert_eq!(ids, ["not_json", "no_ip", "invalid_field", "invalid_field"]);
    assert_eq!((report.records, report.events), (2, 1));
}

#[test]
fn what_doorward_wrote_and_what_was_played_is_not_judged() {
    let mut stretch = Stretch::new();
    stretch.event(&json!({ "id": "t-1", "type": "timer_due", "time": NOW, "account": "u-1" }));
    for scene in doorward::conform::play::scenes("run", Timestamp(NOW), None) {
        for event in &scene.events {
            stretch.event(event);
        }
    }
    let report = stretch.survey.report();
    assert_eq!((report.records, found(&report)), (0, vec![]));
}

#[test]
fn hostile_words_are_bounded_and_shown_escaped() {
    let mut stretch = Stretch::new();
    for n in 0..1_000 {
        let mut event = login(n);
        event["type"] = json!(format!("kind\u{1b}[2J{n}"));
        stretch.event(&event);
    }
    let report = stretch.survey.report();
    assert_eq!(report.events, 1_000);
    assert!(report.types.len() <= 256);
    for finding in &report.findings {
        assert!(!finding.text.contains('\u{1b}'), "{}", finding.text);
    }
}
