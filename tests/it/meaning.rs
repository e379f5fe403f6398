//! What rules mean, exactly: a test for each number of docs/rules.md that holds so far.

pub mod bounces;
mod budget;
pub mod cases;
mod control;
mod exceptions;
mod operators;
mod recovery;
mod seen;
mod sentences;
mod steps;
mod streaks;
mod timers;
mod windows;

use serde_json::json;

use crate::support::story::*;

#[test]
fn rules_9_events_without_an_account_are_counted_and_never_grouped() {
    let mut story = Story::new();
    for n in 0..10 {
        let said = story.event(
            n * SECOND,
            json!({ "type": "login", "outcome": "failure", "ip": format!("192.0.2.{n}") }),
        );
        assert!(said.is_silent());
    }
    assert_eq!(story.said.counts.unkeyed, 10);
    assert_eq!(story.partition.accounts(), 0);
}

#[test]
fn rules_9_people_who_share_an_account_are_kept_apart() {
    let rule = "
schema: 1
id: shared
title: Three failures of one person
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: [account, user]
detect: { count: { at_least: 3, within: 5m } }
";
    let mut story = Story::of_rule(rule);
    let mut fail = |at: i64, user: &str| {
        story
            .event(
                at * SECOND,
                json!({ "type": "login", "outcome": "failure", "account": "team", "user": user }),
            )
            .decisions()
    };
    for (at, user) in ["ann", "bob", "ann", "bob"].iter().enumerate() {
        assert!(fail(at as i64, user).is_empty());
    }
    assert_eq!(fail(5, "ann"), ["shared acted 3"]);
    assert_eq!(fail(6, "bob"), ["shared acted 3"]);
}

#[test]
fn rules_9_an_account_keeps_64_people_at_most() {
    let rule = "
schema: 1
id: shared
title: Two failures of one person
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: [account, user]
detect: { count: { at_least: 2, within: 1h } }
";
    let mut story = Story::of_rule(rule);
    for n in 0..1_000 {
        story.event(
            n,
            json!({ "type": "login", "outcome": "failure", "account": "team",
                    "user": format!("user-{n}") }),
        );
    }
    assert!(
        story.partition.bytes() < 64 * 1024,
        "{}",
        story.partition.bytes()
    );
}

#[test]
fn rules_9_a_rule_by_address_counts_across_accounts_in_a_record_of_its_own() {
    let rule = "
schema: 1
id: spray
title: One address fails at ten accounts
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: ip
detect: { distinct: { of: account, at_least: 10, within: 5m } }
";
    let mut story = Story::of_rule(rule);
    for n in 0..9 {
        assert!(
            story
                .failed_login(n * SECOND, &format!("u-{n}"), NORWAY)
                .is_silent()
        );
    }
    // Another address is another record.
    assert!(story.failed_login(10 * SECOND, "u-9", BRAZIL).is_silent());
    let said = story.failed_login(11 * SECOND, "u-10", NORWAY);
    assert_eq!(said.decisions(), ["spray acted 10"]);
    assert!(said.commands.is_empty());
}

#[test]
fn rules_9_a_test_on_an_absent_field_is_false_save_not_and_exists_false() {
    let hits = |when: &str| {
        let rule = format!(
            "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: {{ type: login, {when} }}
by: account
detect: each
"
        );
        let mut story = Story::of_rule(&rule);
        !story
            .event(
                0,
                json!({ "type": "login", "outcome": "success", "account": "u" }),
            )
            .is_silent()
    };
    assert!(!hits("ip: { in_list: malicious_ips }"));
    assert!(!hits("ip: { not_in_list: malicious_ips }"));
    assert!(!hits("method: password"));
    assert!(!hits("attributes.risk: 3"));
    assert!(!hits("user_agent: { glob: '*' }"));
    assert!(!hits("ip: { exists: true }"));
    assert!(hits("ip: { exists: false }"));
    assert!(hits("ip: { not: { in_list: malicious_ips } }"));
    assert!(hits("reason: { not: [bad_password] }"));
}

/// A rule that records every sign-in that satisfies `when`.
fn probe(when: &str) -> String {
    format!(
        "schema: 1\nid: probe\ntitle: Probe\nseverity: low\nmode: enforce\n\
         when: {{ type: login, {when} }}\nby: account\ndetect: each\n"
    )
}

