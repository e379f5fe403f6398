//! Sliding windows over event time: `count` and `distinct`.
//!
//! Entries are kept sorted by event time, so an event that arrives late is put in its
//! place, and every window that contains it is looked at (docs/rules.md 1, 3, 5, 6). The result
//! does not depend on the order of arrival within the allowed lateness; a property test
//! compares it with a model that looks at all windows of all events.

use crate::event::Timestamp;

use super::account::Entry;
use super::output::Counts;

/// What a rule asks of its window.
#[derive(Clone, Copy, Debug)]
pub struct WindowSpec {
    /// Count distinct values rather than events.
    pub distinct: bool,
    pub at_least: u32,
    pub within_ms: i64,
    /// How late an event may come (L of docs/rules.md 3).
    pub lateness_ms: i64,
}

/// A window that reached the threshold.
#[derive(Debug, PartialEq, Eq)]
pub struct WindowHit {
    /// Events or distinct values in the window.
    pub value: u32,
    /// The events that made it up: for `distinct` the newest of each value.
    pub entries: Vec<Entry>,
}

/// What became of one event.
#[derive(Debug, PartialEq, Eq)]
pub enum Observed {
    /// It was not admitted.
    Refused(Refused),
    /// It stands between neighbours that already say the same: nothing changed.
    Redundant,
    /// It is held.
    Held,
    Hit(WindowHit),
}

/// Why an event is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The same id and time is held.
    Duplicate,
    Late {
        /// Behind the newest entry held.
        by_ms: i64,
        allowed_ms: i64,
    },
}

/// L of docs/rules.md 3.
pub fn lateness_ms(max_lateness_ms: i64, within_ms: i64) -> i64 {
    max_lateness_ms.min(within_ms.saturating_mul(3))
}

/// Entries that one rule may hold of one account (docs/rules.md 15).
pub fn capacity(at_least: u32) -> usize {
    8 * at_least as usize
}

/// Admits an entry that is new to `entries`: not the same id and time (docs/rules.md 5),
/// and not later than `lateness_ms` behind the newest (docs/rules.md 3).
///
/// # Errors
/// What speaks against it, which is counted.
pub fn admit(
    entries: &[Entry],
    entry: &Entry,
    lateness_ms: i64,
    counts: &mut Counts,
) -> Result<(), Refused> {
    let same_id = entries.iter().filter(|held| held.id == entry.id);
    let mut conflict = false;
    for held in same_id {
        if held.time == entry.time {
            counts.duplicate += 1;
            return Err(Refused::Duplicate);
        }
        conflict = true;
    }
    if conflict {
        counts.id_conflict += 1;
    }
    let behind = entries
        .last()
        .map(|newest| newest.time.since_ms(entry.time));
    match behind {
        Some(by_ms) if by_ms > lateness_ms => {
            counts.late += 1;
            Err(Refused::Late {
                by_ms,
                allowed_ms: lateness_ms,
            })
        }
        _ => Ok(()),
    }
}

/// Puts `entry` in its place by time, behind those of the same time, and says where.
pub fn insert(entries: &mut Vec<Entry>, entry: Entry) -> usize {
    let at = entries.partition_point(|held| held.time <= entry.time);
    if entries.is_empty() {
        // Most accounts that fail once never fail again: room for one, not for four.
        entries.reserve_exact(1);
    }
    entries.insert(at, entry);
    at
}

/// Takes one event into the window. A hit uses up everything that was held (docs/rules.md 10).
pub fn observe(
    entries: &mut Vec<Entry>,
    entry: Entry,
    spec: WindowSpec,
    counts: &mut Counts,
) -> Observed {
    if let Err(refused) = admit(entries, &entry, spec.lateness_ms, counts) {
        return Observed::Refused(refused);
    }
    let at = insert(entries, entry);
    if let Some(hit) = best_window(entries, at, spec) {
        entries.clear();
        return Observed::Hit(hit);
    }
    if spec.distinct && thin(entries, at, spec.within_ms) {
        return Observed::Redundant;
    }
    forget(entries, spec, counts);
    Observed::Held
}

