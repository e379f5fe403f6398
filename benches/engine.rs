//! What one ordinary event costs: decode, enrich and four rules, as a ratio to parsing its
//! JSON alone with the same parser on the same bytes; and what sixteen rules more add.
//!
//! `cargo bench --bench engine`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

mod figures;
mod traffic;
mod twenty;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use doorward::document::{Diagnostics, SourceFile};
use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition, Settings};
use doorward::event::decode::{Decoder, Dropped};
use doorward::event::{Source, Timestamp};
use doorward::facts::Folder;

const EVENTS: usize = 20_000;
const ACCOUNTS: usize = 5_000;

/// A rule set, and accounts that are all known, as in a service that has run for a while.
struct Warm {
    engine: Engine,
    decoder: Decoder,
    partition: Partition,
}

impl Warm {
    fn of(rules: usize, lines: &[Vec<u8>]) -> Warm {
        let files = twenty::files(rules);
        assert_eq!(files.len(), rules);
        Warm::of_files(&files, lines)
    }

    fn of_files(files: &[Arc<SourceFile>], lines: &[Vec<u8>]) -> Warm {
        let (engine, _) = figures::engine_of(files, 1, Settings::MAX_FORGETTABLE_BYTES);
        let mut warm = Warm {
            decoder: engine.rules().decoder(),
            engine,
            partition: Partition::default(),
        };
        warm.handle_all(lines);
        warm
    }

    fn handle_all(&mut self, lines: &[Vec<u8>]) {
        let mut out = Outputs::default();
        let mut dropped = Dropped::new();
        for (offset, line) in lines.iter().enumerate() {
            let event = self.decoder.decode(line, &mut dropped).unwrap();
            let source = Source {
                partition: 0,
                offset: offset as i64,
            };
            let now = Timestamp(traffic::START_MS + offset as i64);
            self.engine
                .handle(&mut self.partition, &event, source, now, &mut out);
            out.clear();
        }
    }
}

fn main() {
    let lines = traffic::events(EVENTS, ACCOUNTS);
    let bytes: usize = lines.iter().map(Vec::len).sum();
    println!(
        "{EVENTS} events of {ACCOUNTS} accounts, {} bytes each on average",
        bytes / EVENTS
    );
    let mut four = Warm::of(4, &lines);
    let mut twenty = Warm::of(20, &lines);
    let built_in = Folder(None).rule_files(&mut Diagnostics::default());
    let mut built_in = Warm::of_files(&built_in, &lines);

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
                black_box(four.decoder.decode(line, &mut dropped).unwrap());
            }
        });
    });
    for (name, warm) in [
        ("decide", &mut four),
        ("twenty", &mut twenty),
        ("built-in", &mut built_in),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| (), |()| warm.handle_all(&lines), BatchSize::PerIteration);
        });
    }
    group.finish();
    criterion.final_summary();

    if let (Some(parse), Some(decode), Some(decide), Some(twenty), Some(built_in)) = (
        mean_ns("parse"),
        mean_ns("decode"),
        mean_ns("decide"),
        mean_ns("twenty"),
        mean_ns("built-in"),
    ) {
        let lines = [
            ("an event's JSON parsed alone", parse, ""),
            ("an event decoded", decode, ""),
            (
                "an event decoded, enriched, four rules",
                decide,
                " (aim: 2 at most)",
            ),
            ("the same with every built-in rule", built_in, ""),
        ];
        for (what, ns, aim) in lines {
            figures::figure(
                what,
                &format!("{ns:.0} ns"),
                &format!("{:.2} times the parse{aim}", ns / parse),
            );
        }
        figures::figure(
            "what twenty rules add to an event over four",
            &format!("{:.0} ns", twenty - decide),
            &format!("{:.2} times four (aim: less than 200 ns)", twenty / decide),
        );
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
