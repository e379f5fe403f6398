//! Reads one partition of `doorward.state` to the end of what was committed.
//!
//! "To the last stable offset" would lose state: an open transaction of somebody else pins
//! that offset behind records that are committed already (KAFKA-10167). So the goal is the
//! high watermark, uncommitted records included, and the reader, which shows committed
//! records only, goes on until its position has reached it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Quiet, REQUEST_TIMEOUT};
use super::raw::{Buffer, Item, Queue};
use super::{Ingest, TAKE, classify, is_passing, request_failed};
use crate::log::{EachState, LogError};

/// Without progress for so long, something hangs that waiting does not mend. Shorter than the
/// watchdog's patience, so that this says what hangs.
const STALLED_AFTER: Duration = Duration::from_secs(40);
/// How long one look at the queue waits.
const LOOK: Duration = Duration::from_millis(100);

/// Hands every committed record of the partition's state to `each`, in order.
pub fn read(ingest: &Ingest, partition: i32, each: EachState<'_>) -> Result<(), LogError> {
    let topic = &ingest.topics.state;
    let (low, high) = ingest
        .inquiry
        .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
        .map_err(|error| request_failed(&format!("the end of {topic} [{partition}]"), &error))?;
    if low >= high {
        return Ok(());
    }
    let reader = Reader::open(ingest, partition)?;
    let mut buffer = Buffer::new(TAKE);
    let mut position = low;
    let mut moved = Instant::now();
    while position < high {
        // The group must not think this member dead while it reads.
        ingest.tend()?;
        reader.serve();
        let before = position;
        // A wait ends with the first record; what came with it is taken at once.
        for (wait, limit) in [(LOOK, 1), (Duration::ZERO, TAKE)] {
            let batch = reader.queue.take(wait, limit, &mut buffer);
            for item in batch.items() {
                match item {
                    Item::Record(record) => {
                        position = position.max(record.offset + 1);
                        if let Some(key) = record.key {
                            each(key, record.payload);
                        }
                    }
                    Item::End { offset } => position = position.max(offset),
                    Item::Error { code, .. } if is_passing(code) => {}
                    Item::Error { code, .. } => {
                        return Err(classify(code, &format!("reading {topic} [{partition}]")));
                    }
                }
            }
        }
        if position > before {
            moved = Instant::now();
        } else if moved.elapsed() > STALLED_AFTER {
            return Err(LogError::Stalled(format!(
                "restoring {topic} [{partition}] stands at offset {position} of {high} for \
                 {} s; a transaction that nobody ends may hold it back",
                STALLED_AFTER.as_secs()
            )));
        }
    }
    Ok(())
}

/// A consumer of one partition, no member of any group.
struct Reader {
    queue: Queue<Quiet>,
    _partition: Queue<Quiet>,
    consumer: Arc<BaseConsumer<Quiet>>,
}

impl Reader {
    fn open(ingest: &Ingest, partition: i32) -> Result<Reader, LogError> {
        let refused = |error| LogError::Fatal(format!("the reader of the state topic: {error}"));
        let topic = &ingest.topics.state;
        let consumer: BaseConsumer<Quiet> = client::restore(&ingest.kafka, ingest.shard)
            .create_with_context(Quiet)
            .map_err(refused)?;
        let consumer = Arc::new(consumer);
        let queue = Queue::new(&consumer);
        let partition_queue = Queue::forwarded(topic, partition, &queue)
            .ok_or_else(|| LogError::Unavailable(format!("{topic} [{partition}] has no queue")))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .and_then(|()| consumer.assign(&list))
            .map_err(refused)?;
        Ok(Reader {
            queue,
            _partition: partition_queue,
            consumer,
        })
    }

    fn serve(&self) {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::debug!(%error, "while restoring");
        }
    }
}
