//! From the engine's values to records of the log.

use serde::Serialize;

use crate::engine::output::Outputs;
use crate::engine::{DueTimer, StateKey};
use crate::event::Timestamp;
use crate::event::decode::Rejected;
use crate::event::wire;
use crate::log::{InputRecord, OutputRecord, OutputTopic};
use crate::record::{CaseRecord, CommandRecord, DecisionRecord, MailRecord, Provenance};

/// Bytes of an unreadable message that the dead-letter topic keeps: with headers and
/// framing it stays below the 1 MiB that a broker takes by default.
pub const MAX_DEAD_LETTER: usize = 900_000;
/// Bytes of an unreadable message's key that are kept.
const MAX_DEAD_KEY: usize = 4_096;

/// Hands on the records for everything in `outputs` but changed state, each with the key of
/// the account's or address's record that caused it; commands first: a pipeline that reads
/// one partition sees a lock before anything else of its event.
pub fn records(
    outputs: &Outputs,
    from: &Provenance,
    mut push: impl FnMut(Option<StateKey>, OutputRecord),
) {
    let account = outputs.account;
    for command in &outputs.commands {
        let record = CommandRecord::new(command, from);
        push(
            account,
            keyed(OutputTopic::Commands, &command.account, &record),
        );
    }
    for (at, decision) in outputs.decisions.iter().enumerate() {
        let record = DecisionRecord::new(decision, from);
        push(
            outputs.cause_of_decision(at),
            keyed(OutputTopic::Decisions, &decision.account, &record),
        );
    }
    for case in &outputs.cases {
        let record = keyed(OutputTopic::Cases, &case.id.0, &CaseRecord::new(case));
        push(account, record);
    }
    for case in &outputs.dropped_cases {
        let tombstone = OutputRecord {
            topic: OutputTopic::Cases,
            key: case.0.as_bytes().to_vec(),
            payload: None,
            partition: None,
            headers: Vec::new(),
        };
        push(account, tombstone);
    }
    for mail in &outputs.mails {
        let record = keyed(OutputTopic::Mail, &mail.to, &MailRecord::new(mail));
        push(account, record);
    }
}

fn keyed(topic: OutputTopic, key: &str, record: &impl Serialize) -> OutputRecord {
    // Strings and numbers only: their JSON cannot fail.
    let payload = serde_json::to_vec(record).unwrap_or_default();
    OutputRecord {
        topic,
        key: key.as_bytes().to_vec(),
        payload: Some(payload),
        partition: None,
        headers: Vec::new(),
    }
}

/// The dead letter for a message that is no event.
pub fn dead_letter(record: &InputRecord<'_>, rejected: &Rejected, topic: &str) -> OutputRecord {
    let payload = record.payload.unwrap_or_default();
    let mut headers = vec![
        ("doorward.reason", rejected.to_string()),
        ("doorward.topic", topic.to_owned()),
        ("doorward.partition", record.partition.to_string()),
        ("doorward.offset", record.offset.to_string()),
    ];
    if payload.len() > MAX_DEAD_LETTER {
        headers.push(("doorward.truncated_from", payload.len().to_string()));
    }
    let key = record.key.unwrap_or_default();
    OutputRecord {
        topic: OutputTopic::DeadLetters,
        key: key[..key.len().min(MAX_DEAD_KEY)].to_vec(),
        payload: Some(payload[..payload.len().min(MAX_DEAD_LETTER)].to_vec()),
        partition: None,
        headers,
    }
}

/// The event that says that a timer is due, for the account's own partition.
pub fn timer(due: &DueTimer, partition: i32, now: Timestamp) -> OutputRecord {
    let payload = wire::timer_due(
        &due.id,
        &due.account,
        &due.case,
        due.kind,
        due.deadline,
        now,
    );
    OutputRecord {
        topic: OutputTopic::Events,
        key: due.account.as_bytes().to_vec(),
        payload: Some(payload),
        partition: Some(partition),
        headers: Vec::new(),
    }
}
