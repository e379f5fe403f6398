//! What the rules say of an event when they are asked why, and why not.

mod steered;

use doorward::engine::Partition;
use doorward::engine::output::{Effect, Outputs};
use doorward::engine::trace::{Lesson, Off, Said, Standing};
use doorward::enrich::{CountryLookup, Facts};
use doorward::event::Source;
use doorward::event::Timestamp;
use doorward::event::decode::Dropped;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::story::*;

const LOGINS: &str = "failed-logins-many-ips";
const COUNTRY: &str = "first-seen-country";
const RESET: &str = "reset-from-malicious-ip";
const STREAK: &str = "two-factor-failure-streak";

/// The line of the rule that the event does not satisfy, and what it has there.
fn unmet(said: &Said) -> (u32, String, Option<String>) {
    match said {
        Said::NotMatching(unmet) => (unmet.line, unmet.text.to_string(), unmet.had.clone()),
        other => panic!("{other:?}"),
    }
}

fn counted(said: &Said) -> &Standing {
    match said {
        Said::Counted(standing) | Said::Redundant(standing) => standing,
        other => panic!("{other:?}"),
    }
}

/// `3 of 5 by +300 s`.
fn progress(standing: &Standing) -> String {
    let until = standing.until.0 - START;
    let Standing { value, needed, .. } = standing;
    format!("{value} of {needed} by {} s", until / SECOND)
}

#[test]
fn every_rule_of_the_set_has_a_word_about_every_event() {
    let mut story = Story::new();
    let said = story.event(0, json!({ "type": "password_changed", "account": "ann" }));
    let rules: Vec<&str> = said.trace.rules.iter().map(|said| &*said.rule).collect();
    assert_eq!(rules, [LOGINS, COUNTRY, RESET, STREAK]);
    for rule in rules {
        assert!(matches!(said.by(rule), Said::NotMatching(_)), "{said:?}");
    }
}

#[test]
fn the_first_line_that_does_not_hold_is_named_as_the_file_writes_it() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "login", "outcome": "failure", "account": "ann", "ip": NORWAY,
                "reason": "no_such_account" }),
    );
    assert_eq!(
        unmet(said.by(LOGINS)),
        (
            10,
            "reason: { not: [no_such_account, account_locked, rate_limited] }".to_owned(),
            Some("no_such_account".to_owned())
        )
    );
    // Rules that the table of types and outcomes never asks say why, too.
    assert_eq!(
        unmet(said.by(COUNTRY)),
        (7, "outcome: success".to_owned(), Some("failure".to_owned()))
    );
    assert_eq!(
        unmet(said.by(STREAK)),
        (7, "type: two_factor".to_owned(), Some("login".to_owned()))
    );
    let said = story.event(
        1,
        json!({ "type": "password_reset", "outcome": "requested", "account": "ann",
                "ip": "192.0.2.1" }),
    );
    assert_eq!(
        unmet(said.by(RESET)),
        (
            7,
            "ip: { in_list: malicious_ips }".to_owned(),
            Some("192.0.2.1".to_owned())
        )
    );
}

#[test]
fn a_line_that_goes_over_several_is_named_in_one_and_without_comments() {
    let mut story = Story::of_rule(
        "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when:
  type: login
  reason:                 # why
    not:
      - expired           # by itself
      - rate_limited
by: account
detect: each
",
    );
    let said = story.event(
        0,
        json!({ "type": "login", "outcome": "failure", "account": "ann", "reason": "expired" }),
    );
    let (line, text, had) = unmet(said.by("probe"));
    assert_eq!((line, had.as_deref()), (9, Some("expired")));
    assert_eq!(text, "reason: not: - expired - rate_limited");
}

#[test]
fn an_absent_field_is_told_from_a_wrong_one() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "login", "outcome": "success", "account": "ann", "ip": "10.1.2.3" }),
    );
    assert_eq!(
        unmet(said.by(COUNTRY)),
        (7, "country: { exists: true }".to_owned(), None)
    );
}

#[test]
fn a_rule_that_is_off_says_so_before_anything_else() {
    let rule = |mode: &str, list: &str| {
        format!(
            "
schema: 1
id: probe
title: Probe
severity: low
mode: {mode}
when: {{ type: login, ip: {{ in_list: {list} }} }}
by: account
detect: each
"
        )
    };
    let mut story = Story::of_rule(&rule("off", "malicious_ips"));
    let said = story.login(0, "ann", MALICIOUS);
    assert_eq!(said.by("probe"), &Said::Off(Off::Mode));
}

