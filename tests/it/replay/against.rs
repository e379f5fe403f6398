//! Two rule sets on one stream, what owners said, and the page that shows it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{decisions, doorward, ndjson};
use crate::support::story;

const MINUTE: i64 = 60_000;

/// A copy of the shipped rules in which `from` reads `to`.
fn rules(folder: &Path, name: &str, file: &str, from: &str, to: &str) -> PathBuf {
    let copy = folder.join(name);
    std::fs::create_dir_all(copy.join("lists")).unwrap();
    for entry in std::fs::read_dir("rules")
        .unwrap()
        .chain(std::fs::read_dir("rules/lists").unwrap())
    {
        let path = entry.unwrap().path();
        let named = path.strip_prefix("rules").unwrap();
        // Tests beside the rules say what the rules as they are do.
        if path.is_file() && !path.to_str().unwrap().ends_with(".test.yaml") {
            std::fs::copy(&path, copy.join(named)).unwrap();
        }
    }
    if !file.is_empty() {
        let text = std::fs::read_to_string(copy.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(copy.join(file), text.replace(from, to)).unwrap();
    }
    copy
}

fn guess(id: &str, account: &str, at: i64, ip: &str) -> Value {
    json!({ "id": id, "type": "login", "outcome": "failure", "reason": "bad_password",
            "time": at, "account": account, "ip": ip, "email": format!("{account}@example.com") })
}

fn reset(id: &str, account: &str, at: i64) -> Value {
    json!({ "id": id, "type": "password_reset", "outcome": "requested", "time": at,
            "account": account, "ip": story::MALICIOUS })
}

fn answer(case: &str, account: &str, at: i64, answer: &str) -> Value {
    json!({ "id": format!("answer-{case}-{answer}"), "type": "case_response", "time": at,
            "account": account, "case": case, "case_version": 1, "answer": answer, "by": "owner" })
}

/// Guesses from `addresses` addresses at `account`.
fn guesses(account: &str, addresses: u8, at: i64) -> Vec<Value> {
    (0..addresses)
        .map(|n| {
            let id = format!("{account}-{n}");
            guess(
                &id,
                account,
                at + i64::from(n) * 1_000,
                &format!("81.167.144.{n}"),
            )
        })
        .collect()
}

/// The case that a rule of the shipped set opens for `account` in `events`.
fn case_of(events: &[Value], account: &str) -> String {
    let said = decisions(&doorward(&["replay", "-"], &ndjson(events)));
    let found = said
        .iter()
        .find(|d| d["account"] == account && !d["case"].is_null());
    found.unwrap()["case"].as_str().unwrap().to_owned()
}

#[test]
fn accounts_that_only_one_rule_set_locks_are_told_with_what_their_owners_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = "failed-logins-many-ips.rule.yaml";
    let old = rules(folder.path(), "old", "", "", "");
    let new = rules(folder.path(), "new", file, "at_least: 5", "at_least: 4");
    let start = story::START;
    let mut events = guesses("both", 5, start);
    events.extend(guesses("only-new", 4, start + MINUTE));
    events.push(reset("r1", "reset", start + 2 * MINUTE));
    let case = case_of(&events, "both");
    let reset_case = case_of(&events, "reset");
    events.push(answer(&case, "both", start + 10 * MINUTE, "me"));
    events.push(answer(&reset_case, "reset", start + 11 * MINUTE, "not_me"));
    let args = [
        "replay",
        "--rules",
        new.to_str().unwrap(),
        "--against",
        old.to_str().unwrap(),
        "-",
    ];
    let said = decisions(&doorward(&args, &ndjson(&events)));
    let by: Vec<(&str, &str)> = said
        .iter()
        .map(|line| {
            (
                line["account"].as_str().unwrap(),
                line["locked_by"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        by,
        [("only-new", "new"), ("both", "both"), ("reset", "both")]
    );
    assert!(said[0]["old"].is_null());
    assert_eq!(said[0]["new"]["decision"]["value"], 4);
    assert_eq!(
        said[0]["new"]["decision"]["evidence"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert!(said[0]["owner"].is_null());
    // The old set's lock began the answered case; the new one's began another, whose evidence
    // has its events.
    assert_eq!(said[1]["owner"], json!({ "answer": "me", "about": "case" }));
    assert_eq!(
        said[2]["owner"],
        json!({ "answer": "not_me", "about": "case" })
    );
    assert_eq!(said[1]["old"]["case"], case);

    let table = [&args[..1], &["--output", "table"], &args[1..]].concat();
    let text = String::from_utf8(doorward(&table, &ndjson(&events)).stdout).unwrap();
    assert!(
        text.contains("1 account locked only by the new rules. Owners: 0 “this was me”, 0 “this wasn't me”, 1 not known."),
        "{text}"
    );
    assert!(
        text.contains("0 accounts locked only by the old rules.\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "2 accounts locked by both. Owners: 1 “this was me”, 1 “this wasn't me”, 0 not known."
        ),
        "{text}"
    );
}

#[test]
fn a_rules_false_alarms_are_what_owners_said_of_its_own_cases_and_nothing_else() {
    let start = story::START;
    let folder = tempfile::tempdir().unwrap();
    let file = "reset-from-malicious-ip.rule.yaml";
    let shadow = rules(
        folder.path(),
        "shadow",
        file,
        "mode: enforce",
        "mode: shadow",
    );
    let mut events = guesses("owner", 5, start);
    // In shadow, near in time to the case that the owner is asked about.
    events.push(reset("r1", "owner", start + MINUTE));
    // In shadow here; where the recording was made it was enforced, and the owner answered.
    events.push(reset("r2", "asked", start + 2 * MINUTE));
    events.push(reset("r3", "silent", start + 3 * MINUTE));
    let asked = case_of(&events, "asked");
    let owner = case_of(&events, "owner");
    events.push(answer(&owner, "owner", start + 10 * MINUTE, "me"));
    events.push(answer(&asked, "asked", start + 11 * MINUTE, "not_me"));
    let args = [
        "replay",
        "--output",
        "table",
        "--rules",
        shadow.to_str().unwrap(),
        "-",
    ];
    let text = String::from_utf8(doorward(&args, &ndjson(&events)).stdout).unwrap();
    assert!(
        text.contains(
            "failed-logins-many-ips: 1 acted; 1 account locked; false alarms 100 % (1 of 1 answered)\n"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "reset-from-malicious-ip: 3 shadow; 0 accounts locked; false alarms 0 % (0 of 1 answered); 1 owner answered about something else near in time (1 me, 0 not me)\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("2 owners' answers are taken as they stand: their MACs were not checked."),
        "{text}"
    );
}

#[test]
fn not_me_is_believed_over_me_and_an_answer_of_another_day_says_nothing() {
    let start = story::START;
    let day = story::DAY;
    let mut events = vec![reset("r1", "torn", start)];
    let case = case_of(&events, "torn");
    events.push(answer(&case, "torn", start + MINUTE, "me"));
    events.push(answer(&case, "torn", start + 2 * MINUTE, "not_me"));
    events.push(reset("r2", "late", start + 3 * MINUTE));
    events.push(answer("k-of-something-else", "late", start + 2 * day, "me"));
    let args = ["replay", "--output", "table", "-"];
    let text = String::from_utf8(doorward(&args, &ndjson(&events)).stdout).unwrap();
    assert!(
        text.contains("false alarms 0 % (0 of 1 answered)\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_judged_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let bare = rules(folder.path(), "bare", "", "", "");
    std::fs::remove_file(bare.join("lists/malicious_ips.txt")).unwrap();
    let mut far = reset("far", "a", story::START + 2 * story::DAY);
    far["ip"] = json!("nonsense");
    let mut lines = ndjson(&[
        reset("1", "b", story::START - 1),
        far,
        reset("2", "c", story::START),
    ]);
    lines.extend_from_slice(b"nonsense\n");
    let output = doorward(&["replay", "--rules", bare.to_str().unwrap(), "-"], &lines);
    let words = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "the list malicious_ips could not be loaded.",
        "The events bring no broker time: the newest event time so far was the clock.",
        "1 event is more than a day behind the clock, which standard input:2 moved from ",
        "1 line is no event, and told nothing.",
        "The stream holds no owner's answer: how many locks were false alarms is not known.",
        "The field `ip` is invalid in 1 event, and was taken as absent there.",
        "What was before the first event is not known:",
    ] {
        assert!(words.contains(expected), "{expected}\n{words}");
    }
}
