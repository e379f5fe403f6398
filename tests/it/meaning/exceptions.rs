//! Exceptions: whom rules leave alone.

use doorward::document::{Diagnostics, SourceFile, render_all};
use doorward::event::Timestamp;
use doorward::rules::RuleSet;
use doorward::rules::exceptions::report_expired;
use serde_json::json;

use crate::support::story::*;

const GUESSES: &str = "
schema: 1
id: guesses
title: Three failures
severity: high
mode: enforce
when: { type: login, outcome: failure }
by: account
detect: { count: { at_least: 3, within: 5m } }
then: [ { lock_account: { reason: credential_stuffing } } ]
";

const PLACES: &str = "
schema: 1
id: places
title: A new country
severity: medium
mode: enforce
when: { type: login, outcome: success }
by: account
detect: { first_seen: { of: country, forget_after: 365d } }
then: [ { lock_account: { reason: new_country } } ]
";

/// `GUESSES`, `PLACES`, and the exceptions in `text`.
fn load(text: &str) -> Result<RuleSet, Diagnostics> {
    let files = [
        SourceFile::new("rules/guesses.rule.yaml", GUESSES),
        SourceFile::new("rules/places.rule.yaml", PLACES),
        SourceFile::new("rules/exceptions.yaml", text),
    ];
    let mut found = Diagnostics::default();
    RuleSet::load(&files, &lists(), &mut found).ok_or(found)
}

/// One exception with these lines; it expires an hour after the story's beginning, at seven.
fn exception(lines: &str) -> String {
    format!(
        "
schema: 1
exceptions:
  - id: scanner
    reason: Our own scanner
    owner: security
    expires: 2026-11-22T08:00:00+01:00
{lines}
"
    )
}

fn story(text: &str) -> Story {
    let rules = load(text).unwrap_or_else(|found| panic!("{}", render_all(&found, false)));
    Story::with(rules, facts(), settings())
}

const SCANNER: &str = "192.0.2.7";

#[test]
fn rules_12_what_is_ignored_does_not_count() {
    let mut story = story(&exception(
        "    effect: ignore\n    when: { ip: { cidr: 192.0.2.0/24 } }",
    ));
    for n in 0..10 {
        let said = story.failed_login(n, "u", SCANNER);
        assert!(said.is_silent() && said.changed == 0);
    }
    assert_eq!(story.said.exceptions_hit, [0; 10]);
    for n in 0..2 {
        assert!(story.failed_login(20 + n, "u", NORWAY).is_silent());
    }
    let said = story.failed_login(30, "u", NORWAY);
    assert_eq!(said.decisions(), ["guesses acted 3"]);
    // Nor does it teach: the first country is the first that is seen.
    story.login(40, "v", SCANNER);
    story.event(
        41,
        json!({ "type": "login", "outcome": "success", "account": "v",
                            "ip": SCANNER, "country": "BR" }),
    );
    assert!(story.login(42, "v", NORWAY).is_silent(), "taught");
    assert!(story.login(43, "v", GERMANY).acted());
}

#[test]
fn rules_12_what_is_in_shadow_counts_is_recorded_and_does_nothing() {
    let mut story = story(&exception(
        "    effect: shadow\n    when: { ip: 192.0.2.7 }",
    ));
    for n in 0..2 {
        story.failed_login(n, "u", SCANNER);
    }
    let said = story.failed_login(2, "u", SCANNER);
    assert_eq!(said.decisions(), ["guesses excepted 3"]);
    assert_eq!(said.decisions[0].exception.as_deref(), Some("scanner"));
    assert!(said.commands.is_empty() && said.cases == 0);
    // It used up what it counted; the next hit is another event's, and acts.
    for n in 3..5 {
        assert!(story.failed_login(n, "u", SCANNER).is_silent());
    }
    let said = story.failed_login(5, "u", NORWAY);
    assert_eq!(said.decisions(), ["guesses acted 3"]);
    assert_eq!(said.decisions[0].exception, None);
    // First of all effects: an excepted hit is not told to join the open case, nor is it
    // stale.
    for n in 6..8 {
        story.failed_login(n, "u", SCANNER);
    }
    assert_eq!(
        story.failed_login(8, "u", SCANNER).decisions(),
        ["guesses excepted 3"]
    );
}

#[test]
fn rules_12_an_excepted_place_is_known_after_seven_days() {
    let mut story = story(
        "
schema: 1
exceptions:
  - id: holiday
    reason: Ann is in Brazil
    owner: support
    expires: 2026-12-02
    effect: shadow
    rules: [places]
    when: { account: ann, country: BR }
",
    );
    for account in ["ann", "bob"] {
        story.login(0, account, NORWAY);
    }
    assert_eq!(
        story.login(1, "ann", BRAZIL).decisions(),
        ["places excepted 1"]
    );
    assert_eq!(
        story.login(1, "bob", BRAZIL).decisions(),
        ["places acted 1"]
    );
    assert_eq!(story.login(2, "ann", JAPAN).decisions(), ["places acted 1"]);
    let week = 7 * DAY;
    assert_eq!(
        story.login(week, "ann", BRAZIL).decisions(),
        ["places excepted 1"]
    );
    assert!(
        story.login(week + 1, "ann", BRAZIL).is_silent(),
        "known by now"
    );
}

