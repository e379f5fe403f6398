//! What became of a mail, as it is written down.

use std::sync::Arc;

use super::waiting::Mail;
use super::{Now, Place};
use crate::record::{MailRecord, ReceiptRecord, SCHEMA};

/// A receipt to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The partition of the mail, and so of the receipt.
    pub partition: i32,
    pub record: ReceiptRecord,
    /// The mail where it will not arrive, and why: [`crate::mail::bounce::event`] must be in the
    /// log before the receipt is.
    pub bounced: Option<(Arc<MailRecord>, Lost)>,
}

/// Why a mail will not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nobody takes it, now or later.
    Refused,
    /// It was tried for as long as mails are.
    TimeUp,
}

impl Lost {
    pub fn as_str(self) -> &'static str {
        match self {
            Lost::Refused => "refused",
            Lost::TimeUp => "time_up",
        }
    }
}

pub(super) fn sent(place: Place, mail: &Mail, now: Now) -> Receipt {
    receipt(place, mail, "sent", None, now)
}

pub(super) fn failed(place: Place, mail: &Mail, lost: Lost, why: &str, now: Now) -> Receipt {
    Receipt {
        bounced: Some((Arc::clone(&mail.record), lost)),
        ..receipt(place, mail, "failed", Some(why), now)
    }
}

fn receipt(place: Place, mail: &Mail, result: &str, detail: Option<&str>, now: Now) -> Receipt {
    Receipt {
        partition: place.partition,
        record: ReceiptRecord {
            schema: SCHEMA,
            id: mail.record.id.clone(),
            result: result.to_owned(),
            time: now.wall.to_string(),
            attempts: mail.attempts,
            detail: detail.map(str::to_owned),
        },
        bounced: None,
    }
}
