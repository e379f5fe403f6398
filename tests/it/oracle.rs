//! The judge of the other tests is judged: it finds what is lost, doubled, invented, changed
//! or out of order, and says which event it belongs to.

use std::sync::Arc;

use doorward::engine::Engine;
use doorward::event::Timestamp;
use doorward::log::{InputRecord, OutputTopic};
use doorward::record::Provenance;
use serde_json::{Value, json};

use crate::support::oracle::{Oracle, Seen};
use crate::support::story;

/// Two accounts under attack, a message that is no event, and one account that is unlocked
/// and attacked again.
fn history() -> Oracle {
    let engine = Engine::new(
        Arc::new(story::shipped()),
        story::facts(),
        story::settings(),
    );
    let mut log = Log {
        oracle: Oracle::new(engine, Provenance::default()),
        offset: 0,
        second: 0,
    };
    for (partition, account) in [(0, "ada"), (1, "bo")] {
        for _ in 0..5 {
            log.event(partition, account, "two_factor");
        }
    }
    log.append(1, "cy", "no event");
    log.event(0, "ada", "account_unlocked");
    // Past the cool-down.
    log.second += 3_600;
    for _ in 0..5 {
        log.event(0, "ada", "two_factor");
    }
    log.oracle
}

struct Log {
    oracle: Oracle,
    offset: i64,
    second: i64,
}

impl Log {
    fn event(&mut self, partition: i32, account: &str, kind: &str) {
        let event = json!({
            "id": format!("e{}", self.offset), "type": kind, "outcome": "failure",
            "account": account, "time": story::START + self.second * story::SECOND,
            "email": "who@example.com",
        });
        self.append(partition, account, &event.to_string());
    }

    fn append(&mut self, partition: i32, account: &str, payload: &str) {
        self.oracle.read(InputRecord {
            partition,
            offset: self.offset,
            broker_time: Timestamp(story::START + self.second * story::SECOND),
            key: Some(account.as_bytes()),
            payload: Some(payload.as_bytes()),
        });
        self.offset += 1;
        self.second += 1;
    }
}

fn as_expected(oracle: &Oracle) -> Vec<Seen> {
    let expected = oracle.expected().iter();
    expected.map(|one| one.record.clone()).collect()
}

/// Where the `nth` record of `topic` stands.
fn position(seen: &[Seen], topic: OutputTopic, nth: usize) -> usize {
    let mut of_topic = (0..seen.len()).filter(|at| seen[*at].topic == topic);
    of_topic.nth(nth).expect("so many records")
}

#[test]
fn what_is_as_expected_is_not_complained_about() {
    let oracle = history();
    let seen = as_expected(&oracle);
    assert_eq!(oracle.judge(&seen), [""; 0]);
    assert!(oracle.count(OutputTopic::Commands) >= 2);
    assert_eq!(oracle.count(OutputTopic::DeadLetters), 1);
}

#[test]
fn a_lost_record_and_a_doubled_one_are_named_with_their_event() {
    let oracle = history();
    for (topic, word) in [
        (OutputTopic::Commands, "lock_account c-"),
        (OutputTopic::Decisions, "decision d-"),
        (OutputTopic::Cases, "case k-"),
        (OutputTopic::Mail, "mail m-"),
        (OutputTopic::DeadLetters, "dead letter"),
    ] {
        let all = as_expected(&oracle);
        let at = position(&all, topic, 0);
        let source = oracle.expected()[at].source;

        let mut lost = all.clone();
        lost.remove(at);
        let complaints = oracle.judge(&lost);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with(word), "{complaints:?}");
        let event = format!("partition {} offset {}", source.partition, source.offset);
        assert!(complaints[0].contains(&event), "{complaints:?}");

        let mut doubled = all.clone();
        doubled.push(all[at].clone());
        let complaints = oracle.judge(&doubled);
        assert!(complaints[0].starts_with(word), "{complaints:?}");
        // One more than were expected, and ada's case has two states.
        let times = if topic == OutputTopic::Cases { 3 } else { 2 };
        let times = format!("seen {times} times");
        assert!(complaints[0].contains(&times), "{complaints:?}");
    }
}

#[test]
fn an_invented_record_and_a_changed_one_are_noticed() {
    let oracle = history();
    let mut seen = as_expected(&oracle);
    let at = position(&seen, OutputTopic::Commands, 0);
    let change = |record: &mut Seen, field: &str, value: Value| {
        let payload = record.payload.as_deref().expect("a payload");
        let mut json: Value = serde_json::from_slice(payload).expect("JSON");
        json[field] = value;
        record.payload = Some(json.to_string().into_bytes());
    };
    let mut invented = seen[at].clone();
    change(&mut invented, "id", json!("c-of-nothing"));
    change(&mut invented, "seq", json!(1_000_000));
    seen.push(invented);
    let complaints = oracle.judge(&seen);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("expected 0 times, seen once"));

    seen.pop();
    change(&mut seen[at], "reason", json!("boredom"));
    let complaints = oracle.judge(&seen);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains(r#"reason is "boredom" and not"#));
}

#[test]
fn commands_of_one_account_out_of_order_are_noticed() {
    let oracle = history();
    let mut seen = as_expected(&oracle);
    let commands: Vec<usize> = (0..seen.len())
        .filter(|at| seen[*at].topic == OutputTopic::Commands && seen[*at].key == b"ada")
        .collect();
    assert!(commands.len() >= 2, "{commands:?}");
    seen.swap(commands[0], commands[1]);
    let complaints = oracle.judge(&seen);
    assert!(
        complaints.iter().any(|c| c.contains(" after ")),
        "{complaints:?}"
    );
}