#[test]
fn rules_12_it_ends_by_the_brokers_clock_and_that_is_said() {
    let mut story = story(&exception(
        "    effect: ignore\n    when: { ip: 192.0.2.7 }",
    ));
    let failure = json!({ "type": "login", "outcome": "failure", "account": "u", "ip": SCANNER });
    for n in 0..3 {
        let said = story.event_received(n, HOUR - 1, failure.clone());
        assert!(said.is_silent());
    }
    assert!(story.said.exceptions_expired.is_empty());
    for n in 0..2 {
        story.event_received(n, HOUR, failure.clone());
    }
    let said = story.event_received(2, HOUR, failure);
    assert_eq!(said.decisions(), ["guesses acted 3"]);
    assert_eq!(story.said.exceptions_expired, [0; 3]);
    assert_eq!(story.said.exceptions_hit, [0; 3]);
}

#[test]
fn rules_12_only_named_rules_are_covered_and_ignore_wins() {
    let text = exception(
        "    effect: shadow
    rules: [guesses]
    when: { account: u }
  - id: stronger
    reason: A network of ours
    owner: security
    expires: 2026-11-22
    effect: ignore
    rules: [guesses]
    when: { ip: { in_list: malicious_ips } }",
    );
    let mut story = story(&text);
    for n in 0..2 {
        story.failed_login(n, "u", MALICIOUS);
    }
    assert!(story.failed_login(2, "u", MALICIOUS).is_silent());
    assert_eq!(story.said.exceptions_hit, [1; 3]);
    for n in 3..5 {
        story.failed_login(n, "u", NORWAY);
    }
    assert_eq!(
        story.failed_login(5, "u", NORWAY).decisions(),
        ["guesses excepted 3"]
    );
    story.login(6, "u", NORWAY);
    assert_eq!(story.login(7, "u", BRAZIL).decisions(), ["places acted 1"]);
    // A type and an outcome are tested, too: nothing was dispatched for an exception.
    let other = exception("    effect: ignore\n    when: { account: u, type: two_factor }");
    let mut story = self::story(&other);
    for n in 0..2 {
        story.failed_login(n, "u", NORWAY);
    }
    assert!(story.failed_login(2, "u", NORWAY).locked());
}

#[test]
fn rules_12_exceptions_are_part_of_the_rule_set() {
    let hash = |text: &str| load(text).unwrap().hash().to_owned();
    let none = hash("schema: 1\nexceptions: []\n");
    let one = hash(&exception("    effect: ignore\n    when: { account: u }"));
    assert_ne!(none, one);
    assert!(
        load("# nothing but words\n")
            .unwrap()
            .exceptions()
            .is_empty()
    );
}

#[test]
fn rules_12_an_expired_exception_is_an_error_where_somebody_asks() {
    let rules = load(&exception("    effect: ignore\n    when: { account: u }")).unwrap();
    let at = |ms: i64| {
        let mut found = Diagnostics::default();
        report_expired(rules.exceptions(), Timestamp(START + ms), &mut found);
        render_all(&found, false)
    };
    assert_eq!(at(HOUR - 1), "");
    let said = at(HOUR);
    assert!(said.contains("rules/exceptions.yaml:7:14"), "{said}");
    assert!(
        said.contains("the exception `scanner` expired at 2026-11-22T07:00:00.000Z"),
        "{said}"
    );
    assert!(
        said.contains("ask security whether it is still needed"),
        "{said}"
    );
}

#[test]
fn rules_12_every_mistake_is_said_at_once() {
    let text = "
schema: 1
exceptions:
  - id: Scanner
    reason: ''
    owner: security
    expires: tomorrow
    effect: ignored
    rules: [gueses, places]
    when: { ips: 192.0.2.7 }
  - id: twice
    reason: Because
    owner: security
    expires: 2027-03-31
    effect: shadow
    rules: [gueses]
    when: { ip: { in_list: malicious_ip } }
  - id: once
    reason: Because
    owner: security
    expires: 2027-02-30
    effect: shadow
    for: everybody
    when: { type: login }
  - id: same
    reason: Because
    owner: security
    expires: 2027-03-31
    effect: shadow
    when: { account: u }
  - id: same
    reason: Because
    owner: security
    expires: 2027-03-31
    effect: shadow
    when: { account: u }
  - id: nothing
    reason: Because
    owner: security
    expires: 2027-03-31
    effect: shadow
    rules: []
    when: { account: u }
";
    let found = load(text).unwrap_err();
    insta::assert_snapshot!(render_all(&found, false));
}
