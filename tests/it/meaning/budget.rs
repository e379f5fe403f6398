//! Lock budgets: a rule that is wrong about everybody locks only some.

use doorward::engine::output::Effect;
use doorward::engine::{Partition, budget};
use serde_json::json;

use crate::support::story::*;

/// Locks at each reset from the list of malicious addresses; `more` are further lines.
fn rule(id: &str, more: &str) -> String {
    format!(
        "
schema: 1
id: {id}
title: A reset from a bad address
severity: high
mode: enforce
when: {{ type: password_reset, ip: {{ in_list: malicious_ips }} }}
by: account
detect: each
then:
  - lock_account: {{ reason: reset_from_malicious_ip }}
  - email_user: {{ template: was_this_you }}
cooldown: 1h
{more}
"
    )
}

fn reset(story: &mut Story, at: i64, account: &str) -> Said {
    story.event(
        at,
        json!({ "type": "password_reset", "outcome": "requested", "account": account,
                "ip": MALICIOUS, "email": format!("{account}@example.org") }),
    )
}

fn effects(said: &Said) -> Vec<&'static str> {
    said.decisions.iter().map(|d| d.effect.as_str()).collect()
}

#[test]
fn rules_13_past_its_budget_a_hit_is_held_and_does_nothing() {
    let mut story = Story::of_rule(&rule("resets", "lock_budget: 6"));
    // Four partitions: three locks each, which is both twice the share and the least.
    for n in 0..3 {
        assert_eq!(
            effects(&reset(&mut story, n * SECOND, &format!("u{n}"))),
            ["acted"]
        );
    }
    let held = reset(&mut story, 3 * SECOND, "u3");
    assert_eq!(effects(&held), ["held"]);
    assert_eq!(held.decisions[0].actions, ["lock_account", "email_user"]);
    assert_eq!(held.decisions[0].case, None);
    assert!(held.commands.is_empty() && held.mails.is_empty() && held.cases == 0);
    assert_eq!(story.partition.open_cases(), 3);
    // No cooldown was begun: the next window locks it at once.
    assert_eq!(effects(&reset(&mut story, 4 * MINUTE, "u3")), ["held"]);
    assert_eq!(effects(&reset(&mut story, 5 * MINUTE, "u3")), ["acted"]);
    // That there are no locks left is said once in a window, with its end.
    let [spent] = &story.said.budgets_spent[..] else {
        panic!("{:?}", story.said.budgets_spent);
    };
    assert_eq!((&*spent.rule, spent.limit), ("resets", 3));
    assert_eq!(spent.until.0, START + 5 * MINUTE);
}

#[test]
fn rules_13_windows_are_the_brokers_and_tumble() {
    let mut story = Story::of_rule(&rule("resets", "lock_budget: 1"));
    // Three at the very end of one window, three at the beginning of the next.
    for n in 0..3 {
        let at = 5 * MINUTE - 3 + n;
        assert_eq!(effects(&reset(&mut story, at, &format!("a{n}"))), ["acted"]);
    }
    for n in 0..3 {
        let at = 5 * MINUTE + n;
        assert_eq!(effects(&reset(&mut story, at, &format!("b{n}"))), ["acted"]);
    }
    assert_eq!(effects(&reset(&mut story, 5 * MINUTE + 3, "b3")), ["held"]);
    // A broker whose clock is a little behind refills nothing.
    let event = json!({ "type": "password_reset", "outcome": "requested", "account": "c",
                        "ip": MALICIOUS });
    let said = story.event_received(5 * MINUTE, 5 * MINUTE - 1, event.clone());
    assert_eq!(effects(&said), ["held"]);
    // An event's own time decides nothing.
    let said = story.event_received(0, 10 * MINUTE - 1, event.clone());
    assert_eq!(effects(&said), ["held"]);
    let said = story.event_received(0, 10 * MINUTE, event);
    assert_eq!(effects(&said), ["acted"]);
}

#[test]
fn rules_13_the_budget_is_shared_out_to_the_partitions() {
    let limit = |locks: u32, partitions: u32| {
        let rules = rule_set(&[&rule("resets", &format!("lock_budget: {locks}"))]);
        budget::limit(&rules.rules()[0], partitions)
    };
    assert_eq!(limit(100, 1), 200);
    assert_eq!(limit(100, 12), 17);
    assert_eq!(limit(100, 100), 3, "2 would be its share");
    assert_eq!(limit(1, 1), 3);
    assert_eq!(limit(1_000_000, 2), 1_000_000);
    let unsaid = rule_set(&[&rule("resets", "")]);
    assert_eq!(budget::limit(&unsaid.rules()[0], 4), 50);
}

