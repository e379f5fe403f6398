//! `doorward test`: what analysts write beside their rules, what it tells them, and that the
//! built-in rules keep what their own tests promise.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const RULE: &str = include_str!("../../rules/failed-logins-many-ips.rule.yaml");
const LISTS: &str = "schema: 1\nlists: {}\n";

/// Runs `doorward` in `folder`; exit status, what it printed, and what it complained of.
fn doorward(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("it runs");
    (
        output.status.code().expect("it exits"),
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

/// A folder with the rule, no lists, and these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let own = [("many-ips.rule.yaml", RULE), ("lists.yaml", LISTS)];
    for (name, text) in own.iter().chain(files) {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn test(files: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
    let folder = folder(files);
    let all: Vec<&str> = ["test", "--rules", "."]
        .iter()
        .chain(args)
        .copied()
        .collect();
    doorward(folder.path(), &all)
}

#[test]
fn every_built_in_rule_keeps_what_its_tests_promise() {
    let empty = tempfile::tempdir().expect("a folder");
    let (status, said, complaints) = doorward(empty.path(), &["test"]);
    assert_eq!((status, complaints.as_str()), (0, ""), "{said}");
    assert!(said.contains("all passed"), "{said}");
    assert!(!said.contains("without a test"), "{said}");
}

#[test]
fn what_is_built_in_is_what_the_folder_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut on_disk: Vec<String> = Vec::new();
    for folder in ["", "lists/"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.into_string().expect("text");
            if name.ends_with(".yaml") || name.ends_with(".txt") {
                on_disk.push(format!("{folder}{name}"));
            }
        }
    }
    on_disk.sort();
    let mut built_in: Vec<&str> = doorward::builtin::rules_file_names().collect();
    built_in.sort_unstable();
    assert_eq!(built_in, on_disk);
    for name in built_in {
        let text = std::fs::read_to_string(root.join(name)).expect("a file");
        assert_eq!(doorward::builtin::rules_file(name), Some(text.as_str()));
    }
}

#[test]
fn the_owner_reads_a_sentence_about_what_happened_for_every_built_in_rule() {
    let rules = crate::support::story::built_in();
    let mut asked = 0;
    for rule in rules.rules().iter().filter(|rule| rule.email.is_some()) {
        let reason = rule.lock.as_ref().map_or(&rule.id, |lock| &lock.reason);
        for (language, _) in doorward::locale::FILES {
            let words = doorward::locale::Words::of(language).expect("a language");
            let own = words.reasons.contains_key(&**reason);
            assert!(own, "{}: no words for {reason} in {language}", rule.id);
        }
        asked += usize::from(rule.lock.is_none());
    }
    assert_eq!(asked, 4);
}

const FAILING: &str = "\
schema: 1
rule: failed-logins-many-ips
defaults: { type: login, outcome: failure }
tests:
  - name: Five addresses lock the account
    events:
      - { at: 0s, ip: 5 different, every: 10s, expect: acted 5 }
  - name: Four are enough, which is wrong
    events:
      - { at: 0s, ip: 3 different, every: 10s }
      - at: +1m
        ip: another
        expect: acted 4
        commands: [lock_account]
        mails: [owner]
        account_is: locked
  - name: Nobody expected that, and the rest is wrong too
    events:
      - { at: 0s, ip: 5 different, every: 10s }
      - { at: 2m, answer: me, account_is: locked, commands: none }
      - { at: 1m, received: 5m, ip: another, expect: cooldown }
      - { at: +1m, account: ben, answer: me }
";

#[test]
fn a_failing_test_shows_what_was_expected_beside_what_happened() {
    let (status, said, complaints) = test(&[("a.test.yaml", FAILING)], &[]);
    assert_eq!((status, complaints.as_str()), (1, ""));
    insta::assert_snapshot!(said);
}

#[test]
fn machines_read_the_same_as_json_and_as_junit() {
    let here = folder(&[("a.test.yaml", FAILING)]);
    let args = [
        "test",
        "--rules",
        ".",
        "--output",
        "json",
        "--junit",
        "junit.xml",
    ];
    let (status, said, _) = doorward(here.path(), &args);
    assert_eq!(status, 1);
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["failed"], 2);
    assert_eq!(json["tests"][0]["passed"], true);
    assert_eq!(json["tests"][1]["line"], 8);
    assert_eq!(json["tests"][1]["problems"][0]["line"], 11);
    let xml = std::fs::read_to_string(here.path().join("junit.xml")).expect("written");
    insta::assert_snapshot!(xml);
}

