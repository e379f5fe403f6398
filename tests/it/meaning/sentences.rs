//! Sentences of docs/rules.md 3, 5, 9, 11 and 15 that no other story tells.

use doorward::document::{Diagnostics, SourceFile, render_all};
use doorward::engine::Partition;
use doorward::engine::output::CaseState;
use doorward::rules::RuleSet;
use serde_json::json;

use super::cases::attack;
use crate::support::story::*;

/// What is said about a rule with these lines; nothing where it is good.
fn mistakes_of(lines: &str) -> String {
    let file = SourceFile::new(
        "r.rule.yaml",
        format!("schema: 1\nid: r\ntitle: R\nseverity: low\nmode: enforce\n{lines}"),
    );
    let mut found = Diagnostics::default();
    RuleSet::load(&[file], &lists(), &mut found);
    render_all(&found, false)
}

#[test]
fn rules_3_each_is_never_late() {
    let mut story = Story::of_rule(
        "schema: 1\nid: r\ntitle: R\nseverity: low\nmode: enforce\n\
         when: { type: two_factor_reset }\nby: account\ndetect: each\n",
    );
    let reset = || json!({ "type": "two_factor_reset", "outcome": "success", "account": "u" });
    assert!(story.event(12 * HOUR, reset()).acted());
    // Twelve hours older than what the rule saw of this account.
    assert!(story.event_received(0, 12 * HOUR, reset()).acted());
    assert_eq!(story.said.counts.late, 0);
}

#[test]
fn rules_9_a_rule_by_address_cannot_lock() {
    let rule = "when: { type: login }\nby: ip\ndetect: { count: { at_least: 5, within: 5m } }\n";
    assert_eq!(mistakes_of(rule), "");
    let locking = format!("{rule}then: [{{ lock_account: {{ reason: x }} }}]\n");
    let said = mistakes_of(&locking);
    assert!(said.contains("`by: ip`") && said.contains("lock"), "{said}");
}

#[test]
fn rules_15_a_rule_has_no_includes_no_anchors_and_no_code() {
    let good = "when: { type: login }\nby: account\ndetect: each\n";
    assert_eq!(mistakes_of(good), "");
    for when in [
        "&a { type: login }",
        "*a",
        "{ type: login, <<: { outcome: failure } }",
        "!include when.yaml",
        "{ type: !!python/object/apply:os.system [ls] }",
    ] {
        let said = mistakes_of(&format!("when: {when}\nby: account\ndetect: each\n"));
        assert!(said.contains("r.rule.yaml:6:"), "{when}: {said}");
    }
}

#[test]
fn rules_5_what_a_rule_holds_no_longer_is_another_event_whatever_its_id() {
    let mut story = Story::of_rule(
        "schema: 1\nid: r\ntitle: R\nseverity: low\nmode: enforce\n\
         when: { type: login }\nby: account\n\
         detect: { count: { at_least: 3, within: 5m } }\n",
    );
    let thrice = |story: &mut Story| {
        let each = (0..3).map(|n| {
            let login = json!({ "id": format!("e-{n}"), "type": "login", "outcome": "failure", "account": "u" });
            story.event_received(n, n, login).acted()
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(thrice(&mut story), [false, false, true]);
    // The hit used them up (10), and no memory of ids is beside what a rule holds.
    assert_eq!(thrice(&mut story), [false, false, true]);
    assert_eq!(story.said.counts.duplicate, 0);
}

#[test]
fn rules_9_a_rule_by_address_counts_within_one_partition() {
    let mut story = Story::of_rule(
        "schema: 1\nid: r\ntitle: R\nseverity: low\nmode: enforce\n\
         when: { type: login, outcome: failure }\nby: ip\n\
         detect: { distinct: { of: account, at_least: 4, within: 5m } }\n",
    );
    let mut other = Partition::default();
    for n in 0..3 {
        assert!(story.failed_login(n, &format!("a-{n}"), NORWAY).is_silent());
        std::mem::swap(&mut story.partition, &mut other);
        assert!(story.failed_login(n, &format!("b-{n}"), NORWAY).is_silent());
        std::mem::swap(&mut story.partition, &mut other);
    }
    // Six accounts failed from one address, and no partition has seen four of them.
    let said = story.failed_login(4, "a-3", NORWAY);
    assert_eq!(said.decisions(), ["r acted 4"]);
}

#[test]
fn rules_11_what_the_pipeline_and_operators_say_applies_however_old_it_is() {
    // What was said a minute after the lock, read two days later: past every lateness (3) and
    // past what a decision may be old (4).
    let late = |prepare: &dyn Fn(&mut Story), said: serde_json::Value| {
        let mut story = Story::new();
        attack(&mut story, 0, "u");
        prepare(&mut story);
        let mut said = said;
        said["account"] = json!("u");
        if said["type"] == "password_changed" {
            said["case"] = json!(story.case("u"));
        }
        let what = story.event_received(MINUTE, 2 * DAY, said);
        (story, what)
    };
    let nothing = |_: &mut Story| {};

    let unlock = json!({ "type": "operator_request", "request": "unlock",
                         "operator": "support desk", "reason": "owner called" });
    assert_eq!(late(&nothing, unlock).1.commands(), ["unlock_account"]);

    let (story, _) = late(&nothing, json!({ "type": "account_unlocked" }));
    assert_eq!(story.view("u").state, CaseState::Unlocked);

    let secured = |story: &mut Story| {
        story.answer(SECOND, "u", "not_me", &[]);
    };
    let changed = late(&secured, json!({ "type": "password_changed" })).1;
    assert_eq!(changed.commands(), ["unlock_account"]);

    let (story, _) = late(&nothing, json!({ "type": "account_deleted" }));
    assert_eq!(story.partition.accounts(), 0);

    let (mut story, _) = late(
        &nothing,
        json!({ "type": "email_changed", "email": "new@example.org",
                "previous_email": "old@example.org" }),
    );
    story.answer(2 * DAY, "u", "me", &[]);
    let mails = attack(&mut story, 2 * DAY + HOUR, "u").mails;
    assert!(
        mails.iter().any(|mail| &*mail.to == "old@example.org"),
        "{mails:?}"
    );
}
