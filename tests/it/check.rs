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

#[test]
fn a_rule_file_that_is_no_text_is_named() {
    let bad = folder(&[("rules/good.rule.yaml", RULE)]);
    std::fs::write(bad.path().join("rules/bad.rule.yaml"), [0xFF, 0xFE, 0]).expect("written");
    let (status, said) = check(bad.path(), &["--rules", "rules"]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("error: rules/bad.rule.yaml: cannot be read: it is not UTF-8 text"),
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
