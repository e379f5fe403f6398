//! A consumer of one partition of `doorward.state`, no member of any group.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::raw::{Buffer, Item, Queue};
use super::settings::{self, Quiet};
use super::{TAKE, classify, is_passing};
use crate::config::Kafka;
use crate::engine::ahead::Held;
use crate::log::client::{self, StateItem};
use crate::log::{AHEAD, InputRecord, LogError, StateRecord};

pub struct StateReader {
    topic: String,
    partition: i32,
    buffer: Buffer,
    queue: Queue<Quiet>,
    /// [`AHEAD`], as librdkafka wants it.
    ahead: CString,
    /// Held as long as the reader: dropping it strands the partition.
    _of_partition: Queue<Quiet>,
    consumer: Arc<BaseConsumer<Quiet>>,
}

impl StateReader {
    pub fn open(
        kafka: &Kafka,
        topic: &str,
        shard: usize,
        partition: i32,
        from: i64,
    ) -> Result<StateReader, LogError> {
        let refused = |error| LogError::Fatal(format!("the reader of the state topic: {error}"));
        let consumer: BaseConsumer<Quiet> = settings::restore(kafka, shard)
            .create_with_context(Quiet)
            .map_err(refused)?;
        let consumer = Arc::new(consumer);
        let queue = Queue::new(&consumer);
        let of_partition = Queue::forwarded(topic, partition, &queue)
            .ok_or_else(|| LogError::Unavailable(format!("{topic} [{partition}] has no queue")))?;
        let mut list = TopicPartitionList::new();
        // "From the beginning" would ask for the offset first, and librdkafka waits 500 ms
        // with that where it does not know the leader yet.
        list.add_partition_offset(topic, partition, Offset::Offset(from))
            .and_then(|()| consumer.assign(&list))
            .map_err(refused)?;
        Ok(StateReader {
            topic: topic.to_owned(),
            partition,
            buffer: Buffer::new(TAKE),
            queue,
            ahead: CString::new(AHEAD).unwrap_or_default(),
            _of_partition: of_partition,
            consumer,
        })
    }
}

impl client::StateReader for StateReader {
    fn take(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(StateItem<'_>),
    ) -> Result<(), LogError> {
        // Serves errors and log lines; records come through the queue.
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::debug!(%error, "while restoring");
        }
        // A wait ends with the first record; what came with it is taken at once.
        for (wait, limit) in [(wait, 1), (Duration::ZERO, TAKE)] {
            let batch = self.queue.take(wait, limit, &mut self.buffer);
            for (at, item) in batch.items().enumerate() {
                match item {
                    Item::Record(InputRecord {
                        offset, key: None, ..
                    }) => {
                        each(StateItem::Foreign { offset });
                    }
                    Item::Record(InputRecord {
                        offset,
                        key: Some(key),
                        payload,
                        ..
                    }) => {
                        let record = StateRecord {
                            key,
                            value: payload,
                            ahead: batch.header(at, &self.ahead).and_then(held),
                        };
                        each(StateItem::Record { offset, record });
                    }
                    Item::End { offset } => each(StateItem::End { offset }),
                    Item::Error { code, .. } if is_passing(code) => {}
                    Item::Error { code, .. } => {
                        let doing = format!("reading {} [{}]", self.topic, self.partition);
                        return Err(classify(code, &doing));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a header says that doorward wrote.
fn held(header: &[u8]) -> Option<Held> {
    std::str::from_utf8(header).ok()?.parse().ok()
}
