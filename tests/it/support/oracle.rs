//! What must have come of a log: a plain single pass over it, in order, by the same engine.
//!
//! No batches, no restores, no owners: one [`Partition`] for each input partition, from its
//! first record to its last. Whatever happened to shards, processes and brokers meanwhile,
//! readers must have seen these records, each exactly once. It knows neither Kafka nor the
//! simulation: both hand it what was read and what was seen.

use std::collections::BTreeMap;
use std::fmt;

use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition};
use doorward::event::Source;
use doorward::event::decode::{Decoder, Dropped};
use doorward::log::{InputRecord, OutputRecord, OutputTopic};
use doorward::record::Provenance;
use doorward::shard::output;
use serde_json::Value;

/// Complaints that a failing test prints; one mistake often has hundreds.
const SHOWN: usize = 20;

/// One committed record, as a reader of an output topic saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub topic: OutputTopic,
    /// Output partition and offset, where known.
    pub place: Option<(i32, i64)>,
    pub key: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

impl From<&OutputRecord> for Seen {
    fn from(record: &OutputRecord) -> Seen {
        let headers = record.headers.iter();
        Seen {
            topic: record.topic,
            place: None,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }
}

/// One record that must be seen, and the event that causes it.
#[derive(Clone, Debug)]
pub struct Expected {
    pub record: Seen,
    pub source: Source,
}

/// The single pass.
pub struct Oracle {
    engine: Engine,
    decoder: Decoder,
    provenance: Provenance,
    partitions: BTreeMap<i32, (Partition, i64)>,
    events: usize,
    outputs: Outputs,
    dropped: Dropped,
    expected: Vec<Expected>,
}

impl Oracle {
    /// `engine` and `provenance` as the shards have them.
    pub fn new(engine: Engine, provenance: Provenance) -> Oracle {
        Oracle {
            decoder: engine.rules().decoder(),
            engine,
            provenance,
            partitions: BTreeMap::new(),
            events: 0,
            outputs: Outputs::default(),
            dropped: Dropped::new(),
            expected: Vec::new(),
        }
    }

    /// Takes the next committed record of an input partition, doorward's own included.
    ///
    /// # Panics
    /// Where offsets of a partition do not rise: that is no log.
    pub fn read(&mut self, record: InputRecord<'_>) {
        let (partition, next) = self.partitions.entry(record.partition).or_default();
        assert!(
            record.offset >= *next,
            "partition {}: offset {} came after {}",
            record.partition,
            record.offset,
            *next - 1
        );
        *next = record.offset + 1;
        self.events += 1;
        let source = Source {
            partition: record.partition,
            offset: record.offset,
        };
        let expected = &mut self.expected;
        let mut expect = |record: OutputRecord| {
            expected.push(Expected {
                record: Seen::from(&record),
                source,
            });
        };
        let payload = record.payload.unwrap_or_default();
        match self.decoder.decode(payload, &mut self.dropped) {
            Ok(event) => {
                let outputs = &mut self.outputs;
                self.engine
                    .handle(partition, &event, source, record.broker_time, outputs);
                output::records(outputs, &self.provenance, |_, record| expect(record));
                outputs.clear();
            }
            Err(rejected) => expect(output::dead_letter(
                &record,
                &rejected,
                &self.provenance.topic,
            )),
        }
        self.dropped.clear();
    }

    /// The offset after the last record that was read of a partition.
    pub fn next_offset(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |(_, next)| *next)
    }

    /// Records read so far.
    pub fn events(&self) -> usize {
        self.events
    }

    /// What must be seen, in the order of reading.
    pub fn expected(&self) -> &[Expected] {
        &self.expected
    }

    /// How many records of `topic` must be seen.
    pub fn count(&self, topic: OutputTopic) -> usize {
        let records = self.expected.iter();
        records.filter(|one| one.record.topic == topic).count()
    }

    /// What is wrong with what was seen, a line each: records that are missing, that came
    /// twice, that nothing caused, that say something else, and commands of one account out
    /// of order. `seen` holds the records of each output partition in their order; state and
    /// doorward's own events are passed over.
    pub fn judge(&self, seen: &[Seen]) -> Vec<String> {
        let mut found: BTreeMap<Identity, Found<'_>> = BTreeMap::new();
        for expected in &self.expected {
            if let Some(identity) = Identity::of(&expected.record) {
                found.entry(identity).or_default().expected.push(expected);
            }
        }
        for record in seen {
            if let Some(identity) = Identity::of(record) {
                found.entry(identity).or_default().seen.push(record);
            }
        }
        let mut complaints: Vec<String> = found.values().filter_map(Found::complaint).collect();
        complaints.extend(out_of_order(seen));
        complaints
    }

    /// # Panics
    /// With what is wrong, where something is; `what` names the history.
    #[track_caller]
    pub fn assert_agrees(&self, what: &str, seen: &[Seen]) {
        let complaints = self.judge(seen);
        let shown: Vec<&str> = complaints.iter().take(SHOWN).map(String::as_str).collect();
        assert!(
            complaints.is_empty(),
            "{what}: after {} events the oracle has {} complaints:\n{}",
            self.events,
            complaints.len(),
            shown.join("\n")
        );
    }
}

/// What makes a record the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    topic: OutputTopic,
    id: Vec<u8>,
}

