//! The mailer: from the outbox topic to the owner's mailbox.
//!
//! [`plan`] makes every decision: what is sent when, which receipt is written, how far the
//! outbox is dealt with. [`outbox`] reads it and commits, [`sender`] and [`transport`] send,
//! [`content`] says what a mail says. This file passes facts to the plan and does what it
//! answers. Links are minted at sending, so that no token ever stands in Kafka and each
//! attempt carries a fresh one. It knows nothing of rules and accounts: a mail is a record.

pub mod bounce;
pub mod clock;
pub mod content;
pub mod message;
pub mod outbox;
pub mod plan;
mod sender;
pub mod signature;
pub mod transport;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lettre::message::Mailbox as Party;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::link::{KeyError, LinkKeys, mac_keys};
use crate::metrics::Metrics;
use crate::publish::{Publisher, wall_clock};
use crate::shard::control::Pulse;
use clock::Clock;
use outbox::{Outbox, OutboxError, OutboxEvent};
pub use plan::schedule::RetrySchedule;
use plan::{Intake, Limits, Outcome, Plan, Settings, Settled, Step};
use sender::{Landed, Sender};
use transport::{Courier, Transport};

/// How long a shutdown waits for answers of the mail server and for receipts.
const DRAIN: Duration = Duration::from_secs(10);
/// How long one receipt is tried before it is tried anew.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often old connections are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Records that are taken in before mails get their turn again.
const INTAKE: usize = 256;

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
    #[error("mail.dkim.key: {0}")]
    Signature(#[from] signature::SignatureError),
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
    plan: Plan,
    clock: Clock,
    metrics: Arc<Metrics>,
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
        Mailer::start_within(
            config,
            transport,
            schedule,
            Limits::new(config.mail.connections),
            metrics,
        )
    }

    /// The same with other bounds than the default ones.
    ///
    /// # Errors
    /// As [`Mailer::start`].
    pub fn start_within(
        config: &Config,
        transport: Transport,
        schedule: RetrySchedule,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Mailer, MailerError> {
        let mail = &config.mail;
        let sender = Sender {
            links: LinkKeys::new(&config.keys.link)?,
            publisher: Publisher::new(&config.kafka, RECEIPT_TIMEOUT)?,
            receipts: config.topics.receipts.clone(),
            events: config.topics.events.clone(),
            answer_keys: mac_keys(&config.keys.answer),
            from: party("from", &mail.from)?,
            reply_to: mail
                .reply_to
                .as_deref()
                .map(|reply_to| party("reply_to", reply_to))
                .transpose()?,
            site: config.site.clone(),
            public_url: config.web.public_url.clone(),
            link_valid: config.web.link_valid,
            typed_code: config.web.typed_code,
            signer: mail.dkim.as_ref().map(signature::signer).transpose()?,
        };
        let plan = Plan::new(Settings {
            limits,
            schedule,
            retry_for: mail.retry_for,
            per_hour: mail.per_hour,
            // The rest is for the commit's own way to the broker.
            lease: config.kafka.session_timeout / 4 * 3,
        });
        let clock = Clock::start();
        Ok(Mailer {
            outbox: Outbox::open(
                &config.kafka,
                &config.topics,
                clock,
                transport::answer_within(mail.timeout),
            )?,
            transport,
            sender,
            plan,
            clock,
            metrics,
        })
    }

    /// The sign of life of the thread that speaks to Kafka; silent for longer than
    /// [`outbox::MAX_POLL_INTERVAL`], it hangs.
    pub fn pulse(&self) -> Pulse {
        self.outbox.pulse()
    }

    /// Sends until `shutdown` is ready, then waits for what the server may be taking, at most
    /// 10 s, and commits how far it came.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Mailer {
            mut outbox,
            transport,
            sender,
            plan,
            clock,
            metrics,
        } = self;
        let courier = transport.courier();
        let mut shutdown = pin!(shutdown);
        let mut desk = Desk {
            plan,
            clock,
            sender: &sender,
            courier: &courier,
            metrics: &metrics,
            under_way: FuturesUnordered::new(),
            departing: Vec::new(),
        };
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            desk.start_attempts();
            desk.report(&outbox);
            let wait = desk.wait();
            tokio::select! {
                () = &mut shutdown => break,
                Some(landed) = desk.under_way.next(), if !desk.under_way.is_empty() => {
                    desk.land(landed);
                }
                event = outbox.events.recv() => match event {
                    Some(event) => {
                        desk.take(event);
                        for _ in 0..INTAKE {
                            let Ok(event) = outbox.events.try_recv() else { break };
                            desk.take(event);
                        }
                    }
                    // The thread ends by itself only by a panic; the supervisor restarts us.
                    None => break,
                },
                () = tokio::time::sleep(wait) => {}
                _ = tidy.tick() => desk.tidy(),
            }
        }
        if tokio::time::timeout(DRAIN, desk.drain()).await.is_err() {
            warn!(
                "the mail server or Kafka still had not answered at shutdown; a mail may be sent again by the next start"
            );
        }
        outbox.commit(desk.plan.positions());
        drop(desk);
        courier.tidy(true).await;
        outbox.close().await;
    }
}

fn party(setting: &'static str, value: &str) -> Result<Party, MailerError> {
    value.parse().map_err(|_| MailerError::Address {
        setting,
        value: value.to_owned(),
    })
}

/// The plan, and what is being done for it.
struct Desk<'a> {
    plan: Plan,
    clock: Clock,
    sender: &'a Sender,
    courier: &'a Courier,
    metrics: &'a Metrics,
    under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send + 'a>>>,
    departing: Vec<Departing>,
}

