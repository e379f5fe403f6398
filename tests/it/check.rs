//! `doorward check` says every mistake in everything that people write, at once.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const RULE: &str = include_str!("../../rules/failed-logins-many-ips.rule.yaml");

/// Runs `doorward check` in `folder`; its exit status and what it printed.
fn check(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .arg("check")
        .args(args)
        .current_dir(folder)
        .env("DOORWARD_STATE_KEY", "000102030405060708090a0b0c0d0e0f")
        .env("DOORWARD_LINK_KEY", "00".repeat(32))
        .env("DOORWARD_ANSWER_KEY", "00".repeat(32))
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let said = String::from_utf8(output.stdout).expect("text");
    (output.status.code().expect("it exits"), said)
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    folder
}

#[test]
fn what_is_built_in_is_good_from_any_folder() {
    let empty = folder(&[]);
    let (status, said) = check(empty.path(), &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.ends_with("nothing is wrong\n"), "{said}");
}

#[test]
fn the_documented_configuration_is_good_and_what_was_read_is_listed() {
    let config = include_str!("../../doorward.toml");
    let good = folder(&[("doorward.toml", config)]);
    let (status, said) = check(good.path(), &["--config", "doorward.toml"]);
    assert_eq!(status, 0, "{said}");
    let hash = said
        .split("sha256:")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("the rule set's hash");
    insta::assert_snapshot!(said.replace(hash, "…"));
}

#[test]
fn mistakes_in_settings_rules_lists_and_the_database_are_said_together() {
    let config = include_str!("../../doorward.toml")
        .replace("[rules]\n", "[rules]\ndir = \"rules\"\n")
        .replace("[geoip]\n", "[geoip]\ndatabase = \"half.mmdb\"\n")
        .replace("[engine]\n", "[engine]\nmax_latenes = \"5m\"\n");
    let rule = RULE
        .replace("at_least: 5", "at_least: 500")
        .replace("within: 5m", "within: 5min")
        .replace("severity: high", "severity: hihg");
    let bad = folder(&[
        ("doorward.toml", &config),
        ("rules/failed.rule.yaml", &rule),
        (
            "rules/lists.yaml",
            "schema: 1\nlists: { bad: { file: bad.txt } }\n",
        ),
        ("rules/bad.txt", "192.0.2.1\n192.0.2.\n"),
        ("half.mmdb", "this is not one"),
    ]);
    let (status, said) = check(bad.path(), &["--config", "doorward.toml"]);
    assert_eq!(status, 1, "{said}");
    insta::assert_snapshot!(said);

    let (status, rules_too) = check(bad.path(), &["--rules", "rules"]);
    assert_eq!(status, 1);
    assert!(rules_too.contains("rules/failed.rule.yaml:"), "{rules_too}");
}

#[test]
fn a_folder_without_rules_and_a_folder_that_is_not_there_are_named() {
    let empty = folder(&[("rules/readme.txt", "no rule")]);
    for dir in ["rules", "nowhere"] {
        let (status, said) = check(empty.path(), &["--rules", dir]);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(&format!("error: {dir}/: ")), "{said}");
    }
}

/// Two rules with four mistakes and a warning between them.
fn bad_rules() -> TempDir {
    let misspelt = RULE
        .replace("severity: high", "serverity: high")
        .replace("outcome: failure", "outcome: failed")
        .replace("reason: { not:", "reason: bad_pasword\n  method: { not:");
    folder(&[
        ("rules/a b.rule.yaml", &misspelt),
        (
            "rules/c.rule.yaml",
            &RULE.replace("within: 5m", "within: 5min"),
        ),
    ])
}

#[test]
fn programs_get_the_same_mistakes_as_json() {
    let (status, said) = check(
        bad_rules().path(),
        &["--rules", "rules", "--output", "json"],
    );
    assert_eq!(status, 1);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["errors"], 4, "{said:#}");
    assert_eq!(said["warnings"], 1, "{said:#}");
    insta::assert_snapshot!(format!("{:#}", said["mistakes"]));

    let (status, said) = check(folder(&[]).path(), &["--output", "json"]);
    assert_eq!(status, 0, "{said}");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["mistakes"], serde_json::json!([]));
}

