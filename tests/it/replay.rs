//! `replay` on recorded sign-ins from public data sets, checked by other means.

mod against;
mod hostile;
mod page;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::story;

/// The records of a data set as events: id = seq, type = login, an empty account left out.
pub fn events(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new("tests/data/auth").join(file)).unwrap();
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let mut event = json!({
                "id": record["seq"].to_string(), "type": "login", "time": record["ts"],
                "ip": record["ip"], "outcome": record["outcome"],
            });
            if record["account"] != "" {
                event["account"] = record["account"].clone();
            }
            event
        })
        .collect()
}

pub fn ndjson(events: &[Value]) -> Vec<u8> {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    (lines.join("\n") + "\n").into_bytes()
}

pub fn doorward(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A child that refuses its arguments reads nothing.
        let _ = pipe.write_all(&bytes);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub fn decisions(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn accounts(decisions: &[Value], rule: &str, effect: &str) -> BTreeSet<String> {
    decisions
        .iter()
        .filter(|d| d["rule"] == rule && d["effect"] == effect)
        .map(|d| d["account"].as_str().unwrap().to_owned())
        .collect()
}

/// What `first-seen-country` must say, by a loop over accounts: nobody answers, so every
/// sign-in from another country than the account's first is a hit, and the first of them
/// acts.
fn new_countries(events: &[Value]) -> BTreeMap<String, usize> {
    let facts = story::facts();
    let mut home: BTreeMap<String, String> = BTreeMap::new();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event["outcome"] == "success") {
        let (Some(account), Some(ip)) = (event["account"].as_str(), event["ip"].as_str()) else {
            continue;
        };
        let Some(country) = facts.country(ip.parse().unwrap()).country() else {
            continue;
        };
        let first = home
            .entry(account.to_owned())
            .or_insert_with(|| country.to_string());
        if *first != country.to_string() {
            *hits.entry(account.to_owned()).or_default() += 1;
        }
    }
    hits
}

#[test]
fn the_elastic_sample_holds_no_attack_from_many_addresses() {
    let events = events("elastic.ndjson");
    assert_eq!(events.len(), 1_268);
    let said = decisions(&doorward(
        &["replay", "--output", "ndjson", "-"],
        &ndjson(&events),
    ));
    assert!(accounts(&said, "failed-logins-many-ips", "acted").is_empty());
    // Ten accounts sign in from Portugal and the United States in turn.
    let expected = new_countries(&events);
    let acted = accounts(&said, "first-seen-country", "acted");
    assert_eq!(acted, expected.keys().cloned().collect());
    assert_eq!(acted.len(), 10);
    let hits: usize = expected.values().sum();
    assert_eq!(hits, 63);
    // The rest is what rules in shadow note down: two accounts that fail often.
    let shadow = said.iter().filter(|d| d["effect"] == "shadow").count();
    assert_eq!(said.len(), hits + shadow);
    let many = accounts(&said, "failed-logins-many", "shadow");
    let spraying = accounts(&said, "password-spraying", "shadow");
    assert_eq!((many.len(), spraying.len(), shadow), (2, 0, 14));
}

#[test]
fn the_rba_sample_holds_exactly_one() {
    let events = events("rba.ndjson");
    assert_eq!(events.len(), 19);
    let said = decisions(&doorward(
        &["replay", "--output", "ndjson", "-"],
        &ndjson(&events),
    ));
    let locked = accounts(&said, "failed-logins-many-ips", "acted");
    assert_eq!(locked, BTreeSet::from(["-4324475583306591935".to_owned()]));
    assert!(new_countries(&events).is_empty());
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["value"], 5);
    assert_eq!(said[0]["event"], "13");
    assert_eq!(said[0]["schema"], 1);
    assert!(said[0]["rule_set"].as_str().unwrap().starts_with("sha256:"));
    assert!(
        said[0]["lists"]["malicious_ips"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}

#[test]
fn a_terminal_gets_a_table_and_a_summary() {
    let events = ndjson(&events("rba.ndjson"));
    let output = doorward(&["replay", "--output", "table", "-"], &events);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NO 46.212.51.170"), "{text}");
    assert!(
        text.contains("failed-logins-many-ips: 1 acted; 1 account locked"),
        "{text}"
    );
    assert!(
        text.contains("19 events from 2020-02-03T12:43:30.772Z"),
        "{text}"
    );
}

#[test]
fn compressed_files_and_several_files_are_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let events = events("rba.ndjson");
    let (first, second) = events.split_at(10);
    let gz = folder.path().join("a.ndjson.gz");
    let mut packer = flate2::write::GzEncoder::new(
        std::fs::File::create(&gz).unwrap(),
        flate2::Compression::fast(),
    );
    packer.write_all(&ndjson(first)).unwrap();
    packer.finish().unwrap();
    let zst = folder.path().join("b.ndjson.zst");
    std::fs::write(&zst, zstd::encode_all(&*ndjson(second), 1).unwrap()).unwrap();
    let output = doorward(
        &["replay", gz.to_str().unwrap(), zst.to_str().unwrap()],
        b"",
    );
    assert_eq!(decisions(&output).len(), 1);
}

#[test]
fn envelopes_bring_their_own_clock() {
    let event = |id: u32| {
        json!({ "id": id.to_string(), "type": "password_reset", "outcome": "requested",
                "time": story::START, "account": "u", "ip": story::MALICIOUS })
    };
    let envelope = |id: u32, late: i64| {
        json!({ "broker_time": story::START + late, "partition": 3, "offset": 70 + id,
                "event": event(id) })
    };
    let lines = ndjson(&[envelope(1, 2 * story::DAY), envelope(2, 0)]);
    let said = decisions(&doorward(&["replay", "-"], &lines));
    assert_eq!(said[0]["effect"], "stale");
    assert_eq!(said[1]["effect"], "acted");
    assert_eq!(said[1]["source"]["partition"], 3);
    assert_eq!(said[1]["source"]["offset"], 72);
}

#[test]
fn lines_that_are_no_events_are_counted_and_shown() {
    let mut lines = ndjson(&events("rba.ndjson"));
    lines.extend_from_slice(b"half a {\n\n{\"id\":\"x\"}\n");
    let output = doorward(&["replay", "-"], &lines);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0));
    assert!(words.contains("2 lines are no events:"), "{words}");
    assert!(
        words.contains("-:20: the message is not a JSON object"),
        "{words}"
    );
    assert!(words.contains("-:22: `type` is missing"), "{words}");
    let strict = doorward(&["replay", "--strict", "-"], &lines);
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn a_database_or_file_that_cannot_be_read_is_named() {
    let fails = |args: &[&str]| {
        let output = doorward(args, b"");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let words = fails(&["replay", "--geoip", "tests/data/auth/rba.ndjson", "-"]);
    assert!(words.contains("tests/data/auth/rba.ndjson"), "{words}");
    let words = fails(&["replay", "no-such-file.ndjson"]);
    assert!(
        words.contains("cannot open no-such-file.ndjson: "),
        "{words}"
    );
    let words = fails(&["replay", "--rules", "no-such-folder", "-"]);
    assert!(words.contains("no-such-folder"), "{words}");
}
