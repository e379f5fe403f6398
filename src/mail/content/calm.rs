//! What the mails say that ask nothing: how a case stands by now.

use super::{Choice, Links, Said, own};
use crate::engine::output::RecipientPart;
use crate::locale::Words;

/// The lock is lifted.
pub(super) fn unlocked(part: RecipientPart, w: &Words) -> Said<'_> {
    let m = &w.mail;
    let owner = part == RecipientPart::Owner;
    Said {
        subject: own(owner, &m.subject_unlocked, &m.subject_unlocked_others),
        heading: own(owner, &m.heading_unlocked, &m.heading_notice),
        happened: own(owner, &m.unlocked, &m.unlocked_others),
        done: own(owner, &m.unlocked_done, &m.unlocked_done_others).into(),
        ask: match part {
            RecipientPart::Notice => &m.notice,
            _ => own(owner, &m.unlocked_ask, &m.unlocked_ask_others),
        },
    }
}

/// The owner said "this wasn't me".
pub(super) fn secured(part: RecipientPart, w: &Words) -> Said<'_> {
    let m = &w.mail;
    let owner = part == RecipientPart::Owner;
    Said {
        subject: own(owner, &m.subject_secured, &m.subject_secured_others),
        heading: own(owner, &m.heading_secured, &m.heading_notice),
        happened: own(owner, &m.secured, &m.secured_others),
        done: m.secured_done.as_str().into(),
        ask: match part {
            RecipientPart::Owner => &m.secured_ask,
            RecipientPart::CoOwner => &m.secured_ask_others,
            RecipientPart::Notice => &m.notice,
        },
    }
}

/// A new password is set, and the account is open again.
pub(super) fn recovered(part: RecipientPart, w: &Words) -> Said<'_> {
    let m = &w.mail;
    let owner = part == RecipientPart::Owner;
    Said {
        subject: own(owner, &m.subject_recovered, &m.subject_recovered_others),
        heading: own(owner, &m.heading_recovered, &m.heading_notice),
        happened: own(owner, &m.recovered, &m.recovered_others),
        done: m.recovered_done.as_str().into(),
        ask: match part {
            RecipientPart::Notice => &m.notice,
            _ => own(owner, &m.recovered_ask, &m.recovered_ask_others),
        },
    }
}

pub(super) fn not_me<'a>(links: &'a Links, part: RecipientPart, w: &'a Words) -> Vec<Choice<'a>> {
    let label = match part {
        RecipientPart::Owner => &w.mail.not_me,
        _ => &w.mail.not_owner,
    };
    vec![Choice {
        label,
        hint: &w.mail.not_me_late_hint,
        url: &links.not_me,
        is_me: false,
    }]
}

pub(super) fn go_on<'a>(links: &'a Links, w: &'a Words) -> Vec<Choice<'a>> {
    vec![Choice {
        label: &w.mail.go_on,
        hint: &w.mail.go_on_hint,
        url: &links.not_me,
        is_me: true,
    }]
}
