//! What the mail says that takes a lock back as a mistake.

use super::{Said, own};
use crate::engine::output::RecipientPart;
use crate::locale::Words;

/// The lock was ours, and is gone. Nobody is asked anything.
pub(super) fn said(part: RecipientPart, w: &Words) -> Said<'_> {
    let u = &w.undone;
    let owner = part == RecipientPart::Owner;
    Said {
        subject: own(owner, &u.subject, &u.subject_others),
        heading: &u.heading,
        happened: own(owner, &u.happened, &u.happened_others),
        done: own(owner, &u.done, &u.done_others).into(),
        ask: &u.ask,
    }
}
