//! The three things that take time: preparing a mail, handing it over, writing its receipt.
//!
//! Nothing is decided here; each ends as a [`Landed`] for the plan.

use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox as Party;
use lettre::message::dkim::DkimConfig;
use tracing::{info, warn};

use super::bounce;
use super::content::{self, Leads, Links};
use super::message;
use super::plan::{Job, Outcome, Receipt, Ticket};
use super::transport::{Courier, Ready, SendError};
use crate::config::Site;
use crate::engine::output::RecipientPart;
use crate::event::Timestamp;
use crate::event::wire::MacKeys;
use crate::link::{Link, LinkKeys};
use crate::locale;
use crate::publish::{PublishError, Publisher, Record, wall_clock};
use crate::record::MailRecord;

/// What sending needs; shared by all mails that are being sent.
pub struct Sender {
    pub links: LinkKeys,
    pub publisher: Publisher,
    /// The topic of receipts.
    pub receipts: String,
    /// The topic of events, and the keys that sign what is told there.
    pub events: String,
    pub answer_keys: MacKeys,
    pub from: Party,
    pub reply_to: Option<Party>,
    pub site: Site,
    pub public_url: String,
    pub link_valid: Duration,
    /// Whether the page asks for the code that stands in the mail.
    pub typed_code: bool,
    pub signer: Option<DkimConfig>,
}

/// What ended.
pub enum Landed {
    /// The server waits for the mail's text.
    Ready {
        job: Job,
        ready: Ready,
    },
    Ended {
        job: Job,
        outcome: Outcome,
    },
    /// The receipt is in the log.
    Recorded(Ticket),
    /// Old connections were ended.
    Tidied,
}

impl Sender {
    /// One attempt as far as nothing is sent.
    pub async fn prepare(&self, courier: &Courier, job: Job) -> Landed {
        let message = match self.compose(&job.record, wall_clock()) {
            Ok(message) => message,
            Err(why) => {
                return Landed::Ended {
                    job,
                    outcome: Outcome::Never(why),
                };
            }
        };
        match courier.prepare(message).await {
            Ok(ready) => Landed::Ready { job, ready },
            Err(error) => Landed::Ended {
                job,
                outcome: outcome(Err(error)),
            },
        }
    }

    /// The rest of it.
    pub async fn hand_over(&self, courier: &Courier, job: Job, ready: Ready) -> Landed {
        Landed::Ended {
            outcome: outcome(courier.hand_over(ready).await),
            job,
        }
    }

    /// Writes a receipt, and before it what it says of a bounce, for as long as it takes: a
    /// mail without a receipt would be sent again, and one whose bounce nobody hears of leaves
    /// its account locked with nobody told.
    pub async fn record(&self, ticket: Ticket, receipt: Receipt) -> Landed {
        if let Some((mail, lost)) = &receipt.bounced {
            let payload = bounce::event(mail, *lost, wall_clock(), &self.answer_keys);
            let event = Record {
                topic: &self.events,
                partition: Some(mail.partition),
                key: Some(mail.account.as_bytes()),
                payload: &payload,
            };
            if !self.write("a bounce", event).await {
                warn!(
                    mail = %mail.id,
                    partition = mail.partition,
                    "the events topic lacks the partition of this mail's account: its co-owners cannot be told that it bounced"
                );
            }
        }
        // A struct of strings and numbers always has a JSON form.
        let payload = serde_json::to_vec(&receipt.record).unwrap_or_default();
        let mut record = Record {
            topic: &self.receipts,
            partition: Some(receipt.partition),
            key: Some(receipt.record.id.as_bytes()),
            payload: &payload,
        };
        // Fewer partitions than the outbox: any will do, since all are read.
        while !self.write("a receipt", record).await {
            record.partition = None;
        }
        Landed::Recorded(ticket)
    }

    /// Writes `record`, however long it takes; false where there is no such partition.
    async fn write(&self, what: &str, record: Record<'_>) -> bool {
        let mut complained = false;
        loop {
            match self.publisher.publish(record).await {
                Ok(()) => {
                    if complained {
                        info!(topic = record.topic, "{what} could be written after all");
                    }
                    return true;
                }
                Err(error) if error.is_unknown_partition() && record.partition.is_some() => {
                    return false;
                }
                Err(error) => {
                    if !complained {
                        warn!(%error, "{what} cannot be written for now");
                        complained = true;
                    }
                    tokio::time::sleep(pause_after(&error)).await;
                }
            }
        }
    }

    /// The message with fresh links, or why there can be none.
    fn compose(&self, record: &MailRecord, now: Timestamp) -> Result<lettre::Message, String> {
        let to: Address = record
            .to
            .parse()
            .map_err(|_| "the address on file is no mail address".to_owned())?;
        let part = RecipientPart::parse(&record.part)
            .ok_or_else(|| format!("`{}` is no recipient's part", record.part))?;
        let links = self.mint(record, part, now)?;
        let content = content::render(record, part, links.as_ref(), &self.public_url, &self.site)
            .map_err(|error| error.to_string())?;
        let mut message = message::build(
            &record.id,
            &self.from,
            self.reply_to.as_ref(),
            Party::new(None, to),
            content,
            now,
        )
        .map_err(|error| error.to_string())?;
        if let Some(signer) = &self.signer {
            message.sign(signer);
        }
        Ok(message)
    }

    fn mint(
        &self,
        record: &MailRecord,
        part: RecipientPart,
        now: Timestamp,
    ) -> Result<Option<Links>, String> {
        let Some(leads) = Leads::of(&record.template, part) else {
            return Ok(None);
        };
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
        let asks_me = leads == Leads::Question && part == RecipientPart::Owner;
        let code = (asks_me && self.typed_code).then(|| self.links.code(&token));
        Ok(Some(Links {
            me: asks_me.then(|| format!("{page}?answer=me")),
            not_me: match leads {
                Leads::Recovery => format!("{page}?answer=cancel-recovery"),
                Leads::Question | Leads::NotMe => format!("{page}?answer=not-me"),
                Leads::On => page,
            },
            code,
            valid_until,
        }))
    }
}

fn outcome(result: Result<(), SendError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Sent,
        Err(SendError::Never(why)) => Outcome::Never(why),
        Err(SendError::Later(why)) => Outcome::Later(why),
        Err(SendError::Unclear(why)) => Outcome::Unclear(why),
    }
}

/// A refusal comes at once, so it needs a pause; a timeout has had its own.
fn pause_after(error: &PublishError) -> Duration {
    match error {
        PublishError::Refused { .. } => Duration::from_secs(1),
        PublishError::Closed { .. } => Duration::from_secs(5),
    }
}
