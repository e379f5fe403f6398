//! What operations see: one struct of metrics, its help texts being the doc comments.
//!
//! Owns names, labels and help (docs/contract.md section 7). Every label has a fixed set of
//! values, or one that the configuration bounds (rules, lists, partitions), so that no
//! flood of made-up accounts, types or fields can grow the number of series. It knows
//! nothing of HTTP: [`crate::admin`] serves it.

pub mod least;
pub mod local;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::event::SECOND_MS;
use crate::rules::exceptions::Exception;
use least::Least;

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Below a millisecond to ten seconds: a transaction, a decision.
const QUICK: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];
/// A tenth of a second to a day: events that arrive late.
const AGE: &[f64] = &[
    0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0,
];
/// A tenth of a second to the 48 hours for which a mail is retried.
const MAIL: &[f64] = &[
    0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 172_800.0,
];
/// A hundredth of a second to ten minutes: reading one partition's state back.
const RESTORE: &[f64] = &[
    0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 600.0,
];

/// Each line below is a metric: its help, its name without `doorward_`, its kind, its
/// labels, and a histogram's buckets.
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident [$($label:literal),*] $($buckets:ident)?;)+) => {
        /// Every metric of one process, in a registry of its own. Shared by `Arc`.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            /// What the shards have left of [`Self::lock_budget_remaining`].
            lock_budgets: Arc<Least>,
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        impl Metrics {
            pub fn new() -> Metrics {
                let registry = Registry::new();
                $(let $name: $kind = register(
                    &registry,
                    concat!("doorward_", stringify!($name)),
                    concat!($($help),+).trim(),
                    &[$($label),*],
                    &[$($buckets)?],
                );)+
                #[cfg(target_os = "linux")]
                register_process(&registry);
                let metrics = Metrics { registry, lock_budgets: Arc::default(), $($name),+ };
                metrics
                    .build_info
                    .with_label_values(&[crate::VERSION, crate::REVISION])
                    .set(1);
                metrics.begin_at_zero();
                metrics
            }
        }
    };
}

impl Metrics {
    /// Makes the counters whose first rise should wake somebody: one that begins to exist at
    /// 1 has not risen, as Prometheus sees it.
    fn begin_at_zero(&self) {
        for result in [
            "sent",
            "failed",
            "retried",
            "unclear",
            "capped",
            "untold",
            "delayed",
            "set_aside",
            "no_address",
            "unreached",
        ] {
            self.mail_total.with_label_values(&[result]);
        }
        for result in ["loaded", "partly", "refused"] {
            self.rules_reload_total.with_label_values(&[result]);
        }
        for result in ["applied", "ignored", "forged"] {
            self.answers_total.with_label_values(&[result]);
        }
        for reason in crate::event::decode::Rejected::KINDS {
            self.events_rejected_total.with_label_values(&[*reason]);
        }
    }
}

