//! Recorded events through the engine: what would have been decided.
//!
//! The same decoder, rules and engine as in `run`, with the record's own broker time as the
//! clock, or, where a file has none, the running maximum of event time. MACs are not
//! checked, since a recording may be replayed where the keys are not.
//!
//! [`Replay`] takes one line after the other on the thread of its caller; [`parallel`] takes
//! whole files on all cores and says the same. Both place events by [`stream`]. [`report`] sums
//! up what came of it, [`page`] shows it to people.

pub mod input;
mod murmur;
pub mod page;
pub mod parallel;
pub mod report;
pub mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::output::Outputs;
use crate::engine::{Engine, Partition, Settings};
use crate::enrich::Facts;
use crate::event::decode::{Decoder, Dropped};
use crate::event::{DAY_MS, Event, MINUTE_MS, Source, Timestamp};
use crate::rules::RuleSet;

use input::Line;
use parallel::Counts64;
use stream::{Home, Lane, Placed, Placing};

/// Where a line stood that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    pub file: String,
    /// From 1.
    pub line: u64,
    pub reason: String,
}

/// What was counted of all lines, whatever the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Lines that are no events.
    pub bad: u64,
    /// Optional fields that were there but invalid, by name.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// A rule set with everything that it remembers of the stream.
pub struct Side {
    engine: Engine,
    decoder: Decoder,
    lanes: BTreeMap<i32, Lane>,
    pub counts: Counts64,
}

impl Side {
    /// `partitions` of the input topic are what lock budgets reckon with.
    pub fn new(rules: Arc<RuleSet>, facts: Arc<Facts>, partitions: u32) -> Side {
        Side {
            decoder: rules.decoder(),
            engine: Engine::new(rules, facts, settings(partitions)),
            lanes: BTreeMap::new(),
            counts: Counts64::default(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Another one like its own.
    fn new_decoder(&self) -> Decoder {
        self.engine.rules().decoder()
    }
}

/// What the engine is told in a replay: the defaults of `run`.
fn settings(partitions: u32) -> Settings {
    Settings {
        max_lateness_ms: 5 * MINUTE_MS,
        act_within_ms: DAY_MS,
        link_valid_ms: DAY_MS,
        partitions: partitions.max(1),
        max_forgettable_bytes: Settings::MAX_FORGETTABLE_BYTES,
        // A replay keeps no state, so any key will do; a fixed one repeats it exactly.
        state_key: *b"doorward replay!",
        answer_keys: None,
    }
}

/// A replay on one thread, line by line: for those who want to look closely.
pub struct Replay {
    side: Side,
    placing: Placing,
    partitions: u32,
    out: Outputs,
    dropped: Dropped,
}

impl Replay {
    pub fn new(rules: Arc<RuleSet>, facts: Arc<Facts>, partitions: u32) -> Replay {
        Replay {
            side: Side::new(rules, facts, partitions),
            placing: Placing::new(partitions),
            partitions: partitions.max(1),
            out: Outputs::default(),
            dropped: Dropped::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        self.side.engine()
    }

    /// What was seen of the stream so far.
    pub fn placing(&self) -> &Placing {
        &self.placing
    }

    /// Handles one line of a file, given its number; what it caused, timers that fell due
    /// before it included. A line of blanks causes nothing.
    ///
    /// # Errors
    /// Why the line is no event.
    pub fn line(&mut self, number: u64, text: &[u8]) -> Result<&Outputs, String> {
        self.line_with(number, text, |engine, accounts, event, source, now, out| {
            engine.handle(accounts, event, source, now, out);
        })
    }

    /// The same, with `handle` in the place of [`Engine::handle`], which it is to call. It is
    /// called once; for an answer that names no account, once for each partition.
    ///
    /// # Errors
    /// Why the line is no event.
    pub fn line_with(
        &mut self,
        number: u64,
        text: &[u8],
        mut handle: impl FnMut(&Engine, &mut Partition, &Event<'_>, Source, Timestamp, &mut Outputs),
    ) -> Result<&Outputs, String> {
        self.out.clear();
        if text.trim_ascii().is_empty() {
            return Ok(&self.out);
        }
        let line = Line::parse(text)?;
        let decoded = self.side.decoder.decode(line.event, &mut self.dropped);
        let event = decoded.map_err(|rejected| rejected.reason)?;
        let home = Home::of(&event, self.partitions);
        let placed = self
            .placing
            .place(line.recorded, event.time, home, (0, number));
        let side = &mut self.side;
        let mut judge = |partition: i32, lane: &mut Lane, placed: Placed| {
            let at = (partition, placed);
            let (engine, decoder) = (&side.engine, &side.decoder);
            lane.handle(engine, decoder, at, &event, &mut self.out, &mut handle);
        };
        match placed.home {
            Home::Partition(partition) => {
                judge(partition, side.lanes.entry(partition).or_default(), placed);
            }
            Home::Everywhere => {
                for (partition, lane) in &mut side.lanes {
                    judge(*partition, lane, placed);
                }
            }
        }
        Ok(&self.out)
    }
}