#[test]
fn code_hosts_get_the_same_mistakes_as_sarif() {
    let schema = include_str!("../data/sarif/sarif-schema-2.1.0.json");
    // The published schema has one pattern with a misprint, which is no regular expression.
    let schema = schema.replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}$");
    let schema = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for (folder, args, wanted) in [
        (
            bad_rules(),
            &["--rules", "rules", "--output", "sarif"][..],
            5,
        ),
        (folder(&[]), &["--rules", "nowhere", "--output", "sarif"], 1),
        (folder(&[]), &["--output", "sarif"], 0),
    ] {
        let (_, said) = check(folder.path(), args);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let wrong: Vec<String> = validator
            .iter_errors(&said)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let run = &said["runs"][0];
        let results = run["results"].as_array().expect("results");
        assert_eq!(results.len(), wanted, "{results:#?}");
        for result in results {
            let at = result["ruleIndex"].as_u64().expect("an index") as usize;
            assert_eq!(run["tool"]["driver"]["rules"][at]["id"], result["ruleId"]);
        }
        if wanted == 5 {
            let place = &results[0]["locations"][0]["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], "rules/a%20b.rule.yaml");
            assert!(place["region"]["startLine"].as_u64() > Some(1), "{place}");
        }
    }
}

#[test]
fn kinds_of_mistakes_have_stable_names() {
    let names: Vec<&str> = doorward::document::Kind::ALL
        .iter()
        .map(|kind| kind.id())
        .collect();
    insta::assert_snapshot!(names.join("\n"));
    let all: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(all.len(), names.len());
}

#[test]
fn rules_14_an_id_that_names_something_else_than_before_is_warned_of() {
    let said = |change: (&str, &str)| {
        let both = folder(&[
            ("before/r.rule.yaml", RULE),
            (
                "after/other-name.rule.yaml",
                &RULE.replace(change.0, change.1),
            ),
        ]);
        check(both.path(), &["--rules", "after", "--against", "before"])
    };
    // What a change of keeps the memory is not warned of.
    for keeps in [
        ("at_least: 5", "at_least: 7"),
        ("within: 5m", "within: 10m"),
        ("mode: enforce", "mode: shadow"),
        ("cooldown: 30m", "cooldown: 1h"),
        ("severity: high", "severity: low"),
    ] {
        let (status, said) = said(keeps);
        assert_eq!(status, 0, "{said}");
        assert!(
            said.ends_with("nothing is wrong\n") && !said.contains("warning"),
            "{said}"
        );
    }
    for (change, part) in [
        (("distinct: { of: ip", "distinct: { of: user_agent"), "`of`"),
        (("outcome: failure", "outcome: success"), "`when`"),
        (("by: account", "by: [account, user]"), "`by`"),
        (
            ("distinct: { of: ip, at_least: 5", "count: { at_least: 5"),
            "`detect`, `of`",
        ),
    ] {
        let (status, said) = said(change);
        assert_eq!(status, 0, "{said}");
        assert!(
            said.contains("begins anew") && said.contains(part),
            "{said}"
        );
    }
    let (_, said) = said(("distinct: { of: ip", "distinct: { of: user_agent"));
    insta::assert_snapshot!(said.split("good:").next().unwrap_or_default());
}

#[test]
fn two_rules_with_one_id_are_a_mistake_even_where_one_of_them_has_others() {
    let broken = RULE.replace("severity: high", "severity: hihg");
    let two = folder(&[("rules/a.rule.yaml", RULE), ("rules/b.rule.yaml", &broken)]);
    let (status, said) = check(two.path(), &["--rules", "rules"]);
    assert_eq!(status, 1);
    assert!(
        said.contains("the id `failed-logins-many-ips` is already taken by rules/a.rule.yaml"),
        "{said}"
    );
}

