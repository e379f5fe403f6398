//! Who leads what in a cluster, how far a group has come, and a topic's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::super::{PATIENCE, eventually};
use super::Cluster;

const ASK: Duration = Duration::from_secs(5);

impl Cluster {
    /// The broker (from 0) that leads a partition.
    #[track_caller]
    pub fn leader_of(&self, topic: &str, partition: i32) -> usize {
        let client: BaseConsumer = self.client().create().expect("a client");
        eventually(
            &format!("the leader of {topic}:{partition}"),
            PATIENCE,
            || {
                let metadata = client.fetch_metadata(Some(topic), ASK).ok()?;
                let partitions = metadata.topics().first()?.partitions();
                let found = partitions.iter().find(|p| p.id() == partition)?;
                usize::try_from(found.leader() - 1).ok()
            },
        )
    }

    /// The broker that coordinates the consumer group `group`.
    #[track_caller]
    pub fn group_coordinator(&self, group: &str) -> usize {
        self.leader_of("__consumer_offsets", coordinating_partition(group))
    }

    /// The broker that coordinates the transactions of `id`.
    #[track_caller]
    pub fn transaction_coordinator(&self, id: &str) -> usize {
        self.leader_of("__transaction_state", coordinating_partition(id))
    }

    /// Gives a topic these settings; what is not named gets its default.
    #[track_caller]
    pub fn configure_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().expect("an admin client");
        let wanted = settings.iter().fold(
            AlterConfig::new(ResourceSpecifier::Topic(topic)),
            |wanted, (name, value)| wanted.set(name, value),
        );
        let changed = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(admin.alter_configs([&wanted], &AdminOptions::new()))
            .unwrap_or_else(|e| panic!("cannot configure {topic}: {e}"));
        for result in changed {
            result.unwrap_or_else(|(_, code)| panic!("cannot configure {topic}: {code}"));
        }
    }

    /// The stable committed offset of each partition of `topic` that has one.
    pub fn committed(&self, group: &str, topic: &str) -> Option<BTreeMap<i32, i64>> {
        let client: BaseConsumer = self
            .client()
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .create()
            .expect("a client");
        let metadata = client.fetch_metadata(Some(topic), ASK).ok()?;
        let mut wanted = TopicPartitionList::new();
        for partition in metadata.topics().first()?.partitions() {
            wanted.add_partition(topic, partition.id());
        }
        let found = client.committed_offsets(wanted, ASK).ok()?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error().ok()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Some(offsets)
    }
}

/// Of Kafka's two internal topics, which have four partitions each in these clusters.
fn coordinating_partition(key: &str) -> i32 {
    // Java's `String.hashCode`, without its sign.
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash & i32::MAX) % 4
}
