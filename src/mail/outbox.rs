//! Reads the outbox, knows from the receipts what is done, and commits how far that is.
//!
//! One thread with two consumers: `doorward.mail` in a group, so that instances share its
//! partitions, and `doorward.receipts`, which everybody reads whole. Before a partition's
//! first mail is handed on, the receipts are read to their end; when a partition goes, its
//! mails are first given up, and what is just being sent is waited for. So a mail is sent
//! twice only where a process dies between the mail server's acceptance and the receipt.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::queue::Place;
use crate::config;
use crate::event::Timestamp;
use crate::follow::{FollowError, Follower};
use crate::kafka::settings::Quiet;
use crate::kafka::settings::common;
use crate::publish::wall_clock;
use crate::record::MailRecord;

/// Mails of which is remembered that they are done, 16 bytes each; the oldest are forgotten
/// first. The receipts of seven days of very many mails.
const MAX_DONE: usize = 2_000_000;
/// Longest wait for mails that are being sent when their partition goes.
const REVOKE_PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for the last commit and the farewell to the group.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// What the thread tells the mailer, in the order of the log.
#[derive(Debug)]
pub enum OutboxEvent {
    Mail {
        place: Place,
        /// The broker's time of the record.
        queued: Timestamp,
        record: Box<MailRecord>,
    },
    /// A record with nothing to do.
    Skipped { place: Place, why: Skipped },
    /// These partitions go. `given_up` is answered (or dropped) once nothing of them is
    /// being sent.
    Revoked {
        partitions: Vec<i32>,
        given_up: SyncSender<()>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Its receipt is there.
    Done,
    /// No mail record; nothing that this program wrote.
    Unreadable,
}

/// The mailer's end of the thread.
pub struct Outbox {
    pub events: mpsc::Receiver<OutboxEvent>,
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Whether the mailer wants no more for now.
    full: AtomicBool,
    // A lock, because the mailer sets what the thread commits; held for an insert or a take.
    positions: Mutex<BTreeMap<i32, i64>>,
}

/// Why the outbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("cannot read the outbox: {0}")]
    Kafka(#[from] KafkaError),
    #[error("cannot read the receipts: {0}")]
    Receipts(#[from] FollowError),
    #[error("cannot start the outbox thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Outbox {
    /// Begins to read. Brokers that are away are waited for.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings or the system has no thread to give.
    pub fn open(kafka: &config::Kafka, topics: &config::Topics) -> Result<Outbox, OutboxError> {
        let (sender, events) = mpsc::channel(64);
        let shared = Arc::new(Shared::default());
        let session_ms = kafka.session_timeout.as_millis();
        let consumer: BaseConsumer<Rebalancing> = common(kafka, "mailer")
            .set("group.id", format!("{}-mailer", kafka.group))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set(
                "heartbeat.interval.ms",
                (session_ms / 3).clamp(1, 3_000).to_string(),
            )
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "4096")
            .create_with_context(Rebalancing {
                topic: topics.mail.clone(),
                events: sender.clone(),
                shared: Arc::clone(&shared),
                assigned: AtomicBool::new(false),
            })?;
        consumer.subscribe(&[&topics.mail])?;
        let reader = Reader {
            consumer,
            receipts: Follower::new(kafka, &topics.receipts)?,
            topic: topics.mail.clone(),
            events: sender,
            shared: Arc::clone(&shared),
            done: Done::default(),
            paused: false,
            complaint: String::new(),
        };
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || reader.run())?;
        Ok(Outbox {
            events,
            shared,
            thread,
        })
    }

    /// Whether reading should pause. A few mails on their way still arrive.
    pub fn set_full(&self, full: bool) {
        self.shared.full.store(full, Ordering::Relaxed);
    }

    /// Positions to commit with the next turn of the thread.
    pub fn commit(&self, positions: Vec<(i32, i64)>) {
        if !positions.is_empty() {
            self.shared
                .positions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(positions);
        }
    }

    /// Commits what was handed over, leaves the group and ends the thread.
    pub async fn close(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Nobody answers a revocation any more; a closed channel says so at once.
        drop(self.events);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        match tokio::time::timeout(CLOSE_PATIENCE, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => warn!("the outbox thread ended by a panic"),
            Err(_) => warn!("Kafka did not let the mailer leave its group in time"),
        }
    }
}

/// What happens when partitions come and go.
struct Rebalancing {
    topic: String,
    events: mpsc::Sender<OutboxEvent>,
    shared: Arc<Shared>,
    assigned: AtomicBool,
}

impl ClientContext for Rebalancing {
    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Rebalancing {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else {
            return;
        };
        let partitions: Vec<i32> = partitions
            .elements()
            .iter()
            .map(|e| e.partition())
            .collect();
        if partitions.is_empty() {
            return;
        }
        let (given_up, wait) = sync_channel(1);
        let told = self.events.blocking_send(OutboxEvent::Revoked {
            partitions: partitions.clone(),
            given_up,
        });
        if told.is_ok() {
            // An error is a mailer that is gone, or too slow: its mails may then be sent
            // once more by whoever gets the partition.
            let _ = wait.recv_timeout(REVOKE_PATIENCE);
        }
        if !consumer.assignment_lost() {
            commit(consumer, &self.topic, &self.shared, CommitMode::Sync);
        }
        self.shared
            .positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|partition, _| !partitions.contains(partition));
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && partitions.count() > 0
        {
            self.assigned.store(true, Ordering::Relaxed);
        }
    }
}