#[test]
fn a_window_says_how_far_it_is_and_until_when_the_rest_may_come() {
    let mut story = Story::new();
    let first = story.failed_login(0, "ann", "192.0.2.1");
    assert_eq!(progress(counted(first.by(LOGINS))), "1 of 5 by 300 s");
    story.failed_login(60 * SECOND, "ann", "192.0.2.2");
    let again = story.failed_login(90 * SECOND, "ann", "192.0.2.2");
    let third = story.failed_login(120 * SECOND, "ann", "192.0.2.3");
    // The same address again adds no address, whether or not it is held.
    assert_eq!(progress(counted(again.by(LOGINS))), "2 of 5 by 300 s");
    assert_eq!(progress(counted(third.by(LOGINS))), "3 of 5 by 300 s");
    let counting: Vec<&str> = counted(third.by(LOGINS))
        .counting
        .iter()
        .map(|e| &*e.id)
        .collect();
    assert_eq!(counting, ["e0", "e2", "e3"]);
    // After five minutes the first is out of reach, and of the second the later one counts.
    let fourth = story.failed_login(301 * SECOND, "ann", "192.0.2.4");
    assert_eq!(progress(counted(fourth.by(LOGINS))), "3 of 5 by 390 s");
}

#[test]
fn an_address_that_adds_nothing_says_how_far_the_rule_is_all_the_same() {
    let mut story = Story::new();
    for at in [0, 20, 10] {
        let said = story.failed_login(at * SECOND, "ann", "192.0.2.1");
        let word = said.by(LOGINS);
        assert_eq!(counted(word).value, 1);
        assert_eq!(matches!(word, Said::Redundant(_)), at == 10, "{word:?}");
    }
}

#[test]
fn a_hit_is_told_with_its_decision_and_its_case() {
    let mut story = Story::new();
    for n in 0..4 {
        story.failed_login(n * SECOND, "ann", &format!("192.0.2.{n}"));
    }
    let said = story.failed_login(4 * SECOND, "ann", "192.0.2.4");
    let Said::Hit(hit) = said.by(LOGINS) else {
        panic!("{said:?}")
    };
    assert_eq!((hit.value, hit.needed), (5, 5));
    assert_eq!(hit.effect, Effect::Acted);
    assert_eq!(hit.decision, said.decisions[0].id);
    assert_eq!(hit.case, said.decisions[0].case);
    assert_eq!(hit.cooling_until, None);
    // While its case is open the next hit joins it, and says that a cooldown runs.
    for n in 5..9 {
        story.failed_login(n * SECOND, "ann", &format!("192.0.2.{n}"));
    }
    let said = story.failed_login(9 * SECOND, "ann", "192.0.2.9");
    let Said::Hit(hit) = said.by(LOGINS) else {
        panic!("{said:?}")
    };
    assert_eq!(hit.effect, Effect::CaseOpen);
    let until = START + 4 * SECOND + 30 * MINUTE;
    assert_eq!(hit.cooling_until, Some(Timestamp(until)));
}

#[test]
fn late_and_repeated_events_say_so() {
    let mut story = Story::new();
    story.failed_login(10 * MINUTE, "ann", "192.0.2.1");
    let failure = |ip: &str, id: &str| json!({ "type": "login", "outcome": "failure", "account": "ann", "ip": ip, "id": id });
    let said = story.event(4 * MINUTE + 59_999, failure("192.0.2.2", "late"));
    assert_eq!(
        said.by(LOGINS),
        &Said::Late {
            by_ms: 5 * MINUTE + 1,
            allowed_ms: 5 * MINUTE
        }
    );
    story.event(11 * MINUTE, failure("192.0.2.3", "twice"));
    let said = story.event(11 * MINUTE, failure("192.0.2.3", "twice"));
    assert_eq!(said.by(LOGINS), &Said::Duplicate);
}

#[test]
fn an_event_ahead_of_the_broker_is_told_with_the_time_it_took() {
    let mut story = Story::new();
    let said = story.event_received(
        2 * MINUTE,
        0,
        json!({ "type": "login", "outcome": "failure", "account": "ann", "ip": NORWAY }),
    );
    assert!(said.trace.from_the_future);
    assert_eq!(said.trace.time, Timestamp(START));
}

