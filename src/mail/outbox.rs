//! Reads the outbox and the receipts, and commits how far the plan says it is.
//!
//! One thread with two consumers: `doorward.mail` in a group, so that instances share its
//! partitions, and `doorward.receipts`, which everybody reads whole. Before a partition's
//! first mail is handed on, the receipts are read to their end; when a partition goes, the
//! mails of it that the server may be taking are waited for. Positions are committed even
//! where they did not move: that the coordinator accepts one proves that this mailer is
//! still a member, and only while that is proven may it send ([`super::plan`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::clock::Clock;
use super::plan::{MailKey, Now, Place};
use crate::config;
use crate::event::Timestamp;
use crate::follow::{FollowError, Follower};
use crate::kafka::settings::Quiet;
use crate::kafka::settings::common;
use crate::logging::Complaint;
use crate::publish::wall_clock;
use crate::shard::control::Pulse;

/// Longest wait for the last commit and the farewell to the group.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// What a receipt may take, beside the mail server's answer, when a partition goes.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the thread may be away from the group: longer than a partition's mails are
/// waited for, and than any call to a Kafka that is away takes. A thread that is silent for
/// longer hangs.
pub const MAX_POLL_INTERVAL: Duration = Duration::from_secs(15 * 60);
const POLL: Duration = Duration::from_millis(50);
/// Longest wait for a partition to be read from elsewhere.
const SEEK: Duration = Duration::from_secs(5);
/// Between two commits while positions move.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Receipts that are told together.
const RECEIPTS: usize = 1_000;

/// What the thread tells the mailer, in the order of the log.
#[derive(Debug)]
pub enum OutboxEvent {
    Record {
        place: Place,
        /// The broker's time of the record.
        queued: Timestamp,
        payload: Vec<u8>,
    },
    /// Mails that are done.
    Receipts(Vec<MailKey>),
    /// The group's coordinator accepted what was asked of it at this time.
    Renewed(Now),
    /// It does not know this member any more.
    Expelled,
    /// The partition's next records are those from `offset` on.
    Rewound {
        partition: i32,
        offset: i64,
    },
    NotRewound {
        partition: i32,
    },
    /// These partitions go. `given_up` is answered (or dropped) once no mail of them may
    /// just be taken by the server.
    Revoked {
        partitions: Vec<i32>,
        given_up: SyncSender<()>,
    },
}

/// The mailer's end of the thread.
pub struct Outbox {
    pub events: mpsc::Receiver<OutboxEvent>,
    shared: Arc<Shared>,
    pulse: Pulse,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    // A lock, because the mailer writes what the thread does; held for an insert or a take.
    orders: Mutex<Orders>,
}

/// What the mailer wants to be done.
#[derive(Default)]
struct Orders {
    /// By partition, where to go on after a crash.
    positions: BTreeMap<i32, i64>,
    /// Whether one of them moved since the last commit.
    moved: bool,
    rewinds: Vec<(i32, i64)>,
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Begins to read. Brokers that are away are waited for. `answer` is the longest that a
    /// mail server's last answer takes.
    ///
    /// # Errors
    /// Where librdkafka refuses the settings or the system has no thread to give.
    pub fn open(
        kafka: &config::Kafka,
        topics: &config::Topics,
        clock: Clock,
        answer: Duration,
    ) -> Result<Outbox, OutboxError> {
        let (sender, events) = mpsc::channel(256);
        let shared = Arc::new(Shared::default());
        let session_ms = kafka.session_timeout.as_millis();
        let max_poll_ms = MAX_POLL_INTERVAL.max(kafka.session_timeout).as_millis();
        let consumer: BaseConsumer<Membership> = common(kafka, "mailer")
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
            .set("max.poll.interval.ms", max_poll_ms.to_string())
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "4096")
            .create_with_context(Membership {
                topic: topics.mail.clone(),
                events: sender.clone(),
                shared: Arc::clone(&shared),
                patience: answer + RECEIPT_PATIENCE,
                assigned: AtomicBool::new(false),
            })?;
        consumer.subscribe(&[&topics.mail])?;
        let pulse = Pulse::new();
        let reader = Reader {
            pulse: pulse.clone(),
            consumer,
            receipts: Follower::new(kafka, &topics.receipts)?,
            topic: topics.mail.clone(),
            events: sender,
            shared: Arc::clone(&shared),
            clock,
            renew_every: kafka.session_timeout / 4,
            committed: None,
            complaint: Complaint::new("the outbox cannot be read for now"),
        };
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || reader.run())?;
        Ok(Outbox {
            events,
            shared,
            pulse,
            thread,
        })
    }

    /// The thread's sign of life.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Positions to commit with the next turn of the thread.
    pub fn commit(&self, positions: Vec<(i32, i64)>) {
        if !positions.is_empty() {
            let mut orders = self.shared.orders();
            orders.positions.extend(positions);
            orders.moved = true;
        }
    }

    /// From where to read again with the next turn of the thread.
    pub fn rewind(&self, rewinds: Vec<(i32, i64)>) {
        if !rewinds.is_empty() {
            self.shared.orders().rewinds.extend(rewinds);
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
struct Membership {
    topic: String,
    events: mpsc::Sender<OutboxEvent>,
    shared: Arc<Shared>,
    /// Longest wait for mails that the server may be taking when their partition goes.
    patience: Duration,
    assigned: AtomicBool,
}

impl Membership {
    /// The positions of what is assigned, as a commit.
    fn offsets(&self, positions: &BTreeMap<i32, i64>) -> TopicPartitionList {
        let mut offsets = TopicPartitionList::new();
        for (partition, position) in positions {
            // Fails only for an offset that is none, which these are not.
            let _ =
                offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*position));
        }
        offsets
    }
}

