//! Figures in one form, and the engine that they are taken of.
//!
//! A line that begins with `= ` is a figure; `make bench` prints them all once more at the
//! end.

#![allow(
    dead_code,
    reason = "helpers are used by some benchmarks and not by others"
)]

use std::sync::Arc;
use std::time::Duration;

use doorward::config::GeoIp;
use doorward::document::{Diagnostics, SourceFile};
use doorward::engine::{Engine, Settings};
use doorward::facts::{self, Folder};
use doorward::record::Provenance;
use doorward::rules::RuleSet;

/// Prints one figure: a value, and what it is beside something else on this machine.
pub fn figure(what: &str, value: &str, beside: &str) {
    println!("= {what:58} {value:>16}   {beside}");
}

/// Whether this is cargo's trial of what a benchmark would do; a benchmark does nothing then.
pub fn is_trial() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

/// The shipped rules that lock, which the figures of one event are about.
pub const FOUR: [&str; 4] = [
    "failed-logins-many-ips.rule.yaml",
    "first-seen-country.rule.yaml",
    "reset-from-malicious-ip.rule.yaml",
    "two-factor-failure-streak.rule.yaml",
];

/// [`FOUR`] without lock budgets, since a benchmark locks more accounts than a rule may within
/// five minutes, with the built-in database; and what its outputs say of them.
pub fn engine(partitions: u32, max_forgettable_bytes: usize) -> (Engine, Provenance) {
    let unbounded = |file: &Arc<SourceFile>| {
        let text = file
            .text
            .replace("\nthen:", "\nlock_budget: 1000000\nthen:");
        SourceFile::new(file.name.as_str(), text)
    };
    let mut files = Folder(None).rule_files(&mut Diagnostics::default());
    files.retain(|file| FOUR.iter().any(|name| file.name.ends_with(name)));
    let files: Vec<Arc<SourceFile>> = files.iter().map(unbounded).collect();
    engine_of(&files, partitions, max_forgettable_bytes)
}

/// The same with the rules in `files`.
pub fn engine_of(
    files: &[Arc<SourceFile>],
    partitions: u32,
    max_forgettable_bytes: usize,
) -> (Engine, Provenance) {
    let loaded = facts::load(&GeoIp::default(), None).expect("the built-in facts");
    let mut found = Diagnostics::default();
    let rules = RuleSet::load(files, &loaded.facts.lists, &mut found).expect("the rules");
    let provenance = loaded.provenance("auth.events", rules.hash());
    let settings = Settings {
        max_lateness_ms: 300_000,
        act_within_ms: 86_400_000,
        link_valid_ms: 86_400_000,
        partitions,
        max_forgettable_bytes,
        state_key: [7; 16],
        answer_keys: None,
    };
    let engine = Engine::new(Arc::new(rules), Arc::new(loaded.facts), settings);
    (engine, provenance)
}

/// Latencies of one run.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn push(&mut self, one: Duration) {
        self.0.push(one);
    }

    pub fn extend(&mut self, others: Latencies) {
        self.0.extend(others.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; `share` is 0.5 for the median.
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted
            .get(at)
            .map_or(f64::NAN, |one| one.as_secs_f64() * 1e3)
    }

    /// `p50 / p99 ms`.
    pub fn text(&self) -> String {
        format!("{:.1} / {:.1} ms", self.at(0.5), self.at(0.99))
    }
}

/// User and system time of this process, all its threads together.
#[allow(unsafe_code, reason = "libc has the only call that tells it exactly")]
pub fn cpu_time() -> Duration {
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs()) + Duration::from_micros(t.tv_usec as u64)
    };
    // SAFETY: zeroes are a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// CPU time of the calling thread: what a machine that is busy with other things does not
/// change.
#[allow(unsafe_code, reason = "libc has the only call that tells it")]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the time that it is given.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
