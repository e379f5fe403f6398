//! Decisions over time, in bars whose width grows with the time that they span.

use std::collections::BTreeMap;

use crate::engine::output::Effect;
use crate::event::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};

/// Widths of a bar, each a multiple of the one before it.
const WIDTHS: &[i64] = &[
    MINUTE_MS,
    5 * MINUTE_MS,
    15 * MINUTE_MS,
    HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    7 * DAY_MS,
    28 * DAY_MS,
    364 * DAY_MS,
    3_640 * DAY_MS,
    36_400 * DAY_MS,
    364_000 * DAY_MS,
];
/// Bars at most, the empty ones between others included.
const MAX_BARS: i64 = 60;

/// What one bar counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bar {
    pub locked: u64,
    pub shadow: u64,
    pub held: u64,
}

/// Locks, and hits that did not lock for their rule's mode or its budget, by broker time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    width: usize,
    bars: BTreeMap<i64, Bar>,
}

impl Timeline {
    /// Counts one decision.
    pub fn add(&mut self, now: Timestamp, effect: Effect, locked: bool) {
        let counted = locked || matches!(effect, Effect::Shadow | Effect::Held);
        if !counted {
            return;
        }
        let bar = self
            .bars
            .entry(now.0.div_euclid(WIDTHS[self.width]))
            .or_default();
        match effect {
            _ if locked => bar.locked += 1,
            Effect::Shadow => bar.shadow += 1,
            _ => bar.held += 1,
        }
        while self.span() > MAX_BARS && self.width + 1 < WIDTHS.len() {
            self.widen();
        }
    }

    fn span(&self) -> i64 {
        match (self.bars.first_key_value(), self.bars.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last - first + 1,
            _ => 0,
        }
    }

    fn widen(&mut self) {
        let factor = WIDTHS[self.width + 1] / WIDTHS[self.width];
        self.width += 1;
        for (at, bar) in std::mem::take(&mut self.bars) {
            let wide = self.bars.entry(at.div_euclid(factor)).or_default();
            wide.locked += bar.locked;
            wide.shadow += bar.shadow;
            wide.held += bar.held;
        }
    }

    /// Milliseconds of one bar.
    pub fn width_ms(&self) -> i64 {
        WIDTHS[self.width]
    }

    /// Every bar from the first that counts something to the last, with its begin.
    pub fn bars(&self) -> Vec<(Timestamp, Bar)> {
        let Some((first, _)) = self.bars.first_key_value() else {
            return Vec::new();
        };
        (*first..*first + self.span().min(MAX_BARS))
            .map(|at| {
                let bar = self.bars.get(&at).copied().unwrap_or_default();
                (Timestamp(at.saturating_mul(self.width_ms())), bar)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_time_has_as_few_bars_as_a_short_one_and_loses_nothing() {
        let mut timeline = Timeline::default();
        for hour in 0..5_000 {
            timeline.add(Timestamp(hour * HOUR_MS), Effect::Acted, true);
            timeline.add(Timestamp(hour * HOUR_MS), Effect::Shadow, false);
            timeline.add(Timestamp(hour * HOUR_MS), Effect::CaseOpen, false);
        }
        let bars = timeline.bars();
        assert!((20..=60).contains(&bars.len()), "{}", bars.len());
        assert_eq!(bars.iter().map(|(_, bar)| bar.locked).sum::<u64>(), 5_000);
        assert_eq!(bars.iter().map(|(_, bar)| bar.shadow).sum::<u64>(), 5_000);
        assert_eq!(timeline.width_ms(), 7 * DAY_MS);
        // A clock that is a millennium off does not make a million bars.
        timeline.add(Timestamp(250_000_000_000_000), Effect::Acted, true);
        assert!(timeline.bars().len() <= 60);
    }
}