/// Partitions that go once no mail of them may just be taken. Dropping it lets them go.
struct Departing {
    partitions: Vec<i32>,
    _given_up: std::sync::mpsc::SyncSender<()>,
}

impl Desk<'_> {
    fn start_attempts(&mut self) {
        let (sender, courier) = (self.sender, self.courier);
        while let Some(step) = self.plan.next(self.clock.now()) {
            match step {
                Step::Send(job) => self.under_way.push(Box::pin(sender.prepare(courier, job))),
                Step::Delayed => self.count("delayed"),
                Step::GiveUp(ticket, receipt) => {
                    self.given_up(&receipt.record.id, receipt.record.detail.as_deref());
                    self.under_way
                        .push(Box::pin(sender.record(ticket, receipt)));
                }
            }
        }
    }

    /// Goes on with what one step ended with.
    fn land(&mut self, landed: Landed) {
        let (sender, courier) = (self.sender, self.courier);
        let now = self.clock.now();
        let (job, outcome) = match landed {
            Landed::Ready { job, ready } => {
                if self.plan.pass(job.ticket, now) {
                    self.under_way
                        .push(Box::pin(sender.hand_over(courier, job, ready)));
                    return;
                }
                (job, Outcome::Withdrawn)
            }
            Landed::Ended { job, outcome } => (job, outcome),
            Landed::Recorded(ticket) => return self.plan.recorded(ticket),
            Landed::Tidied => return,
        };
        let id = &job.record.id;
        match &outcome {
            Outcome::Sent => {
                self.count("sent");
                let delay_ms = wall_clock().since_ms(job.queued).max(0);
                let delay = Duration::from_millis(delay_ms.unsigned_abs());
                self.metrics.mail_delay_seconds.observe(delay.as_secs_f64());
                debug!(mail = %id, "mail sent");
            }
            Outcome::Later(why) => {
                self.count("retried");
                info!(mail = %id, why, "mail not accepted yet");
            }
            Outcome::Unclear(why) => {
                self.count("unclear");
                warn!(mail = %id, why, "the mail server may have this mail; it is sent again");
            }
            Outcome::Never(_) => {}
            Outcome::Withdrawn => debug!(mail = %id, "left to whoever has its partition"),
        }
        if let Settled::Write(receipt) = self.plan.settle(job.ticket, outcome, now) {
            if receipt.record.result == "failed" {
                self.given_up(id, receipt.record.detail.as_deref());
            }
            self.under_way
                .push(Box::pin(sender.record(job.ticket, receipt)));
        }
    }

    /// Tells the plan what the outbox says.
    fn take(&mut self, event: OutboxEvent) {
        let now = self.clock.now();
        match event {
            OutboxEvent::Record {
                place,
                queued,
                payload,
            } => match self.plan.read(place, queued, &payload, now) {
                Intake::Taken | Intake::InHand => {}
                Intake::SetAside => self.count("set_aside"),
                Intake::Done => self.count("already_done"),
                Intake::Unreadable => {
                    warn!(
                        partition = place.partition,
                        offset = place.offset,
                        "a record of the outbox is no mail, and was passed over"
                    );
                    self.count("unreadable");
                }
            },
            OutboxEvent::Receipts(keys) => {
                for key in keys {
                    self.plan.receipt(key);
                }
            }
            OutboxEvent::Renewed(asked) => self.plan.renew(asked),
            OutboxEvent::Expelled => self.plan.expel(),
            OutboxEvent::Rewound { partition, offset } => {
                self.plan.rewound(partition, offset, now);
            }
            OutboxEvent::NotRewound { partition } => self.plan.not_rewound(partition, now),
            OutboxEvent::Revoked {
                partitions,
                given_up,
            } => {
                self.plan.revoke(&partitions);
                self.departing.push(Departing {
                    partitions,
                    _given_up: given_up,
                });
            }
        }
    }

    /// Hands over what the outbox has to do, and lets go what may go.
    fn report(&mut self, outbox: &Outbox) {
        outbox.commit(self.plan.positions());
        let plan = &mut self.plan;
        self.departing.retain(|departing| {
            let awaits = plan.awaits(&departing.partitions);
            if !awaits {
                plan.gone(&departing.partitions);
            }
            awaits
        });
        outbox.rewind(self.plan.rewind(self.clock.now()));
        let pending = self.plan.pending();
        self.metrics
            .mail_pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    fn wait(&self) -> Duration {
        let wait_ms = self.plan.wake_in_ms(self.clock.now());
        let wait_ms = wait_ms.unwrap_or(i64::MAX).clamp(0, 60_000);
        Duration::from_millis(wait_ms.unsigned_abs())
    }

    fn tidy(&mut self) {
        let courier = self.courier;
        self.under_way.push(Box::pin(async move {
            courier.tidy(false).await;
            Landed::Tidied
        }));
    }

    /// Waits for what the server may be taking; what it is not, the next start sends.
    async fn drain(&mut self) {
        while self.plan.is_past_gate() {
            match self.under_way.next().await {
                Some(Landed::Ready { .. }) => {}
                Some(landed) => self.land(landed),
                None => return,
            }
        }
    }

    fn given_up(&self, mail: &str, why: Option<&str>) {
        self.count("failed");
        warn!(mail, why, "mail given up: its owner was not reached");
    }

    fn count(&self, result: &str) {
        self.metrics.mail_total.with_label_values(&[result]).inc();
    }
}