#[test]
fn what_stands_before_the_cut_says_which() {
    let mut story = Story::new();
    for n in 0..5 {
        story.failed_login(n * SECOND, "ann", &format!("192.0.2.{n}"));
    }
    story.answer(MINUTE, "ann", "me", &[]);
    let said = story.failed_login(2 * SECOND, "ann", "192.0.2.9");
    let cut = Timestamp(START + 4 * SECOND);
    assert_eq!(said.by(LOGINS), &Said::BeforeCut { cut });
}

#[test]
fn who_has_not_the_field_that_a_rule_groups_by_is_told_which() {
    let mut story = Story::new();
    let said = story.event(0, json!({ "type": "two_factor", "outcome": "failure" }));
    assert_eq!(said.by(STREAK), &Said::Unkeyed { field: "account" });
    let rule = |by: &str| {
        format!(
            "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: {{ type: login }}
by: {by}
detect: {{ distinct: {{ of: attributes.device, at_least: 3, within: 5m }} }}
"
        )
    };
    let login = json!({ "type": "login", "outcome": "failure", "account": "team" });
    let said = Story::of_rule(&rule("[account, user]")).event(0, login.clone());
    assert_eq!(said.by("probe"), &Said::Unkeyed { field: "user" });
    let said = Story::of_rule(&rule("ip")).event(0, login.clone());
    assert_eq!(said.by("probe"), &Said::Unkeyed { field: "ip" });
    let said = Story::of_rule(&rule("account")).event(0, login);
    let field = "attributes.device".to_owned();
    assert_eq!(said.by("probe"), &Said::NoValue { field });
}

#[test]
fn a_rule_by_address_counts_within_its_own_record() {
    let mut story = Story::of_rule(
        "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: { type: login, outcome: failure }
by: ip
detect: { distinct: { of: account, at_least: 3, within: 5m } }
",
    );
    let mut last = Said::NoRoom;
    for (at, account) in ["ann", "bob"].iter().enumerate() {
        let said = story.failed_login(at as i64 * SECOND, account, NORWAY);
        last = said.by("probe").clone();
    }
    assert_eq!(progress(counted(&last)), "2 of 3 by 300 s");
}

#[test]
fn a_run_says_its_length_and_what_ended_it() {
    let mut story = Story::new();
    let none = story.second_factor(0, "ann", "success");
    assert_eq!(none.by(STREAK), &Said::EndedRun { length: 0 });
    for n in 1..=4 {
        story.second_factor(n * SECOND, "ann", "failure");
    }
    let said = story.second_factor(5 * SECOND, "ann", "success");
    assert_eq!(said.by(STREAK), &Said::EndedRun { length: 4 });
    let said = story.second_factor(6 * SECOND, "ann", "failure");
    let day = DAY / SECOND;
    let expected = format!("1 of 5 by {} s", day + 6);
    assert_eq!(progress(counted(said.by(STREAK))), expected);
}

#[test]
fn places_say_whether_they_were_known_and_since_when() {
    let mut story = Story::new();
    let said = story.login(0, "ann", NORWAY);
    assert_eq!(
        said.by(COUNTRY),
        &Said::Learned {
            place: "country:NO".into(),
            why: Lesson::Learning
        }
    );
    let midnight = Timestamp(START - 6 * HOUR);
    let said = story.login(2 * DAY, "ann", NORWAY);
    assert_eq!(
        said.by(COUNTRY),
        &Said::Known {
            place: "country:NO".into(),
            last_seen: midnight
        }
    );
    let said = story.login(2 * DAY + MINUTE, "ann", BRAZIL);
    let Said::Hit(hit) = said.by(COUNTRY) else {
        panic!("{said:?}")
    };
    let known: Vec<(u64, Timestamp)> = hit
        .known
        .iter()
        .map(|known| (known.value, known.last_seen))
        .collect();
    assert_eq!(known, [(u64::from(u16::from_be_bytes(*b"NO")), midnight)]);
}

#[test]
fn an_anonymizer_before_anything_is_known_teaches_nothing_and_says_so() {
    let mut story = Story::new();
    let said = story.event(
        0,
        json!({ "type": "login", "outcome": "success", "account": "ann", "ip": ANONYMIZER,
                "country": "NL" }),
    );
    let place = "country:NL".to_owned();
    assert_eq!(said.by(COUNTRY), &Said::NotTaught { place });
}

