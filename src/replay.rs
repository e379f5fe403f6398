//! Recorded events through the engine: what would have been decided.
//!
//! The same decoder, rules and engine as in `run`, with the record's own broker time as the
//! clock, or, where a file has none, the running maximum of event time. MACs are not
//! checked, since a recording may be replayed where the keys are not.

pub mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::output::{CommandKind, Decision, Effect, Outputs};
use crate::engine::{Engine, Partition, Settings};
use crate::enrich::Facts;
use crate::event::decode::{Decoder, Dropped, Rejected};
use crate::event::{Source, Timestamp, wire};
use crate::rules::RuleSet;

use input::Line;

/// Bad lines that are remembered with their text's place and reason.
const SHOWN_BAD_LINES: usize = 5;

/// Where a line stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    pub file: String,
    /// From 1.
    pub line: u64,
    pub reason: String,
}

/// What came of a replay so far.
#[derive(Debug, Default)]
pub struct Summary {
    pub events: u64,
    /// Lines that are no events.
    pub bad: u64,
    /// The first few of them.
    pub bad_lines: Vec<BadLine>,
    /// Decisions by rule and effect.
    pub effects: BTreeMap<(String, Effect), u64>,
    /// Accounts that each rule locked.
    pub locked: BTreeMap<String, BTreeSet<String>>,
    pub mails: u64,
    /// Broker times of the first and the last event.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

/// One run over recorded events.
pub struct Replay {
    engine: Engine,
    decoder: Decoder,
    partitions: BTreeMap<i32, Partition>,
    clock: Timestamp,
    next_offset: i64,
    out: Outputs,
    dropped: Dropped,
    pub summary: Summary,
}

impl Replay {
    pub fn new(rules: Arc<RuleSet>, facts: Arc<Facts>, partitions: u32) -> Replay {
        let settings = Settings {
            max_lateness_ms: 5 * crate::event::MINUTE_MS,
            act_within_ms: crate::event::DAY_MS,
            link_valid_ms: crate::event::DAY_MS,
            partitions,
            max_forgettable_bytes: usize::MAX,
            // A replay keeps no state, so any key will do; a fixed one repeats it exactly.
            state_key: *b"doorward replay!",
            answer_keys: None,
        };
        Replay {
            decoder: rules.decoder(),
            engine: Engine::new(rules, facts, settings),
            partitions: BTreeMap::new(),
            clock: Timestamp(0),
            next_offset: 0,
            out: Outputs::default(),
            dropped: Dropped::new(),
            summary: Summary::default(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Handles one line of a file and hands each decision to `each`.
    pub fn line(&mut self, file: &str, number: u64, text: &[u8], mut each: impl FnMut(&Decision)) {
        if text.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let line = Line::parse(text);
        if let Err(rejected) = self.handle(&line, &mut each) {
            self.summary.bad += 1;
            if self.summary.bad_lines.len() < SHOWN_BAD_LINES {
                self.summary.bad_lines.push(BadLine {
                    file: file.to_owned(),
                    line: number,
                    reason: rejected.reason,
                });
            }
        }
    }

    fn handle(
        &mut self,
        line: &Line<'_>,
        each: &mut impl FnMut(&Decision),
    ) -> Result<(), Rejected> {
        let event = self.decoder.decode(line.event, &mut self.dropped)?;
        let now = match line.broker_time {
            Some(time) => time,
            None => event.time.max(self.clock),
        };
        let partition = line.partition.unwrap_or(0);
        let source = Source {
            partition,
            offset: line.offset.unwrap_or(self.next_offset),
        };
        self.next_offset = source.offset + 1;
        self.summary.events += 1;
        self.summary.first.get_or_insert(now);
        self.summary.last = Some(now);
        self.clock = self.clock.max(now);

        let state = self.partitions.entry(partition).or_default();
        // A lock's end that fell due since the last event, as the shard would have
        // published it. Recordings hold their own; a repeat does nothing.
        while self
            .engine
            .next_deadline(state)
            .is_some_and(|due| due <= now)
        {
            let timers = self.engine.due_timers(state, now);
            if timers.is_empty() {
                break;
            }
            for due in timers {
                let bytes = wire::timer_due(
                    &due.id,
                    &due.account,
                    &due.case,
                    due.kind,
                    due.deadline,
                    now,
                );
                if let Ok(timer) = self.decoder.decode(&bytes, &mut self.dropped) {
                    self.engine
                        .handle(state, &timer, source, now, &mut self.out);
                }
            }
        }
        self.engine
            .handle(state, &event, source, now, &mut self.out);
        self.count(each);
        Ok(())
    }

    fn count(&mut self, each: &mut impl FnMut(&Decision)) {
        for decision in &self.out.decisions {
            each(decision);
            *self
                .summary
                .effects
                .entry((decision.rule.to_string(), decision.effect))
                .or_default() += 1;
        }
        for command in &self.out.commands {
            if let (CommandKind::LockAccount, Some(rule)) = (command.kind, &command.rule) {
                self.summary
                    .locked
                    .entry(rule.to_string())
                    .or_default()
                    .insert(command.account.to_string());
            }
        }
        self.summary.mails += self.out.mails.len() as u64;
        self.out.clear();
    }
}
