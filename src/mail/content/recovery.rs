//! What the mails about a recovery say.

use super::{Choice, Links, Said};
use crate::engine::output::RecipientPart;
use crate::locale::{self, Words, fill};
use crate::record::MailRecord;

/// Somebody asked, and the reader may stop it, or is only told.
pub(super) fn held<'a>(mail: &MailRecord, part: RecipientPart, w: &'a Words) -> Said<'a> {
    let r = &w.recovery;
    let (subject, heading, ask) = match part {
        RecipientPart::Owner => (&r.subject, &r.heading, &r.ask),
        RecipientPart::CoOwner => (&r.subject_notice, &w.mail.heading_notice, &r.ask_co_owner),
        RecipientPart::Notice => (&r.subject_notice, &w.mail.heading_notice, &w.mail.notice),
    };
    Said {
        subject,
        heading,
        happened: match part {
            RecipientPart::Owner => &w.reason(&mail.reason).long,
            _ => &r.happened_others,
        },
        done: fill(&r.held, &[("until", &until(mail, w))]).into(),
        ask,
    }
}

/// Somebody asked who may not.
pub(super) fn refused(w: &Words) -> Said<'_> {
    let r = &w.recovery;
    Said {
        subject: &r.subject_refused,
        heading: &w.mail.heading_notice,
        happened: &r.refused,
        done: r.refused_done.as_str().into(),
        ask: &r.refused_ask,
    }
}

/// It went through.
pub(super) fn released(part: RecipientPart, w: &Words) -> Said<'_> {
    let r = &w.recovery;
    let owner = part == RecipientPart::Owner;
    Said {
        subject: match owner {
            true => &r.subject_released,
            false => &r.subject_released_others,
        },
        heading: match owner {
            true => &r.heading_released,
            false => &w.mail.heading_notice,
        },
        happened: match owner {
            true => &r.released,
            false => &r.released_others,
        },
        done: r.released_text.as_str().into(),
        ask: match part {
            RecipientPart::Owner => &r.released_ask,
            RecipientPart::CoOwner => &r.released_ask_others,
            RecipientPart::Notice => &w.mail.notice,
        },
    }
}

/// When the recovery goes through.
pub(super) fn until(mail: &MailRecord, w: &Words) -> String {
    let until = mail.until.as_deref().and_then(locale::parse_time);
    until.map_or_else(|| "–".to_owned(), |until| w.time(until))
}

pub(super) fn choices<'a>(links: &'a Links, w: &'a Words) -> Vec<Choice<'a>> {
    vec![Choice {
        label: &w.recovery.stop,
        hint: &w.recovery.stop_hint,
        url: &links.not_me,
        is_me: false,
    }]
}
