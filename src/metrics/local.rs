//! Counting on the hot path: plain numbers of one shard, added to the shared metrics once
//! per batch.
//!
//! An ordinary event costs some additions here, no label look-up and no atomic.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Metrics;
use super::least::{self, Left};
use crate::engine::output::{CommandKind, Counts, Decision, Effect};
use crate::event::{EventType, KnownType, Outcome};

/// Known types, and one for all others.
const TYPES: usize = KnownType::ALL.len() + 1;
/// Outcomes, and one for events without.
const OUTCOMES: usize = Outcome::ALL.len() + 1;

/// The label of event types that doorward does not know.
pub const OTHER_TYPE: &str = "other";
/// The label of events without an outcome.
pub const NO_OUTCOME: &str = "none";

/// The counters of one shard. What was counted reaches [`Metrics`] with [`Self::flush`],
/// and at the latest when the shard drops them.
#[derive(Debug)]
pub struct ShardCounters {
    metrics: Arc<Metrics>,
    events: [Tally; TYPES * OUTCOMES],
    counts: Counts,
    key_mismatches: u64,
    state_accounts: Share,
    state_bytes: Share,
    cases_open: Share,
    lock_budgets: least::Share,
}

/// A count, and the counter that it goes to once that has been looked up.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    counter: Option<IntCounter>,
}

impl Tally {
    fn flush(&mut self, vec: &IntCounterVec, labels: &[&str]) {
        if self.count > 0 {
            self.counter
                .get_or_insert_with(|| vec.with_label_values(labels))
                .inc_by(self.count);
            self.count = 0;
        }
    }
}

/// This shard's part of a gauge that several shards add up to.
#[derive(Debug)]
struct Share {
    gauge: IntGauge,
    last: i64,
}

impl Share {
    fn of(gauge: &IntGauge) -> Share {
        Share {
            gauge: gauge.clone(),
            last: 0,
        }
    }

    fn set(&mut self, value: usize) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.gauge.add(value - self.last);
        self.last = value;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.sub(self.last);
    }
}