metrics! {
    /// Events read, by type and outcome; types that doorward does not know count as other.
    events_total: IntCounterVec ["type", "outcome"];
    /// Messages that are no events and went to the dead-letter topic, by reason.
    events_rejected_total: IntCounterVec ["reason"];
    /// Events that came later than windows and runs wait for, and so did not count in them.
    events_late_total: IntCounter [];
    /// Events that a rule already held, by id and time.
    events_duplicate_total: IntCounter [];
    /// Events whose id a rule already held with another time.
    events_id_conflict_total: IntCounter [];
    /// Events without the field that a rule groups by.
    events_unkeyed_total: IntCounter [];
    /// Events more than 60 s ahead of the broker's clock, which took the broker's time.
    events_future_total: IntCounter [];
    /// Events whose message key is not their account.
    events_key_mismatch_total: IntCounter [];
    /// Optional fields that were present but invalid and were dropped, by field.
    event_fields_dropped_total: IntCounterVec ["field"];
    /// Times a rule on countries did not apply because the address has no known country.
    country_unknown_total: IntCounter [];
    /// Entries dropped because an account's window was full.
    windows_full_total: IntCounter [];
    /// Accounts that were forgotten for want of memory, or whose windows were.
    accounts_evicted_total: IntCounter [];
    /// Answers, operators' requests and bounces read back from the log, by what became of them.
    answers_total: IntCounterVec ["result"];
    /// Account recoveries that were stopped a second time in a row, and wait for an operator.
    recoveries_disputed_total: IntCounter [];
    /// Decisions, by rule and effect.
    decisions_total: IntCounterVec ["rule", "effect"];
    /// Commands to the login pipeline, by command.
    commands_total: IntCounterVec ["command"];
    /// From an event's time to the decision that it completed.
    event_age_seconds: Histogram [] AGE;
    /// From the receipt of a message to the commit of the command that it caused.
    decision_latency_seconds: Histogram [] QUICK;
    /// Records of a partition that are not read yet.
    consumer_lag: IntGaugeVec ["partition"];
    /// Kafka transactions, by result.
    transactions_total: IntCounterVec ["result"];
    /// How long a Kafka transaction took, from begin to known result.
    transaction_seconds: Histogram [] QUICK;
    /// Accounts held in memory.
    state_accounts: IntGauge [];
    /// Memory that the accounts take, their map included.
    state_bytes: IntGauge [];
    /// How long reading a partition's state back took.
    state_restore_seconds: Histogram [] RESTORE;
    /// The rule set at work; always 1.
    rules_info: IntGaugeVec ["rule_set"];
    /// When the country database was built, in seconds since 1970; 0 without one.
    geoip_build_timestamp_seconds: IntGauge [];
    /// Reloads of rules, lists and databases, by result: loaded, partly (a list or database that
    /// could not be used kept what it had), refused (everything did).
    rules_reload_total: IntCounterVec ["result"];
    /// Country look-ups, by result.
    geoip_lookups_total: IntCounterVec ["result"];
    /// Addresses and networks in a list; 0 where it could not be loaded.
    list_entries: IntGaugeVec ["list"];
    /// When a list was loaded, in seconds since 1970.
    list_loaded_timestamp_seconds: IntGaugeVec ["list"];
    /// When a list's content was made, in seconds since 1970: the date in it, else its file's.
    list_made_timestamp_seconds: IntGaugeVec ["list"];
    /// 1 where a list is older than its max_age.
    list_stale: IntGaugeVec ["list"];
    /// What became of mails and attempts: sent, failed (given up), retried, unclear (the server
    /// may have it), delayed (the address has had its share), capped (the account has), untold
    /// (it asks nothing, and was kept back for those that do), set_aside (no room in memory),
    /// no_address (the pipeline sends none), unreached (every mail about a case bounced).
    mail_total: IntCounterVec ["result"];
    /// From the decision to the mail server's acceptance.
    mail_delay_seconds: Histogram [] MAIL;
    /// Mails that are not done: waiting, being sent, or set aside in the log.
    mail_pending: IntGauge [];
    /// Uses of the links in mails, by answer and result.
    links_total: IntCounterVec ["answer", "result"];
    /// Cases that wait for their owner.
    cases_open: IntGauge [];
    /// Times an exception kept an event from a rule, or its hit from acting.
    exception_hits_total: IntCounterVec ["exception"];
    /// Times an exception would have done so, had it not expired.
    exception_expired_total: IntCounterVec ["exception"];
    /// When an exception expires, in seconds since 1970.
    exception_expires_timestamp_seconds: IntGaugeVec ["exception"];
    /// Accounts that a rule may still lock in this window, in the partition with the fewest.
    lock_budget_remaining: IntGaugeVec ["rule"];
    /// Owners' answers that took effect, by the rule that asked and the answer.
    owner_answers_total: IntCounterVec ["rule", "answer"];
    /// Owners' answers to cases into which a hit of a rule in shadow fell, by that rule.
    shadow_answers_total: IntCounterVec ["rule", "answer"];
    /// The version at work; always 1.
    build_info: IntGaugeVec ["version", "revision"];
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format 0.0.4 ([`CONTENT_TYPE`]).
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# the metrics could not be written: {error}\n"))
    }

    /// A shard's place among those that report what is left of lock budgets.
    pub fn join_lock_budgets(&self) -> least::Share {
        self.lock_budgets.join(&self.lock_budget_remaining)
    }

    /// Names the exceptions at work; those before them cease to be reported.
    pub fn set_exceptions(&self, exceptions: &[Exception]) {
        self.exception_expires_timestamp_seconds.reset();
        for exception in exceptions {
            let id = [&*exception.id];
            self.exception_hits_total.with_label_values(&id);
            // One that begins to exist at 1 has not risen, as Prometheus sees it.
            self.exception_expired_total.with_label_values(&id);
            self.exception_expires_timestamp_seconds
                .with_label_values(&id)
                .set(exception.expires.0 / SECOND_MS);
        }
    }

    /// Reports nothing more of a list that is no longer named.
    pub fn forget_list(&self, list: &str) {
        for gauge in [
            &self.list_entries,
            &self.list_loaded_timestamp_seconds,
            &self.list_made_timestamp_seconds,
            &self.list_stale,
        ] {
            // One that was never set has nothing to remove.
            let _ = gauge.remove_label_values(&[list]);
        }
    }

    /// Names the rule set at work; the one before it ceases to be reported.
    pub fn set_rule_set(&self, hash: &str) {
        self.rules_info.reset();
        self.rules_info.with_label_values(&[hash]).set(1);
    }
}

/// A kind of metric that [`metrics!`] can build.
trait Kind: Collector + Clone + Sized + 'static {
    fn build(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> prometheus::Result<Self>;
}

impl Kind for IntCounter {
    fn build(name: &str, help: &str, _: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        IntCounter::new(name, help)
    }
}

impl Kind for IntCounterVec {
    fn build(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        IntCounterVec::new(Opts::new(name, help), labels)
    }
}

impl Kind for IntGauge {
    fn build(name: &str, help: &str, _: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        IntGauge::new(name, help)
    }
}

impl Kind for IntGaugeVec {
    fn build(name: &str, help: &str, labels: &[&str], _: &[f64]) -> prometheus::Result<Self> {
        IntGaugeVec::new(Opts::new(name, help), labels)
    }
}

impl Kind for Histogram {
    fn build(name: &str, help: &str, _: &[&str], buckets: &[f64]) -> prometheus::Result<Self> {
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
    }
}

/// Names, labels and buckets are constants of this file, so that a mistake in them shows
/// when the first `Metrics` is built, in every test.
fn register<K: Kind>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[&[f64]],
) -> K {
    let metric = K::build(name, help, labels, &buckets.concat())
        .unwrap_or_else(|error| unreachable!("metric {name}: {error}"));
    registry
        .register(Box::new(metric.clone()))
        .unwrap_or_else(|error| unreachable!("metric {name}: {error}"));
    metric
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry
        .register(Box::new(process))
        .unwrap_or_else(|error| unreachable!("process metrics: {error}"));
}