#[test]
fn rules_9_a_rule_on_network_numbers_asks_the_event_first_and_then_the_database() {
    use doorward::enrich::Facts;
    use doorward::enrich::asn::AsnDb;
    let database = || {
        let bytes = include_bytes!("../data/geoip/GeoLite2-ASN-Test.mmdb");
        AsnDb::open(bytes.as_slice()).expect("a database")
    };
    let hits = |when: &str, with_database: bool, event: serde_json::Value| {
        let facts = Facts {
            asn: with_database.then(|| std::sync::Arc::new(database())),
            ..Facts::default()
        };
        let mut story = Story::with(rule_set(&[&probe(when)]), facts, settings());
        let mut login = json!({ "type": "login", "outcome": "success", "account": "u" });
        for (name, value) in event.as_object().expect("fields") {
            login[name] = value.clone();
        }
        story.event(0, login).acted()
    };
    // 1.128.0.0/11 is AS1221 in the test database.
    let telstra = || json!({ "ip": "1.128.0.1" });
    assert!(hits("asn: 1221", true, telstra()));
    assert!(hits(
        "asn: [1, 1221]",
        true,
        json!({ "ip": "::ffff:1.128.0.1" })
    ));
    assert!(!hits("asn: 1222", true, telstra()));
    assert!(hits("asn: { glob: '12*' }", true, telstra()));
    // The event's own number wins, and needs no database.
    let own = || json!({ "ip": "1.128.0.1", "asn": 64500 });
    assert!(hits("asn: 64500", true, own()));
    assert!(!hits("asn: 1221", true, own()));
    assert!(hits("asn: 64500", false, own()));
    // An address without a number is an absent field …
    let unknown = || json!({ "ip": "10.0.0.1" });
    assert!(hits("asn: { exists: false }", true, unknown()));
    assert!(hits("asn: { not: 1221 }", true, unknown()));
    // … and without a database the rule does not apply, in either sense.
    assert!(!hits("asn: 1221", false, telstra()));
    assert!(!hits("asn: { not: 1221 }", false, telstra()));
    assert!(!hits("asn: { exists: false }", false, telstra()));
}

#[test]
fn rules_8_a_rule_on_countries_without_a_database_does_not_apply_in_either_sense() {
    use doorward::enrich::Facts;
    let hits = |when: &str, event: serde_json::Value| {
        let mut story = Story::with(rule_set(&[&probe(when)]), Facts::default(), settings());
        let acted = story.event(0, event).acted();
        (acted, story.said.counts.geo_no_database)
    };
    let login = || json!({ "type": "login", "outcome": "success", "account": "u", "ip": NORWAY });
    assert_eq!(hits("country: NO", login()), (false, 1));
    assert_eq!(hits("country: { not: NO }", login()), (false, 1));
    assert_eq!(hits("country: { exists: false }", login()), (false, 1));
    let mut own = login();
    own["country"] = json!("DE");
    assert_eq!(hits("country: { not: NO }", own), (true, 0));
}

#[test]
fn rules_9_a_field_of_several_values_holds_where_one_of_them_does() {
    let hits = |when: &str, owners: serde_json::Value| {
        let mut story = Story::of_rule(&probe(when));
        let event =
            json!({ "type": "login", "outcome": "success", "account": "u", "owners": owners });
        story.event(0, event).acted()
    };
    let two = || json!(["ann@example.org", "bob@example.com"]);
    assert!(hits("owners: bob@example.com", two()));
    assert!(hits("owners: { glob: '*@example.org' }", two()));
    assert!(!hits("owners: eve@example.org", two()));
    assert!(!hits("owners: { not: bob@example.com }", two()));
    assert!(hits("owners: { exists: false }", json!([])));
}

#[test]
fn rules_2_an_event_from_the_future_takes_the_brokers_time() {
    let mut story = Story::new();
    // Up to a minute ahead is its own time.
    story.event_received(
        MINUTE,
        0,
        json!({ "type": "login", "outcome": "failure",
        "account": "u", "ip": "192.0.2.1" }),
    );
    assert_eq!(story.said.counts.future, 0);
    story.event_received(
        MINUTE + 1,
        0,
        json!({ "type": "login", "outcome": "failure",
        "account": "u", "ip": "192.0.2.2" }),
    );
    assert_eq!(story.said.counts.future, 1);
    // A day ahead would otherwise make everything after it late.
    story.event_received(
        DAY,
        SECOND,
        json!({ "type": "login", "outcome": "failure",
        "account": "u", "ip": "192.0.2.3" }),
    );
    for n in 4..6 {
        story.failed_login(2 * SECOND, "u", &format!("192.0.2.{n}"));
    }
    assert_eq!(story.said.decisions.len(), 1);
    assert_eq!(story.said.counts.late, 0);
}

#[test]
fn rules_4_a_decision_about_something_older_than_a_day_does_nothing() {
    let reset = || {
        json!({ "type": "password_reset", "outcome": "requested", "account": "u",
                "ip": MALICIOUS, "email": "u@example.org" })
    };
    let mut story = Story::new();
    let said = story.event_received(0, DAY, reset());
    assert_eq!(said.decisions(), ["reset-from-malicious-ip acted 1"]);
    let mut story = Story::new();
    let said = story.event_received(0, DAY + 1, reset());
    assert_eq!(said.decisions(), ["reset-from-malicious-ip stale 1"]);
    assert!(said.commands.is_empty() && said.mails.is_empty());
    assert_eq!(said.decisions[0].case, None);
}