impl ClientContext for Membership {
    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Membership {
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
        let lost = consumer.assignment_lost();
        if lost {
            // An error is a mailer that has gone.
            let _ = self.events.blocking_send(OutboxEvent::Expelled);
        }
        let (given_up, wait) = sync_channel(1);
        let told = self.events.blocking_send(OutboxEvent::Revoked {
            partitions: partitions.clone(),
            given_up,
        });
        // What is lost may be somebody else's already, who does not wait.
        if told.is_ok() && !lost {
            // Ends when the other side is dropped. A mail server that takes longer may get
            // the mail again from whoever gets the partition.
            let _ = wait.recv_timeout(self.patience);
        }
        let positions = {
            let mut orders = self.shared.orders();
            orders
                .rewinds
                .retain(|(partition, _)| !partitions.contains(partition));
            let mut going = BTreeMap::new();
            for partition in &partitions {
                if let Some(position) = orders.positions.remove(partition) {
                    going.insert(*partition, position);
                }
            }
            going
        };
        if !lost && !positions.is_empty() {
            let offsets = self.offsets(&positions);
            if let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
                not_committed(&error);
            }
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && partitions.count() > 0
        {
            self.assigned.store(true, Ordering::Relaxed);
        }
    }
}

/// The receipts still tell what is done, so a position that stays behind costs reading,
/// never a second mail.
fn not_committed(error: &KafkaError) {
    info!(%error, "the outbox's position was not committed");
}

struct Reader {
    pulse: Pulse,
    consumer: BaseConsumer<Membership>,
    receipts: Follower,
    topic: String,
    events: mpsc::Sender<OutboxEvent>,
    shared: Arc<Shared>,
    clock: Clock,
    /// How often membership is proven where nothing moves.
    renew_every: Duration,
    /// When a commit was last tried.
    committed: Option<Instant>,
    complaint: Complaint,
}

/// The mailer has gone.
struct Gone;

