//! `replay` of a file, on one thread and on all, beside a loop that only parses the JSON of
//! the same file.
//!
//! `cargo bench --bench replay`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]

mod figures;
mod traffic;

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::replay::Side;
use doorward::replay::parallel;
use doorward::replay::stream::Placing;

const EVENTS: usize = 1_000_000;
const ACCOUNTS: usize = 50_000;
const PARTITIONS: u32 = 12;
/// Runs of each, in turn; the fastest counts, since others may use the machine.
const RUNS: usize = 5;

fn main() {
    if figures::is_trial() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.ndjson");
    write(&file);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parse = Duration::MAX;
    let mut one = Duration::MAX;
    let mut all = Duration::MAX;
    for _ in 0..RUNS {
        parse = parse.min(parse_only(&file));
        one = one.min(replay(&file, 1));
        all = all.min(replay(&file, cores));
    }
    let rate = |took: Duration| EVENTS as f64 / took.as_secs_f64();
    figures::figure(
        "a file of events, its JSON parsed alone on one thread",
        &format!("{:.0} /s", rate(parse)),
        "",
    );
    for (what, took) in [
        ("replayed on one thread".to_owned(), one),
        (format!("replayed on {cores} threads"), all),
    ] {
        figures::figure(
            &format!("the same file {what}"),
            &format!("{:.0} /s", rate(took)),
            &format!("{:.2} of the parse alone", rate(took) / rate(parse)),
        );
    }
}

fn write(path: &Path) {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    for line in traffic::events(EVENTS, ACCOUNTS) {
        file.write_all(&line).expect("a line written");
        file.write_all(b"\n").expect("its end written");
    }
    file.flush().expect("all written");
}

/// What a plain program does that looks at every event.
fn parse_only(path: &Path) -> Duration {
    let begin = Instant::now();
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path).expect("the file"));
    let mut line = Vec::new();
    let mut events = 0;
    while file.read_until(b'\n', &mut line).expect("a line") > 0 {
        black_box(sonic_rs::from_slice::<traffic::Plain<'_>>(&line).expect("an event"));
        line.clear();
        events += 1;
    }
    assert_eq!(events, EVENTS);
    begin.elapsed()
}

fn replay(path: &Path, threads: usize) -> Duration {
    let (engine, _) = figures::engine(PARTITIONS, usize::MAX);
    let (rules, facts) = (Arc::clone(engine.rules()), Arc::clone(engine.facts()));
    let mut sides = [Side::new(rules, facts, PARTITIONS)];
    let mut placing = Placing::new(PARTITIONS);
    let files: [PathBuf; 1] = [path.to_owned()];
    let begin = Instant::now();
    parallel::run(
        &files,
        &mut sides,
        &mut placing,
        (PARTITIONS, threads),
        &Arc::default(),
        &mut |happening| {
            black_box(happening);
            Ok(())
        },
    )
    .expect("a replay");
    let took = begin.elapsed();
    assert_eq!(placing.events, EVENTS as u64);
    took
}
