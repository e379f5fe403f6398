//! What accounts hold when the rules change under them (docs/rules.md 14).

use doorward::engine::output::Effect;

use crate::support::story::{BRAZIL, DAY, GERMANY, HOUR, JAPAN, MINUTE, NORWAY, SECOND, Story};

/// A rule on failed sign-ins: `at_least` addresses within `within`.
fn many_addresses(at_least: u32, within: &str, rest: &str) -> String {
    format!(
        "schema: 1\nid: many\ntitle: Many\nseverity: high\n\
         when: {{ type: login, outcome: failure }}\nby: account\n\
         detect:\n  distinct: {{ of: ip, at_least: {at_least}, within: {within} }}\n{rest}"
    )
}

const LOCK: &str = "mode: enforce\nthen:\n  - lock_account: { reason: credential_stuffing }\n";
const OTHER: &str = "schema: 1\nid: other\ntitle: Other\nseverity: low\nmode: shadow\n\
    when: { type: login, outcome: failure, method: magic }\nby: account\ndetect: each\n\
    then: [ { lock_account: { reason: credential_stuffing } } ]\n";

/// Sign-ins from a new country; `when` and `id` name its memory.
fn new_country(id: &str, mode: &str, when: &str) -> String {
    format!(
        "schema: 1\nid: {id}\ntitle: New\nseverity: medium\nmode: {mode}\n\
         when: {{ type: login, outcome: success{when} }}\nby: account\n\
         detect:\n  first_seen: {{ of: country, forget_after: 365d, learn: {{ events: 1 }} }}\n\
         then:\n  - lock_account: {{ reason: new_country }}\n"
    )
}

/// A run of wrong codes; a right one ends it.
fn wrong_codes(id: &str, at_least: u32) -> String {
    format!(
        "schema: 1\nid: {id}\ntitle: Codes\nseverity: high\nmode: enforce\n\
         when: {{ type: two_factor, outcome: failure }}\nby: account\n\
         detect:\n  streak: {{ at_least: {at_least}, max_gap: 15m, \
         broken_by: [ {{ type: two_factor, outcome: success }} ] }}\n\
         then:\n  - lock_account: {{ reason: second_factor_guessing }}\n"
    )
}

fn fail_from(story: &mut Story, from: i64, times: std::ops::Range<i64>) -> usize {
    times
        .filter(|n| {
            story
                .failed_login(from + n * SECOND, "alice", &format!("192.0.2.{n}"))
                .locked()
        })
        .count()
}

#[test]
fn rules_14_a_lower_threshold_judges_the_attack_that_is_under_way_at_its_next_event() {
    let mut story = Story::of_rule(&many_addresses(20, "5m", LOCK));
    assert_eq!(fail_from(&mut story, 0, 0..10), 0);
    let before = story.engine.rules().hash().to_owned();
    story.reload(&[&many_addresses(5, "5m", LOCK)]);
    assert_ne!(story.engine.rules().hash(), before);
    let said = story.failed_login(11 * SECOND, "alice", "192.0.2.99");
    assert!(said.locked());
    assert_eq!(said.decisions(), ["many acted 11"]);
}

#[test]
fn rules_14_a_higher_threshold_keeps_what_the_window_holds() {
    let mut story = Story::of_rule(&many_addresses(5, "5m", LOCK));
    assert_eq!(fail_from(&mut story, 0, 0..4), 0);
    story.reload(&[&many_addresses(8, "5m", LOCK)]);
    assert_eq!(fail_from(&mut story, 0, 4..7), 0);
    assert!(
        story
            .failed_login(8 * SECOND, "alice", "192.0.2.99")
            .locked()
    );
}

#[test]
fn rules_14_mode_actions_and_cooldown_change_and_the_window_stays() {
    let shadow = "mode: shadow\nthen:\n  - lock_account: { reason: credential_stuffing }\n";
    let mut story = Story::of_rule(&many_addresses(5, "5m", shadow));
    assert_eq!(fail_from(&mut story, 0, 0..4), 0);
    story.reload(&[&many_addresses(5, "5m", &format!("{LOCK}cooldown: 1h\n"))]);
    assert!(
        story
            .failed_login(5 * SECOND, "alice", "192.0.2.99")
            .locked()
    );
    // The cooldown that it started is in flight over the next reload, too.
    story.answer(MINUTE, "alice", "me", &[]);
    story.reload(&[&many_addresses(3, "5m", &format!("{LOCK}cooldown: 2h\n"))]);
    assert_eq!(fail_from(&mut story, 80 * MINUTE, 0..3), 0);
    let effects: Vec<Effect> = story.said.decisions.iter().map(|d| d.effect).collect();
    assert_eq!(effects, [Effect::Acted, Effect::Cooldown]);
    assert_eq!(fail_from(&mut story, 130 * MINUTE, 0..3), 1);
}

