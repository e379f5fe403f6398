//! The mailer: from the outbox topic to the owner's mailbox.
//!
//! Owns what a mail says ([`content`]), how it leaves ([`transport`]), when it is tried again
//! ([`queue`]) and what has been done already ([`outbox`]). Links are minted here, at sending,
//! so that no token ever stands in Kafka and each attempt carries a fresh one. It knows
//! nothing of rules and accounts: a mail is a record.

pub mod content;
pub mod message;
pub mod outbox;
pub mod queue;
pub mod transport;

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use lettre::Address;
use lettre::message::Mailbox as Party;
use tracing::{debug, info, warn};

use crate::config::{Config, Site};
use crate::engine::output::RecipientPart;
use crate::engine::recovery::MAIL_HELD;
use crate::event::Timestamp;
use crate::link::{KeyError, Link, LinkKeys};
use crate::locale;
use crate::metrics::Metrics;
use crate::publish::{PublishError, Publisher, Record, wall_clock};
use crate::record::{MailRecord, ReceiptRecord, SCHEMA};
use content::Links;
use outbox::{Outbox, OutboxError, OutboxEvent, Skipped};
use queue::{Pending, Place, Queue};
use transport::{Courier, SendError, Transport};

/// Mails held at once; at 4 kB each, 40 MB. Past it the outbox waits in Kafka.
pub const MAX_WAITING: usize = 10_000;
/// How long a shutdown waits for mails that are being sent.
const DRAIN: Duration = Duration::from_secs(10);
/// How long one receipt is tried before it is tried anew.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// When a mail that did not leave is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetrySchedule {
    pub first: Duration,
    pub longest: Duration,
}

/// 15 seconds, doubling up to half an hour: greylisting usually ends within minutes.
impl Default for RetrySchedule {
    fn default() -> Self {
        RetrySchedule {
            first: Duration::from_secs(15),
            longest: Duration::from_secs(30 * 60),
        }
    }
}

/// Settings with which the mailer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    #[error("mail.{setting}: `{value}` is no mail address; write `Name <user@host>`")]
    Address {
        setting: &'static str,
        value: String,
    },
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("cannot write receipts: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// Sends what stands in the outbox until it is told to stop.
pub struct Mailer {
    outbox: Outbox,
    transport: Transport,
    sender: Sender,
    connections: usize,
}

/// What sending one mail needs; shared by all mails that are being sent.
struct Sender {
    links: LinkKeys,
    publisher: Publisher,
    receipts: String,
    from: Party,
    reply_to: Option<Party>,
    site: Site,
    public_url: String,
    link_valid: Duration,
    retry_for: Duration,
    schedule: RetrySchedule,
    per_address: DefaultKeyedRateLimiter<String>,
    metrics: Arc<Metrics>,
}

/// What became of one attempt.
enum Attempt {
    /// Sent or given up, and the receipt is in the log.
    Finished(Place),
    /// To be tried again at this time.
    Again(Box<Pending>, Timestamp),
}

impl Mailer {
    /// Joins the mailers' group and begins to read. Nothing is sent before
    /// [`Mailer::run`].
    ///
    /// # Errors
    /// Where a setting is wrong; services that are away are waited for.
    pub fn start(
        config: &Config,
        transport: Transport,
        schedule: RetrySchedule,
        metrics: Arc<Metrics>,
    ) -> Result<Mailer, MailerError> {
        let mail = &config.mail;
        let per_hour = NonZeroU32::new(mail.per_hour).unwrap_or(NonZeroU32::MIN);
        let sender = Sender {
            links: LinkKeys::new(&config.keys.link)?,
            publisher: Publisher::new(&config.kafka, RECEIPT_TIMEOUT)?,
            receipts: config.topics.receipts.clone(),
            from: party("from", &mail.from)?,
            reply_to: mail
                .reply_to
                .as_deref()
                .map(|reply_to| party("reply_to", reply_to))
                .transpose()?,
            site: config.site.clone(),
            public_url: config.web.public_url.clone(),
            link_valid: config.web.link_valid,
            retry_for: mail.retry_for,
            schedule,
            per_address: RateLimiter::keyed(Quota::per_hour(per_hour)),
            metrics,
        };
        Ok(Mailer {
            outbox: Outbox::open(&config.kafka, &config.topics)?,
            transport,
            sender,
            connections: mail.connections.max(1),
        })
    }

    /// Sends until `shutdown` is ready, then finishes what is being sent, at most 10 s, and
    /// commits how far it came.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Mailer {
            mut outbox,
            transport,
            sender,
            connections,
        } = self;
        let courier = transport.courier();
        let (sender, courier) = (&sender, &courier);
        let mut shutdown = pin!(shutdown);
        let mut queue = Queue::default();
        let mut sending = FuturesUnordered::new();
        let mut departing: Vec<Departing> = Vec::new();
        let mut in_flight: Vec<Place> = Vec::new();
        let mut sweep = tokio::time::interval(Duration::from_secs(600));
        loop {
            while sending.len() < connections
                && let Some(pending) = queue.take_due(wall_clock())
            {
                in_flight.push(pending.place);
                sending.push(sender.attempt(courier, pending));
            }
            departing.retain(|d| {
                in_flight
                    .iter()
                    .any(|p| d.partitions.contains(&p.partition))
            });
            outbox.set_full(queue.waiting() >= MAX_WAITING);
            outbox.commit(queue.positions());
            sender.count_waiting(queue.waiting() + sending.len());
            let wait = match queue.next_due() {
                Some(due) if sending.len() < connections => due.since_ms(wall_clock()).max(0),
                _ => i64::from(u16::MAX),
            };
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or_default());
            tokio::select! {
                () = &mut shutdown => break,
                Some(attempt) = sending.next(), if !sending.is_empty() => {
                    in_flight.retain(|place| *place != attempt.place());
                    settle(attempt, &mut queue);
                }
                event = outbox.events.recv() => match event {
                    Some(event) => departing.extend(sender.take(event, &mut queue)),
                    // The thread ends by itself only by a panic; the supervisor restarts us.
                    None => break,
                },
                () = tokio::time::sleep(wait) => {}
                _ = sweep.tick() => sender.per_address.retain_recent(),
            }
        }
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(attempt) = sending.next().await {
                settle(attempt, &mut queue);
            }
        });
        if drained.await.is_err() {
            warn!(
                mails = sending.len(),
                "mails were still being sent at shutdown; the next start goes on with them"
            );
        }
        outbox.commit(queue.positions());
        outbox.close().await;
    }
}

