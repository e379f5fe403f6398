//! After a history: is everything as a plain single pass over the log says?

use std::collections::{BTreeMap, BTreeSet};

use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use doorward::log::{InputRecord, OutputTopic};
use doorward::sim::cluster::Cluster;
use doorward::sim::topic::Topic;

use super::host::{engine, provenance};
use crate::support::oracle::{Oracle, Seen};

/// A timer may act so much after its time: the publishing again of one that came too early,
/// and what a restart takes.
const TIMER_GRACE_MS: i64 = 5 * 60_000;

/// After so long nothing that a rule holds matters any more; a closed case is still kept.
const SPENT_MS: i64 = 60 * 3_600_000;

/// Topics that are compared, record by record.
const OUTPUTS: [(Topic, OutputTopic); 5] = [
    (Topic::Commands, OutputTopic::Commands),
    (Topic::Decisions, OutputTopic::Decisions),
    (Topic::Cases, OutputTopic::Cases),
    (Topic::Mail, OutputTopic::Mail),
    (Topic::DeadLetters, OutputTopic::DeadLetters),
];

/// What is wrong, a line each; nothing where all is well.
pub fn judge(cluster: &Cluster, now: u64, leaps: &[(Timestamp, Timestamp)]) -> Vec<String> {
    let partitions = cluster.partitions(Topic::Events);
    let mut oracle = Oracle::new(engine(partitions), provenance());
    let mut complaints = Vec::new();
    for partition in 0..partitions {
        for record in cluster.log((Topic::Events, partition)).committed(0) {
            if let Some(key) = &record.message.key
                && cluster.place(Topic::Events, key) != partition
            {
                complaints.push(format!(
                    "partition {partition}: offset {} belongs to another partition",
                    record.offset
                ));
            }
            oracle.read(InputRecord {
                partition,
                offset: record.offset,
                broker_time: record.time,
                key: record.message.key.as_deref(),
                payload: record.message.payload.as_deref(),
            });
        }
        let (late, last) = timers(cluster, partition, now, leaps);
        complaints.extend(late);
        complaints.extend(state_of(cluster, partition, last, Some(now)));
    }
    complaints.extend(oracle.judge(&seen(cluster)));
    complaints
}

/// What a single pass over a partition leaves; `look` sees each step before it is taken.
fn pass(
    cluster: &Cluster,
    engine: &Engine,
    partition: i32,
    mut look: impl FnMut(&Partition, Timestamp),
) -> Partition {
    let mut fresh = Partition::default();
    let decoder = engine.rules().decoder();
    let mut out = Outputs::default();
    for record in cluster.log((Topic::Events, partition)).committed(0) {
        look(&fresh, record.time);
        let payload = record.message.payload.as_deref().unwrap_or_default();
        if let Ok(event) = decoder.decode(payload, &mut Dropped::new()) {
            let source = Source {
                partition,
                offset: record.offset,
            };
            engine.handle(&mut fresh, &event, source, record.time, &mut out);
            out.clear();
        }
    }
    fresh
}

/// Timers that did not act in time, and what is known in the end. What became due while time leapt is due when it has.
fn timers(
    cluster: &Cluster,
    partition: i32,
    now: u64,
    leaps: &[(Timestamp, Timestamp)],
) -> (Vec<String>, Partition) {
    let engine = engine(cluster.partitions(Topic::Events));
    let mut late: BTreeSet<Timestamp> = BTreeSet::new();
    let mut look = |partition: &Partition, time: Timestamp| {
        let Some(due) = engine.next_deadline(partition) else {
            return;
        };
        let mut from = due;
        for (began, ended) in leaps {
            if *began <= from.plus_ms(TIMER_GRACE_MS) && from <= *ended {
                from = *ended;
            }
        }
        if time.since_ms(from) > TIMER_GRACE_MS {
            late.insert(due);
        }
    };
    let last = pass(cluster, &engine, partition, &mut look);
    look(&last, cluster.time(now));
    let late = late.iter();
    let late = late
        .map(|due| format!("partition {partition}: a timer due at {due} did not act in time"))
        .collect();
    (late, last)
}

/// Everything that readers of committed records saw.
fn seen(cluster: &Cluster) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (topic, role) in OUTPUTS {
        for partition in 0..cluster.partitions(topic) {
            for record in cluster.log((topic, partition)).committed(0) {
                let headers = record.message.headers.iter();
                seen.push(Seen {
                    topic: role,
                    place: Some((partition, record.offset)),
                    key: record.message.key.clone().unwrap_or_default(),
                    payload: record.message.payload.clone(),
                    headers: headers
                        .map(|(name, value)| ((*name).to_owned(), value.clone()))
                        .collect(),
                });
            }
        }
    }
    seen
}

/// What is wrong with the durable state, before anything can have been swept.
pub fn state(cluster: &Cluster) -> Vec<String> {
    let engine = engine(cluster.partitions(Topic::Events));
    let partitions = 0..cluster.partitions(Topic::State);
    let of_one = |partition| {
        let expected = pass(cluster, &engine, partition, |_, _| {});
        state_of(cluster, partition, expected, None)
    };
    partitions.flat_map(of_one).collect()
}

/// The durable state must hold exactly what the single pass knows. What is idle is swept at
/// times that no rule fixes: where some may have been, `swept_at` says when, and both sides
/// are swept long after that before they are compared.
fn state_of(
    cluster: &Cluster,
    partition: i32,
    mut expected: Partition,
    swept_at: Option<u64>,
) -> Vec<String> {
    let engine = &engine(cluster.partitions(Topic::Events));
    let mut written: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for record in cluster.log((Topic::State, partition)).committed(0) {
        let key = record.message.key.clone().unwrap_or_default();
        match &record.message.payload {
            Some(value) => written.insert(key, value.clone()),
            None => written.remove(&key),
        };
    }
    let mut restored = Partition::default();
    for (key, value) in &written {
        if let Err(error) = engine.restore_state(&mut restored, key, Some(value)) {
            return vec![format!("partition {partition}: a state record: {error}")];
        }
    }
    if let Some(now) = swept_at {
        let later = cluster.time(now).plus_ms(SPENT_MS);
        for side in [&mut restored, &mut expected] {
            side.note_time(engine, later, &mut Outputs::default());
        }
    }
    let accounts = (0..super::tale::CROWD).map(|account| format!("u-{account}"));
    accounts
        .map(|account| (engine.state_key(&account), account))
        .chain([(engine.partition_key(), "lock budgets".to_owned())])
        .filter_map(|(key, account)| {
            let is = engine.encode_state(&restored, key);
            let should = engine.encode_state(&expected, key);
            let say = |state: &Option<Vec<u8>>| match state {
                Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                None => "nothing".to_owned(),
            };
            (is != should).then(|| {
                format!(
                    "partition {partition}: the state of {account} is {} and not {}",
                    say(&is),
                    say(&should)
                )
            })
        })
        .collect()
}
