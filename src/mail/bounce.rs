//! A mail that will not arrive, as the event that tells the engine.
//!
//! It is published before the mail's receipt: whoever dies in between finds the mail without
//! one, tries it again, and tells again. The engine knows a repeat by the case and the
//! address, so nothing is told twice and nothing is lost.

use crate::event::Timestamp;
use crate::event::wire::{self, MacKeys};
use crate::record::MailRecord;

use super::plan::Lost;

/// The message for `mail`, for the account's own partition, signed by the newest of `keys`.
pub fn event(mail: &MailRecord, lost: Lost, time: Timestamp, keys: &MacKeys) -> Vec<u8> {
    wire::mail_bounced(
        &wire::MailBounced {
            id: &id_of(&mail.id),
            account: &mail.account,
            case: &mail.case,
            case_version: mail.case_version,
            to: &mail.to,
            by: &mail.part,
            reason: lost.as_str(),
            time,
        },
        keys,
    )
}

/// `m-5f2a` bounces as `b-5f2a`, so that support finds the one by the other.
fn id_of(mail: &str) -> String {
    format!("b-{}", mail.strip_prefix("m-").unwrap_or(mail))
}