/// Partitions that go once nothing of them is being sent. Dropping it lets them go.
struct Departing {
    partitions: Vec<i32>,
    _given_up: std::sync::mpsc::SyncSender<()>,
}

impl Attempt {
    fn place(&self) -> Place {
        match self {
            Attempt::Finished(place) => *place,
            Attempt::Again(pending, _) => pending.place,
        }
    }
}

fn settle(attempt: Attempt, queue: &mut Queue) {
    match attempt {
        Attempt::Finished(place) => queue.finish(place),
        Attempt::Again(pending, due) => queue.put_back(*pending, due),
    }
}

fn party(setting: &'static str, value: &str) -> Result<Party, MailerError> {
    value.parse().map_err(|_| MailerError::Address {
        setting,
        value: value.to_owned(),
    })
}

impl Sender {
    /// Puts what the outbox says into the queue.
    fn take(&self, event: OutboxEvent, queue: &mut Queue) -> Option<Departing> {
        match event {
            OutboxEvent::Mail {
                place,
                queued,
                record,
            } => {
                let due = record
                    .not_before
                    .as_deref()
                    .and_then(locale::parse_time)
                    .unwrap_or(queued);
                queue.add(
                    Pending {
                        place,
                        record: *record,
                        queued,
                        attempts: 0,
                        admitted: false,
                    },
                    due,
                );
                None
            }
            OutboxEvent::Skipped { place, why } => {
                queue.skip(place);
                match why {
                    Skipped::Done => self.count("already_done"),
                    Skipped::Unreadable => {
                        warn!(
                            partition = place.partition,
                            offset = place.offset,
                            "a record of the outbox is no mail, and was passed over"
                        );
                        self.count("unreadable");
                    }
                }
                None
            }
            OutboxEvent::Revoked {
                partitions,
                given_up,
            } => {
                queue.revoke(&partitions);
                Some(Departing {
                    partitions,
                    _given_up: given_up,
                })
            }
        }
    }

    /// Tries one mail once.
    async fn attempt(&self, courier: &Courier, mut pending: Pending) -> Attempt {
        let now = wall_clock();
        let to = match pending.record.to.parse::<Address>() {
            Ok(to) => to,
            Err(_) => {
                return self
                    .give_up(&pending, "the address on file is no mail address")
                    .await;
            }
        };
        if !pending.admitted {
            let key = pending.record.to.to_lowercase();
            if let Err(until) = self.per_address.check_key(&key) {
                self.count("delayed");
                let wait = until.wait_time_from(DefaultClock::default().now());
                let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                return self.again(pending, now.plus_ms(wait_ms + 1)).await;
            }
            pending.admitted = true;
        }
        pending.attempts += 1;
        let message = match self.compose(&pending.record, to, now) {
            Ok(message) => message,
            Err(why) => return self.give_up(&pending, &why).await,
        };
        match courier.send(message).await {
            Ok(()) => {
                self.count("sent");
                let delay_ms = wall_clock().since_ms(pending.queued).max(0);
                self.metrics
                    .mail_delay_seconds
                    .observe(Duration::from_millis(delay_ms.unsigned_abs()).as_secs_f64());
                debug!(mail = %pending.record.id, attempts = pending.attempts, "mail sent");
                self.receipt(&pending, "sent", None).await
            }
            Err(SendError::Never(why)) => self.give_up(&pending, &why).await,
            Err(SendError::Later(why)) => {
                self.count("retried");
                info!(
                    mail = %pending.record.id,
                    attempts = pending.attempts,
                    why,
                    "mail not accepted yet"
                );
                let wait_ms = self.schedule.wait_ms(pending.attempts, &pending.record.id);
                let now = wall_clock();
                let end = pending
                    .queued
                    .plus_ms(i64::try_from(self.retry_for.as_millis()).unwrap_or(i64::MAX));
                if now.plus_ms(wait_ms) > end {
                    return self.give_up(&pending, &why).await;
                }
                self.again(pending, now.plus_ms(wait_ms)).await
            }
        }
    }

