//! Mails that will not arrive: what is remembered of them, and who hears of it instead.
//!
//! The mailer publishes `mail_bounced` on the account's partition before it writes the mail's
//! receipt; here it is read back. A bounce gives nobody a link that opens anything: co-owners
//! hear that the owner was not reached, and may say what they could say before. Whoever can
//! make an address bounce gains nothing by it.

use minicbor::{Decode, Encode};

use crate::event::Timestamp;

use super::account::{Account, list_bytes, text_bytes};
use super::control::{count_answer, genuine};
use super::mailing::MAX_CO_OWNERS;
use super::output::RecipientPart;
use super::recovery::hold;
use super::trace::Declined;
use super::work::Work;

/// Addresses that one case remembers: an owner's two, and the co-owners'.
const MAX_BOUNCED: usize = MAX_CO_OWNERS + 2;

/// An address that a mail about a case did not reach.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Bounced {
    #[n(0)]
    pub address: Box<str>,
    #[n(1)]
    pub part: RecipientPart,
    /// Broker time.
    #[n(2)]
    pub time: Timestamp,
}

/// What follows from a bounce.
#[derive(Debug, PartialEq, Eq)]
pub enum Follows {
    /// Somebody else has the mail, who knows as much.
    Nothing,
    /// The owner was not reached, and these co-owners may have been.
    Tell(Vec<(Box<str>, RecipientPart)>),
    /// Nobody is left.
    Nobody,
}

/// Applies a genuine bounce to its account. `true` where the durable record changed.
pub fn apply(work: &mut Work<'_>, account: &mut Account) -> bool {
    let event = work.event.event;
    let Some(control) = genuine(work, event) else {
        return false;
    };
    let named = event.case.as_deref().unwrap_or("");
    let to = control.to.as_deref().unwrap_or("");
    let applied = if account.recovery().is_some_and(|held| *held.id == *named) {
        hold::bounced(work, account, to)
    } else {
        of_case(work, account, named, to)
    };
    count_answer(work, applied)
}

/// A bounce of a mail about the account's case. Where that is closed, nobody waits for an
/// answer any more.
fn of_case(
    work: &mut Work<'_>,
    account: &mut Account,
    named: &str,
    to: &str,
) -> Result<(), Declined> {
    let told = work.told(account);
    let now = work.now;
    let rest = account.rest.as_deref_mut();
    let case = rest
        .and_then(|rest| rest.case.as_deref_mut())
        .ok_or(Declined::NoCase)?;
    if *case.id != *named {
        let current = case.case_id();
        return Err(Declined::OtherCase { current });
    }
    if !case.state.is_open() {
        return Err(Declined::InState(case.state));
    }
    let follows = note(&mut case.bounced, &told, to, now)?;
    // In the same version: what the owner is asked did not change.
    let case = case.clone();
    work.show(&case);
    match follows {
        Follows::Nothing => {}
        Follows::Tell(left) => work.tell_unreached(account, left),
        Follows::Nobody => work.unreached(case.case_id()),
    }
    Ok(())
}

/// Remembers that the mail to `to` bounced; `told` are all who were to hear, the owner first.
///
/// # Errors
/// Where that is known already, or `to` is nobody's address any more.
pub fn note(
    bounced: &mut Vec<Bounced>,
    told: &[(Box<str>, RecipientPart)],
    to: &str,
    now: Timestamp,
) -> Result<Follows, Declined> {
    let mut all = told.iter();
    let (address, part) = all
        .find(|(address, _)| **address == *to)
        .ok_or(Declined::NotAddressed)?;
    let is_lost =
        |bounced: &[Bounced], address: &str| bounced.iter().any(|lost| *lost.address == *address);
    if is_lost(bounced, to) {
        return Err(Declined::Repeated);
    }
    if bounced.len() >= MAX_BOUNCED {
        return Err(Declined::TooMany);
    }
    bounced.reserve_exact(1);
    bounced.push(Bounced {
        address: address.clone(),
        part: *part,
        time: now,
    });
    let asked = told
        .first()
        .filter(|(_, part)| *part != RecipientPart::CoOwner);
    let is_asked = asked.is_some_and(|(address, _)| **address == *to);
    // A second address that only gets a notice may be a stranger's: whether that has its mail
    // says nothing.
    if !is_asked && *part == RecipientPart::Notice {
        return Ok(Follows::Nothing);
    }
    let left: Vec<_> = told
        .iter()
        .filter(|(address, part)| *part == RecipientPart::CoOwner && !is_lost(bounced, address))
        .cloned()
        .collect();
    let owner_lost = asked.is_none_or(|(address, _)| is_lost(bounced, address));
    Ok(match (owner_lost, left.is_empty()) {
        (true, true) => Follows::Nobody,
        (true, false) if is_asked => Follows::Tell(left),
        _ => Follows::Nothing,
    })
}

/// Bytes of a list of them, beside the list itself.
pub fn heap_bytes(bounced: &Vec<Bounced>) -> usize {
    let addresses = bounced.iter().map(|lost| text_bytes(&lost.address));
    list_bytes(bounced) + addresses.sum::<usize>()
}
