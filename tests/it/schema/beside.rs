//! The schemas of what stands beside the rules: `lists.yaml`, `exceptions.yaml` and tests.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{Schema, assert_valid, json_of, parse_yaml, validator};
use doorward::document::{Diagnostics, SourceFile};

#[test]
fn every_shipped_list_exception_and_test_names_its_schema_and_fits_it() {
    let mut seen = 0;
    for name in doorward::builtin::rules_file_names() {
        let schema = match name {
            "lists.yaml" => "lists",
            "exceptions.yaml" => "exceptions",
            test if test.ends_with(".test.yaml") => "test",
            _ => continue,
        };
        let text = doorward::builtin::rules_file(name).expect("it is there");
        let first = format!("# yaml-language-server: $schema=schema/{schema}.schema.json\n");
        assert!(
            text.starts_with(&first),
            "{name} does not begin with {first}"
        );
        let file = SourceFile::new(name, text);
        let node = parse_yaml(&file, &mut Diagnostics::default()).expect("YAML");
        assert_valid(&validator(schema), &json_of(&node));
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_field_of_them_is_explained() {
    fn look(schema: &Value, path: &str, seen: &mut usize) {
        if let Some(fields) = schema["properties"].as_object() {
            for (name, field) in fields {
                let about = field["description"].as_str().unwrap_or_default();
                assert!(about.len() > 10, "{path}.{name} is not explained");
                *seen += 1;
            }
        }
        let inner: Vec<(String, &Value)> = match schema {
            Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(items) => items.iter().map(|v| (String::new(), v)).collect(),
            _ => Vec::new(),
        };
        for (name, value) in inner {
            look(value, &format!("{path}.{name}"), seen);
        }
    }
    for name in ["lists", "exceptions", "test"] {
        let mut seen = 0;
        look(
            &Schema::named(name).expect("it exists").value(),
            name,
            &mut seen,
        );
        assert!(seen > 8, "{name}: {seen}");
    }
}

const LISTS: &str = "schema: 1\nFAR: 1\nlists:\n  bad: { file: x.txt, FAR: 1, format: FAR }\n";
const EXCEPTIONS: &str = "schema: 1\nFAR: 1\nexceptions:\n  - { FAR: 1, effect: FAR }\n";
const TESTS: &str = "schema: 1
rule: r
FAR: 1
tests:
  - name: One
    FAR: 1
    events:
      - { answer: FAR, by: FAR, FAR: 1 }
      - { operator: FAR, FAR: 1 }
      - { wait: 1h, account_is: FAR, FAR: 1 }
";

/// What `doorward check` offers at each line for a name that is far from every other.
fn offered() -> Vec<(String, u64, String, BTreeSet<String>)> {
    let far = "q".repeat(40);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("r.rule.yaml", "schema: 1\n"),
        ("lists.yaml", LISTS),
        ("exceptions.yaml", EXCEPTIONS),
        ("r.test.yaml", TESTS),
    ] {
        std::fs::write(folder.path().join(name), text.replace("FAR", &far)).expect("written");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["check", "--rules", ".", "--output", "json"])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mistakes = said["mistakes"].as_array().expect("mistakes");
    let about_far = mistakes
        .iter()
        .filter(|mistake| mistake["message"].as_str().unwrap_or("").contains(&far));
    about_far
        .map(|mistake| {
            let text = |name: &str| mistake[name].as_str().unwrap_or_default().to_owned();
            let words = text("help")
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
            let line = mistake["line"].as_u64().unwrap_or(0);
            let file = text("file").trim_start_matches("./").to_owned();
            (file, line, text("message"), words)
        })
        .collect()
}

#[test]
fn their_readers_and_their_schemas_know_the_same_fields_and_words() {
    let offered = offered();
    let of = |file: &str, line: u64, message: &str| -> BTreeSet<String> {
        let found = offered
            .iter()
            .find(|(of, at, said, _)| of.ends_with(file) && *at == line && said.contains(message));
        let (.., words) = found.unwrap_or_else(|| panic!("{file}:{line} {message}: {offered:#?}"));
        words.clone()
    };
    let schema = |name: &str| Schema::named(name).expect("it exists").value();
    let fields = |schema: &Value| -> BTreeSet<String> {
        let properties = schema["properties"].as_object();
        properties.expect("fields").keys().cloned().collect()
    };
    let words = |schema: &Value| -> BTreeSet<String> {
        let words = schema["oneOf"].as_array().expect("words").iter();
        words
            .map(|word| word["const"].as_str().expect("a word").to_owned())
            .collect()
    };

    let lists = schema("lists");
    let list = &lists["$defs"]["lists"]["additionalProperties"];
    assert_eq!(of("lists.yaml", 2, "no field"), fields(&lists));
    assert_eq!(of("lists.yaml", 4, "no field"), fields(list));
    let formats = words(&list["properties"]["format"]);
    assert_eq!(of("lists.yaml", 4, "`format` cannot"), formats);

    let exceptions = schema("exceptions");
    let one = &exceptions["$defs"]["exceptions"]["items"];
    assert_eq!(of("exceptions.yaml", 2, "no field"), fields(&exceptions));
    assert_eq!(of("exceptions.yaml", 4, "no field"), fields(one));
    let effects = words(&one["properties"]["effect"]);
    assert_eq!(of("exceptions.yaml", 4, "`effect` cannot"), effects);

    let file = schema("test");
    let test = &file["properties"]["tests"]["items"];
    let step = &file["$defs"]["step"];
    assert_eq!(of("r.test.yaml", 3, "no field"), fields(&file));
    assert_eq!(of("r.test.yaml", 6, "no field"), fields(test));
    for (line, name) in [
        (8, "answer"),
        (8, "by"),
        (9, "operator"),
        (10, "account_is"),
    ] {
        let known = words(&step["properties"][name]);
        let message = format!("`{name}` cannot");
        assert_eq!(of("r.test.yaml", line, &message), known, "{name}");
    }
    // What stands in the place of an event takes fewer fields than an event does. That the
    // reader looks for the other kinds first is no offer.
    let kinds = ["answer", "operator", "wait"];
    for (line, kind, at) in [(8, "answer", 0), (9, "operator", 1), (10, "wait", 2)] {
        let condition = &step["allOf"][at];
        assert_eq!(condition["if"], json!({ "required": [kind] }));
        let allowed = condition["then"]["propertyNames"]["enum"].as_array();
        let allowed: BTreeSet<String> = allowed
            .expect("names")
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect();
        let mut asked = of("r.test.yaml", line, "no field");
        asked.retain(|name| name == kind || !kinds.contains(&name.as_str()));
        assert_eq!(asked, allowed, "{kind}");
        assert!(allowed.is_subset(&fields(step)));
    }
}

#[test]
fn what_their_schemas_refuse_is_refused_by_their_readers_too() {
    let cases = [
        ("lists", "schema: 1\nlists: { Bad: { file: x } }"),
        ("lists", "schema: 1\nlists: { a: {} }"),
        ("lists", "schema: 1\nlists: { a: { file: x, files: [y] } }"),
        (
            "lists",
            "schema: 1\nlists: { a: { file: x, max_shrink: 101% } }",
        ),
        (
            "lists",
            "schema: 1\nlists: { a: { file: x, column: [a, b, c] } }",
        ),
        (
            "lists",
            "schema: 1\nlists: { a: { file: x, allow: [all] } }",
        ),
        ("lists", "schema: 1\nown_networks: 10.0.0.0/8\nlists: {}"),
        ("exceptions", "schema: 1\nexceptions: {}"),
        (
            "exceptions",
            "schema: 1\nexceptions: [{ id: a, reason: ' ', owner: b, expires: 2999-01-01, effect: shadow, when: { account: u } }]",
        ),
        (
            "exceptions",
            "schema: 1\nexceptions: [{ id: a, reason: b, owner: b, expires: never, effect: shadow, when: { account: u } }]",
        ),
        (
            "exceptions",
            "schema: 1\nexceptions: [{ id: a, reason: b, owner: b, expires: 2999-01-01, effect: shadow, when: { account: u }, rules: [] }]",
        ),
        (
            "test",
            "schema: 1\ntests: [{ name: a, events: [{ type: login }] }]",
        ),
        ("test", "schema: 1\nrule: r\ntests: []"),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, at: soon }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, outcome: lost }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, asn: AS5 }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, times: 1001, every: 1s }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, commands: [lock_acount] }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ type: login, mails: [nobody] }] }]",
        ),
        (
            "test",
            "schema: 1\nrule: r\ntests: [{ name: a, events: [{ wait: 1h, ip: another }] }]",
        ),
    ];
    let rule = doorward::builtin::rules_file("failed-logins-many-ips.rule.yaml")
        .expect("it is there")
        .replace("id: failed-logins-many-ips", "id: r");
    for (schema, text) in cases {
        let file = SourceFile::new("x.yaml", text);
        let node = parse_yaml(&file, &mut Diagnostics::default()).expect("YAML");
        let is_valid = validator(schema).is_valid(&json_of(&node));
        assert!(!is_valid, "the schema takes {text}");

        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("r.rule.yaml", &rule);
        write("x", "192.0.2.1\n");
        let name = match schema {
            "test" => "r.test.yaml".to_owned(),
            other => format!("{other}.yaml"),
        };
        write(&name, text);
        let output = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .args(["check", "--rules", "."])
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}\n{said}");
        assert!(said.contains(&name), "{text}\n{said}");
    }
}
