//! Reads a stretch of a topic, all partitions merged by the broker's time.
//!
//! One consumer reads every partition. What it brings waits, by partition, until each
//! partition has something or has ended; the oldest goes first. A partition that runs ahead
//! of the others is paused, so that memory stays bounded however uneven they are.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, Timestamp as KafkaTime, TopicPartitionList};

use crate::cli::Status;
use crate::config;
use crate::event::Timestamp;
use crate::kafka::settings::{self, Quiet};
use crate::kafka::{classify, request_failed};
use crate::log::LogError;

/// How long one question to a broker may take, and how long nothing may arrive.
const ASK: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one partition that wait for the others before it is paused; it goes on at half.
const AHEAD: usize = 4 * 1024 * 1024;

/// One record of the stretch.
pub struct Recording<'r> {
    pub broker_time: Timestamp,
    /// Whether the broker set that time, rather than the producer.
    pub is_append_time: bool,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'r [u8]>,
    pub payload: Option<&'r [u8]>,
}

/// What is to be said of the stretch as a whole.
#[derive(Debug, Default)]
pub struct Told {
    /// Records without a time, which were passed over.
    pub no_time: u64,
    /// Records whose time is their producer's.
    pub own_times: u64,
    /// Partitions that an open transaction cuts short, and where.
    pub held_back: Vec<(i32, i64)>,
}

/// A stretch of a topic, not read yet.
pub struct Stretch {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    from: Timestamp,
    to: Timestamp,
    parts: BTreeMap<i32, Part>,
    told: Told,
}

/// One partition of it.
struct Part {
    start: i64,
    /// Offset of the first record that is not part of it.
    end: i64,
    ended: bool,
    paused: bool,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A record that waits for those of other partitions.
struct Waiting {
    time: Timestamp,
    is_append_time: bool,
    offset: i64,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        length(&self.key) + length(&self.payload)
    }
}

impl Stretch {
    /// Finds where the stretch begins and ends in each partition.
    ///
    /// # Errors
    /// Where the cluster does not answer or there is no such topic.
    pub fn open(
        kafka: &config::Kafka,
        topic: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> anyhow::Result<Stretch> {
        let refused = |error: KafkaError| LogError::Fatal(format!("the Kafka settings: {error}"));
        let consumer: BaseConsumer<Quiet> = settings::recording(kafka)
            .create_with_context(Quiet)
            .map_err(refused)?;
        let asked = format!("asking about {topic}");
        let metadata = consumer
            .fetch_metadata(Some(topic), ASK)
            .map_err(|error| request_failed(&asked, &error))?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|found| found.name() == topic)
            .flat_map(|found| found.partitions().iter().map(|partition| partition.id()))
            .collect();
        if partitions.is_empty() {
            return Err(Status::Usage.error(anyhow!(
                "the topic {topic} does not exist; `doorward topics create` makes it"
            )));
        }
        let starts = offsets_at(&consumer, topic, &partitions, from)?;
        let ends = offsets_at(&consumer, topic, &partitions, to)?;
        let all = settings::inquiry(kafka)
            .create_with_context::<_, BaseConsumer<Quiet>>(Quiet)
            .map_err(refused)?;
        let mut parts = BTreeMap::new();
        let mut told = Told::default();
        for partition in partitions {
            let bounds = |consumer: &BaseConsumer<Quiet>| {
                let bounds = consumer.fetch_watermarks(topic, partition, ASK);
                bounds.map_err(|error| request_failed(&asked, &error))
            };
            // What is committed ends before an open transaction.
            let (low, stable) = bounds(&consumer)?;
            let (_, high) = bounds(&all)?;
            let wanted = ends.get(&partition).copied().flatten().unwrap_or(high);
            let end = wanted.min(stable);
            if end < wanted {
                told.held_back.push((partition, end));
            }
            // No record that late: nothing to read.
            let start = starts.get(&partition).copied().flatten().unwrap_or(end);
            let start = start.max(low);
            parts.insert(
                partition,
                Part {
                    start,
                    end,
                    ended: start >= end,
                    paused: false,
                    waiting: VecDeque::new(),
                    bytes: 0,
                },
            );
        }
        Ok(Stretch {
            consumer,
            topic: topic.to_owned(),
            from,
            to,
            parts,
            told,
        })
    }

    /// Records at most: a transaction's markers have offsets, too.
    pub fn records(&self) -> u64 {
        self.parts
            .values()
            .map(|part| part.end.saturating_sub(part.start).max(0).unsigned_abs())
            .sum()
    }

