//! Decides. Takes events and broker time, keeps accounts, returns outputs as values.
//!
//! Owns what an account's recent past means: windows, streaks, known places, cases. It
//! refuses to know Kafka, clocks, files and randomness; `now` is always the broker's
//! timestamp of the record being handled (RULES.md 2).

pub mod output;

use std::sync::Arc;

use crate::enrich::Facts;
use crate::event::wire::MacKeys;
use crate::event::{Event, Source, Timestamp};
use crate::rules::RuleSet;

use output::Outputs;

/// Evidence that a case shows at most.
pub const MAX_CASE_EVIDENCE: usize = 32;

/// An account, or doorward's own record of a partition, in `doorward.state`: a 128-bit
/// keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(pub [u8; 16]);

/// What the engine needs beside rules and facts.
#[derive(Clone)]
pub struct Settings {
    /// RULES.md 3.
    pub max_lateness_ms: i64,
    /// RULES.md 4.
    pub act_within_ms: i64,
    /// How long "this wasn't me" is believed after an unlock: as long as links live.
    pub link_valid_ms: i64,
    /// Partitions of the input topic, for lock budgets.
    pub partitions: u32,
    pub state_key: [u8; 16],
    /// `None`: MACs are not checked (`replay`).
    pub answer_keys: Option<MacKeys>,
}

/// The rules at work: shared by every partition of a shard.
pub struct Engine {
    rules: Arc<RuleSet>,
    facts: Arc<Facts>,
    settings: Settings,
}

/// The accounts of one partition.
#[derive(Default)]
pub struct Partition {}

/// A timer that the shard should publish as `timer_due` on the account's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    pub id: String,
    pub account: Arc<str>,
    pub case: Arc<str>,
    pub kind: &'static str,
    pub deadline: Timestamp,
}

/// A state record that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(
        "state record of version {0}, which this program does not know: it was written by a newer doorward; start that one, or a newer one"
    )]
    UnknownVersion(u8),
    #[error("damaged state record: {0}")]
    Damaged(&'static str),
}

impl Engine {
    pub fn new(rules: Arc<RuleSet>, facts: Arc<Facts>, settings: Settings) -> Engine {
        Engine {
            rules,
            facts,
            settings,
        }
    }

    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Handles one event. `now` is the broker's timestamp of its record. What it causes is
    /// appended to `out`.
    pub fn handle(
        &self,
        partition: &mut Partition,
        event: &Event<'_>,
        source: Source,
        now: Timestamp,
        out: &mut Outputs,
    ) {
        let _ = (partition, event, source, now, out);
    }

    /// When the earliest timer of this partition is due, by broker time.
    pub fn next_deadline(&self, partition: &Partition) -> Option<Timestamp> {
        let _ = partition;
        None
    }

    /// Timers that are due at `now`, which is a guess by the shard's own clock: they act
    /// only when they are read back from the log (RULES.md 11). Each is handed out again
    /// after a minute while it has not acted.
    pub fn due_timers(&self, partition: &mut Partition, now: Timestamp) -> Vec<DueTimer> {
        let _ = (partition, now);
        Vec::new()
    }

    /// Bytes of the durable record of `key`; `None` is a tombstone.
    pub fn encode_state(&self, partition: &Partition, key: StateKey) -> Option<Vec<u8>> {
        let _ = (partition, key);
        None
    }

    /// Takes one record of `doorward.state` back into memory; `None` is a tombstone.
    ///
    /// # Errors
    /// Where the bytes are damaged or newer than this program.
    pub fn restore_state(
        &self,
        partition: &mut Partition,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let _ = (partition, key, value);
        Ok(())
    }
}

impl Partition {
    /// Accounts in memory.
    pub fn accounts(&self) -> usize {
        0
    }

    /// Bytes that they take, map included.
    pub fn bytes(&self) -> usize {
        0
    }

    /// Cases that are open.
    pub fn open_cases(&self) -> usize {
        0
    }
}
