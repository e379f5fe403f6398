//! What co-owners are told where the owner's own mail did not arrive.

use super::{Said, recovery};
use crate::locale::{Words, fill};
use crate::record::MailRecord;

/// The owner was to be asked. A co-owner may still only say that it was not the owner.
pub(super) fn asked<'a>(mail: &MailRecord, w: &'a Words) -> Said<'a> {
    Said {
        done: w.done(mail.locked.as_deref(), false).into(),
        ask: &w.unreached.ask,
        ..said(w)
    }
}

/// It was said already that it was not the owner, who has not received the next steps.
pub(super) fn secured(w: &Words) -> Said<'_> {
    Said {
        done: w.mail.secured_done.as_str().into(),
        ask: &w.unreached.ask_secured,
        ..said(w)
    }
}

/// Somebody asked for a recovery, and its owner does not know.
pub(super) fn held<'a>(mail: &MailRecord, w: &'a Words) -> Said<'a> {
    let until = recovery::until(mail, w);
    Said {
        happened: &w.unreached.happened_recovery,
        done: fill(&w.recovery.held, &[("until", &until)]).into(),
        ask: &w.unreached.ask_recovery,
        ..said(w)
    }
}

fn said(w: &Words) -> Said<'_> {
    Said {
        subject: &w.unreached.subject,
        heading: &w.unreached.heading,
        happened: &w.unreached.happened,
        done: "".into(),
        ask: "",
    }
}