    /// Reads it and hands every record to `each`, in order of time, partition and offset.
    ///
    /// # Errors
    /// Where reading fails, nothing arrives for a minute, or `each` refuses.
    pub fn each(
        mut self,
        mut each: impl FnMut(Recording<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Told> {
        let mut list = TopicPartitionList::new();
        for (partition, part) in self.parts.iter().filter(|(_, part)| !part.ended) {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(part.start))
                .map_err(|error| self.failed(&error))?;
        }
        self.consumer
            .assign(&list)
            .map_err(|error| self.failed(&error))?;
        let mut arrived = Instant::now();
        while self.parts.values().any(|part| !part.ended) {
            match self.consumer.poll(Duration::from_millis(100)) {
                None if arrived.elapsed() > PATIENCE => {
                    let text = format!("reading {}: nothing came for a minute", self.topic);
                    return Err(LogError::Unavailable(text).into());
                }
                None => continue,
                Some(Ok(message)) => {
                    arrived = Instant::now();
                    take(
                        &mut self.parts,
                        &mut self.told,
                        (self.from, self.to),
                        &message,
                    );
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(part) = self.parts.get_mut(&partition) {
                        part.ended = true;
                    }
                }
                // librdkafka goes on by itself; where it cannot, the minute runs out.
                Some(Err(error)) => match error
                    .rdkafka_error_code()
                    .map(|code| classify(code, &format!("reading {}", self.topic)))
                {
                    Some(fatal @ LogError::Fatal(_)) => return Err(fatal.into()),
                    _ => continue,
                },
            }
            self.hand_out(&mut each)?;
            self.steer().map_err(|error| self.failed(&error))?;
        }
        self.hand_out(&mut each)?;
        Ok(self.told)
    }

    /// Hands out what no other partition can be older than.
    fn hand_out(
        &mut self,
        each: &mut impl FnMut(Recording<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let complete = self
                .parts
                .values()
                .all(|part| part.ended || !part.waiting.is_empty());
            let oldest = self
                .parts
                .iter_mut()
                .filter_map(|(partition, part)| {
                    let first = part.waiting.front()?;
                    Some(((first.time, *partition, first.offset), part))
                })
                .min_by_key(|(key, _)| *key);
            let (true, Some(((broker_time, partition, offset), part))) = (complete, oldest) else {
                return Ok(());
            };
            if let Some(record) = part.waiting.pop_front() {
                part.bytes -= record.bytes();
                each(Recording {
                    broker_time,
                    is_append_time: record.is_append_time,
                    partition,
                    offset,
                    key: record.key.as_deref(),
                    payload: record.payload.as_deref(),
                })?;
            }
        }
    }

    /// Pauses partitions that are far ahead of the others, and lets them go on.
    fn steer(&mut self) -> Result<(), KafkaError> {
        for (partition, part) in &mut self.parts {
            let list = || {
                let mut list = TopicPartitionList::new();
                list.add_partition(&self.topic, *partition);
                list
            };
            if !part.ended && !part.paused && part.bytes > AHEAD {
                self.consumer.pause(&list())?;
                part.paused = true;
            } else if part.paused && part.bytes < AHEAD / 2 {
                self.consumer.resume(&list())?;
                part.paused = false;
            }
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> LogError {
        request_failed(&format!("reading {}", self.topic), error)
    }
}

/// The offset of the first record at or after `time` in each partition; `None` where there is
/// none.
fn offsets_at(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: &[i32],
    time: Timestamp,
) -> Result<BTreeMap<i32, Option<i64>>, LogError> {
    let asked = format!("asking {topic} for its offsets at {time}");
    let failed = |error: KafkaError| request_failed(&asked, &error);
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::Offset(time.0))
            .map_err(failed)?;
    }
    let found = consumer.offsets_for_times(list, ASK).map_err(failed)?;
    let mut offsets = BTreeMap::new();
    for element in found.elements_for_topic(topic) {
        element.error().map_err(failed)?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        offsets.insert(element.partition(), offset);
    }
    Ok(offsets)
}

fn take(
    parts: &mut BTreeMap<i32, Part>,
    told: &mut Told,
    (from, to): (Timestamp, Timestamp),
    message: &BorrowedMessage<'_>,
) {
    let Some(part) = parts
        .get_mut(&message.partition())
        .filter(|part| !part.ended)
    else {
        return;
    };
    part.ended = message.offset() + 1 >= part.end;
    if message.offset() >= part.end {
        return;
    }
    let (time, is_append_time) = match message.timestamp() {
        KafkaTime::LogAppendTime(ms) => (Timestamp(ms), true),
        KafkaTime::CreateTime(ms) => {
            told.own_times += 1;
            (Timestamp(ms), false)
        }
        KafkaTime::NotAvailable => {
            told.no_time += 1;
            return;
        }
    };
    // Producers' times are not in order, so offsets alone do not tell.
    if time < from || time >= to {
        return;
    }
    let record = Waiting {
        time,
        is_append_time,
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
    };
    part.bytes += record.bytes();
    part.waiting.push_back(record);
}
