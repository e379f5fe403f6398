//! What the mail says that takes a lock back as a mistake.

use super::Said;
use crate::locale::Words;

/// The lock was ours, and is gone. Nobody is asked anything.
pub(super) fn said(w: &Words) -> Said<'_> {
    let u = &w.undone;
    Said {
        subject: &u.subject,
        heading: &u.heading,
        happened: &u.happened,
        done: u.done.as_str().into(),
        ask: &u.ask,
    }
}