#[test]
fn a_hit_that_did_nothing_teaches_after_seven_days_and_says_so() {
    let mut story = Story::of_rule(
        "
schema: 1
id: probe
title: Probe
severity: low
mode: shadow
when: { type: login, outcome: success }
by: account
detect: { first_seen: { of: country, forget_after: 30d, learn: { events: 1 } } }
",
    );
    story.login(0, "ann", NORWAY);
    assert!(matches!(
        story.login(HOUR, "ann", BRAZIL).by("probe"),
        Said::Hit(_)
    ));
    let said = story.login(HOUR + 7 * DAY, "ann", BRAZIL);
    assert_eq!(
        said.by("probe"),
        &Said::Learned {
            place: "country:BR".into(),
            why: Lesson::SevenDays
        }
    );
}

#[test]
fn without_a_database_no_country_is_judged_and_that_is_said() {
    let facts = Facts {
        geo: None,
        previous_geo: None,
        asn: None,
        lists: lists(),
    };
    let rule = "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: { type: login, outcome: success }
by: account
detect: { first_seen: { of: country, forget_after: 30d, learn: { events: 1 } } }
";
    let mut story = Story::with(rule_set(&[rule]), facts, settings());
    let said = story.login(0, "ann", NORWAY);
    assert_eq!(
        said.by("probe"),
        &Said::NoCountry(CountryLookup::NoDatabase)
    );
    let said = story.login(1, "ann", "127.0.0.1");
    assert_eq!(said.by("probe"), &Said::NoCountry(CountryLookup::Special));
}

#[test]
fn who_is_deleted_is_judged_no_more() {
    let mut story = Story::of_rule(
        "
schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: { type: account_deleted }
by: account
detect: each
",
    );
    let said = story.event(0, json!({ "type": "account_deleted", "account": "ann" }));
    assert_eq!(said.by("probe"), &Said::Deleted);
}

/// An event of three people, three addresses and every kind that the shipped rules look at.
fn event() -> impl Strategy<Value = Value> {
    let kinds = prop::sample::select(vec![
        ("login", "failure"),
        ("login", "success"),
        ("two_factor", "failure"),
        ("two_factor", "success"),
        ("password_reset", "requested"),
        ("account_unlocked", "success"),
    ]);
    let ips = prop::sample::select(vec![
        NORWAY, GERMANY, BRAZIL, JAPAN, MALICIOUS, ANONYMIZER, "10.0.0.1",
    ]);
    let accounts = prop::sample::select(vec!["ann", "bob", ""]);
    (kinds, ips, accounts, 0..3600_i64, 0..40_u8).prop_map(
        |((kind, outcome), ip, account, second, id)| {
            let mut event = json!({ "id": format!("e{id}"), "type": kind, "outcome": outcome,
                                    "ip": ip, "time": START + second * SECOND });
            if !account.is_empty() {
                event["account"] = account.into();
            }
            event
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn asking_why_changes_nothing(history in prop::collection::vec(event(), 1..120)) {
        let story = Story::new();
        let decoder = story.engine.rules().decoder();
        let (mut asked, mut silent) = (Partition::default(), Partition::default());
        for (offset, event) in history.iter().enumerate() {
            let bytes = serde_json::to_vec(event).unwrap();
            let event = decoder.decode(&bytes, &mut Dropped::new()).unwrap();
            let source = Source { partition: 0, offset: offset as i64 };
            let now = Timestamp(START + HOUR + offset as i64 * SECOND);
            let (mut with, mut without) = (Outputs::default(), Outputs::default());
            let trace = story.engine.handle_traced(&mut asked, &event, source, now, &mut with);
            story.engine.handle(&mut silent, &event, source, now, &mut without);
            prop_assert_eq!(format!("{with:?}"), format!("{without:?}"));
            let hits = trace.rules.iter().filter_map(|said| match &said.said {
                Said::Hit(hit) => Some(&*hit.decision),
                _ => None,
            });
            let decisions = with.decisions.iter().map(|decision| &*decision.id);
            prop_assert_eq!(hits.collect::<Vec<_>>(), decisions.collect::<Vec<_>>());
            if let Some(account) = &event.account {
                let key = story.engine.state_key(account);
                prop_assert_eq!(
                    story.engine.encode_state(&asked, key),
                    story.engine.encode_state(&silent, key)
                );
            }
        }
    }
}
