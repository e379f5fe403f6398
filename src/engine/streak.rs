//! Runs of events in event time: `streak` (docs/rules.md 7).
//!
//! Failures and the events that end a run are kept in one sorted list, so that what
//! arrives late stands where it belongs: a success that came between two failures parts
//! them, whichever was delivered first.

use crate::event::Timestamp;

use super::account::Entry;
use super::output::Counts;
use super::window::{Observed, WindowHit, admit, capacity, insert};

#[derive(Clone, Copy, Debug)]
pub struct StreakSpec {
    pub at_least: u32,
    pub max_gap_ms: i64,
    /// How late an event may come (L of docs/rules.md 3, with the gap as the window).
    pub lateness_ms: i64,
}

/// Takes one event that lengthens a run. A hit uses up everything but the newest end of a
/// run (docs/rules.md 10).
pub fn lengthen(
    marks: &mut Vec<Entry>,
    entry: Entry,
    spec: StreakSpec,
    counts: &mut Counts,
) -> Observed {
    if let Err(refused) = admit(marks, &entry, spec.lateness_ms, counts) {
        return Observed::Refused(refused);
    }
    let at = insert(marks, entry);
    let run = run_around(marks, at, spec.max_gap_ms);
    if run.len() >= spec.at_least as usize {
        let hit = WindowHit {
            value: run.len() as u32,
            entries: marks[run].to_vec(),
        };
        let last_break = marks.iter().rposition(|mark| mark.is_break);
        let kept = last_break.map(|at| marks.swap_remove(at));
        marks.clear();
        marks.extend(kept);
        return Observed::Hit(hit);
    }
    forget(marks, spec, counts);
    Observed::Held
}

/// Takes one event that ends a run. True where something changed.
///
/// Lateness does not matter here: an end that is delivered late still parts what it stood
/// between, which can only prevent a lock.
pub fn end(marks: &mut Vec<Entry>, entry: Entry, spec: StreakSpec, counts: &mut Counts) -> bool {
    debug_assert!(entry.is_break);
    if marks
        .iter()
        .any(|held| held.id == entry.id && held.time == entry.time)
    {
        counts.duplicate += 1;
        return false;
    }
    let newest = marks.last().map(|mark| mark.time);
    let parts_nothing = marks.first().is_some_and(|oldest| entry.time < oldest.time)
        && newest.is_some_and(|newest| newest.since_ms(entry.time) > spec.lateness_ms);
    if parts_nothing {
        return false;
    }
    insert(marks, entry);
    forget(marks, spec, counts);
    true
}

/// [`end`], where nothing but one other end is held, in its place.
pub fn end_again(held: Timestamp, at: Timestamp, spec: StreakSpec) -> Again {
    if held == at {
        Again::Same
    } else if held.since_ms(at) > spec.lateness_ms {
        Again::PartsNothing
    } else if at.since_ms(held) > spec.lateness_ms {
        Again::Replaces
    } else {
        Again::Both
    }
}

/// What a second end of a run does to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Same,
    PartsNothing,
    Replaces,
    /// Something may still arrive that stands between them.
    Both,
}

/// The unbroken run that contains mark `at`.
pub fn run_around(marks: &[Entry], at: usize, max_gap_ms: i64) -> std::ops::Range<usize> {
    let joined = |earlier: usize| {
        let (a, b) = (&marks[earlier], &marks[earlier + 1]);
        !a.is_break && !b.is_break && b.time.since_ms(a.time) <= max_gap_ms
    };
    let mut from = at;
    while from > 0 && joined(from - 1) {
        from -= 1;
    }
    let mut to = at + 1;
    while to < marks.len() && joined(to - 1) {
        to += 1;
    }
    from..to
}

/// Events in the run that was under way at `time`.
pub fn run_before(marks: &[Entry], time: Timestamp, max_gap_ms: i64) -> usize {
    let earlier = &marks[..marks.partition_point(|mark| mark.time <= time)];
    match earlier.last() {
        Some(last) if !last.is_break && time.since_ms(last.time) <= max_gap_ms => {
            run_around(earlier, earlier.len() - 1, max_gap_ms).len()
        }
        _ => 0,
    }
}

/// Drops what no admissible event can join any more, and what exceeds the cap.
fn forget(marks: &mut Vec<Entry>, spec: StreakSpec, counts: &mut Counts) {
    let Some(newest) = marks.last().map(|mark| mark.time) else {
        return;
    };
    // Nothing may be inserted before this time any more.
    let horizon = newest.plus_ms(-spec.lateness_ms);
    let settled = |at: usize| {
        let mark = &marks[at];
        let next = marks.get(at + 1);
        let ended = mark.is_break && mark.time < horizon && next.is_some();
        let too_far = mark.time.plus_ms(spec.max_gap_ms) < horizon
            && next.is_some_and(|next| next.time.since_ms(mark.time) > spec.max_gap_ms);
        ended || too_far
    };
    if let Some(last) = (0..marks.len()).rev().find(|at| settled(*at)) {
        marks.drain(..=last);
    }
    let excess = marks.len().saturating_sub(capacity(spec.at_least));
    if excess > 0 {
        counts.window_full += excess as u32;
        marks.drain(..excess);
    }
}

/// Whether nothing that is held can still be part of a run that acts, by broker time `now`:
/// an end of a run is needed while a failure from before it could arrive, reach over it, and
/// not be too old to act on.
pub fn is_spent(marks: &[Entry], spec: StreakSpec, act_within_ms: i64, now: Timestamp) -> bool {
    let reach = spec
        .max_gap_ms
        .saturating_add(spec.lateness_ms)
        .saturating_add(act_within_ms);
    marks.iter().all(|mark| now.since_ms(mark.time) > reach)
}
