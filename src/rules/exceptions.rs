//! Exceptions (docs/rules.md 12): whom rules leave alone, for how long, why, and who says so.
//!
//! They stand in `exceptions.yaml` beside the rules and are part of the rule set. What an
//! exception does to a hit is the engine's business.

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, SourceFile};
use crate::event::Timestamp;

use super::eval::Condition;

/// The file in the folder of rules that holds them.
pub const FILE: &str = "exceptions.yaml";
/// Exceptions of one rule set: each is a label of metrics.
pub const MAX_EXCEPTIONS: usize = 1_000;

/// What becomes of an event that an exception covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExceptionEffect {
    /// It counts, and what it completes is recorded and does nothing.
    Shadow,
    /// The rule does not see it.
    Ignore,
}

impl ExceptionEffect {
    pub fn as_str(self) -> &'static str {
        match self {
            ExceptionEffect::Shadow => "shadow",
            ExceptionEffect::Ignore => "ignore",
        }
    }
}

#[derive(Debug)]
pub struct Exception {
    pub id: Arc<str>,
    pub reason: String,
    pub owner: String,
    /// From this moment on it does nothing, by broker time.
    pub expires: Timestamp,
    pub effect: ExceptionEffect,
    pub when: Condition,
    /// False where a list that it names could not be loaded: it covers nothing then.
    pub usable: bool,
    pub file: Arc<SourceFile>,
    /// Where its expiry stands.
    pub expires_span: Range<usize>,
}

impl Exception {
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }
}

/// Reports each of `exceptions` that has expired at `now`, by the clock of whoever asks.
pub fn report_expired(exceptions: &[Exception], now: Timestamp, found: &mut Diagnostics) {
    for exception in exceptions.iter().filter(|e| e.has_expired(now)) {
        found.error(
            &exception.file,
            exception.expires_span.clone(),
            format!(
                "the exception `{}` expired at {}: it does nothing any more",
                exception.id, exception.expires
            ),
            Some(format!(
                "remove it, or ask {} whether it is still needed and write a later day",
                exception.owner
            )),
        );
    }
}
