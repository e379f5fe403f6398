//! `doorward record` and `replay` of what it wrote: the same decisions as the live run's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{failed_login, failed_second_factor, now_ms};
use crate::support::doorward::Doorward;
use crate::support::kafka::{self, Cluster};
use crate::support::{PATIENCE, eventually};

fn time(ms: u128) -> String {
    let ms = i64::try_from(ms).unwrap();
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn record(site: &Doorward, from: u128, to: u128, output: &Path) -> Output {
    let (from, to) = (time(from), time(to));
    let output = output.to_str().unwrap();
    site.command(&["record", "--from", &from, "--to", &to, "--output", output])
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Decisions by where their events stand, without the name of the topic.
fn by_place(decisions: Vec<Value>) -> BTreeMap<(i64, i64, String), Value> {
    decisions
        .into_iter()
        .map(|mut decision| {
            decision["source"]["topic"] = Value::Null;
            let source = &decision["source"];
            let place = (
                source["partition"].as_i64().unwrap(),
                source["offset"].as_i64().unwrap(),
                decision["rule"].as_str().unwrap().to_owned(),
            );
            (place, decision)
        })
        .collect()
}

fn decided(cluster: &Cluster, site: &Doorward) -> Vec<Value> {
    let records = cluster.read_committed(&site.topic("decisions"));
    records.iter().map(kafka::Record::json).collect()
}

#[test]
fn a_recording_replays_to_the_decisions_of_the_live_run() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let mut site = Doorward::new(cluster, "shards = 2");
    site.create_topics(4);
    let topic = site.topic("events");
    site.start();
    site.wait_until_ready();
    let before = now_ms();
    let mut messages: Vec<(String, String)> = Vec::new();
    for n in 0..40 {
        let account = format!("victim-{n}");
        for one in 0..7 {
            let ip = format!("198.51.{n}.{one}");
            messages.push((
                account.clone(),
                failed_login(&format!("{account}-{one}"), &account, &ip),
            ));
            let id = format!("{account}-f{one}");
            messages.push((account.clone(), failed_second_factor(&id, &account)));
        }
    }
    // A message over several lines is one line of the recording.
    let spread = messages[0]
        .1
        .replace(',', ",\n  ")
        .replace("victim-0-0", "spread");
    messages.push(("victim-0".into(), spread));
    messages.push(("nobody".into(), "no { JSON".into()));
    cluster.produce(
        &topic,
        messages
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str())),
    );
    // Every account is hit by both rules, and each rule again after its window began anew.
    let live = eventually("the live decisions", PATIENCE, || {
        let decisions = decided(cluster, &site);
        (decisions.len() >= 80).then_some(decisions)
    });
    site.terminate();
    assert_eq!(live.len(), decided(cluster, &site).len());
    let live = by_place(live);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("week.ndjson.zst");
    let recorded = record(&site, before, now_ms() + 60_000, &file);
    assert!(recorded.status.success(), "{}", words(&recorded));
    let said = words(&recorded);
    assert!(
        said.contains(&format!("{} records of {topic}", messages.len() - 1)),
        "{said}"
    );
    assert!(
        said.contains("1 messages are no JSON objects and were left out; the first is partition "),
        "{said}"
    );
    let lines = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let lines: Vec<Value> = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let order = |line: &Value| {
        ["broker_time", "partition", "offset"].map(|field| line[field].as_i64().unwrap())
    };
    assert!(
        lines.is_sorted_by_key(order),
        "not in order of the broker's time"
    );

    let replayed = Command::new(env!("CARGO_BIN_EXE_doorward"))
        .args(["replay", "--partitions", "4", "--strict"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(replayed.status.success(), "{}", words(&replayed));
    let replayed = replayed
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let replayed = by_place(replayed);
    assert_eq!(replayed.len(), live.len());
    assert_eq!(replayed, live);
}

#[test]
fn a_recording_holds_the_stretch_that_was_asked_for_and_is_whole_or_not_there() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    site.create_topics(3);
    let topic = site.topic("events");
    let send = |id: &str| {
        let event = failed_second_factor(id, id);
        cluster.produce(&topic, [(id, event.as_str())]);
    };
    send("early");
    // The broker's clock has moved on by a millisecond at least.
    let began = eventually("another millisecond", PATIENCE, || {
        let records = cluster.read_committed(&topic);
        let newest = records.iter().map(|record| record.timestamp_ms).max()?;
        let now = now_ms();
        (now > u128::try_from(newest).ok()? + 1).then_some(now)
    });
    send("within");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stretch.ndjson");
    let recorded = record(&site, began, now_ms() + 60_000, &file);
    assert!(recorded.status.success(), "{}", words(&recorded));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\"id\":\"within\""), "{text}");
    assert!(!folder.path().join("stretch.ndjson.partial").exists());

    // A stretch of which there is nothing is an empty file.
    let none = folder.path().join("none.ndjson");
    let recorded = record(&site, 1_000, 2_000, &none);
    assert!(recorded.status.success(), "{}", words(&recorded));
    assert_eq!(std::fs::read_to_string(&none).unwrap(), "");

    let reversed = record(&site, 2_000, 1_000, &none);
    assert_eq!(reversed.status.code(), Some(2));
    assert!(words(&reversed).contains("--from is not before --to"));
    let nowhere = record(&site, 1_000, 2_000, &folder.path().join("no/where.ndjson"));
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(
        words(&nowhere).contains("cannot create "),
        "{}",
        words(&nowhere)
    );
}

#[test]
fn a_topic_that_is_not_there_and_a_cluster_that_does_not_answer_are_told_apart() {
    let Some(cluster) = kafka::shared() else {
        return;
    };
    let site = Doorward::new(cluster, "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("none.ndjson");
    let missing = record(&site, 1_000, 2_000, &file);
    assert_eq!(missing.status.code(), Some(2), "{}", words(&missing));
    assert!(
        words(&missing).contains("does not exist"),
        "{}",
        words(&missing)
    );
    site.set("brokers", "127.0.0.1:9");
    let away = record(&site, 1_000, 2_000, &file);
    assert_eq!(away.status.code(), Some(3), "{}", words(&away));
}
