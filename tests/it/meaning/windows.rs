//! `count` and `distinct` (docs/rules.md 1, 3, 5, 6).

use serde_json::json;

use crate::support::story::*;

const COUNT: &str = "
schema: 1
id: three
title: Three failures in five minutes
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: account
detect: { count: { at_least: 3, within: 5m } }
";

#[test]
fn rules_1_first_and_last_may_be_exactly_the_window_apart() {
    let mut story = Story::new();
    for n in 0..4 {
        story.failed_login(0, "u", &format!("192.0.2.{n}"));
    }
    assert!(story.failed_login(5 * MINUTE, "u", "192.0.2.9").acted());
}

#[test]
fn rules_1_a_millisecond_more_is_too_far() {
    let mut story = Story::new();
    for n in 0..4 {
        story.failed_login(0, "u", &format!("192.0.2.{n}"));
    }
    assert!(
        story
            .failed_login(5 * MINUTE + 1, "u", "192.0.2.9")
            .is_silent()
    );
}

#[test]
fn rules_1_the_machines_clock_and_arrival_do_not_move_a_window() {
    // Five events of one minute, received an hour late and an hour apart.
    let mut story = Story::new();
    let mut locked = false;
    for n in 0..5 {
        let said = story.event_received(
            n * 10 * SECOND,
            HOUR + n * HOUR,
            json!({ "type": "login", "outcome": "failure", "account": "u",
                    "ip": format!("192.0.2.{n}") }),
        );
        locked |= said.locked();
    }
    assert!(locked);
}

#[test]
fn rules_3_a_late_event_is_put_in_its_place() {
    let mut story = Story::new();
    for n in 0..4 {
        story.failed_login(n * SECOND, "u", &format!("192.0.2.{n}"));
    }
    // Six minutes later the window of the four is past for events on time …
    story.failed_login(5 * MINUTE, "u", "192.0.2.0");
    // … but one that is up to five minutes late stands among them.
    let said = story.failed_login(2 * SECOND, "u", "192.0.2.9");
    assert_eq!(said.decisions(), ["failed-logins-many-ips acted 5"]);
}

#[test]
fn rules_3_lateness_ends_at_five_minutes() {
    let mut story = Story::of_rule(COUNT);
    story.failed_login(10 * MINUTE, "u", NORWAY);
    assert!(story.failed_login(5 * MINUTE, "u", NORWAY).is_silent());
    assert_eq!(story.said.counts.late, 0);
    assert!(story.failed_login(5 * MINUTE - 1, "u", NORWAY).is_silent());
    assert_eq!(story.said.counts.late, 1);
    // The first of them is held: with it there are three within five minutes.
    assert!(story.failed_login(10 * MINUTE, "u", NORWAY).acted());
}

#[test]
fn rules_3_a_short_window_bounds_lateness_at_three_times_itself() {
    let rule = COUNT.replace("within: 5m", "within: 10s");
    let mut story = Story::of_rule(&rule);
    story.failed_login(MINUTE, "u", NORWAY);
    story.failed_login(30 * SECOND, "u", NORWAY);
    assert_eq!(story.said.counts.late, 0);
    story.failed_login(30 * SECOND - 1, "u", NORWAY);
    assert_eq!(story.said.counts.late, 1);
}

#[test]
fn rules_3_lateness_is_measured_against_what_the_rule_holds_for_the_account() {
    let mut story = Story::of_rule(COUNT);
    // Another account's present does not make this one's past late.
    story.failed_login(HOUR, "other", NORWAY);
    for n in 0..2 {
        story.failed_login(n, "u", NORWAY);
    }
    assert!(story.failed_login(2, "u", NORWAY).acted());
}

#[test]
fn rules_5_a_repeat_of_the_same_id_and_time_counts_once() {
    let mut story = Story::of_rule(COUNT);
    let again = json!({ "id": "same", "type": "login", "outcome": "failure", "account": "u" });
    for _ in 0..5 {
        assert!(story.event_received(0, 0, again.clone()).is_silent());
    }
    assert_eq!(story.said.counts.duplicate, 4);
    assert_eq!(story.said.counts.id_conflict, 0);
}

#[test]
fn rules_5_the_same_id_at_another_time_is_another_event() {
    let mut story = Story::of_rule(COUNT);
    let mut fail = |at: i64| {
        story.event(
            at,
            json!({ "id": "same", "type": "login", "outcome": "failure", "account": "u" }),
        )
    };
    assert!(fail(0).is_silent());
    assert!(fail(1).is_silent());
    assert!(fail(2).acted());
    assert_eq!(story.said.counts.id_conflict, 2);
}

#[test]
fn rules_6_addresses_are_told_apart_by_network() {
    let distinct = |addresses: &[&str]| {
        let mut story = Story::new();
        addresses
            .iter()
            .enumerate()
            .any(|(n, ip)| story.failed_login(n as i64, "u", ip).acted())
    };
    // Neighbours in one IPv6 /64 are one household.
    assert!(!distinct(&[
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::3",
        "2001:db8::4",
        "2001:db8::5"
    ]));
    assert!(distinct(&[
        "2001:db8:0:1::1",
        "2001:db8:0:2::1",
        "2001:db8:0:3::1",
        "2001:db8:0:4::1",
        "2001:db8:0:5::1"
    ]));
    // A v4-mapped address is the IPv4 address.
    assert!(!distinct(&[
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4"
    ]));
    // Private addresses count too.
    assert!(distinct(&[
        "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"
    ]));
}

#[test]
fn rules_6_a_rule_sets_its_own_prefixes() {
    let rule = "
schema: 1
id: nets
title: Three networks
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: account
detect: { distinct: { of: ip, at_least: 3, within: 5m, prefix4: 24, prefix6: 48 } }
";
    let mut story = Story::of_rule(rule);
    for (n, ip) in [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8:1:2::1",
        "2001:db8:1:3::1",
    ]
    .iter()
    .enumerate()
    {
        assert!(story.failed_login(n as i64, "u", ip).is_silent());
    }
    assert!(story.failed_login(9, "u", "198.51.100.1").acted());
}

#[test]
fn rules_6_one_noisy_address_never_pushes_out_another() {
    let mut story = Story::new();
    for n in 0..4 {
        story.failed_login(n, "u", &format!("192.0.2.{n}"));
    }
    for n in 0..2_000 {
        assert!(story.failed_login(10 + n, "u", "192.0.2.0").is_silent());
    }
    assert!(story.failed_login(4 * MINUTE, "u", "192.0.2.9").acted());
    assert_eq!(story.said.counts.window_full, 0);
}

#[test]
fn rules_10_a_hit_uses_up_what_it_counted() {
    let mut story = Story::of_rule(COUNT);
    let mut hits = Vec::new();
    for n in 0..9 {
        if !story.failed_login(n, "u", NORWAY).is_silent() {
            hits.push(n);
        }
    }
    assert_eq!(hits, [2, 5, 8]);
}

#[test]
fn the_shipped_rule_leaves_out_what_is_no_guess_at_a_password() {
    let mut story = Story::new();
    for n in 0..20 {
        let fields = match n % 4 {
            0 => json!({ "reason": "no_such_account" }),
            1 => json!({ "reason": "account_locked" }),
            2 => json!({ "reason": "rate_limited" }),
            _ => json!({ "reason": "bad_password", "repeat": true }),
        };
        let mut event = json!({ "type": "login", "outcome": "failure", "account": "u",
                                "ip": format!("192.0.2.{n}") });
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        assert!(story.event(n, event).is_silent());
    }
}
