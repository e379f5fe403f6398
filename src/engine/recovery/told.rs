//! Who hears of a recovery.

use std::sync::Arc;

use crate::engine::account::{Account, Contact};
use crate::engine::detect::contact;
use crate::engine::mailing;
use crate::engine::output::{CaseId, Mail, RecipientPart};
use crate::engine::work::Work;
use crate::event::Timestamp;

use super::{REASON, RULE, Recovery};

/// The mails about it: one with a button, and one that only tells.
pub const MAIL_HELD: &str = "recovery_held";
pub const MAIL_REFUSED: &str = "recovery_refused";
/// Its owner's mail did not arrive: to those who may stop it all the same.
pub const MAIL_HELD_UNREACHED: &str = "recovery_owner_unreached";
/// It went through: nothing is left to press.
pub const MAIL_RELEASED: &str = "recovery_released";
/// Mails that refusals and repeats leave free, or whoever may not recover the account could
/// keep its owner from it.
const KEPT_FOR_HOLDS: usize = 1;

/// Tells everybody that somebody who may not asked for a recovery. There is nothing to
/// answer, so the mail has no links. `true` where the durable record changed.
pub fn tell_of_refusal(
    work: &mut Work<'_>,
    account: &mut Account,
    id: &str,
    told: Option<&Contact>,
) -> bool {
    let now = work.now;
    let mut to = recipients(account, told, now);
    if to.is_empty() {
        work.out.counts.mail_no_address += 1;
        return false;
    }
    let recoveries = account.rest_mut().recoveries.get_or_insert_default();
    if !mailing::may_send(&mut recoveries.mails, KEPT_FOR_HOLDS, now) {
        work.out.counts.mail_capped += 1;
        return false;
    }
    for (_, part) in &mut to {
        *part = RecipientPart::Notice;
    }
    let refused = Mail {
        template: Arc::from(MAIL_REFUSED),
        locale: told.and_then(|contact| contact.locale.clone()),
        account_name: told.and_then(|contact| contact.name.clone()),
        account: Arc::from(work.event.event.account.as_deref().unwrap_or("")),
        case: CaseId(Arc::from(id)),
        case_version: 0,
        ..blank_mail(work)
    };
    work.send(to, "", &refused);
    true
}

/// The mail once more, for a link that got lost; the caps hold here, too.
pub fn resend(work: &mut Work<'_>, account: &mut Account) -> bool {
    let now = work.now;
    let Some(held) = account.recovery().cloned() else {
        return false;
    };
    let to = recipients(account, held.contact.as_deref(), now);
    if to.is_empty() {
        work.out.counts.mail_no_address += 1;
        return false;
    }
    let recoveries = account.rest_mut().recoveries.get_or_insert_default();
    if !mailing::may_send(&mut recoveries.mails, KEPT_FOR_HOLDS, now) {
        work.out.counts.mail_capped += 1;
        return false;
    }
    let again = work.event.event.id.to_string();
    mail(work, &held, to, &again);
    true
}

/// Tells everybody that the recovery went through. Whoever did not ask for it must hear of
/// it, and nothing can silence the mails about what is still held.
pub fn tell_of_release(work: &mut Work<'_>, account: &mut Account, held: &Recovery) {
    let now = work.now;
    let to = recipients(account, held.contact.as_deref(), now);
    if to.is_empty() {
        work.out.counts.mail_no_address += 1;
    } else if mailing::may_tell(account.rest_mut(), now) {
        let mail = Mail {
            template: Arc::from(MAIL_RELEASED),
            ..mail_about(work, held)
        };
        work.send(to, "", &mail);
    } else {
        work.out.counts.mail_untold += 1;
    }
}

/// Tells those who are left that the owner does not hear of what is held. It follows from a
/// mail that was within the caps, once for each address, so it has none of its own.
pub fn tell_unreached(work: &mut Work<'_>, held: &Recovery, to: Recipients) {
    let mail = Mail {
        template: Arc::from(MAIL_HELD_UNREACHED),
        ..mail_about(work, held)
    };
    let again = work.event.event.id.to_string();
    work.send(to, &again, &mail);
}

pub fn mail(work: &mut Work<'_>, held: &Recovery, to: Recipients, again: &str) {
    let mail = mail_about(work, held);
    work.send(to, again, &mail);
}

fn mail_about(work: &Work<'_>, held: &Recovery) -> Mail {
    Mail {
        template: Arc::from(MAIL_HELD),
        locale: held.contact.as_ref().and_then(|c| c.locale.clone()),
        account_name: held.contact.as_ref().and_then(|c| c.name.clone()),
        account: Arc::from(&*held.account),
        case: held.case_id(),
        case_version: held.version,
        time: held.requests.first().map_or(held.opened, |r| r.time),
        evidence: held.requests.iter().rev().cloned().collect(),
        device: held.device.clone(),
        until: Some(held.until),
        ..blank_mail(work)
    }
}

fn blank_mail(work: &Work<'_>) -> Mail {
    Mail {
        id: String::new(),
        to: Box::default(),
        part: RecipientPart::Notice,
        template: Arc::from(MAIL_HELD),
        locale: None,
        account_name: None,
        account: Arc::default(),
        partition: work.source.partition,
        case: CaseId(Arc::default()),
        case_version: 0,
        rule: Arc::from(RULE),
        reason: Arc::from(REASON),
        locked: None,
        time: work.event.time,
        evidence: Vec::new(),
        device: None,
        until: None,
    }
}

pub type Recipients = Vec<(Box<str>, RecipientPart)>;

pub fn recipients(account: &Account, contact: Option<&Contact>, now: Timestamp) -> Recipients {
    let rest = account.rest.as_deref();
    let change = rest.and_then(|rest| rest.email_change.as_ref());
    mailing::recipients(contact, change, now)
}

/// Where mail goes, by this event and everything newer that the account holds.
pub fn known_contact(work: &Work<'_>, account: &Account) -> Option<Contact> {
    let held = account.recovery().and_then(|held| held.contact.as_deref());
    let case = account.case().and_then(|case| case.contact.as_deref());
    let rules = account.rest.iter().flat_map(|rest| &rest.rules);
    let rules = rules.filter_map(|rule| rule.contact.as_deref());
    contact(work.event)
        .into_iter()
        .chain(held.into_iter().chain(case).chain(rules).cloned())
        .reduce(Contact::merged_with)
}
