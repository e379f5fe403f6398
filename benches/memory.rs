//! What an account costs in memory, counted by the allocator: a million quiet accounts, and
//! a million accounts that failed once.
//!
//! `cargo bench --bench memory`

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(
    unsafe_code,
    reason = "an allocator that counts is the only way to see every byte"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorward::document::Diagnostics;
use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition, Settings};
use doorward::event::decode::Dropped;
use doorward::event::{Source, Timestamp};
use doorward::rules::RuleSet;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `ptr` came from System with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ACCOUNTS: usize = 1_000_000;
const START_MS: i64 = 1_795_327_200_000;

fn main() {
    // Criterion's arguments (`--bench`) mean nothing here; there is one thing to measure.
    let loaded = doorward::facts::load(&Default::default(), None).unwrap();
    let mut found = Diagnostics::default();
    let files = doorward::facts::Folder(None).rule_files(&mut found);
    let rules = RuleSet::load(&files, &loaded.facts.lists, &mut found).unwrap();
    let engine = Engine::new(
        Arc::new(rules),
        Arc::new(loaded.facts),
        Settings {
            max_lateness_ms: 300_000,
            act_within_ms: 86_400_000,
            link_valid_ms: 86_400_000,
            partitions: 1,
            max_forgettable_bytes: usize::MAX,
            state_key: [7; 16],
            answer_keys: None,
        },
    );
    let quiet = |n: usize| {
        format!(
            r#"{{"id":"e-{n}","type":"login","time":{START_MS},"account":"u-{n}","outcome":"success","ip":"81.167.144.58"}}"#
        )
    };
    let failed = |n: usize| {
        format!(
            r#"{{"id":"01890a5d-ac96-774b-bcce-{n:012}","type":"login","time":{START_MS},"account":"u-{n}","outcome":"failure","ip":"81.167.144.58","email":"u-{n}@example.org"}}"#
        )
    };
    report(
        "quiet account, one known country (aim: 100 at most)",
        &engine,
        &quiet,
    );
    report("account with one failed sign-in", &engine, &failed);
}

fn report(what: &str, engine: &Engine, line: &dyn Fn(usize) -> String) {
    let mut worst = 0.0_f64;
    let before = HELD.load(Ordering::Relaxed);
    let mut partition = Partition::default();
    let decoder = engine.rules().decoder();
    let mut dropped = Dropped::new();
    let mut out = Outputs::default();
    for n in 0..ACCOUNTS {
        let line = line(n);
        let event = decoder.decode(line.as_bytes(), &mut dropped).unwrap();
        let source = Source {
            partition: 0,
            offset: n as i64,
        };
        engine.handle(
            &mut partition,
            &event,
            source,
            Timestamp(START_MS),
            &mut out,
        );
        out.clear();
        if n > ACCOUNTS / 4 && n % 1_000 == 0 {
            let held = HELD.load(Ordering::Relaxed) - before;
            worst = worst.max(held as f64 / partition.accounts() as f64);
        }
    }
    let held = HELD.load(Ordering::Relaxed) - before;
    println!("{what}:");
    println!(
        "  {:.1} bytes at {ACCOUNTS} accounts, {worst:.1} at the map's worst load; \
         the program's own figure (doorward_state_bytes): {:.1}",
        held as f64 / ACCOUNTS as f64,
        partition.bytes() as f64 / ACCOUNTS as f64
    );
}