#[test]
fn rules_13_each_rule_has_its_own_and_what_locks_nobody_costs_nothing() {
    let of = |id: &str, network: &str| {
        rule(id, "lock_budget: 1").replace("{ in_list: malicious_ips }", network)
    };
    let loud = of("loud", "{ cidr: 198.51.100.0/25 }");
    let quiet = of("quiet", "{ cidr: 198.51.100.128/25 }");
    let watched = loud
        .replace("id: loud", "id: watched")
        .replace("mode: enforce", "mode: shadow");
    let rules = rule_set(&[&loud, &quiet, &watched]);
    let mut story = Story::with(rules, facts(), settings());
    let mut from = |at: i64, account: &str, ip: &str| {
        let said = story.event(
            at,
            json!({ "type": "password_reset", "outcome": "requested", "account": account,
                    "ip": ip }),
        );
        let decisions = said.decisions.iter();
        let decisions = decisions.map(|d| format!("{} {}", d.rule, d.effect.as_str()));
        decisions.collect::<Vec<_>>().join(", ")
    };
    // An account that is locked already joins its case, however often.
    assert_eq!(from(0, "a", "198.51.100.1"), "loud acted, watched shadow");
    for n in 1..5 {
        assert_eq!(
            from(n, "a", "198.51.100.1"),
            "loud case_open, watched shadow"
        );
    }
    assert_eq!(from(6, "b", "198.51.100.1"), "loud acted, watched shadow");
    assert_eq!(from(7, "c", "198.51.100.1"), "loud acted, watched shadow");
    assert_eq!(from(8, "d", "198.51.100.1"), "loud held, watched shadow");
    assert_eq!(
        from(9, "d", "198.51.100.200"),
        "quiet acted",
        "noise disarms nobody else"
    );
}

#[test]
fn rules_13_an_account_that_was_only_asked_about_is_not_locked_past_the_budget() {
    let ask = "
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
    let rules = rule_set(&[ask, &rule("resets", "lock_budget: 1")]);
    let mut story = Story::with(rules, facts(), settings());
    for n in 0..5 {
        let off = json!({ "type": "two_factor_disabled", "account": format!("u{n}"),
                          "ip": NORWAY });
        assert_eq!(
            effects(&story.event(n, off)),
            ["acted"],
            "asking has no budget"
        );
    }
    for n in 0..5 {
        let said = reset(&mut story, SECOND + n, &format!("u{n}"));
        let expected = if n < 3 { "case_open" } else { "held" };
        assert_eq!(effects(&said), [expected]);
        assert_eq!(said.locked(), n < 3);
    }
}

#[test]
fn rules_8_and_13_held_hits_never_teach() {
    // The built-in rules: a new country locks, and a held one must not become known.
    let texts: Vec<String> = doorward::builtin::rules_file_names()
        .filter(|name| name.ends_with(".rule.yaml"))
        .filter_map(doorward::builtin::rules_file)
        .map(|text| match text.contains("id: first-seen-country") {
            true => text.replace("\nthen:", "\nlock_budget: 1\nthen:"),
            false => text.to_owned(),
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut story = Story::with(rule_set(&texts), facts(), settings());
    for account in ["a", "b", "c", "d"] {
        story.login(0, account, NORWAY);
    }
    for account in ["a", "b", "c"] {
        assert!(story.login(MINUTE, account, BRAZIL).acted());
    }
    let held = story.login(MINUTE, "d", BRAZIL);
    assert_eq!(held.decisions[0].effect, Effect::Held);
    // Far more than the seven days after which a shadow hit's value is known.
    let said = story.login(30 * DAY, "d", BRAZIL);
    assert!(said.acted(), "{:?}", said.decisions());
}

#[test]
fn rules_13_what_is_spent_moves_with_the_partition() {
    let mut story = Story::of_rule(&rule("resets", "lock_budget: 1"));
    let key = story.engine.partition_key();
    assert_eq!(story.engine.encode_state(&story.partition, key), None);
    let mut last = Said::default();
    for n in 0..3 {
        last = reset(&mut story, n, &format!("u{n}"));
        assert!(last.changed_keys.contains(&key), "written with the lock");
    }
    assert!(last.acted());
    let left = |story: &Story, at: i64| {
        let rule = &story.engine.rules().rules()[0];
        let now = doorward::event::Timestamp(START + at);
        story.engine.lock_budget_left(&story.partition, rule, now)
    };
    assert_eq!(left(&story, 5 * SECOND), 0);
    story.restart(&["u0", "u1", "u2"]);
    assert_eq!(left(&story, 5 * SECOND), 0);
    assert_eq!(left(&story, 5 * MINUTE), 3, "refilled without an event");
    let held = reset(&mut story, 6 * SECOND, "u3");
    assert_eq!(effects(&held), ["held"]);
    assert!(held.changed_keys.contains(&key), "that it was said is kept");
    let again = reset(&mut story, 7 * SECOND, "u4");
    assert_eq!(effects(&again), ["held"]);
    assert!(again.changed_keys.is_empty(), "and writes nothing more");
    story.restart(&[]);
    reset(&mut story, 8 * SECOND, "u5");
    assert_eq!(
        story.said.budgets_spent.len(),
        1,
        "said once, whoever says it"
    );
    assert_eq!(story.said.decisions.len(), 6);
}

#[test]
fn rules_13_a_damaged_record_begins_afresh_and_a_newer_one_is_refused() {
    let story = Story::new();
    let key = story.engine.partition_key();
    let restore = |bytes: &[u8]| {
        let mut partition = Partition::default();
        story
            .engine
            .restore_state(&mut partition, &key.0, Some(bytes))
    };
    assert!(restore(&[1, 0xa0, 0]).is_err());
    assert!(
        restore(&[9])
            .unwrap_err()
            .to_string()
            .contains("a newer one wrote it")
    );
    let mut partition = Partition::default();
    story
        .engine
        .restore_state(&mut partition, &key.0, None)
        .unwrap();
    assert_eq!(partition.accounts(), 0);
}
