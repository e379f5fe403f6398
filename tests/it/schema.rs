//! The JSON Schemas: current, and true of what is read and written.

mod beside;

use std::path::Path;
use std::process::Command;

use doorward::document::{Diagnostics, SourceFile, parse_toml, parse_yaml};
use doorward::record::{CommandRecord, DecisionRecord, Provenance};
use doorward::rules::RuleSet;
use doorward::schema::{ALL, Schema};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::story::*;
use crate::support::yaml::json_of;

fn validator(name: &str) -> Validator {
    let schema = Schema::named(name).expect("it exists").value();
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .build(&schema)
        .expect("a valid schema")
}

fn assert_valid(validator: &Validator, value: &Value) {
    let wrong: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{value:#}");
}

#[test]
fn the_committed_schemas_are_those_that_the_program_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/schema");
    for schema in ALL {
        let path = folder.join(format!("{}.schema.json", schema.name));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == schema.text(),
            "{} is stale: run `doorward schema --write rules/schema`",
            path.display()
        );
    }
}

#[test]
fn every_schema_is_one() {
    for schema in ALL {
        let value = schema.value();
        assert!(jsonschema::meta::is_valid(&value), "{}", schema.name);
        validator(schema.name);
    }
}

#[test]
fn every_shipped_rule_names_its_schema_and_fits_it() {
    let validator = validator("rule");
    let mut seen = 0;
    for name in doorward::builtin::rules_file_names().filter(|n| n.ends_with(".rule.yaml")) {
        let text = doorward::builtin::rules_file(name).expect("it is there");
        let first = "# yaml-language-server: $schema=schema/rule.schema.json\n";
        assert!(
            text.starts_with(first),
            "{name} does not begin with {first}"
        );
        let file = SourceFile::new(name, text);
        let node = parse_yaml(&file, &mut Diagnostics::default()).expect("YAML");
        assert_valid(&validator, &json_of(&node));
        seen += 1;
    }
    assert!(seen >= 4);
}

/// A rule with other lines in the place of some of its own.
fn rule(when: &str, by: &str, detect: &str, rest: &str) -> String {
    format!(
        "schema: 1\nid: r\ntitle: R\nseverity: low\nmode: shadow\nwhen: {when}\nby: {by}\n\
         detect: {detect}\n{rest}"
    )
}

