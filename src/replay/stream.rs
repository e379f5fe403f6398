//! Recorded events as a topic's partitions: where each would stand, and by what clock it
//! would be judged.

use hashbrown::HashMap;

use crate::engine::output::Outputs;
use crate::engine::{Engine, Partition};
use crate::event::decode::{Decoder, Dropped};
use crate::event::{Event, KnownType, MINUTE_MS, SECOND_MS, Source, Timestamp, wire};

use super::input::Recorded;
use super::murmur::partition_of;

/// How long a recording is given to bring its own timer, before one is handed in: the shard
/// that it comes from needed a moment, and the order of the log is what counts.
const GRACE_MS: i64 = MINUTE_MS;
/// The clock of bare events moves in steps; one of more than this is remembered.
const LEAP_MS: i64 = 60 * 60 * SECOND_MS;

/// Where a bare event would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Partition(i32),
    /// An answer that names a case and no account: the token would have named the partition.
    /// Only the one that holds the case acts.
    Everywhere,
}

impl Home {
    /// By the account, as a pipeline that keys its messages partitions them; an event without
    /// one stands on the first.
    pub fn of(event: &Event<'_>, partitions: u32) -> Home {
        match (&event.account, event.kind.known()) {
            (Some(account), _) => Home::Partition(partition_of(account.as_bytes(), partitions)),
            (None, Some(KnownType::CaseResponse | KnownType::OperatorRequest)) => Home::Everywhere,
            (None, _) => Home::Partition(0),
        }
    }
}

/// Where an event stands, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub home: Home,
    pub offset: i64,
    /// Broker time.
    pub now: Timestamp,
    /// Whether the record itself says so.
    pub recorded: bool,
}

/// A step of the clock of bare events, and the line that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Index among the files, and the line from 1.
    pub file: usize,
    pub line: u64,
}

/// Gives each event of a stream its place, in the order in which they are read.
#[derive(Debug, Default)]
pub struct Placing {
    partitions: u32,
    clock: Option<Timestamp>,
    next: HashMap<i32, i64>,
    pub events: u64,
    /// Those that brought the broker's time.
    pub recorded: u64,
    /// Broker times of the first and the last event.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// Bare events that are more than a day older than one before them, and the greatest
    /// step that the clock had made before the first of them.
    pub behind: u64,
    pub leap: Option<Leap>,
    /// Envelopes whose partition is not among those that the lock budgets reckon with.
    pub foreign: u64,
}

impl Placing {
    /// For a topic of `partitions`, at least one.
    pub fn new(partitions: u32) -> Placing {
        Placing {
            partitions: partitions.max(1),
            ..Placing::default()
        }
    }

    /// Places the next event. `time` is its own, `home` where it would stand without
    /// `recorded`, and `file` and `line` where it was read.
    pub fn place(
        &mut self,
        recorded: Option<Recorded>,
        time: Timestamp,
        home: Home,
        (file, line): (usize, u64),
    ) -> Placed {
        let home = recorded.map_or(home, |record| Home::Partition(record.partition));
        let now = match (recorded, self.clock) {
            (Some(record), _) => record.broker_time,
            (None, clock) => {
                self.note_clock(time, (file, line));
                clock.map_or(time, |clock| clock.max(time))
            }
        };
        let key = match home {
            Home::Partition(partition) => partition,
            Home::Everywhere => -1,
        };
        let next = self.next.entry(key).or_default();
        let offset = recorded.map_or(*next, |record| record.offset);
        *next = offset.saturating_add(1);
        self.events += 1;
        if recorded.is_some() {
            self.recorded += 1;
            self.foreign += u64::from(i64::from(key) >= i64::from(self.partitions));
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.clock = Some(self.clock.map_or(now, |clock| clock.max(now)));
        Placed {
            home,
            offset,
            now,
            recorded: recorded.is_some(),
        }
    }

    fn note_clock(&mut self, time: Timestamp, (file, line): (usize, u64)) {
        let Some(clock) = self.clock else { return };
        if clock.since_ms(time) > crate::event::DAY_MS {
            self.behind += 1;
        }
        let step = time.since_ms(clock);
        let greatest = self
            .leap
            .map_or(LEAP_MS, |leap| leap.to.since_ms(leap.from));
        if self.behind == 0 && step > greatest {
            self.leap = Some(Leap {
                from: clock,
                to: time,
                file,
                line,
            });
        }
    }
}

/// One partition of the stream under one rule set.
#[derive(Debug, Default)]
pub struct Lane {
    accounts: Partition,
    last: Timestamp,
    dropped: Dropped,
}

impl Lane {
    /// Lets `handle` judge an event that stands in `partition`, and before it the timers that
    /// fell due since the last, as a shard would have published them.
    pub fn handle(
        &mut self,
        engine: &Engine,
        decoder: &Decoder,
        (partition, placed): (i32, Placed),
        event: &Event<'_>,
        out: &mut Outputs,
        handle: impl FnOnce(&Engine, &mut Partition, &Event<'_>, Source, Timestamp, &mut Outputs),
    ) {
        let source = Source {
            partition,
            offset: placed.offset,
        };
        // What stands in the log at a timer's own millisecond came before the timer.
        let grace_ms = if placed.recorded { GRACE_MS } else { 1 };
        let due = placed.now.plus_ms(-grace_ms);
        while engine
            .next_deadline(&self.accounts)
            .is_some_and(|deadline| deadline <= due)
        {
            for timer in engine.due_timers(&mut self.accounts, due) {
                let at = timer.deadline.plus_ms(grace_ms - 1).max(self.last);
                let bytes = wire::timer_due(
                    &timer.id,
                    &timer.account,
                    &timer.case,
                    timer.kind,
                    timer.deadline,
                    at,
                );
                if let Ok(timer) = decoder.decode(&bytes, &mut self.dropped) {
                    engine.handle(&mut self.accounts, &timer, source, at, out);
                }
            }
        }
        handle(engine, &mut self.accounts, event, source, placed.now, out);
        self.last = self.last.max(placed.now);
    }
}