#[test]
fn a_word_chooses_tests_by_file_rule_or_name() {
    let files = [("a.test.yaml", FAILING)];
    let (status, said, _) = test(&files, &["Five addresses"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("1 test, all passed"), "{said}");
    for word in ["a.test", "failed-logins"] {
        let (_, said, _) = test(&files, &[word]);
        assert!(said.contains("3 tests, 2 failed"), "{said}");
    }
    let (status, _, complaints) = test(&files, &["nothing like it"]);
    assert_eq!(status, 2);
    assert!(
        complaints.contains("contains `nothing like it`"),
        "{complaints}"
    );
}

#[test]
fn a_rule_without_a_test_is_named_and_no_failure() {
    let (status, said, _) = test(&[], &[]);
    assert_eq!(status, 0, "{said}");
    insta::assert_snapshot!(said, @"
    0 tests, all passed
    without a test: failed-logins-many-ips
    ");
}

#[test]
fn mistakes_in_tests_are_said_all_at_once_each_with_what_was_meant() {
    let bad = "\
schema: 2
rule: failed-logins-many-ip
lists: { malicious: [not an address] }
defaults: { type: logn, outcome: failed, at: 0s }
tests:
  - name: One
    rules: [failed-logins-many-ips]
    events:
      - { at: 5min, ip: 5 diferent, expect: acted 5 }
      - { at: 1m, ip: 192.0.2.1, from: Norway }
      - { at: 2m, from: Norwegen }
      - { at: 3m, times: 4 }
      - { at: 4m, ip: 3 different, times: 2, every: 1s }
      - { at: 5m, recieved: 6m, repeat: 4 }
      - { at: 6m, expect: acts 5, account_is: looked }
      - { at: 6m, received: 1m, expect: acted five }
      - { at: 7m, answer: mee }
      - { at: 7m, expect: acted 5, why: 4 of 5 }
      - { at: 8m, answer: me, places: [Nowhere] }
      - { at: 9m, operator: open }
      - { wait: 5 }
      - { at: 10m, commands: [lock_acount], mails: [everybody] }
      - { at: 11m, time: 5, attributes: x, country: 7 }
  - name: One
    event: []
  - name: Two
    rules: [failed-logins-many-ips]
    defaults: { type: null }
    events: [{ at: 1m, expect: { first-seen-country: acted } }, { ip: another }]
";
    let (status, said, complaints) = test(&[("bad.test.yaml", bad)], &[]);
    assert_eq!((status, said.as_str()), (2, ""));
    insta::assert_snapshot!(complaints);
}

#[test]
fn a_country_is_an_address_in_it_and_the_same_each_time() {
    let country = "\
schema: 1
id: norway
title: Two sign-ins from Norway, whatever the addresses
severity: low
mode: enforce
when: { type: login, outcome: success, country: NO }
by: account
detect: { distinct: { of: ip, at_least: 3, within: 1h } }
";
    let tests = "\
schema: 1
rule: norway
defaults: { type: login, outcome: success, from: Norway }
tests:
  - name: One address stays one
    events: [{ at: 0s, times: 5, every: 1s }]
  - name: Others are others
    events:
      - { at: 0s }
      - { at: 1s, ip: 2 different, every: 1s, expect: acted 3 }
  - name: Elsewhere is elsewhere, and small countries are found too
    events:
      - { at: 0s, from: Sweden, ip: 5 different, every: 1s }
      - { at: 1m, from: LI }
      - { at: 2m, ip: 192.0.2.1 }
";
    let files = [("no.rule.yaml", country), ("no.test.yaml", tests)];
    let (status, said, complaints) = test(&files, &[]);
    assert_eq!(status, 0, "{said}{complaints}");
}

#[test]
fn time_that_passes_ends_locks() {
    let rule = RULE
        .replace("failed-logins-many-ips", "short")
        .replace("scope: unfamiliar", "until: 1h");
    let tests = "\
schema: 1
rule: short
defaults: { type: login, outcome: failure }
tests:
  - name: The lock ends by itself
    events:
      - { at: 0s, ip: 5 different, every: 0s, expect: acted 5, commands: [lock_account all] }
      - { wait: 59m, commands: none, account_is: locked, account: anna }
      - { wait: 1m, commands: [unlock_account], account_is: free, account: anna }
  - name: An event after it finds the account open
    events:
      - { at: 0s, ip: 5 different, every: 0s, expect: acted 5 }
      - { at: 2h, ip: another, account_is: free }
";
    let files = [
        ("short.rule.yaml", rule.as_str()),
        ("short.test.yaml", tests),
    ];
    let (status, said, complaints) = test(&files, &["short"]);
    assert_eq!(status, 0, "{said}{complaints}");
}

#[test]
fn without_a_database_countries_are_the_events_own() {
    let tests = "\
schema: 1
rule: failed-logins-many-ips
tests:
  - name: From Norway
    events: [{ at: 0s, type: login, outcome: success, from: Norway }]
";
    let here = folder(&[("a.test.yaml", tests)]);
    std::fs::write(here.path().join("no.mmdb"), "nothing").expect("written");
    let args = ["test", "--rules", ".", "--geoip", "no.mmdb"];
    let (status, _, complaints) = doorward(here.path(), &args);
    assert_eq!(status, 2);
    assert!(
        complaints.contains("no.mmdb cannot be used"),
        "{complaints}"
    );
}