#[test]
fn rules_14_another_condition_is_another_memory() {
    let mut story = Story::of_rule(&many_addresses(5, "5m", LOCK));
    assert_eq!(fail_from(&mut story, 0, 0..4), 0);
    let narrower = many_addresses(5, "5m", LOCK)
        .replace("outcome: failure }", "outcome: failure, method: password }");
    story.reload(&[&narrower]);
    let event = |n: i64| {
        serde_json::json!({ "type": "login", "outcome": "failure", "account": "alice",
                            "ip": format!("192.0.2.{n}"), "method": "password" })
    };
    for n in 10..14 {
        assert!(!story.event(n * SECOND, event(n)).locked(), "{n}");
    }
    assert!(story.event(15 * SECOND, event(15)).locked());
}

#[test]
fn rules_14_addresses_told_apart_by_other_bits_are_not_counted_together() {
    let mut story = Story::of_rule(&many_addresses(4, "5m", LOCK));
    assert_eq!(fail_from(&mut story, 0, 0..3), 0);
    let by_network = many_addresses(4, "5m", LOCK).replace("of: ip,", "of: ip, prefix4: 24,");
    story.reload(&[&by_network]);
    // One network, whatever was held of it before.
    assert_eq!(fail_from(&mut story, 10 * SECOND, 0..9), 0);
}

#[test]
fn rules_14_a_rule_that_is_taken_back_within_a_day_finds_its_memory() {
    let mut story = Story::of_rule(&many_addresses(5, "7d", LOCK));
    assert_eq!(fail_from(&mut story, 0, 0..4), 0);
    story.reload(&[OTHER]);
    // Time passes, and with it the rounds that look for what has run out.
    for minute in 0..(23 * 60) {
        story.login(minute * MINUTE, "bob", NORWAY);
    }
    story.reload(&[&many_addresses(5, "7d", LOCK)]);
    assert!(
        story
            .failed_login(23 * HOUR, "alice", "192.0.2.99")
            .locked()
    );
}

#[test]
fn rules_14_what_no_rule_knows_for_a_day_is_dropped_and_its_record_too() {
    let mut story = Story::with(
        crate::support::story::rule_set(&[
            &many_addresses(5, "7d", LOCK),
            &new_country("new", "enforce", ""),
        ]),
        crate::support::story::facts(),
        crate::support::story::settings(),
    );
    fail_from(&mut story, 0, 0..4);
    story.login(10 * SECOND, "alice", NORWAY);
    let held = story.partition.bytes();
    story.reload(&[OTHER]);
    // Touched once, so that the places stand in the box.
    story.failed_login(MINUTE, "alice", NORWAY);
    let mut dropped = false;
    for minute in 0..(25 * 60) {
        let said = story.failed_login(minute * MINUTE, "nobody", NORWAY);
        dropped |= said.changed_keys.contains(&story.engine.state_key("alice"));
    }
    assert!(dropped, "its record is written again");
    assert!(!story.partition.holds(story.engine.state_key("alice")));
    assert!(story.partition.bytes() < held);
}

#[test]
fn rules_14_two_instances_with_two_rule_sets_lose_nothing() {
    let old = [
        many_addresses(5, "7d", LOCK),
        new_country("new", "enforce", ""),
    ];
    let new = [new_country(
        "newer",
        "shadow",
        ", country: { exists: true }",
    )];
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let mut story = Story::with(
        crate::support::story::rule_set(&old),
        crate::support::story::facts(),
        crate::support::story::settings(),
    );
    story.login(0, "alice", NORWAY);
    fail_from(&mut story, SECOND, 0..4);
    // Back and forth, with something written on each side.
    story.move_to(&new, &["alice"]);
    story.login(HOUR, "alice", GERMANY);
    story.move_to(&old, &["alice"]);
    let known = story.login(2 * HOUR, "alice", NORWAY);
    assert!(
        known.is_silent(),
        "Norway was known to the old rule: {known:?}"
    );
    story.move_to(&new, &["alice"]);
    let known = story.login(3 * HOUR, "alice", GERMANY);
    assert!(
        known.is_silent(),
        "Germany was taught to the new one: {known:?}"
    );
    assert_eq!(
        story.login(3 * HOUR + 1, "alice", BRAZIL).decisions(),
        ["newer shadow 1"]
    );
    story.move_to(&old, &["alice"]);
    assert!(story.failed_login(4 * HOUR, "alice", "192.0.2.99").locked());
}

