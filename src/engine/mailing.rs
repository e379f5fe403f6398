//! Who is told, and how often: recipients, the seven days after a change of address, and
//! the caps per account (ARCHITECTURE.md, the owner's mail).

use crate::event::{DAY_MS, HOUR_MS, Timestamp};

use super::account::{Contact, EmailChange, Rest};
use super::output::RecipientPart;
use super::recovery::MAIL_RELEASED;

/// For this long after `email_changed`, links go to the previous address only.
pub const EMAIL_CHANGE_MS: i64 = 7 * DAY_MS;
/// At most this many mails in an hour and in 48 h of broker time.
const PER_HOUR: usize = 3;
const PER_LONG: usize = 10;
pub const LONG_MS: i64 = 48 * HOUR_MS;
/// Slots that a mail which somebody asked for again leaves free within 48 h, or whoever knows
/// a case's reference could use up the account's mails before the real theft.
const KEPT_FROM_RESENDS: usize = 3;
/// Co-owners who are told.
pub const MAX_CO_OWNERS: usize = 16;
/// Bytes of an address, by RFC 5321's limit on a path.
const MAX_ADDRESS: usize = 254;

/// The mails that ask nothing and tell how a case stands.
pub const MAIL_UNLOCKED: &str = "unlocked";
pub const MAIL_SECURED: &str = "secured";
/// The owner is back in.
pub const MAIL_RECOVERED: &str = "recovered";

/// The owner's own mail did not arrive: to the co-owners, who may say "this wasn't the owner",
/// and where that was said already.
pub const MAIL_UNREACHED: &str = "owner_unreached";
pub const MAIL_UNREACHED_SECURED: &str = "owner_unreached_secured";

/// Whether a mail asks nothing, by its template: such mails have caps of their own.
pub fn is_calm(template: &str) -> bool {
    [MAIL_UNLOCKED, MAIL_SECURED, MAIL_RECOVERED, MAIL_RELEASED].contains(&template)
}

/// Why a mail that asks something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    First,
    /// Somebody with a link, or with the case's reference, wants it once more.
    Again,
}

/// Whether an account may get one more mail about a case, and if so notes it. A case of
/// failures only may not use the last slot, or noise could silence the mail about the real
/// theft; one that is sent again leaves more.
pub fn may_mail(rest: &mut Rest, only_failures: bool, sending: Sending, now: Timestamp) -> bool {
    if sending == Sending::Again {
        let room = has_room(&rest.mails, 1, KEPT_FROM_RESENDS, now);
        return room && may_send(&mut rest.mails, 1, now);
    }
    may_send(&mut rest.mails, usize::from(only_failures), now)
}

/// Whether one more mail may join those `sent`, with `spare` slots left free; notes it then.
pub fn may_send(sent: &mut Vec<Timestamp>, spare: usize, now: Timestamp) -> bool {
    sent.retain(|sent| now.since_ms(*sent) < LONG_MS);
    let room = has_room(sent, spare, spare, now);
    if room {
        sent.push(now);
    }
    room
}

fn has_room(sent: &[Timestamp], spare_hour: usize, spare_long: usize, now: Timestamp) -> bool {
    let within = |ms| sent.iter().filter(|sent| now.since_ms(**sent) < ms).count();
    within(HOUR_MS) + spare_hour < PER_HOUR && within(LONG_MS) + spare_long < PER_LONG
}

/// Whether an account may get one more mail that asks nothing, and if so notes it. It keeps
/// within the caps together with those that ask, and takes no slot from them: the next that
/// asks goes out however many of these were sent.
pub fn may_tell(rest: &mut Rest, now: Timestamp) -> bool {
    let calm = rest.calm.as_deref().unwrap_or_default();
    let room = has_room(&[&rest.mails, calm].concat(), 0, 0, now);
    if room {
        rest.calm.get_or_insert_default().push(now);
    }
    room
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