/// Every window of `within` that contains entry `at`, the earliest first.
fn windows(entries: &[Entry], at: usize, within_ms: i64) -> impl Iterator<Item = &[Entry]> {
    let first = entries.partition_point(|entry| entries[at].time.since_ms(entry.time) > within_ms);
    (first..=at).map(move |from| {
        let end = entries[from].time.plus_ms(within_ms);
        let to = from + entries[from..].partition_point(|entry| entry.time <= end);
        &entries[from..to]
    })
}

/// Of the windows that contain entry `at` the one with the most events, or distinct values,
/// and the latest of those: how many, which, and the time until when it may still fill.
pub fn fullest(
    entries: &[Entry],
    at: usize,
    within_ms: i64,
    distinct: bool,
) -> (usize, Vec<Entry>, Option<Timestamp>) {
    let value = |window: &&[Entry]| match distinct {
        true => distinct_values(window),
        false => window.len(),
    };
    let Some(window) = windows(entries, at, within_ms).max_by_key(value) else {
        return (0, Vec::new(), None);
    };
    let until = window.first().map(|first| first.time.plus_ms(within_ms));
    let counting = if distinct {
        newest_of_each(window)
    } else {
        window.to_vec()
    };
    (value(&window), counting, until)
}

/// The earliest window of `within` that contains entry `at` and reaches the threshold.
fn best_window(entries: &[Entry], at: usize, spec: WindowSpec) -> Option<WindowHit> {
    for window in windows(entries, at, spec.within_ms) {
        if window.len() < spec.at_least as usize {
            continue;
        }
        let value = if spec.distinct {
            distinct_values(window)
        } else {
            window.len()
        };
        if value >= spec.at_least as usize {
            return Some(WindowHit {
                value: value as u32,
                entries: if spec.distinct {
                    newest_of_each(window)
                } else {
                    window.to_vec()
                },
            });
        }
    }
    None
}

fn distinct_values(window: &[Entry]) -> usize {
    let mut values: Vec<u64> = window.iter().map(|entry| entry.value).collect();
    values.sort_unstable();
    values.dedup();
    values.len()
}

fn newest_of_each(window: &[Entry]) -> Vec<Entry> {
    window
        .iter()
        .enumerate()
        .filter(|(at, entry)| {
            window[at + 1..]
                .iter()
                .all(|later| later.value != entry.value)
        })
        .map(|(_, entry)| entry.clone())
        .collect()
}

/// Drops what cannot matter around entry `at`: an entry whose neighbours of the same value
/// are at most `within` apart stands in no window that neither of them stands in
/// (docs/rules.md 6). True where that was entry `at` itself.
fn thin(entries: &mut Vec<Entry>, at: usize, within_ms: i64) -> bool {
    let value = entries[at].value;
    let same: Vec<usize> = (0..entries.len())
        .filter(|i| entries[*i].value == value)
        .collect();
    let mine = same.iter().position(|i| *i == at).unwrap_or(0);
    let between = |middle: usize| {
        middle > 0
            && middle + 1 < same.len()
            && entries[same[middle + 1]]
                .time
                .since_ms(entries[same[middle - 1]].time)
                <= within_ms
    };
    // The new entry first: where it adds nothing, nothing changes. Otherwise at most one
    // neighbour is dropped, since dropping one moves the other's neighbours apart.
    let gone = [Some(mine), mine.checked_sub(1), Some(mine + 1)]
        .into_iter()
        .flatten()
        .find(|i| between(*i));
    match gone {
        Some(i) => {
            entries.remove(same[i]);
            i == mine
        }
        None => false,
    }
}

/// Drops what no admissible event can reach any more, and what exceeds the cap.
fn forget(entries: &mut Vec<Entry>, spec: WindowSpec, counts: &mut Counts) {
    if let Some(newest) = entries.last().map(|entry| entry.time) {
        let reach = spec.lateness_ms.saturating_add(spec.within_ms);
        let old = entries.partition_point(|entry| newest.since_ms(entry.time) > reach);
        entries.drain(..old);
    }
    let excess = entries.len().saturating_sub(capacity(spec.at_least));
    if excess > 0 {
        counts.window_full += excess as u32;
        entries.drain(..excess);
    }
}