#[test]
fn rules_14_known_countries_move_out_when_another_rule_has_the_accounts_own_bytes() {
    let first = new_country("m-first", "enforce", "");
    let other = new_country("a-other", "enforce", ", method: password");
    let mut story = Story::of_rule(&first);
    story.login(0, "alice", NORWAY);
    story.login(SECOND, "bob", JAPAN);
    // The rule that has the bytes keeps them as long as it is there …
    story.reload(&[&first, &other]);
    let resident = |story: &Story| {
        let at = story.engine.rules().resident().unwrap();
        story.engine.rules().rules()[at].id.to_string()
    };
    assert_eq!(resident(&story), "m-first");
    assert!(story.login(MINUTE, "alice", NORWAY).is_silent());
    // … and when it goes, what it knew is not taken for what the other one knows.
    story.reload(&[&other]);
    assert_eq!(resident(&story), "a-other");
    let by_password = |country: &str| {
        serde_json::json!({ "type": "login", "outcome": "success", "method": "password",
                            "account": "alice", "ip": country })
    };
    let said = story.event(2 * MINUTE, by_password(GERMANY));
    assert!(said.is_silent(), "its first sign-in teaches: {said:?}");
    let said = story.event(3 * MINUTE, by_password(NORWAY));
    assert_eq!(said.decisions(), ["a-other acted 1"]);
    // Bob was not touched meanwhile; both survive a restart on the way back.
    story.restart(&["alice", "bob"]);
    story.reload(&[&first]);
    assert!(story.login(5 * MINUTE, "bob", JAPAN).is_silent());
    let said = story.login(6 * MINUTE, "bob", BRAZIL);
    assert_eq!(said.decisions(), ["m-first acted 1"]);
    story.answer(7 * MINUTE, "alice", "me", &["country:NO"]);
    assert!(story.login(8 * MINUTE, "alice", NORWAY).is_silent());
    let said = story.login(9 * MINUTE, "alice", GERMANY);
    assert_eq!(said.decisions(), ["m-first acted 1"]);
}

#[test]
fn rules_14_the_end_of_a_run_moves_with_its_rule() {
    let (codes, others) = (wrong_codes("codes", 4), wrong_codes("a-codes", 4));
    let places = new_country("new", "enforce", "");
    let mut story = Story::with(
        crate::support::story::rule_set(&[&codes, &places]),
        crate::support::story::facts(),
        crate::support::story::settings(),
    );
    story.login(0, "alice", NORWAY);
    story.second_factor(5 * MINUTE, "alice", "success");
    story.reload(&[&others, &places]);
    story.second_factor(6 * MINUTE, "alice", "failure");
    story.reload(&[&codes, &places]);
    // Two failures from before that right code come late: they do not make a run with those
    // from after it.
    for at in [3, 4] {
        let now = story.now;
        story.event_received(
            at * MINUTE,
            now,
            serde_json::json!({ "type": "two_factor", "outcome": "failure", "account": "alice" }),
        );
    }
    story.second_factor(6 * MINUTE + 1, "alice", "failure");
    let said = story.second_factor(6 * MINUTE + 2, "alice", "failure");
    assert!(!said.locked(), "{said:?}");
    story.second_factor(6 * MINUTE + 3, "alice", "failure");
    assert!(
        story
            .second_factor(6 * MINUTE + 4, "alice", "failure")
            .locked()
    );
}

#[test]
fn rules_14_a_locks_end_and_an_open_case_survive_their_rule() {
    let lock =
        "mode: enforce\nthen:\n  - lock_account: { reason: credential_stuffing, until: 1h }\n";
    let mut story = Story::of_rule(&many_addresses(3, "5m", lock));
    assert_eq!(fail_from(&mut story, 0, 0..3), 1);
    story.reload(&[OTHER]);
    let said = story.wait_until(2 * HOUR);
    assert_eq!(said.commands(), ["unlock_account"]);
    let closed = story.answer(2 * HOUR + 1, "alice", "not_me", &[]);
    assert!(closed.commands().contains(&"lock_account"));
}

#[test]
fn rules_14_very_many_changes_of_the_rules_lose_no_place() {
    let first = new_country("first", "enforce", "");
    let mut story = Story::of_rule(&first);
    story.login(0, "alice", NORWAY);
    story.login(1, "bob", JAPAN);
    for n in 0..300 {
        story.reload(&[&new_country(&format!("rule-{n}"), "shadow", "")]);
        story.login(SECOND + n, "alice", NORWAY);
    }
    story.reload(&[&first]);
    for (account, home) in [("alice", NORWAY), ("bob", JAPAN)] {
        assert!(story.login(HOUR, account, home).is_silent(), "{account}");
        let said = story.login(2 * HOUR, account, BRAZIL);
        assert_eq!(said.decisions(), ["first acted 1"], "{account}");
    }
    let now = 3 * DAY;
    assert!(story.login(now, "carol", NORWAY).is_silent());
}