#[test]
fn rules_are_read_although_lists_yaml_is_broken() {
    let broken = RULE.replace("severity: high", "severity: hihg");
    let bad = folder(&[
        ("rules/a.rule.yaml", &broken),
        (
            "rules/b.rule.yaml",
            include_str!("../../rules/reset-from-malicious-ip.rule.yaml"),
        ),
        ("rules/lists.yaml", "schema: 1\nlits: {}\n"),
    ]);
    let (status, said) = check(bad.path(), &["--rules", "rules"]);
    assert_eq!(status, 1);
    assert!(said.contains("`severity` cannot be `hihg`"), "{said}");
    assert!(
        said.contains("`lits`") && !said.contains("there is no list"),
        "{said}"
    );
}

#[test]
fn a_rule_on_network_numbers_without_a_database_is_warned_of() {
    let rule = RULE.replace("outcome: failure", "outcome: failure\n  asn: 64500");
    let asn = folder(&[("rules/a.rule.yaml", &rule)]);
    let (status, said) = check(asn.path(), &["--rules", "rules"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("geoip.asn_database"), "{said}");

    let config = include_str!("../../doorward.toml")
        .replace("[rules]\n", "[rules]\ndir = \"rules\"\n")
        .replace("[geoip]\n", "[geoip]\nasn_database = \"asn.mmdb\"\n");
    std::fs::write(asn.path().join("doorward.toml"), config).expect("written");
    let database = include_bytes!("../data/geoip/GeoLite2-ASN-Test.mmdb");
    std::fs::write(asn.path().join("asn.mmdb"), database).expect("written");
    let (status, said) = check(asn.path(), &["--config", "doorward.toml"]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("good: database of network numbers GeoLite2-ASN"),
        "{said}"
    );

    let country = include_bytes!("../data/geoip/GeoLite2-Country-Test.mmdb");
    std::fs::write(asn.path().join("asn.mmdb"), country).expect("written");
    let (status, said) = check(asn.path(), &["--config", "doorward.toml"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("has no network numbers"), "{said}");
}

#[test]
fn a_rule_file_that_is_no_text_is_named() {
    let bad = folder(&[("rules/good.rule.yaml", RULE)]);
    std::fs::write(bad.path().join("rules/bad.rule.yaml"), [0xFF, 0xFE, 0]).expect("written");
    let (status, said) = check(bad.path(), &["--rules", "rules"]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("error: rules/bad.rule.yaml: this file is UTF-16, not UTF-8"),
        "{said}"
    );
}

/// Five addresses lock, says the test; the rule asks for this many.
fn with_a_test(at_least: u32, mode: &str) -> TempDir {
    const TESTS: &str = "schema: 1
rule: failed-logins-many-ips
defaults: { type: login, outcome: failure }
tests:
  - name: Four do nothing
    events:
      - { at: 0s, ip: 4 different, every: 1s, expect: none }
  - name: Five lock
    events:
      - { at: 0s, ip: 4 different, every: 1s }
      - { at: 10s, ip: another, expect: acted 5 }
";
    let rule = RULE
        .replace("at_least: 5", &format!("at_least: {at_least}"))
        .replace("mode: enforce", &format!("mode: {mode}"));
    folder(&[("a.rule.yaml", &rule), ("a.test.yaml", TESTS)])
}

#[test]
fn tests_beside_the_rules_are_played_and_each_that_fails_is_named_with_its_line() {
    let good = with_a_test(5, "enforce");
    let (status, said) = check(good.path(), &["--rules", "."]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("good: 2 tests in 1 file, played\n"), "{said}");

    let bad = with_a_test(6, "enforce");
    let (status, said) = check(bad.path(), &["--rules", "."]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("the test `Five lock` fails"), "{said}");
    assert!(said.contains("a.test.yaml:11:"), "{said}");
    assert!(
        said.contains("2 tests in 1 file, played; 1 passed"),
        "{said}"
    );

    let (status, said) = check(bad.path(), &["--rules", ".", "--output", "json"]);
    assert_eq!(status, 1, "{said}");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let [mistake] = &said["mistakes"].as_array().expect("mistakes")[..] else {
        panic!("{said}");
    };
    assert_eq!(mistake["id"], "failed-test");
    assert_eq!(
        (mistake["line"].as_u64(), &mistake["severity"]),
        (Some(11), &"error".into())
    );

    let (_, said) = check(bad.path(), &["--rules", ".", "--output", "sarif"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("SARIF");
    let result = &said["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "failed-test");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "./a.test.yaml");
    assert_eq!(place["region"]["startLine"], 11);
}

#[test]
fn a_test_that_passes_only_in_another_mode_is_warned_of() {
    let shadow = with_a_test(5, "shadow");
    let (status, said) = check(shadow.path(), &["--rules", "."]);
    assert_eq!(status, 0, "{said}");
    assert!(
        said.contains("the test `Five lock` passes only in mode enforce"),
        "{said}"
    );
}

#[test]
fn an_unknown_option_is_a_mistake_of_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["check", "--confg", "x"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config"));
}

#[test]
fn every_command_shows_an_example_in_its_help() {
    let help = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .args(args)
            .output()
            .expect("it runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let commands = help(&["--help"]);
    let names = commands
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut seen = 0;
    for name in names {
        seen += 1;
        let help = help(&[name, "--help"]);
        assert!(
            help.contains(&format!("doorward {name}")) && help.contains("Example"),
            "{name} has no example:\n{help}"
        );
    }
    assert!(seen >= 2, "{commands}");
}

#[test]
fn an_expired_exception_is_a_mistake_and_a_lasting_one_is_listed() {
    let exceptions = |expires: &str| {
        format!(
            "schema: 1\nexceptions:\n  - id: scanner\n    reason: Our own scanner\n    \
             owner: security\n    expires: {expires}\n    effect: ignore\n    \
             when: {{ account: u }}\n"
        )
    };
    for (expires, status, says) in [
        ("2020-02-29", 1, "exceptions.yaml:6:14"),
        ("9000-01-01", 0, "1 rule (1 enforce), 1 exception, sha256:"),
    ] {
        let text = exceptions(expires);
        let files = folder(&[
            ("rules/failed.rule.yaml", RULE),
            ("rules/lists.yaml", "schema: 1\nlists: {}\n"),
            ("rules/exceptions.yaml", &text),
        ]);
        let (exit, said) = check(files.path(), &["--rules", "rules"]);
        assert_eq!(exit, status, "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn tests_beside_the_rules_are_read_too_although_a_rule_is_wrong() {
    const TESTS: &str = "schema: 1
rules: [failed-logins-many-ips, wrong]
tests:
  - name: One
    events:
      - { type: login, outcome: failed, at: 5min }
      - { type: logn, outcome: failure }
";
    let wrong = RULE
        .replace("id: failed-logins-many-ips", "id: wrong")
        .replace("severity: high", "severity: hihg");
    let bad = folder(&[
        ("a.rule.yaml", RULE),
        ("b.rule.yaml", &wrong),
        ("a.test.yaml", TESTS),
    ]);
    let (status, said) = check(bad.path(), &["--rules", "."]);
    assert_eq!(status, 1);
    for part in [
        "`severity` cannot be `hihg`",
        "`outcome` is never `failed`",
        "`at: 5min` is no time of a timeline",
        "there is no event type `logn`",
        "a.test.yaml:6:",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains(" fails"), "{said}");
    // The rule is there, and its own mistake is told already.
    assert!(!said.contains("there is no rule"), "{said}");

    let good = folder(&[
        ("a.rule.yaml", RULE),
        (
            "a.test.yaml",
            "schema: 1\nrule: other\ntests: [{ name: One, events: [{ wait: 1h }] }]\n",
        ),
    ]);
    let (status, said) = check(good.path(), &["--rules", "."]);
    assert_eq!(status, 1);
    assert!(said.contains("there is no rule `other`"), "{said}");
}
