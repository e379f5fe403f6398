//! Transactions a second and how long one takes, on one broker and on three, beside the same
//! records without transactions: what exactly-once costs.
//!
//! Each holds what one lock causes: a command, a decision, a case, a mail, an account's state
//! and the input offset. They are committed one after the other through `run`'s own log.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench commit`

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

mod figures;
mod rig;
#[path = "../tests/it/support.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::log::{Log, OutputRecord, OutputTopic, Transaction};
use doorward::metrics::Metrics;
use figures::{Latencies, figure};
use support::kafka::{self, Cluster};

const WARM: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(8);

fn main() {
    if figures::is_trial() {
        return;
    }
    let Some(one) = rig::broker() else { return };
    report("one broker", one);
    let Some(three) = kafka::start_cluster(3) else {
        return;
    };
    report("three brokers", &three);
}

fn report(on: &str, cluster: &Cluster) {
    let (plain_rate, plain) = commit_on(cluster, false);
    let (rate, latencies) = commit_on(cluster, true);
    figure(
        &format!("transactions a second, {on}"),
        &format!("{rate:.0}"),
        &format!(
            "{:.2} of the same without transactions ({plain_rate:.0})",
            rate / plain_rate
        ),
    );
    figure(
        &format!("a transaction, p50 / p99, {on}"),
        &latencies.text(),
        &format!(
            "{:.1} times the same without ({})",
            latencies.at(0.5) / plain.at(0.5),
            plain.text()
        ),
    );
}

/// Commits a second, and how long each took.
fn commit_on(cluster: &Cluster, transactions: bool) -> (f64, Latencies) {
    let replicas = cluster.bootstrap().split(',').count() as i32;
    let topics = rig::make_topics(cluster, 1, replicas);
    let kafka = rig::kafka_settings(cluster, transactions);
    let metrics = Arc::new(Metrics::new());
    let mut log = rig::joined(&kafka, &topics, &metrics);
    let mut latencies = Latencies::default();
    let mut committed = 0;
    let (began, mut measured_from) = (Instant::now(), None);
    loop {
        if began.elapsed() > WARM && measured_from.is_none() {
            measured_from = Some(Instant::now());
        }
        if measured_from.is_some_and(|from| from.elapsed() > MEASURED) {
            break;
        }
        committed += 1;
        let transaction = Arc::new(lock(committed));
        let before = Instant::now();
        log.commit(&transaction).expect("a commit");
        if measured_from.is_some() {
            latencies.push(before.elapsed());
        }
        // As a shard does between two commits.
        log.poll(Duration::ZERO, &mut |_| {}).expect("a poll");
    }
    log.close();
    (latencies.len() as f64 / MEASURED.as_secs_f64(), latencies)
}

/// What one lock causes.
fn lock(number: i64) -> Transaction {
    let record = |topic, bytes: usize, partition| OutputRecord {
        topic,
        key: format!("u-{number:07}").into_bytes(),
        payload: Some(vec![b'x'; bytes]),
        partition,
        headers: Vec::new(),
    };
    Transaction {
        batch_id: format!("bench-{number}"),
        records: vec![
            record(OutputTopic::Commands, 500, None),
            record(OutputTopic::Decisions, 900, None),
            record(OutputTopic::Cases, 900, None),
            record(OutputTopic::Mail, 900, None),
            record(OutputTopic::State, 600, Some(0)),
        ],
        offsets: vec![(0, number)],
    }
}