#[test]
fn rules_15_thresholds_are_bounded() {
    use doorward::document::{Diagnostics, SourceFile, render_all};
    let rule = |detect: &str| {
        let file = SourceFile::new(
            "r.rule.yaml",
            format!(
                "schema: 1\nid: r\ntitle: R\nseverity: low\nmode: enforce\n\
                 when: {{ type: login }}\nby: account\ndetect: {{ {detect} }}\n"
            ),
        );
        let mut found = Diagnostics::default();
        doorward::rules::RuleSet::load(&[file], &lists(), &mut found);
        render_all(&found, false)
    };
    assert_eq!(rule("count: { at_least: 64, within: 5m }"), "");
    assert!(rule("count: { at_least: 65, within: 5m }").contains("must be 1 to 64, not 65"));
    assert!(rule("streak: { at_least: 0, max_gap: 5m }").contains("must be 1 to 64, not 0"));
}

#[test]
fn rules_15_regular_expressions_run_in_linear_time() {
    let rule = r"
schema: 1
id: r
title: R
severity: low
mode: enforce
when: { type: login, user_agent: { regex: '^(a+)+$' } }
by: account
detect: each
";
    let mut story = Story::of_rule(rule);
    // Exponential for an engine that backtracks: this would never end.
    let agent = format!("{}b", "a".repeat(50_000));
    let said = story.event(
        0,
        json!({ "type": "login", "outcome": "success", "account": "u", "user_agent": agent }),
    );
    assert!(said.is_silent());
}

#[test]
fn rules_15_one_account_with_a_flood_of_failures_stays_small() {
    let mut story = Story::new();
    for n in 0..20_000_i64 {
        // Four addresses, so that nothing fires, and every id is new.
        story.failed_login(n * 10, "u", &format!("192.0.2.{}", n % 4));
    }
    assert!(story.said.decisions.is_empty());
    assert!(
        story.partition.bytes() < 16 * 1024,
        "{}",
        story.partition.bytes()
    );
}

#[test]
fn rules_15_a_full_window_is_counted() {
    let rule = "
schema: 1
id: r
title: R
severity: low
mode: enforce
when: { type: two_factor, outcome: failure }
by: account
detect: { streak: { at_least: 2, max_gap: 1h, broken_by: { type: two_factor, outcome: success } } }
";
    let mut story = Story::of_rule(rule);
    for n in 0..100 {
        let outcome = if n % 2 == 0 { "failure" } else { "success" };
        assert!(story.second_factor(n, "u", outcome).is_silent());
    }
    assert!(story.said.counts.window_full > 0);
}

#[test]
fn rules_15_under_pressure_only_accounts_that_learned_nothing_go() {
    let mut settings = settings();
    settings.max_forgettable_bytes = 64 * 1024;
    let mut story = Story::with(shipped(), facts(), settings);
    story.login(0, "owner", NORWAY);
    for n in 0..10_000 {
        story.failed_login(SECOND + n, &format!("made-up-{n}"), "192.0.2.1");
    }
    assert!(
        story.partition.accounts() <= 130,
        "{}",
        story.partition.accounts()
    );
    assert!(story.said.counts.evicted > 9_000);
    // The owner's country is still known, so a thief's sign-in does not teach.
    let said = story.login(MINUTE, "owner", BRAZIL);
    assert_eq!(said.decisions(), ["first-seen-country acted 1"]);
}

#[test]
fn rules_15_the_youngest_of_the_accounts_without_knowledge_stay() {
    let mut settings = settings();
    settings.max_forgettable_bytes = 64 * 1024;
    let mut story = Story::with(shipped(), facts(), settings);
    for n in 0..1_000 {
        story.failed_login(n * MINUTE, &format!("made-up-{n}"), "192.0.2.1");
    }
    // An attack on the newest one is still seen.
    let last = 999 * MINUTE;
    for n in 2..5 {
        story.failed_login(last + n * SECOND, "made-up-999", &format!("192.0.2.{n}"));
    }
    let said = story.failed_login(last + 9 * SECOND, "made-up-999", "192.0.2.9");
    assert!(said.acted());
}

#[test]
fn an_event_that_leaves_nothing_to_remember_leaves_no_account() {
    let mut story = Story::new();
    story.login(0, "a", "10.0.0.1");
    story.event(
        1,
        json!({ "type": "password_reset", "outcome": "requested", "account": "b", "ip": NORWAY }),
    );
    assert_eq!(story.partition.accounts(), 0);
    story.login(2, "c", NORWAY);
    assert_eq!(story.partition.accounts(), 1);
}