impl Reader {
    fn run(mut self) {
        // It ends by being told to, or because nobody listens any more.
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.turn().is_err() {
                break;
            }
        }
        let positions = std::mem::take(&mut self.shared.orders().positions);
        if !positions.is_empty() {
            let offsets = self.consumer.context().offsets(&positions);
            if let Err(error) = self.consumer.commit(&offsets, CommitMode::Sync) {
                not_committed(&error);
            }
        }
        self.pulse.stop();
    }

    fn turn(&mut self) -> Result<(), Gone> {
        self.pulse.beat();
        self.follow_receipts()?;
        let event = match self.consumer.poll(POLL) {
            None => None,
            Some(Err(error)) => {
                self.complaint.hear(&error);
                None
            }
            Some(Ok(message)) => Some(OutboxEvent::Record {
                place: Place {
                    partition: message.partition(),
                    offset: message.offset(),
                },
                queued: message
                    .timestamp()
                    .to_millis()
                    .map_or_else(wall_clock, Timestamp),
                payload: message.payload().unwrap_or_default().to_vec(),
            }),
        };
        let context = self.consumer.context();
        if context.assigned.swap(false, Ordering::Relaxed) {
            self.catch_up()?;
        }
        if let Some(event) = event {
            self.tell(event)?;
        }
        self.rewind()?;
        self.commit()
    }

    fn tell(&self, event: OutboxEvent) -> Result<(), Gone> {
        self.events.blocking_send(event).map_err(|_| Gone)
    }

    /// Reads the receipts to their end, however long that takes: without them, mails would
    /// be sent twice.
    fn catch_up(&mut self) -> Result<(), Gone> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.pulse.beat();
            let mut batch = Batch::new(&self.events);
            let result = self
                .receipts
                .catch_up(Duration::from_secs(10), &mut |id, _| batch.add(id));
            batch.end()?;
            match result {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.complaint.hear(&error);
                    std::thread::park_timeout(Duration::from_secs(1));
                }
            }
        }
        // What was assigned must not be handed on without them.
        Err(Gone)
    }

    /// Takes up receipts that this and other instances wrote meanwhile.
    fn follow_receipts(&mut self) -> Result<(), Gone> {
        let mut batch = Batch::new(&self.events);
        let complaint = &mut self.complaint;
        let receipts = &mut self.receipts;
        loop {
            let mut arrived = false;
            let result = receipts.poll(Duration::ZERO, &mut |id, _| {
                arrived = true;
                batch.add(id);
            });
            if let Err(error) = result {
                complaint.hear(&error);
            }
            if !arrived {
                return batch.end();
            }
        }
    }

    /// Goes back to where the plan wants to read again.
    fn rewind(&mut self) -> Result<(), Gone> {
        let rewinds = std::mem::take(&mut self.shared.orders().rewinds);
        for (partition, offset) in rewinds {
            let sought = self
                .consumer
                .seek(&self.topic, partition, Offset::Offset(offset), SEEK);
            let event = match sought {
                Ok(()) => OutboxEvent::Rewound { partition, offset },
                Err(error) => {
                    self.complaint.hear(&error);
                    OutboxEvent::NotRewound { partition }
                }
            };
            self.tell(event)?;
        }
        Ok(())
    }

    /// Commits what moved, and now and then what did not. It waits for the answer: the
    /// library tells nobody what became of a commit that was not waited for.
    fn commit(&mut self) -> Result<(), Gone> {
        let pause = match self.shared.orders().moved {
            true => COMMIT_EVERY.min(self.renew_every),
            false => self.renew_every,
        };
        if self.committed.is_some_and(|then| then.elapsed() < pause) {
            return Ok(());
        }
        let Ok(assignment) = self.consumer.assignment() else {
            return Ok(());
        };
        let offsets = {
            let mut orders = self.shared.orders();
            // The coordinator would take a commit for a partition that somebody else has.
            orders.positions.retain(|partition, _| {
                assignment.find_partition(&self.topic, *partition).is_some()
            });
            orders.moved = false;
            if orders.positions.is_empty() {
                return Ok(());
            }
            self.consumer.context().offsets(&orders.positions)
        };
        let asked = self.clock.now();
        let result = self.consumer.commit(&offsets, CommitMode::Sync);
        self.committed = Some(Instant::now());
        match result {
            Ok(()) => self.tell(OutboxEvent::Renewed(asked)),
            Err(error) => {
                self.shared.orders().moved = true;
                not_committed(&error);
                match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::FencedInstanceId,
                    ) => self.tell(OutboxEvent::Expelled),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Receipts on their way to the mailer, several at a time.
struct Batch<'a> {
    events: &'a mpsc::Sender<OutboxEvent>,
    keys: Vec<MailKey>,
    gone: bool,
}

impl<'a> Batch<'a> {
    fn new(events: &'a mpsc::Sender<OutboxEvent>) -> Batch<'a> {
        Batch {
            events,
            keys: Vec::new(),
            gone: false,
        }
    }

    fn add(&mut self, id: &[u8]) {
        self.keys.push(MailKey::of_bytes(id));
        if self.keys.len() >= RECEIPTS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if !keys.is_empty() {
            self.gone |= self
                .events
                .blocking_send(OutboxEvent::Receipts(keys))
                .is_err();
        }
    }

    fn end(mut self) -> Result<(), Gone> {
        self.flush();
        if self.gone { Err(Gone) } else { Ok(()) }
    }
}