fn commit(consumer: &BaseConsumer<Rebalancing>, topic: &str, shared: &Shared, mode: CommitMode) {
    let positions = std::mem::take(
        &mut *shared
            .positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    if positions.is_empty() {
        return;
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, position) in positions {
        // Fails only for an offset that is none, which these are not.
        let _ = offsets.add_partition_offset(topic, partition, Offset::Offset(position));
    }
    if let Err(error) = consumer.commit(&offsets, mode) {
        // The receipts still tell what is done, so a position that stays behind costs
        // reading, never a second mail.
        info!(%error, "the outbox's position was not committed");
    }
}

struct Reader {
    consumer: BaseConsumer<Rebalancing>,
    receipts: Follower,
    topic: String,
    events: mpsc::Sender<OutboxEvent>,
    shared: Arc<Shared>,
    done: Done,
    paused: bool,
    /// What was last complained of, so that it is said once.
    complaint: String,
}

impl Reader {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.follow_receipts();
            let event = match self.consumer.poll(POLL) {
                None => None,
                Some(Err(error)) => {
                    complain(&mut self.complaint, &error);
                    None
                }
                Some(Ok(message)) => Some(Incoming {
                    place: Place {
                        partition: message.partition(),
                        offset: message.offset(),
                    },
                    queued: message
                        .timestamp()
                        .to_millis()
                        .map_or_else(wall_clock, Timestamp),
                    record: message
                        .payload()
                        .and_then(|payload| serde_json::from_slice(payload).ok()),
                }),
            };
            if self
                .consumer
                .context()
                .assigned
                .swap(false, Ordering::Relaxed)
            {
                self.catch_up();
                // New partitions come unpaused.
                self.paused = false;
            }
            if let Some(incoming) = event
                && self.hand_on(incoming).is_err()
            {
                break;
            }
            self.pause_or_resume();
            commit(&self.consumer, &self.topic, &self.shared, CommitMode::Async);
        }
        commit(&self.consumer, &self.topic, &self.shared, CommitMode::Sync);
    }

    /// Fails where the mailer has gone.
    fn hand_on(&self, incoming: Incoming) -> Result<(), ()> {
        let place = incoming.place;
        let event = match incoming.record {
            None => OutboxEvent::Skipped {
                place,
                why: Skipped::Unreadable,
            },
            Some(record) if self.done.contains(record.id.as_bytes()) => OutboxEvent::Skipped {
                place,
                why: Skipped::Done,
            },
            Some(record) => OutboxEvent::Mail {
                place,
                queued: incoming.queued,
                record,
            },
        };
        self.events.blocking_send(event).map_err(|_| ())
    }

    /// Reads the receipts to their end, however long that takes: without them, mails would
    /// be sent twice.
    fn catch_up(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let done = &mut self.done;
            match self
                .receipts
                .catch_up(Duration::from_secs(10), &mut |id, _| done.insert(id))
            {
                Ok(()) => return,
                Err(error) => {
                    complain(&mut self.complaint, &error);
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            }
        }
    }

    /// Takes up receipts that this and other instances wrote meanwhile.
    fn follow_receipts(&mut self) {
        let done = &mut self.done;
        loop {
            let mut arrived = false;
            let result = self.receipts.poll(Duration::ZERO, &mut |id, _| {
                arrived = true;
                done.insert(id);
            });
            if let Err(error) = result {
                complain(&mut self.complaint, &error);
            }
            if !arrived {
                return;
            }
        }
    }

    fn pause_or_resume(&mut self) {
        let full = self.shared.full.load(Ordering::Relaxed);
        if full == self.paused {
            return;
        }
        let changed = self.consumer.assignment().and_then(|assignment| {
            if full {
                self.consumer.pause(&assignment)
            } else {
                self.consumer.resume(&assignment)
            }
        });
        match changed {
            Ok(()) => self.paused = full,
            Err(error) => complain(&mut self.complaint, &error),
        }
    }
}

struct Incoming {
    place: Place,
    queued: Timestamp,
    record: Option<Box<MailRecord>>,
}

/// Says once what is wrong; librdkafka goes on trying by itself.
fn complain(last: &mut String, error: &dyn std::error::Error) {
    let text = error.to_string();
    if text != *last {
        warn!(error = %text, "the outbox cannot be read for now");
        *last = text;
    }
}

/// Ids of mails that are done, as 128-bit hashes.
#[derive(Default)]
struct Done {
    known: HashSet<u128>,
    order: VecDeque<u128>,
}

impl Done {
    fn hash(id: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new();
        hasher.write(id);
        hasher.finish128().as_u128()
    }

    fn insert(&mut self, id: &[u8]) {
        let hash = Done::hash(id);
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_DONE
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn contains(&self, id: &[u8]) -> bool {
        self.known.contains(&Done::hash(id))
    }
}
