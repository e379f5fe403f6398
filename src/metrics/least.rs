//! A gauge by rule that shows the least of what the shards of a process have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGaugeVec;

/// What each rule has left, in the partition where that is least.
pub type Left = BTreeMap<Arc<str>, i64>;

/// What every shard reported last, one place for each. A lock, since a gauge has no way to
/// keep a minimum; each shard takes it twice a second.
#[derive(Debug, Default)]
pub struct Least(Mutex<Vec<Option<Left>>>);

impl Least {
    /// A place for one more shard, which shows in `gauge`.
    pub fn join(self: &Arc<Least>, gauge: &IntGaugeVec) -> Share {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = shards.iter().position(Option::is_none);
        let place = free.unwrap_or(shards.len());
        if place == shards.len() {
            shards.push(None);
        }
        shards[place] = Some(Left::new());
        Share {
            least: Arc::clone(self),
            gauge: gauge.clone(),
            place,
        }
    }
}

/// One shard's part; what it said is forgotten with it.
#[derive(Debug)]
pub struct Share {
    least: Arc<Least>,
    gauge: IntGaugeVec,
    place: usize,
}

impl Share {
    pub fn set(&self, left: Left) {
        self.put(Some(left));
    }

    fn put(&self, left: Option<Left>) {
        let mut shards = self.least.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = std::mem::replace(&mut shards[self.place], left).unwrap_or_default();
        let mut least = Left::new();
        for (rule, left) in shards.iter().flatten().flatten() {
            let held = least.entry(Arc::clone(rule)).or_insert(*left);
            *held = (*held).min(*left);
        }
        for (rule, left) in &least {
            self.gauge.with_label_values(&[&**rule]).set(*left);
        }
        for rule in gone.keys().filter(|rule| !least.contains_key(*rule)) {
            // An error says that there is none, which is what is wanted.
            let _ = self.gauge.remove_label_values(&[&**rule]);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.put(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn left(of: &[(&str, i64)]) -> Left {
        of.iter().map(|(rule, n)| (Arc::from(*rule), *n)).collect()
    }

    #[test]
    fn the_least_of_all_shards_shows_and_goes_with_them() {
        let metrics = Metrics::new();
        let shown = |rule: &str| {
            let name = format!("doorward_lock_budget_remaining{{rule=\"{rule}\"}} ");
            let text = metrics.text();
            let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
            line.parse::<i64>().ok()
        };
        let (one, two) = (metrics.join_lock_budgets(), metrics.join_lock_budgets());
        one.set(left(&[("a", 7), ("b", 50)]));
        two.set(left(&[("a", 9)]));
        assert_eq!((shown("a"), shown("b")), (Some(7), Some(50)));
        one.set(left(&[("a", 50)]));
        assert_eq!((shown("a"), shown("b")), (Some(9), None));
        drop(two);
        assert_eq!(shown("a"), Some(50));
        drop(metrics.join_lock_budgets());
        drop(one);
        assert_eq!(shown("a"), None);
    }
}
