//! Who is told, and how often: recipients, the seven days after a change of address, and
//! the caps per account (ARCHITECTURE.md, the owner's mail).

use crate::event::{DAY_MS, HOUR_MS, Timestamp};

use super::account::{Contact, EmailChange, Rest};
use super::output::RecipientPart;

/// For this long after `email_changed`, links go to the previous address only.
pub const EMAIL_CHANGE_MS: i64 = 7 * DAY_MS;
/// At most this many mails in an hour and in 48 h of broker time.
const PER_HOUR: usize = 3;
const PER_LONG: usize = 10;
pub const LONG_MS: i64 = 48 * HOUR_MS;
/// Co-owners who are told.
pub const MAX_CO_OWNERS: usize = 16;
/// Bytes of an address, by RFC 5321's limit on a path.
const MAX_ADDRESS: usize = 254;

/// Whether an account may get one more mail about a case, and if so notes it. A case of
/// failures only may not use the last slot, or noise could silence the mail about the real
/// theft.
pub fn may_mail(rest: &mut Rest, only_failures: bool, now: Timestamp) -> bool {
    may_send(&mut rest.mails, usize::from(only_failures), now)
}

/// Whether one more mail may join those `sent`, with `spare` slots left free; notes it then.
pub fn may_send(sent: &mut Vec<Timestamp>, spare: usize, now: Timestamp) -> bool {
    sent.retain(|sent| now.since_ms(*sent) < LONG_MS);
    let last_hour = sent
        .iter()
        .filter(|sent| now.since_ms(**sent) < HOUR_MS)
        .count();
    if last_hour + spare >= PER_HOUR || sent.len() + spare >= PER_LONG {
        return false;
    }
    sent.push(now);
    true
}

/// Whether mail can be sent to `address` at all.
pub fn is_usable(address: &str) -> bool {
    (3..=MAX_ADDRESS).contains(&address.len())
        && address.contains('@')
        && !address.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Everybody to tell, the owner first. Empty where no address is known.
pub fn recipients(
    contact: Option<&Contact>,
    change: Option<&EmailChange>,
    now: Timestamp,
) -> Vec<(Box<str>, RecipientPart)> {
    let mut to: Vec<(Box<str>, RecipientPart)> = Vec::new();
    let mut add = |address: &str, part: RecipientPart| {
        if is_usable(address) && !to.iter().any(|(known, _)| **known == *address) {
            to.push((address.into(), part));
        }
    };
    let recent = change.filter(|change| now.since_ms(change.at) < EMAIL_CHANGE_MS);
    if let Some(change) = recent {
        add(&change.previous, RecipientPart::Owner);
    }
    if let Some(contact) = contact {
        if let Some(email) = &contact.email {
            let trusted = contact.verified && recent.is_none();
            add(
                email,
                if trusted {
                    RecipientPart::Owner
                } else {
                    RecipientPart::Notice
                },
            );
        }
        for owner in contact.owners.iter().take(MAX_CO_OWNERS) {
            add(owner, RecipientPart::CoOwner);
        }
    }
    to
}
