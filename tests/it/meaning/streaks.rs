//! `streak` (docs/rules.md 3, 7).

use serde_json::json;

use crate::support::story::*;

#[test]
fn rules_7_five_in_a_row_lock_and_four_do_not() {
    let mut story = Story::new();
    for n in 0..4 {
        assert!(story.second_factor(n * HOUR, "u", "failure").is_silent());
    }
    let said = story.second_factor(4 * HOUR, "u", "failure");
    assert_eq!(said.decisions(), ["two-factor-failure-streak acted 5"]);
    assert_eq!(said.commands(), ["lock_account"]);
}

#[test]
fn rules_7_only_what_breaks_it_ends_a_run() {
    let ends_run = |event: serde_json::Value| {
        let mut story = Story::new();
        for n in 0..4 {
            story.second_factor(n, "u", "failure");
        }
        story.event(10, event);
        !story.second_factor(20, "u", "failure").acted()
    };
    let of =
        |kind: &str, outcome: &str| json!({ "type": kind, "outcome": outcome, "account": "u" });
    assert!(ends_run(of("two_factor", "success")));
    assert!(ends_run(
        json!({ "type": "recovery_code_used", "account": "u" })
    ));
    assert!(ends_run(of("two_factor_reset", "success")));
    // Other events are invisible to it.
    assert!(!ends_run(of("two_factor_reset", "requested")));
    assert!(!ends_run(of("login", "success")));
    assert!(!ends_run(of("password_reset", "requested")));
    assert!(!ends_run(of("something_else", "success")));
}

#[test]
fn rules_7_a_gap_of_more_than_a_day_ends_a_run() {
    let fifth_after = |gap: i64| {
        let mut story = Story::new();
        for n in 0..4 {
            story.second_factor(n, "u", "failure");
        }
        story.second_factor(3 + gap, "u", "failure").acted()
    };
    assert!(fifth_after(DAY));
    assert!(!fifth_after(DAY + 1));
}

#[test]
fn rules_3_a_streak_is_judged_by_event_time() {
    // A success is delivered after the failures that it stood between.
    let mut story = Story::new();
    for at in [1, 2, 4] {
        story.second_factor(at * MINUTE, "u", "failure");
    }
    story.second_factor(3 * MINUTE, "u", "success");
    story.second_factor(5 * MINUTE, "u", "failure");
    assert!(story.second_factor(6 * MINUTE, "u", "failure").is_silent());
    // 4, 5, 6 and two more are five in a row.
    assert!(story.second_factor(7 * MINUTE, "u", "failure").is_silent());
    assert!(story.second_factor(8 * MINUTE, "u", "failure").acted());
}

#[test]
fn rules_3_a_late_failure_counts_into_the_run_that_it_belongs_to() {
    // Four failures, a success, then a failure from before the success: five in a row.
    let mut story = Story::new();
    for n in 0..4 {
        story.second_factor(n, "u", "failure");
    }
    story.second_factor(100, "u", "success");
    assert!(story.second_factor(50, "u", "failure").acted());
}

#[test]
fn rules_3_a_failure_from_before_a_success_does_not_join_those_after_it() {
    let mut story = Story::new();
    story.second_factor(100, "u", "success");
    story.second_factor(50, "u", "failure");
    for n in 0..4 {
        assert!(story.second_factor(200 + n, "u", "failure").is_silent());
    }
    assert!(story.second_factor(300, "u", "failure").acted());
}

#[test]
fn rules_3_what_comes_later_takes_no_lock_back() {
    let mut story = Story::new();
    for n in 0..5 {
        story.second_factor(n * 10, "u", "failure");
    }
    assert!(story.said.decisions.len() == 1);
    let said = story.second_factor(25, "u", "success");
    assert!(said.is_silent());
}

#[test]
fn rules_3_a_failure_later_than_five_minutes_is_not_counted() {
    let mut story = Story::new();
    for n in 0..4 {
        story.second_factor(10 * MINUTE + n, "u", "failure");
    }
    assert!(story.second_factor(5 * MINUTE, "u", "failure").is_silent());
    assert_eq!(story.said.counts.late, 1);
}

#[test]
fn rules_5_a_repeated_failure_counts_once_in_a_run() {
    let mut story = Story::new();
    let again = json!({ "id": "same", "type": "two_factor", "outcome": "failure",
                        "account": "u" });
    for _ in 0..10 {
        assert!(story.event_received(0, 0, again.clone()).is_silent());
    }
    assert_eq!(story.said.counts.duplicate, 9);
}

#[test]
fn rules_10_a_hit_begins_a_new_run() {
    let mut story = Story::new();
    let hits: Vec<i64> = (0..15)
        .filter(|n| !story.second_factor(*n, "u", "failure").decisions.is_empty())
        .collect();
    assert_eq!(hits, [4, 9, 14]);
}
