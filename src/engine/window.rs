//! Sliding windows over event time: `count` and `distinct`.
//!
//! Entries are kept sorted by event time, so an event that arrives late is put in its
//! place, and every window that contains it is looked at (docs/rules.md 1, 3, 5, 6). The result
//! does not depend on the order of arrival within the allowed lateness; a property test
//! compares it with a model that looks at all windows of all events.

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
    /// Nothing changed: late, a repeat, or between neighbours that already say the same.
    Unchanged,
    /// It is held.
    Held,
    Hit(WindowHit),
}

/// L of docs/rules.md 3.
pub fn lateness_ms(max_lateness_ms: i64, within_ms: i64) -> i64 {
    max_lateness_ms.min(within_ms.saturating_mul(3))
}

/// Entries that one rule may hold of one account (docs/rules.md 15).
pub fn capacity(at_least: u32) -> usize {
    8 * at_least as usize
}

/// Whether `entry` is new to `entries`: not the same id and time (docs/rules.md 5), and not later
/// than `lateness_ms` behind the newest (docs/rules.md 3). Counts what it refuses.
pub fn admits(entries: &[Entry], entry: &Entry, lateness_ms: i64, counts: &mut Counts) -> bool {
    let same_id = entries.iter().filter(|held| held.id == entry.id);
    let mut conflict = false;
    for held in same_id {
        if held.time == entry.time {
            counts.duplicate += 1;
            return false;
        }
        conflict = true;
    }
    if conflict {
        counts.id_conflict += 1;
    }
    let late = entries
        .last()
        .is_some_and(|newest| newest.time.since_ms(entry.time) > lateness_ms);
    if late {
        counts.late += 1;
    }
    !late
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
    if !admits(entries, &entry, spec.lateness_ms, counts) {
        return Observed::Unchanged;
    }
    let at = insert(entries, entry);
    if let Some(hit) = best_window(entries, at, spec) {
        entries.clear();
        return Observed::Hit(hit);
    }
    if spec.distinct && thin(entries, at, spec.within_ms) {
        return Observed::Unchanged;
    }
    forget(entries, spec, counts);
    Observed::Held
}

/// The earliest window of `within` that contains entry `at` and reaches the threshold.
fn best_window(entries: &[Entry], at: usize, spec: WindowSpec) -> Option<WindowHit> {
    let reach = |from: usize| {
        let end = entries[from].time.plus_ms(spec.within_ms);
        from + entries[from..].partition_point(|entry| entry.time <= end)
    };
    let first =
        entries.partition_point(|entry| entries[at].time.since_ms(entry.time) > spec.within_ms);
    for from in first..=at {
        let window = &entries[from..reach(from)];
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
