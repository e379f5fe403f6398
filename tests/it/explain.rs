//! `explain`: what it says of accounts, cases and events, and that it says what the engine
//! did.

mod agreement;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::mmdb::{Shape, database};
use crate::support::story::*;

/// The shipped rules that act, and their lists.
const RULES: &[&str] = &[
    "failed-logins-many-ips.rule.yaml",
    "two-factor-failure-streak.rule.yaml",
    "first-seen-country.rule.yaml",
    "reset-from-malicious-ip.rule.yaml",
    "lists.yaml",
];

/// Recorded events in a folder of their own, with a copy of the rules.
struct Recording {
    folder: TempDir,
    lines: Vec<String>,
}

impl Recording {
    fn new() -> Recording {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules");
        fs::create_dir_all(rules.join("lists")).unwrap();
        for name in RULES {
            fs::copy(Path::new("rules").join(name), rules.join(name)).unwrap();
        }
        fs::write(
            rules.join("lists/malicious_ips.txt"),
            "# attackers\n198.51.100.0/24\n",
        )
        .unwrap();
        fs::write(
            rules.join("lists/anonymizers.txt"),
            "203.0.113.128/25 ; exits\n",
        )
        .unwrap();
        Recording {
            folder,
            lines: Vec::new(),
        }
    }

    /// An event of this time, in seconds from the start, that arrives in order.
    fn event(&mut self, at: i64, fields: Value) -> &mut Recording {
        self.arriving(at, None, fields)
    }

    /// The same, which arrives at another time, where one is given.
    fn arriving(&mut self, at: i64, arrives: Option<i64>, fields: Value) -> &mut Recording {
        let number = self.lines.len();
        let mut event = json!({ "id": format!("e{number}"), "time": START + at * SECOND });
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        self.lines.push(match arrives {
            None => event.to_string(),
            Some(arrives) => json!({ "broker_time": START + arrives * SECOND, "partition": 0,
                                     "offset": number, "event": event })
            .to_string(),
        });
        self
    }

    fn failed_login(&mut self, at: i64, account: &str, ip: &str) -> &mut Recording {
        self.event(
            at,
            json!({ "type": "login", "outcome": "failure", "account": account, "ip": ip,
                    "reason": "bad_password", "email": format!("{account}@example.org") }),
        )
    }

    fn login(&mut self, at: i64, account: &str, ip: &str) -> &mut Recording {
        self.event(
            at,
            json!({ "type": "login", "outcome": "success", "account": account, "ip": ip }),
        )
    }

    /// What five addresses try within two minutes.
    fn attack(&mut self, account: &str) -> &mut Recording {
        for n in 0..5 {
            self.failed_login(n * 30, account, &format!("192.0.2.{n}"));
        }
        self
    }

    fn file(&self) -> PathBuf {
        let path = self.folder.path().join("events.ndjson");
        fs::write(&path, self.lines.join("\n") + "\n").unwrap();
        path
    }

