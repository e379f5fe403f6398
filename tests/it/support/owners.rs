//! Owners who answer what they are asked, as the pages publish it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorward::engine::output::RecipientPart;
use doorward::event::Timestamp;
use doorward::event::wire::{self, CaseResponse, MacKeys};
use doorward::record::CaseRecord;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::kafka::Cluster;

/// Cases looked at between two looks at everything else.
const AT_ONCE: usize = 50;

/// Everybody who has a case. Of three one says "this was me", one "this wasn't me", and one
/// nothing.
pub struct Owners {
    consumer: BaseConsumer,
    keys: MacKeys,
    asked: BTreeSet<String>,
    answered: Arc<AtomicUsize>,
}

/// An event to be published on its account's partition.
pub struct Answer {
    pub account: String,
    pub id: String,
    pub payload: String,
}

impl Owners {
    /// Owners of the cases in `topic`, whose answers are signed with `keys`.
    pub fn new(cluster: &Cluster, topic: &str, partitions: i32, keys: MacKeys) -> Owners {
        let consumer: BaseConsumer = cluster
            .client()
            .set("group.id", "owners")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&list).expect("an assignment");
        Owners {
            consumer,
            keys,
            asked: BTreeSet::new(),
            answered: Arc::default(),
        }
    }

    /// Counts the answers that were given so far.
    pub fn answered(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.answered)
    }

    /// Answers to the cases that were opened since the last call.
    pub fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(message) = self.consumer.poll(Duration::ZERO) else {
                break;
            };
            // Brokers that are away come back.
            let Ok(message) = message else { continue };
            let Some(payload) = message.payload() else {
                continue;
            };
            let case: CaseRecord = serde_json::from_slice(payload).expect("a case");
            if !matches!(&*case.state, "open" | "asked") || !self.asked.insert(case.id.clone()) {
                continue;
            }
            match self.asked.len() % 3 {
                0 => answers.push(self.answer(&case, "me")),
                1 => answers.push(self.answer(&case, "not_me")),
                _ => {}
            }
        }
        answers
    }

    fn answer(&mut self, case: &CaseRecord, answer: &str) -> Answer {
        let before = self.answered.fetch_add(1, Ordering::Relaxed);
        let id = format!("answer-{}", before + 1);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock after 1970");
        let places = case.places.iter().map(|place| place.value.as_str());
        let payload = wire::case_response(
            &CaseResponse {
                id: &id,
                account: Some(&case.account),
                case: &case.id,
                case_version: case.version,
                answer,
                places: &places.collect::<Vec<&str>>(),
                by: RecipientPart::Owner.as_str(),
                time: Timestamp(now.as_millis() as i64),
            },
            &self.keys,
        );
        Answer {
            account: case.account.clone(),
            id,
            payload: String::from_utf8(payload).expect("JSON"),
        }
    }
}
