//! Bytes of one message to an [`Event`].

use super::Event;

/// Why a message is no event, as the dead-letter topic's `doorward.reason` says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    /// A short fixed word for the metric's label: `not_json`, `no_id`, `bad_time`, …
    pub kind: &'static str,
    pub reason: String,
}

/// Decodes the messages of one rule set: knows which extra fields its rules need.
#[derive(Clone, Debug, Default)]
pub struct Decoder {}

/// Optional fields that were there but invalid, by name, for one message.
pub type Dropped = Vec<&'static str>;

impl Decoder {
    /// The event in `payload`.
    ///
    /// # Errors
    /// Where the message is no object, or lacks a valid `id`, `type`, `time` or required
    /// `outcome`, or its `account` is no string of 1 to 256 bytes.
    pub fn decode<'a>(
        &self,
        payload: &'a [u8],
        dropped: &mut Dropped,
    ) -> Result<Event<'a>, Rejected> {
        let _ = (payload, dropped);
        Err(Rejected {
            kind: "not_json",
            reason: String::new(),
        })
    }
}
