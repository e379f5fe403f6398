//! Reads one partition of `doorward.state` to the end of what was committed, in slices.
//!
//! The committed input offset is asked for first. "To the last stable offset" would then
//! lose state: an open transaction of somebody else pins that offset behind records that
//! are committed already (KAFKA-10167). So the goal is the high watermark, uncommitted
//! records included, and the reader, which shows committed records only, goes on until its
//! position has reached it.

use std::time::Duration;

use crate::log::client::{Client, REQUEST_TIMEOUT, StateItem, StateReader};
use crate::log::{EachState, LogError, Restored, Restoring, StateRecord};

/// Without progress for so long, something hangs that waiting does not mend. Shorter than the
/// watchdog's patience, so that this says what hangs.
const STALLED_AFTER: Duration = Duration::from_secs(40);
/// How long one look for a record waits, at most: the shard's other partitions wait too.
const LOOK: Duration = Duration::from_millis(5);
/// How long one slice takes, about.
const SLICE: Duration = Duration::from_millis(20);

/// A restore that is under way.
pub struct Restore<R> {
    pub partition: i32,
    from: Restored,
    low: i64,
    position: i64,
    high: i64,
    reader: Option<R>,
    /// When the position moved last.
    moved: Duration,
}

impl<R: StateReader> Restore<R> {
    pub fn begin<C>(client: &C, partition: i32) -> Result<Restore<R>, LogError>
    where
        C: Client<StateReader = R>,
    {
        let from = client.committed(partition, REQUEST_TIMEOUT)?;
        let (low, high) = client.state_bounds(partition, REQUEST_TIMEOUT)?;
        let reader = if low < high {
            Some(client.read_state(partition, low)?)
        } else {
            None
        };
        Ok(Restore {
            partition,
            from,
            low,
            position: low,
            high,
            reader,
            moved: client.clock().monotonic(),
        })
    }

    /// Reads for about [`SLICE`]; [`Restoring::Done`] once all that was committed before
    /// [`Self::begin`] has been handed to `each`. How much a record holds is left out where the
    /// position says more, and where there is none: then nobody has committed anything.
    pub fn slice<C>(&mut self, client: &mut C, each: EachState<'_>) -> Result<Restoring, LogError>
    where
        C: Client<StateReader = R>,
    {
        let began = client.clock().monotonic();
        let Some(reader) = &mut self.reader else {
            return Ok(Restoring::Done(self.from.clone()));
        };
        while self.position < self.high {
            let before = self.position;
            let (position, from) = (&mut self.position, self.from.next_offset);
            reader.take(LOOK, &mut |item| match item {
                StateItem::Record { offset, record } => {
                    *position = (*position).max(offset + 1);
                    each(StateRecord {
                        ahead: record.ahead.filter(|held| held.is_ahead_of(from)),
                        ..record
                    });
                }
                StateItem::Foreign { offset } => *position = (*position).max(offset + 1),
                StateItem::End { offset } => *position = (*position).max(offset),
            })?;
            let now = client.clock().monotonic();
            if self.position > before {
                self.moved = now;
            } else if now.saturating_sub(self.moved) > STALLED_AFTER {
                return Err(LogError::Stalled(format!(
                    "restoring partition {} of the state topic stands at offset {} of {} for \
                     {} s; a transaction that nobody ends may hold it back",
                    self.partition,
                    self.position,
                    self.high,
                    STALLED_AFTER.as_secs()
                )));
            }
            let is_over = now.saturating_sub(began) >= SLICE || self.position == before;
            if is_over && self.position < self.high {
                return Ok(Restoring::More {
                    read: self.position - self.low,
                    of: self.high - self.low,
                });
            }
        }
        Ok(Restoring::Done(self.from.clone()))
    }
}