impl ShardCounters {
    pub fn new(metrics: Arc<Metrics>) -> ShardCounters {
        ShardCounters {
            events: std::array::from_fn(|_| Tally::default()),
            counts: Counts::default(),
            key_mismatches: 0,
            state_accounts: Share::of(&metrics.state_accounts),
            state_bytes: Share::of(&metrics.state_bytes),
            cases_open: Share::of(&metrics.cases_open),
            lock_budgets: metrics.join_lock_budgets(),
            metrics,
        }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Counts one decoded event.
    pub fn event(&mut self, kind: &EventType<'_>, outcome: Option<Outcome>) {
        let kind = kind.known().map_or(TYPES - 1, |known| known as usize);
        let outcome = outcome.map_or(OUTCOMES - 1, |outcome| outcome as usize);
        self.events[kind * OUTCOMES + outcome].count += 1;
    }

    /// Counts an event whose message key is not its account.
    pub fn key_mismatch(&mut self) {
        self.key_mismatches += 1;
    }

    /// Adds what the engine counted for one event.
    pub fn engine(&mut self, counts: &Counts) {
        let sum = &mut self.counts;
        macro_rules! add {
            ($($field:ident),+) => { $(sum.$field = sum.$field.saturating_add(counts.$field);)+ };
        }
        add!(
            late,
            duplicate,
            id_conflict,
            unkeyed,
            future,
            country_unknown,
            window_full
        );
        add!(answers_applied, answers_ignored, answers_forged);
        add!(
            recovery_disputed,
            mail_no_address,
            mail_capped,
            mail_untold,
            mail_unreached,
            evicted
        );
        add!(
            geo_found,
            geo_not_found,
            geo_special,
            geo_failed,
            geo_no_database
        );
    }

    /// Counts optional fields of one event that were dropped as invalid.
    pub fn dropped(&mut self, fields: &[&'static str]) {
        for field in fields {
            self.metrics
                .event_fields_dropped_total
                .with_label_values(&[field])
                .inc();
        }
    }

    /// Counts a message that is no event. `kind` is one of decode's fixed words.
    pub fn rejected(&mut self, kind: &'static str) {
        self.metrics
            .events_rejected_total
            .with_label_values(&[kind])
            .inc();
    }

    /// Counts a decision and, where it acted, how old its event was at broker time `now`.
    pub fn decision(&mut self, decision: &Decision, now: crate::event::Timestamp) {
        self.metrics
            .decisions_total
            .with_label_values(&[&*decision.rule, decision.effect.as_str()])
            .inc();
        if decision.effect != Effect::Stale {
            let age_ms = now.since_ms(decision.time).max(0);
            self.metrics.event_age_seconds.observe(age_ms as f64 / 1e3);
        }
    }

    pub fn command(&mut self, kind: CommandKind) {
        self.metrics
            .commands_total
            .with_label_values(&[kind.as_str()])
            .inc();
    }

    /// What this shard holds at the moment, over all its partitions.
    pub fn state(&mut self, accounts: usize, bytes: usize, open_cases: usize) {
        self.state_accounts.set(accounts);
        self.state_bytes.set(bytes);
        self.cases_open.set(open_cases);
    }

    /// What each rule may still lock in the partition of this shard where that is least.
    pub fn lock_budgets(&mut self, left: Left) {
        self.lock_budgets.set(left);
    }

    /// Hits of `rule` may be held: the number of those begins at nothing, since one that
    /// begins to exist at 1 has not risen, as Prometheus sees it.
    pub fn may_hold(&self, rule: &str) {
        let held = [rule, Effect::Held.as_str()];
        self.metrics.decisions_total.with_label_values(&held);
    }

    /// Adds what was counted since the last flush to the shared metrics.
    pub fn flush(&mut self) {
        for (at, tally) in self.events.iter_mut().enumerate() {
            let kind = KnownType::ALL
                .get(at / OUTCOMES)
                .map_or(OTHER_TYPE, |kind| kind.as_str());
            let outcome = Outcome::ALL
                .get(at % OUTCOMES)
                .map_or(NO_OUTCOME, |outcome| outcome.as_str());
            tally.flush(&self.metrics.events_total, &[kind, outcome]);
        }
        self.metrics
            .events_key_mismatch_total
            .inc_by(std::mem::take(&mut self.key_mismatches));
        self.flush_engine();
    }

    fn flush_engine(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        if counts == Counts::default() {
            return;
        }
        let metrics = &self.metrics;
        for (counter, count) in [
            (&metrics.events_late_total, counts.late),
            (&metrics.events_duplicate_total, counts.duplicate),
            (&metrics.events_id_conflict_total, counts.id_conflict),
            (&metrics.events_unkeyed_total, counts.unkeyed),
            (&metrics.events_future_total, counts.future),
            (&metrics.country_unknown_total, counts.country_unknown),
            (&metrics.windows_full_total, counts.window_full),
            (&metrics.accounts_evicted_total, counts.evicted),
            (&metrics.recoveries_disputed_total, counts.recovery_disputed),
        ] {
            counter.inc_by(u64::from(count));
        }
        for (vec, label, count) in [
            (&metrics.answers_total, "applied", counts.answers_applied),
            (&metrics.answers_total, "ignored", counts.answers_ignored),
            (&metrics.answers_total, "forged", counts.answers_forged),
            (&metrics.mail_total, "no_address", counts.mail_no_address),
            (&metrics.mail_total, "capped", counts.mail_capped),
            (&metrics.mail_total, "untold", counts.mail_untold),
            (&metrics.mail_total, "unreached", counts.mail_unreached),
            (&metrics.geoip_lookups_total, "found", counts.geo_found),
            (
                &metrics.geoip_lookups_total,
                "not_found",
                counts.geo_not_found,
            ),
            (&metrics.geoip_lookups_total, "special", counts.geo_special),
            (&metrics.geoip_lookups_total, "failed", counts.geo_failed),
            (
                &metrics.geoip_lookups_total,
                "no_database",
                counts.geo_no_database,
            ),
        ] {
            if count > 0 {
                vec.with_label_values(&[label]).inc_by(u64::from(count));
            }
        }
    }
}

impl Drop for ShardCounters {
    fn drop(&mut self) {
        self.flush();
    }
}
