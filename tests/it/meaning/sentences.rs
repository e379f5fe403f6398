//! Sentences of docs/rules.md 3, 9 and 15 that no other story tells.

use doorward::document::{Diagnostics, SourceFile, render_all};
use doorward::rules::RuleSet;
use serde_json::json;

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