impl Identity {
    /// `None` for what is not compared.
    fn of(record: &Seen) -> Option<Identity> {
        let id = match record.topic {
            OutputTopic::State | OutputTopic::Events => return None,
            OutputTopic::Commands | OutputTopic::Decisions | OutputTopic::Mail => {
                let json = json(record);
                // Put back by the mailer, for later: not the engine's word.
                if !json["not_before"].is_null() {
                    return None;
                }
                json["id"].as_str().unwrap_or_default().as_bytes().to_vec()
            }
            // All states of one case, in their order.
            OutputTopic::Cases => record.key.clone(),
            OutputTopic::DeadLetters => {
                let of = |name| header(record, name);
                format!("{}:{}", of("doorward.partition"), of("doorward.offset")).into_bytes()
            }
        };
        Some(Identity {
            topic: record.topic,
            id,
        })
    }
}

/// What was expected and seen under one identity.
#[derive(Default)]
struct Found<'a> {
    expected: Vec<&'a Expected>,
    seen: Vec<&'a Seen>,
}

impl Found<'_> {
    fn complaint(&self) -> Option<String> {
        let record = match (self.expected.first(), self.seen.first()) {
            (Some(expected), _) => &expected.record,
            (None, Some(seen)) => seen,
            (None, None) => return None,
        };
        let what = Described(record);
        if self.expected.len() != self.seen.len() {
            let (expected, seen) = (times(self.expected.len()), times(self.seen.len()));
            return Some(format!(
                "{what} expected {expected}, seen {seen}{}{}",
                self.causes(),
                self.places()
            ));
        }
        for (expected, seen) in self.expected.iter().zip(&self.seen) {
            let Some(difference) = difference(&expected.record, seen) else {
                continue;
            };
            return Some(format!(
                "{what} says something else: {difference}{}{}",
                self.causes(),
                self.places()
            ));
        }
        None
    }

    fn causes(&self) -> String {
        let at = |expected: &&Expected| {
            let Source { partition, offset } = expected.source;
            format!("partition {partition} offset {offset}")
        };
        let all: Vec<String> = self.expected.iter().map(at).collect();
        match all.len() {
            0 => String::new(),
            1 => format!("; its event at {}", all[0]),
            _ => format!("; its events at {}", all.join(", ")),
        }
    }

    fn places(&self) -> String {
        let places = self.seen.iter().filter_map(|seen| seen.place);
        let all: Vec<String> = places.map(|(p, offset)| format!("{p}:{offset}")).collect();
        match all.len() {
            0 => String::new(),
            _ => format!("; seen at {}", all.join(", ")),
        }
    }
}

/// A record in the words of a complaint.
struct Described<'a>(&'a Seen);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = json(self.0);
        let text = |name: &str| json[name].as_str().unwrap_or("?").to_owned();
        let key = String::from_utf8_lossy(&self.0.key);
        match self.0.topic {
            OutputTopic::Commands => write!(
                f,
                "{} {} for account {}",
                text("command"),
                text("id"),
                text("account")
            ),
            OutputTopic::Decisions => write!(
                f,
                "decision {} ({} {}) for account {}",
                text("id"),
                text("rule"),
                text("effect"),
                text("account")
            ),
            OutputTopic::Mail => write!(f, "mail {} for account {}", text("id"), text("account")),
            OutputTopic::Cases => write!(f, "case {key} of account {}", text("account")),
            OutputTopic::DeadLetters => write!(
                f,
                "dead letter of partition {} offset {}",
                header(self.0, "doorward.partition"),
                header(self.0, "doorward.offset")
            ),
            OutputTopic::State | OutputTopic::Events => write!(f, "record {key}"),
        }
    }
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

fn header<'a>(record: &'a Seen, name: &str) -> &'a str {
    let found = record.headers.iter().find(|(key, _)| key == name);
    found.map_or("", |(_, value)| value)
}

fn json(record: &Seen) -> Value {
    let payload = record.payload.as_deref().unwrap_or_default();
    serde_json::from_slice(payload).unwrap_or_default()
}

/// How two records that should be the same differ.
fn difference(expected: &Seen, seen: &Seen) -> Option<String> {
    if expected.key != seen.key {
        let text = String::from_utf8_lossy;
        return Some(format!(
            "the key is {:?} and not {:?}",
            text(&seen.key),
            text(&expected.key)
        ));
    }
    if expected.headers != seen.headers {
        return Some(format!(
            "headers are {:?} and not {:?}",
            seen.headers, expected.headers
        ));
    }
    if expected.payload == seen.payload {
        return None;
    }
    let (right, wrong) = (json(expected), json(seen));
    let (Value::Object(right), Value::Object(wrong)) = (&right, &wrong) else {
        return Some("one of the two is empty, or no JSON".to_owned());
    };
    let names = right.keys().chain(wrong.keys());
    let mut fields: Vec<String> = names
        .filter(|name| right.get(*name) != wrong.get(*name))
        .map(|name| {
            let of = |map: &serde_json::Map<String, Value>| {
                map.get(name).map_or("absent".to_owned(), Value::to_string)
            };
            format!("{name} is {} and not {}", of(wrong), of(right))
        })
        .collect();
    fields.dedup();
    Some(if fields.is_empty() {
        "the same fields in other bytes".to_owned()
    } else {
        fields.join("; ")
    })
}

/// Commands whose `seq` is not above that of the same account's last one.
fn out_of_order(seen: &[Seen]) -> Vec<String> {
    let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
    let mut complaints = Vec::new();
    for record in seen.iter().filter(|r| r.topic == OutputTopic::Commands) {
        let Some(seq) = json(record)["seq"].as_i64() else {
            complaints.push(format!("{} has no seq", Described(record)));
            continue;
        };
        if let Some(before) = last.insert(&record.key, seq)
            && before >= seq
        {
            complaints.push(format!(
                "{} has seq {seq} after {before}",
                Described(record)
            ));
        }
    }
    complaints
}