    async fn again(&self, pending: Pending, due: Timestamp) -> Attempt {
        Attempt::Again(Box::new(pending), due)
    }

    /// The message with fresh links, or why there can be none.
    fn compose(
        &self,
        record: &MailRecord,
        to: Address,
        now: Timestamp,
    ) -> Result<lettre::Message, String> {
        let part = RecipientPart::parse(&record.part)
            .ok_or_else(|| format!("`{}` is no recipient's part", record.part))?;
        let links = self.mint(record, part, now)?;
        let content = content::render(record, part, links.as_ref(), &self.public_url, &self.site)
            .map_err(|error| error.to_string())?;
        message::build(
            &record.id,
            &self.from,
            self.reply_to.as_ref(),
            Party::new(None, to),
            content,
            now,
        )
        .map_err(|error| error.to_string())
    }

    fn mint(
        &self,
        record: &MailRecord,
        part: RecipientPart,
        now: Timestamp,
    ) -> Result<Option<Links>, String> {
        if part == RecipientPart::Notice {
            return Ok(None);
        }
        let stops = record.template == MAIL_HELD;
        let until = record.until.as_deref().and_then(locale::parse_time);
        // What can be stopped can be stopped until its end.
        let valid_until = now
            .plus_ms(i64::try_from(self.link_valid.as_millis()).unwrap_or(i64::MAX))
            .max(until.unwrap_or_default());
        let token = self
            .links
            .mint(&Link {
                case: record.case.as_str().into(),
                partition: record.partition,
                part,
                case_version: record.case_version,
                expires: valid_until,
            })
            .map_err(|error| error.to_string())?;
        let page = format!("{}/c/{token}", self.public_url);
        Ok(Some(Links {
            me: (part == RecipientPart::Owner && !stops).then(|| format!("{page}?answer=me")),
            not_me: match stops {
                true => format!("{page}?answer=cancel-recovery"),
                false => format!("{page}?answer=not-me"),
            },
            valid_until,
        }))
    }

    async fn give_up(&self, pending: &Pending, why: &str) -> Attempt {
        self.count("failed");
        warn!(
            mail = %pending.record.id,
            attempts = pending.attempts,
            why,
            "mail given up: its owner was not reached"
        );
        self.receipt(pending, "failed", Some(why)).await
    }

    /// Writes the receipt, for as long as it takes: a mail without one would be sent again.
    async fn receipt(&self, pending: &Pending, result: &str, detail: Option<&str>) -> Attempt {
        let receipt = ReceiptRecord {
            schema: SCHEMA,
            id: pending.record.id.clone(),
            result: result.to_owned(),
            time: wall_clock().to_string(),
            attempts: pending.attempts,
            detail: detail.map(str::to_owned),
        };
        // A struct of strings and numbers always has a JSON form.
        let payload = serde_json::to_vec(&receipt).unwrap_or_default();
        let mut partition = Some(pending.place.partition);
        let mut complained = false;
        loop {
            let written = self
                .publisher
                .publish(Record {
                    topic: &self.receipts,
                    partition,
                    key: Some(pending.record.id.as_bytes()),
                    payload: &payload,
                })
                .await;
            match written {
                Ok(()) => return Attempt::Finished(pending.place),
                // Fewer partitions than the outbox: any will do, since all are read.
                Err(error) if error.is_unknown_partition() && partition.is_some() => {
                    partition = None;
                }
                Err(error) => {
                    if !complained {
                        warn!(%error, "a receipt cannot be written for now");
                        complained = true;
                    }
                    tokio::time::sleep(pause_after(&error)).await;
                }
            }
        }
    }

    fn count(&self, result: &str) {
        self.metrics.mail_total.with_label_values(&[result]).inc();
    }

    fn count_waiting(&self, mails: usize) {
        self.metrics
            .mail_pending
            .set(i64::try_from(mails).unwrap_or(i64::MAX));
    }
}

/// A refusal comes at once, so it needs a pause; a timeout has had its own.
fn pause_after(error: &PublishError) -> Duration {
    match error {
        PublishError::Refused { .. } => Duration::from_secs(1),
        PublishError::Closed { .. } => Duration::from_secs(5),
    }
}