    fn ask(&self, question: &[&str]) -> Output {
        self.file();
        Command::new(env!("CARGO_BIN_EXE_doorward"))
            .arg("explain")
            .args(question)
            .args(["--rules", "rules", "events.ndjson"])
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// What it prints for people.
    #[track_caller]
    fn told(&self, question: &[&str]) -> String {
        let output = self.ask(question);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        text
    }

    /// The record for tools.
    #[track_caller]
    fn record(&self, question: &[&str]) -> Value {
        let mut question = question.to_vec();
        question.extend(["--output", "json"]);
        let output = self.ask(&question);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The id of the account's last case.
    fn case(&self, account: &str) -> String {
        let told = self.record(&["--account", account]);
        let cases = told["cases"].as_array().unwrap();
        cases.last().unwrap()["id"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_lock_by_failed_logins_names_each_event_that_counted_and_each_that_did_not() {
    let mut recording = Recording::new();
    recording
        .failed_login(0, "ann", "192.0.2.1")
        .failed_login(40, "ann", "192.0.2.2")
        .event(
            50,
            json!({ "type": "login", "outcome": "failure", "account": "ann",
                    "ip": "192.0.2.3", "reason": "rate_limited" }),
        )
        .failed_login(60, "bob", "192.0.2.4")
        .failed_login(70, "ann", "192.0.2.5")
        .failed_login(80, "ann", "192.0.2.6")
        .failed_login(90, "ann", "192.0.2.7");
    insta::assert_snapshot!(recording.told(&["--account", "ann"]));
}

#[test]
fn a_near_miss_says_what_was_missing_and_until_when() {
    let mut recording = Recording::new();
    for n in 0..4 {
        recording.failed_login(n * 20, "ann", &format!("192.0.2.{n}"));
    }
    recording.failed_login(301, "ann", "192.0.2.9");
    insta::assert_snapshot!(recording.told(&["--account", "ann"]));
}

#[test]
fn a_lock_by_second_factor_failures_and_a_run_that_was_ended() {
    let mut recording = Recording::new();
    let factor = |outcome: &str| json!({ "type": "two_factor", "outcome": outcome, "account": "ann", "ip": NORWAY });
    for n in 0..4 {
        recording.event(n, factor("failure"));
    }
    recording.event(10, factor("success"));
    let ended = recording.told(&["--account", "ann"]);
    for n in 20..25 {
        recording.event(n, factor("failure"));
    }
    let locked = recording.told(&["--account", "ann"]);
    insta::assert_snapshot!(format!("{ended}\n=====\n\n{locked}"));
}

#[test]
fn a_new_country_is_told_with_those_that_were_known() {
    let mut recording = Recording::new();
    recording
        .login(0, "ann", NORWAY)
        .login(3600, "ann", "10.0.0.1")
        .login(7200, "ann", "192.0.2.1")
        .login(9000, "ann", NORWAY);
    let known = recording.told(&["--account", "ann"]);
    recording.login(10_000, "ann", BRAZIL);
    let locked = recording.told(&["--account", "ann"]);
    insta::assert_snapshot!(format!("{known}\n=====\n\n{locked}"));
}

#[test]
fn an_address_on_a_list_is_told_with_its_file_and_line() {
    let mut recording = Recording::new();
    let reset = |ip: &str, outcome: &str| json!({ "type": "password_reset", "outcome": outcome, "account": "ann", "ip": ip });
    recording
        .event(0, reset("192.0.2.1", "requested"))
        .event(10, reset(MALICIOUS, "cancelled"))
        .event(20, reset(MALICIOUS, "requested"));
    insta::assert_snapshot!(recording.told(&["--account", "ann"]));
}

#[test]
fn late_repeated_and_settled_events_say_why_they_did_not_count() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let case = recording.case("ann");
    recording
        .event(
            150,
            json!({ "type": "case_response", "case": case, "case_version": 1, "answer": "me",
                    "by": "owner", "places": [] }),
        )
        .failed_login(100, "ann", "192.0.2.20")
        .failed_login(900, "ann", "192.0.2.21")
        .failed_login(599, "ann", "192.0.2.22")
        .event(
            900,
            json!({ "id": "e7", "type": "login", "outcome": "failure", "account": "ann",
                    "ip": "192.0.2.21", "reason": "bad_password" }),
        );
    insta::assert_snapshot!(recording.told(&["--account", "ann"]));
}

#[test]
fn the_reference_that_an_owner_reads_out_tells_the_life_of_the_case() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let case = recording.case("ann");
    let answer = |answer: &str, version: u32| {
        json!({ "type": "case_response", "account": "ann", "case": case,
                "case_version": version, "answer": answer, "by": "owner", "places": [] })
    };
    recording
        .event(200, answer("me", 7))
        .event(300, answer("not_me", 1))
        .event(310, answer("not_me", 1))
        .event(
            400,
            json!({ "type": "password_changed", "account": "ann", "case": case }),
        );
    insta::assert_snapshot!(recording.told(&["--case", &case]));
}

#[test]
fn rules_17_a_mail_that_did_not_arrive_is_told_and_a_repeat_is_told_apart() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let case = recording.case("ann");
    let bounced = json!({ "type": "mail_bounced", "account": "ann", "case": case,
                          "to": "ann@example.org", "by": "owner", "reason": "refused" });
    recording.event(200, bounced.clone()).event(300, bounced);
    // It is wrapped as a terminal shows it.
    let told = recording.told(&["--case", &case]);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("the mail to the owner did not arrive"),
        "{told}"
    );
    let repeat = "did not arrive; it did nothing: that was known";
    assert_eq!(told.matches(repeat).count(), 1, "{told}");
    assert!(!told.contains("ann@example.org"), "{told}");
}

#[test]
fn one_event_is_told_with_the_word_of_every_rule() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let hit = recording.told(&["--event", "e4"]);
    let counted = recording.told(&["--event", "e1"]);
    assert!(counted.starts_with("e1 (login failure at 2026-11-22T06:00:30Z): "));
    insta::assert_snapshot!(hit);
}

