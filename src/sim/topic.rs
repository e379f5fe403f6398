//! One partition's log, as its leader holds it.
//!
//! Records of transactions stand in it before anybody knows what becomes of them; a marker,
//! which takes an offset like a record, says so later. A reader of committed records sees
//! nothing at or after the first record that is undecided (the last stable offset), however
//! many committed ones stand behind it.

use std::collections::BTreeMap;

use rdkafka::error::RDKafkaErrorCode;

use crate::event::Timestamp;
use crate::log::OutputTopic;

/// The topics of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Events,
    Commands,
    Decisions,
    Cases,
    Mail,
    Receipts,
    State,
    DeadLetters,
}

impl Topic {
    pub const ALL: [Topic; 8] = [
        Topic::Events,
        Topic::Commands,
        Topic::Decisions,
        Topic::Cases,
        Topic::Mail,
        Topic::Receipts,
        Topic::State,
        Topic::DeadLetters,
    ];
}

impl From<OutputTopic> for Topic {
    fn from(topic: OutputTopic) -> Topic {
        match topic {
            OutputTopic::Commands => Topic::Commands,
            OutputTopic::Decisions => Topic::Decisions,
            OutputTopic::Cases => Topic::Cases,
            OutputTopic::Mail => Topic::Mail,
            OutputTopic::State => Topic::State,
            OutputTopic::DeadLetters => Topic::DeadLetters,
            OutputTopic::Events => Topic::Events,
        }
    }
}

/// One partition of one topic.
pub type Place = (Topic, i32);

/// A producer as the brokers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId {
    pub id: i64,
    /// Rises whenever the transactional id is registered anew: older ones are fenced.
    pub epoch: i16,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open(i64),
    Committed,
    Aborted,
}

/// One record as it was produced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
enum Entry {
    Record {
        time: Timestamp,
        message: Message,
        fate: Fate,
    },
    Marker,
}

/// Which records a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, up to the first that is undecided.
    Committed,
    /// All, whatever becomes of them.
    Uncommitted,
}

/// A record that a reader may see.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a> {
    pub offset: i64,
    pub time: Timestamp,
    pub message: &'a Message,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionLog {
    entries: Vec<Entry>,
    /// Of each producer with an open transaction here: its first record's offset.
    open: BTreeMap<i64, usize>,
    /// The newest epoch that each producer has shown.
    epochs: BTreeMap<i64, i16>,
}

impl PartitionLog {
    /// Appends a record; with a `producer`, as part of its open transaction.
    ///
    /// # Errors
    /// Where a newer producer of the same id has written here.
    pub fn append(
        &mut self,
        message: Message,
        time: Timestamp,
        producer: Option<ProducerId>,
    ) -> Result<i64, RDKafkaErrorCode> {
        let at = self.entries.len();
        let mut fate = Fate::Committed;
        if let Some(producer) = producer {
            self.show_epoch(producer)?;
            self.open.entry(producer.id).or_insert(at);
            fate = Fate::Open(producer.id);
        }
        self.entries.push(Entry::Record {
            time,
            message,
            fate,
        });
        Ok(offset(at))
    }

    /// The marker that ends the producer's transaction here.
    pub fn end(&mut self, producer: ProducerId, commit: bool) {
        if self.show_epoch(producer).is_err() {
            return;
        }
        let fate_now = if commit {
            Fate::Committed
        } else {
            Fate::Aborted
        };
        if let Some(first) = self.open.remove(&producer.id) {
            for entry in &mut self.entries[first..] {
                if let Entry::Record { fate, .. } = entry
                    && *fate == Fate::Open(producer.id)
                {
                    *fate = fate_now;
                }
            }
        }
        self.entries.push(Entry::Marker);
    }

    fn show_epoch(&mut self, producer: ProducerId) -> Result<(), RDKafkaErrorCode> {
        let newest = self.epochs.entry(producer.id).or_insert(producer.epoch);
        if producer.epoch < *newest {
            return Err(RDKafkaErrorCode::InvalidProducerEpoch);
        }
        *newest = producer.epoch;
        Ok(())
    }

    /// The offset after the newest record, decided or not.
    pub fn high_watermark(&self) -> i64 {
        offset(self.entries.len())
    }

    /// The offset of the first record that is undecided.
    pub fn last_stable_offset(&self) -> i64 {
        let first = self.open.values().min().copied();
        offset(first.unwrap_or(self.entries.len()))
    }

    /// Records from `from` on that a reader may see.
    pub fn read(&self, from: i64, isolation: Isolation) -> impl Iterator<Item = Visible<'_>> {
        let end = match isolation {
            Isolation::Committed => index(self.last_stable_offset()),
            Isolation::Uncommitted => self.entries.len(),
        };
        let begin = index(from).min(end);
        let entries = self.entries[begin..end].iter().enumerate();
        entries.filter_map(move |(at, entry)| match entry {
            Entry::Record {
                time,
                message,
                fate,
            } if *fate == Fate::Committed || isolation == Isolation::Uncommitted => Some(Visible {
                offset: offset(begin + at),
                time: *time,
                message,
            }),
            _ => None,
        })
    }

    /// Committed records from `from` on.
    pub fn committed(&self, from: i64) -> impl Iterator<Item = Visible<'_>> {
        self.read(from, Isolation::Committed)
    }
}

fn offset(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}