#[test]
fn what_the_parser_takes_the_schema_takes_and_the_other_way_round() {
    let login = "{ type: login, outcome: failure }";
    let each = "each";
    let good = [
        rule(login, "account", each, ""),
        rule(login, "[account]", "{ each: }", ""),
        rule(login, "[account, user]", each, ""),
        rule(login, "ip", "{ count: { at_least: 64, within: 30d } }", ""),
        rule(
            "{ type: my_own, attributes.risk: [1, 2.5, high, true] }",
            "account",
            each,
            "",
        ),
        rule(
            "{ type: [login, { glob: 'x*' }], own_field: { not: 3 } }",
            "account",
            each,
            "",
        ),
        rule(
            "{ type: login, ip: [192.0.2.7, { cidr: [10.0.0.0/8, '::1'] }, { in_list: malicious_ips }] }",
            "account",
            "{ distinct: { of: attributes.device, at_least: 2, within: 1ms } }",
            "",
        ),
        rule(
            "{ type: login, asn: [64500, { exists: false }] }",
            "account",
            each,
            "",
        ),
        rule(
            "{ type: login, country: { not: [NO, XK] } }",
            "account",
            each,
            "",
        ),
        rule(
            "{ type: login, repeat: { not: true }, owners: a@example.org }",
            "account",
            each,
            "",
        ),
        rule(
            login,
            "account",
            "{ streak: { at_least: 2, max_gap: 0024h, broken_by: [{ type: recovery }] } }",
            "cooldown: 0s\ntags: [a, b]\n",
        ),
        rule(
            login,
            "account",
            "{ first_seen: { of: country, forget_after: 36500d, learn: { for: 365d } } }",
            "then: [email_user]\n",
        ),
        rule(
            login,
            "account",
            "{ first_seen: { of: asn } }",
            "then: [{ lock_account: { reason: x, scope: all, until: 1h } }, { email_user: }]\n",
        ),
    ];
    let bad = [
        rule("{}", "account", each, ""),
        rule("{ time: 5 }", "account", each, ""),
        rule("{ type: 5 }", "account", each, ""),
        rule("{ type: login, ip: {} }", "account", each, ""),
        rule("{ type: login, ip: [] }", "account", each, ""),
        rule("{ type: login, ip: { in_list: [a] } }", "account", each, ""),
        rule("{ type: login, method: }", "account", each, ""),
        rule("{ type: login, country: de }", "account", each, ""),
        rule("{ type: login, outcome: requested_ }", "account", each, ""),
        rule("{ type: login, asn: AS1 }", "account", each, ""),
        rule(
            "{ type: login, reason: { exists: 1 } }",
            "account",
            each,
            "",
        ),
        rule(login, "[account, 5]", each, ""),
        rule(login, "user", each, ""),
        rule(
            login,
            "account",
            "{ count: { at_least: 65, within: 5m } }",
            "",
        ),
        rule(
            login,
            "account",
            "{ count: { at_least: 5, within: 31d } }",
            "",
        ),
        rule(
            login,
            "account",
            "{ count: { at_least: 5, within: 0s } }",
            "",
        ),
        rule(
            login,
            "account",
            "{ count: { at_least: 5, within: 43201m } }",
            "",
        ),
        rule(login, "account", "{ count: { at_least: 5 } }", ""),
        rule(login, "account", "{ count: }", ""),
        rule(
            login,
            "account",
            "{ distinct: { of: owners, at_least: 2, within: 5m } }",
            "",
        ),
        rule(
            login,
            "account",
            "{ first_seen: { of: country, learn: {} } }",
            "",
        ),
        rule(
            login,
            "account",
            "{ first_seen: { of: country, forget_after: 23h } }",
            "",
        ),
        rule(login, "account", each, "then: []\n"),
        rule(login, "account", each, "then: [lock_account]\n"),
        rule(
            login,
            "account",
            each,
            "then: [{ lock_account: { reason: '' } }]\n",
        ),
        rule(
            login,
            "account",
            each,
            "then: [{ lock_account: { reason: x, until: 0s } }]\n",
        ),
        rule(login, "account", each, "cooldown: 366d\n"),
        rule(login, "account", each, "cooldown:\n"),
        rule(login, "account", each, "tags: [a b]\n"),
        rule(login, "account", each, "note: x\n"),
    ];
    let validator = validator("rule");
    for (texts, wanted) in [(&good[..], true), (&bad[..], false)] {
        for text in texts {
            let file = SourceFile::new("r.rule.yaml", text.as_str());
            let mut found = Diagnostics::default();
            let set = RuleSet::load(std::slice::from_ref(&file), &lists(), &mut found);
            assert_eq!(set.is_some(), wanted, "the parser: {text}\n{found:#?}");
            let node = parse_yaml(&file, &mut Diagnostics::default()).expect("YAML");
            assert_eq!(
                validator.is_valid(&json_of(&node)),
                wanted,
                "the schema: {text}"
            );
        }
    }
}

#[test]
fn what_the_engine_writes_fits_its_schemas() {
    let (commands, decisions) = (validator("command"), validator("decision"));
    let mut story = Story::new();
    for n in 0..6 {
        story.failed_login(n * SECOND, "u", &format!("192.0.2.{n}"));
    }
    story.login(DAY, "v", NORWAY);
    story.login(2 * DAY, "v", BRAZIL);
    story.event(
        3 * DAY,
        json!({ "type": "recovery", "outcome": "requested", "account": "w", "email": "w@example.org" }),
    );
    let from = Provenance {
        topic: "auth.events".into(),
        rule_set: story.engine.rules().hash().into(),
        ..Provenance::default()
    };
    assert!(story.said.commands.len() >= 3 && story.said.decisions.len() >= 2);
    for command in &story.said.commands {
        let record = serde_json::to_value(CommandRecord::new(command, &from)).expect("JSON");
        assert_valid(&commands, &record);
    }
    for decision in &story.said.decisions {
        let mut record = serde_json::to_value(DecisionRecord::new(decision, &from)).expect("JSON");
        assert_valid(&decisions, &record);
        record["effect"] = json!("exploded");
        assert!(!decisions.is_valid(&record));
    }
}

