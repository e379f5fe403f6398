//! What one ordinary event costs: decode, enrich and four rules, as a ratio to parsing its
//! JSON alone with the same parser on the same bytes.
//!
//! `cargo bench --bench engine`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

mod figures;
mod traffic;

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput};
use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition, Settings};
use doorward::event::decode::{Decoder, Dropped};
use doorward::event::{Source, Timestamp};

const EVENTS: usize = 20_000;
const ACCOUNTS: usize = 5_000;

fn handle_all(engine: &Engine, decoder: &Decoder, partition: &mut Partition, lines: &[Vec<u8>]) {
    let mut out = Outputs::default();
    let mut dropped = Dropped::new();
    for (offset, line) in lines.iter().enumerate() {
        let event = decoder.decode(line, &mut dropped).unwrap();
        let source = Source {
            partition: 0,
            offset: offset as i64,
        };
        let now = Timestamp(traffic::START_MS + offset as i64);
        engine.handle(partition, &event, source, now, &mut out);
        out.clear();
    }
}

fn main() {
    let lines = traffic::events(EVENTS, ACCOUNTS);
    let bytes: usize = lines.iter().map(Vec::len).sum();
    println!(
        "{EVENTS} events of {ACCOUNTS} accounts, {} bytes each on average",
        bytes / EVENTS
    );
    let (engine, _) = figures::engine(1, Settings::MAX_FORGETTABLE_BYTES);
    let decoder = engine.rules().decoder();
    // Every account is known, as in a service that has run for a while.
    let mut partition = Partition::default();
    handle_all(&engine, &decoder, &mut partition, &lines);

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("parse", |b| {
        b.iter(|| {
            for line in &lines {
                black_box(sonic_rs::from_slice::<traffic::Plain<'_>>(line).unwrap());
            }
        });
    });
    group.bench_function("decode", |b| {
        let mut dropped = Dropped::new();
        b.iter(|| {
            for line in &lines {
                black_box(decoder.decode(line, &mut dropped).unwrap());
            }
        });
    });
    group.bench_function("decide", |b| {
        b.iter_batched_ref(
            || (),
            |()| handle_all(&engine, &decoder, &mut partition, &lines),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();

    if let (Some(parse), Some(decode), Some(decide)) =
        (mean_ns("parse"), mean_ns("decode"), mean_ns("decide"))
    {
        let lines = [
            ("an event's JSON parsed alone", parse, ""),
            ("an event decoded", decode, ""),
            (
                "an event decoded, enriched, four rules",
                decide,
                " (aim: 2 at most)",
            ),
        ];
        for (what, ns, aim) in lines {
            figures::figure(
                what,
                &format!("{ns:.0} ns"),
                &format!("{:.2} times the parse{aim}", ns / parse),
            );
        }
    }
}

/// Mean time of one event in the last run of a benchmark, as criterion wrote it down.
fn mean_ns(name: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let path = Path::new(&target)
        .join("criterion/event")
        .join(name)
        .join("new/estimates.json");
    let text = std::fs::read_to_string(path).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(estimates["mean"]["point_estimate"].as_f64()? / EVENTS as f64)
}