#[test]
fn an_event_that_belongs_to_no_account_is_told_too() {
    let mut recording = Recording::new();
    recording.event(0, json!({ "type": "two_factor", "outcome": "failure" }));
    let told = recording.record(&["--event", "e0"]);
    assert_eq!(told["account"], Value::Null);
    let answer = told["answer"].as_str().unwrap();
    assert!(
        answer.contains("has no account, which the rule counts by"),
        "{answer}"
    );
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let mut recording = Recording::new();
    recording.attack("anna").attack("bob");
    for (question, expected) in [
        (
            ["--account", "ann"],
            "No event in these files belongs to the account ann, of 10 events. The nearest are \
             anna, bob.",
        ),
        (
            ["--event", "e11"],
            "No event in these files has the id e11. The nearest are e1, e0, e2, e3, e4.",
        ),
        (
            ["--case", "k-1"],
            "These events open no case k-1 under these rules.",
        ),
    ] {
        let output = recording.ask(&question);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with(expected), "{said}");
    }
    let named = json!({ "type": "case_response", "account": "cy", "case": "k-77",
                        "case_version": 1, "answer": "me", "by": "owner" });
    recording.event(500, named);
    let output = recording.ask(&["--case", "k-77"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("(of the account cy), but nothing in them opens it"),
        "{said}"
    );
}

#[test]
fn a_question_must_be_one_of_three() {
    let recording = Recording::new();
    for question in [&[][..], &["--account", "ann", "--event", "e1"]] {
        assert_eq!(recording.ask(question).status.code(), Some(2));
    }
}

#[test]
fn events_that_must_be_read_twice_cannot_come_through_a_pipe() {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["explain", "--event", "e1", "-"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("put them into a file"), "{said}");
}

#[test]
fn the_record_for_tools_has_the_same_and_all_of_it() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let told = recording.record(&["--account", "ann"]);
    assert_eq!(told["schema"], 1);
    assert_eq!(told["question"], json!({ "account": "ann" }));
    let last = &told["moments"][4];
    assert_eq!(last["line"], 5);
    let words = last["rules"].as_array().unwrap();
    let hit = words.iter().find(|word| word["said"] == "hit").unwrap();
    assert_eq!(hit["rule"], "failed-logins-many-ips");
    assert_eq!(hit["effect"], "acted");
    assert_eq!(hit["evidence"].as_array().unwrap().len(), 5);
    assert_eq!(hit["case"], told["cases"][0]["id"]);
    let other = words
        .iter()
        .find(|word| word["rule"] == "first-seen-country");
    let line = json!({ "rule": "first-seen-country", "said": "not_matching",
                       "file": "rules/first-seen-country.rule.yaml", "line": 7,
                       "text": "outcome: success", "field": "outcome", "had": "failure" });
    assert_eq!(other, Some(&line));
}

#[test]
fn a_lock_that_ended_by_itself_is_told() {
    let mut recording = Recording::new();
    fs::write(
        recording.folder.path().join("rules/probe.rule.yaml"),
        "schema: 1
id: probe
title: Probe
severity: low
mode: enforce
when: { type: api_key_used }
by: account
detect: each
then: [ { lock_account: { reason: probe, until: 1h } } ]
",
    )
    .unwrap();
    recording
        .event(0, json!({ "type": "api_key_used", "account": "ann" }))
        .event(7200, json!({ "type": "logout", "account": "ann" }));
    let told = recording.record(&["--account", "ann"]);
    let case = &told["cases"][0];
    assert_eq!(case["state"], "unlocked");
    let last = case["chapters"].as_array().unwrap().last().unwrap();
    assert_eq!(last["what"], "a timer fell due");
    assert_eq!(last["did"][0]["action"], "unlock_account");
}

/// A rule that asks and locks nothing.
const ASKS: &str = "schema: 1
id: asks
title: Asks
severity: low
mode: enforce
when: { type: api_key_used }
by: account
detect: each
then: [ email_user ]
";

#[test]
fn rules_11_a_question_that_nobody_answered_is_told() {
    let mut recording = Recording::new();
    fs::write(recording.folder.path().join("rules/asks.rule.yaml"), ASKS).unwrap();
    recording
        .event(0, json!({ "type": "api_key_used", "account": "ann" }))
        .event(73 * 3600, json!({ "type": "logout", "account": "ann" }));
    let told = recording.record(&["--account", "ann"]);
    let case = &told["cases"][0];
    assert_eq!(case["state"], "closed");
    let last = case["chapters"].as_array().unwrap().last().unwrap();
    assert_eq!(
        last["what"],
        "a timer fell due; nobody had answered for 72 hours"
    );
    assert_eq!(last["did"], json!([]));
}