#[test]
fn what_is_read_as_an_event_fits_its_schema() {
    use doorward::event::decode::{Decoder, Dropped};
    let schema = validator("event");
    let decoder = Decoder::default();
    let with = |field: &str, value: Value| {
        let mut event = json!({ "id": "e", "type": "password_reset", "time": 1, "account": "u" });
        event[field] = value;
        event
    };
    let cases = [
        (with("outcome", json!("requested")), true),
        (with("outcome", json!(null)), true),
        (with("type", json!("of_my_own")), true),
        (with("time", json!("2026-11-22T06:04:00+01:00")), true),
        (with("country", json!("no")), true),
        (with("asn", json!(64500)), true),
        (with("owners", json!(["a@example.org"])), true),
        (with("attributes", json!({ "risk": 3 })), true),
        (with("anything", json!([1, 2])), true),
        (with("id", json!("")), false),
        (with("id", json!(null)), false),
        (with("time", json!(-1)), false),
        (with("account", json!(5)), false),
        (with("type", json!("login")), false),
        (with("outcome", json!("exploded")), false),
        (with("country", json!("Norway")), false),
        (with("asn", json!("AS64500")), false),
        (with("owners", json!("a@example.org")), false),
        (with("repeat", json!("yes")), false),
    ];
    for (event, wanted) in cases {
        let bytes = serde_json::to_vec(&event).expect("JSON");
        let mut dropped = Dropped::new();
        let read = decoder.decode(&bytes, &mut dropped).is_ok() && dropped.is_empty();
        assert_eq!(read, wanted, "the decoder: {event}");
        assert_eq!(schema.is_valid(&event), wanted, "the schema: {event}");
    }
}

#[test]
fn every_field_of_the_table_is_read_by_the_decoder_and_by_rules() {
    use doorward::event::decode::{Decoder, Dropped};
    use doorward::event::fields::{FIELDS, Holds};
    for field in FIELDS
        .iter()
        .filter(|field| !["id", "time"].contains(&field.name))
    {
        let (value, test) = match field.holds {
            Holds::Type => (json!("login"), "login".to_owned()),
            Holds::Outcome => (json!("success"), "success".to_owned()),
            Holds::Address => (json!("192.0.2.7"), "192.0.2.7".to_owned()),
            Holds::Country => (json!("NO"), "NO".to_owned()),
            Holds::Flag => (json!(true), "true".to_owned()),
            Holds::Number => (json!(64500), "64500".to_owned()),
            Holds::Texts => (json!(["b@example.org", "word"]), "word".to_owned()),
            Holds::Text(_) | Holds::Time => (json!("word"), "word".to_owned()),
        };
        let mut event = json!({ "type": "login", "outcome": "success", "account": "word" });
        event[field.name] = value;
        let text = rule(
            &format!("{{ id: {{ exists: true }}, {}: {test} }}", field.name),
            "account",
            "each",
            "",
        );
        let mut story = Story::of_rule(&text.replace("shadow", "enforce"));
        assert!(
            story.event(0, event.clone()).acted(),
            "{}: {text}",
            field.name
        );
        event["id"] = json!("e");
        event["time"] = json!(1);
        let mut dropped = Dropped::new();
        let bytes = serde_json::to_vec(&event).expect("JSON");
        Decoder::default()
            .decode(&bytes, &mut dropped)
            .expect("an event");
        assert!(dropped.is_empty(), "{}: {dropped:?}", field.name);
    }
}

#[test]
fn the_documented_configuration_fits_its_schema_and_every_setting_is_explained() {
    let text = include_str!("../../doorward.toml");
    let root = parse_toml(
        &SourceFile::new("doorward.toml", text),
        &mut Diagnostics::default(),
    );
    let validator = validator("configuration");
    let mut read = json_of(&root.expect("TOML"));
    assert_valid(&validator, &read);
    read["engine"]["shards"] = json!(0);
    assert!(!validator.is_valid(&read));
    read["engine"]["shards"] = json!(1);
    read["engine"]["max_latenes"] = json!("5m");
    assert!(!validator.is_valid(&read));

    let schema = Schema::named("configuration").expect("it exists").value();
    for section in ["engine", "geoip", "log", "web"] {
        let settings = schema["properties"][section]["properties"]
            .as_object()
            .expect("settings");
        for (name, setting) in settings {
            assert!(
                setting["description"].is_string(),
                "{section}.{name} is not explained"
            );
        }
    }
}

#[test]
fn the_command_lists_writes_and_prints_them() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .arg("schema")
            .args(args)
            .output()
            .expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (status, names, _) = run(&[]);
    assert_eq!(status, Some(0));
    assert!(
        ALL.iter().all(|schema| names.contains(schema.name)),
        "{names}"
    );
    let (_, rule, _) = run(&["rule"]);
    assert_eq!(rule, Schema::named("rule").expect("it exists").text());
    let (status, _, said) = run(&["rul"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("did you mean `rule`?"), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/folder");
    assert_eq!(run(&["--write", path.to_str().expect("text")]).0, Some(0));
    assert_eq!(std::fs::read_dir(path).expect("made").count(), ALL.len());
}