#[test]
fn rules_13_a_question_that_was_held_is_told_with_its_reason() {
    let mut recording = Recording::new();
    fs::write(recording.folder.path().join("rules/asks.rule.yaml"), ASKS).unwrap();
    for n in 0..doorward::engine::MAX_QUESTIONS {
        let used = json!({ "type": "api_key_used", "account": format!("u{n}") });
        recording.arriving(1, Some(1), used);
    }
    let used = json!({ "type": "api_key_used", "account": "ann" });
    recording.arriving(2, Some(2), used);
    let told = recording.record(&["--account", "ann"]);
    let answer = told["answer"].as_str().unwrap();
    let why = "10000 accounts of its partition were asked about and had not answered";
    assert!(answer.contains(why), "{answer}");
    assert_eq!(told["cases"], json!([]));
}

#[test]
fn what_an_exception_covers_is_told_with_its_reason_and_owner() {
    let mut recording = Recording::new();
    fs::write(
        recording.folder.path().join("rules/exceptions.yaml"),
        "schema: 1
exceptions:
  - id: load-test
    rules: [failed-logins-many-ips]
    when: { user_agent: { glob: 'loadtest/*' } }
    effect: ignore
    reason: A nightly load test
    owner: platform team
    expires: 2027-01-01
  - id: red-team
    rules: [reset-from-malicious-ip]
    when: { account: ann }
    effect: shadow
    reason: An exercise of the red team
    owner: security team
    expires: 2027-01-01
",
    )
    .unwrap();
    recording
        .event(
            0,
            json!({ "type": "login", "outcome": "failure", "account": "ann",
                    "ip": "192.0.2.1", "user_agent": "loadtest/2" }),
        )
        .event(
            10,
            json!({ "type": "password_reset", "outcome": "requested", "account": "ann",
                    "ip": MALICIOUS }),
        );
    insta::assert_snapshot!(recording.told(&["--account", "ann"]));
}

#[test]
fn what_an_attacker_writes_into_an_event_does_not_reach_the_terminal_as_it_is() {
    let mut recording = Recording::new();
    let account = "ann\u{1b}[2J";
    recording.event(
        0,
        json!({ "id": "e\u{202e}1", "type": "login", "outcome": "failure",
                "account": account, "reason": "\u{7}" }),
    );
    let told = recording.told(&["--account", account]);
    let harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!told.contains(harmful), "{told}");
}

#[test]
fn a_network_that_an_update_moved_on_the_map_is_told_with_both_names() {
    let mut recording = Recording::new();
    let networks = |code| [("192.0.2.0/24", code), ("198.51.100.0/24", code)];
    for (name, built, code) in [
        ("old.mmdb", 1_790_000_000, "NO"),
        ("new.mmdb", 1_795_000_000, "SE"),
    ] {
        let bytes = database(Shape::Nested, built, &networks(code));
        fs::write(recording.folder.path().join(name), bytes).unwrap();
    }
    recording
        .event(
            0,
            json!({ "type": "login", "outcome": "success", "account": "ann", "country": "NO" }),
        )
        .login(3600, "ann", "192.0.2.7")
        .login(7200, "bob", "198.51.100.7");
    let databases = ["--geoip", "new.mmdb", "--previous-geoip", "old.mmdb"];
    let ask = |account: &str, databases: &[&str]| {
        let mut question = vec!["--account", account];
        question.extend(databases);
        recording.told(&question)
    };
    let moved = ask("ann", &databases);
    // With the new one alone she would have been locked out of her own home.
    let locked = ask("ann", &databases[..2]);
    insta::assert_snapshot!(format!("{moved}\n=====\n\n{locked}"));
}

#[test]
fn what_steered_nothing_is_told_with_the_engines_reason() {
    let mut recording = Recording::new();
    recording.attack("ann");
    let case = recording.case("ann");
    let changed = |from: &str, to: &str| json!({ "type": "email_changed", "account": "ann", "email": to, "previous_email": from });
    recording
        .event(200, changed("a@example.org", "b@example.org"))
        .event(210, changed("b@example.org", "c@example.org"))
        .event(
            220,
            json!({ "type": "case_response", "account": "ann", "case": case, "case_version": 1,
                    "answer": "not_me", "by": "owner" }),
        )
        .event(230, json!({ "type": "password_changed", "account": "ann" }))
        .event(
            240,
            json!({ "type": "operator_request", "account": "ann", "request": "undo", "case": case,
                    "operator": "desk", "reason": "asked", "rule": "failed-logins-many-ips" }),
        );
    let told = recording.record(&["--account", "ann"]);
    let moments = told["moments"].as_array().unwrap().iter();
    let steered: Vec<String> = moments
        .filter(|moment| !moment["steered"].is_null())
        .map(|moment| {
            let steered = &moment["steered"];
            format!(
                "{} {}: {}",
                steered["applied"], steered["why"], steered["what"]
            )
        })
        .collect();
    insta::assert_snapshot!(steered.join("\n"));
}
