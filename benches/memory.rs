//! What accounts cost in memory, counted by the allocator; and that attacks stay within the
//! bound that docs/operations.md states: ten million made-up accounts, and one account with
//! ten million failures. Ends with 1 where something is over its bound.
//!
//! `cargo bench --bench memory`; `DOORWARD_BENCH_FLOOD` sets the size of the floods, and where
//! it is small everything else is, too.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark fails by panicking"
)]
#![allow(
    unsafe_code,
    reason = "an allocator that counts is the only way to see every byte"
)]

mod figures;
mod traffic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorward::engine::output::Outputs;
use doorward::engine::{Engine, Partition, Settings, StateKey};
use doorward::event::decode::{Decoder, Dropped};
use doorward::event::{Source, Timestamp};
use figures::figure;
use traffic::START_MS;

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

/// Accounts with real owners while made-up ones flood in.
const OWNERS: usize = 200_000;
/// What a quiet account may cost, its key included.
const QUIET: f64 = 100.0;
/// What one account may cost under attack.
const ONE_ACCOUNT: usize = 64 * 1024;
/// Longest that the events of one commit may take, however much must be forgotten for them.
const STALL: Duration = Duration::from_millis(100);
/// Events between two commits: what changed is encoded once for all of them.
const COMMIT: usize = 100;

const NORWAY: &str = "81.167.144.58";
const BRAZIL: &str = "200.160.2.3";

fn main() -> ExitCode {
    if figures::is_trial() {
        return ExitCode::SUCCESS;
    }
    let floods = std::env::var("DOORWARD_BENCH_FLOOD")
        .map_or(10_000_000, |text| text.parse().expect("a number of events"));
    let mut over = Vec::new();
    resting(floods.min(1_000_000), &mut over);
    let ordinary = Told::default().ordinary(floods.min(200_000));
    made_up_accounts(floods, &ordinary, &mut over);
    one_account(floods, &ordinary, &mut over);
    for what in &over {
        println!("over its bound: {what}");
    }
    match over.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn success(n: usize, ip: &str) -> String {
    format!(
        r#"{{"id":"e-{n}","type":"login","time":{START_MS},"account":"u-{n}","outcome":"success","ip":"{ip}"}}"#
    )
}

fn failure(id: usize, account: &str, n: usize, ip: &str) -> String {
    let time = START_MS + id as i64 / 20;
    format!(
        r#"{{"id":"01890a5d-ac96-774b-bcce-{id:012}","type":"login","time":{time},"account":"{account}-{n}","outcome":"failure","ip":"{ip}","email":"{account}-{n}@example.org"}}"#
    )
}

/// An engine, a partition, and what was told to them.
struct Told {
    engine: Engine,
    decoder: Decoder,
    partition: Partition,
    out: Outputs,
    offset: i64,
    /// CPU time in the engine, decoding and encoding of what changed included.
    busy: Duration,
    /// The longest from one commit to the next.
    longest: Duration,
    /// Memory before the first event, and the most since.
    empty: usize,
    most: usize,
    acted: usize,
}

impl Default for Told {
    fn default() -> Told {
        let (engine, _) = figures::engine(1, Settings::MAX_FORGETTABLE_BYTES);
        let empty = held();
        Told {
            decoder: engine.rules().decoder(),
            engine,
            partition: Partition::default(),
            out: Outputs::default(),
            offset: 0,
            busy: Duration::ZERO,
            longest: Duration::ZERO,
            empty,
            most: 0,
            acted: 0,
        }
    }
}

impl Told {
    /// Tells `lines` in batches, each committed.
    fn tell_all(&mut self, lines: impl Iterator<Item = Vec<u8>>) {
        let mut lines = lines.peekable();
        let mut batch = Vec::with_capacity(COMMIT);
        while lines.peek().is_some() {
            batch.clear();
            batch.extend(lines.by_ref().take(COMMIT));
            let began = figures::thread_time();
            for line in &batch {
                self.tell(line);
            }
            self.commit();
            let took = figures::thread_time().saturating_sub(began);
            self.busy += took;
            self.longest = self.longest.max(took);
        }
    }

    fn commit(&mut self) {
        let changed = std::mem::take(&mut self.out.changed);
        let changed: HashSet<StateKey> = changed.into_iter().collect();
        for key in changed {
            std::hint::black_box(self.engine.encode_state(&self.partition, key));
        }
        self.acted += self.out.commands.len();
        self.out.clear();
    }

    fn tell(&mut self, line: &[u8]) {
        let event = self
            .decoder
            .decode(line, &mut Dropped::new())
            .expect("an event");
        let source = Source {
            partition: 0,
            offset: self.offset,
        };
        // Twenty events a millisecond.
        let now = Timestamp(START_MS + self.offset / 20);
        self.offset += 1;
        self.engine
            .handle(&mut self.partition, &event, source, now, &mut self.out);
        self.most = self.most.max(held().saturating_sub(self.empty));
    }

    /// Events a second of ordinary traffic, all accounts known.
    fn ordinary(mut self, count: usize) -> f64 {
        let lines = traffic::events(count, 20_000);
        self.tell_all(lines.iter().cloned());
        self.busy = Duration::ZERO;
        self.tell_all(lines.iter().cloned());
        lines.len() as f64 / self.busy.as_secs_f64()
    }

    fn per_second(&self, events: usize) -> f64 {
        events as f64 / self.busy.as_secs_f64()
    }
}

/// Accounts that nothing happens to.
fn resting(accounts: usize, over: &mut Vec<String>) {
    let (bytes, worst) = rest(accounts, "quiet account, one known country", &|n| {
        success(n, NORWAY)
    });
    figure(
        "bytes of a quiet account (aim: 100 at most)",
        &format!("{bytes:.1}"),
        &format!("{worst:.1} at the map's worst load; 40 in the map's own type"),
    );
    if worst > QUIET {
        over.push(format!("a quiet account takes {worst:.1} bytes"));
    }
    let (bytes, _) = rest(accounts, "account with one failed sign-in", &|n| {
        failure(0, "u", n, NORWAY)
    });
    figure(
        "bytes of an account with one failed sign-in",
        &format!("{bytes:.1}"),
        "until two days have passed, or room is needed",
    );
}

/// Bytes of an account on average, and at the map's worst load.
fn rest(accounts: usize, what: &str, line: &dyn Fn(usize) -> String) -> (f64, f64) {
    let (engine, _) = figures::engine(1, usize::MAX);
    let mut told = Told {
        decoder: engine.rules().decoder(),
        engine,
        ..Told::default()
    };
    let before = held();
    told.partition = Partition::default();
    let mut worst = 0.0_f64;
    for n in 0..accounts {
        // All at one moment, so that nothing runs out meanwhile.
        told.offset = 0;
        told.tell(line(n).as_bytes());
        told.out.clear();
        if n > accounts / 4 && n % 1_000 == 0 {
            let bytes = held() - before;
            worst = worst.max(bytes as f64 / told.partition.accounts() as f64);
        }
    }
    let bytes = (held() - before) as f64 / accounts as f64;
    println!(
        "{what}: {bytes:.1} bytes at {accounts} accounts, {worst:.1} at the map's worst load; \
         the program's own figure (doorward_state_bytes): {:.1}",
        told.partition.bytes() as f64 / accounts as f64
    );
    (bytes, worst)
}

/// Ten million accounts that nobody has, each with one failure; between them those that
/// somebody has.
fn made_up_accounts(floods: usize, ordinary: &f64, over: &mut Vec<String>) {
    let owners = OWNERS.min(floods);
    let mut told = Told::default();
    told.tell_all((0..owners).map(|n| success(n, NORWAY).into_bytes()));
    let first = told.offset as usize;
    told.busy = Duration::ZERO;
    told.longest = Duration::ZERO;
    let line = |n| failure(first + n, "made-up", n, "203.0.113.9").into_bytes();
    told.tell_all((0..floods).map(line));
    let per_second = told.per_second(floods);
    let bound = Settings::MAX_FORGETTABLE_BYTES + owners * QUIET as usize;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    figure(
        &format!("peak memory, {floods} made-up accounts"),
        &format!("{:.0} MiB", mib(told.most)),
        &format!(
            "{:.2} of the bound ({:.0} MiB); {} accounts are left",
            told.most as f64 / bound as f64,
            mib(bound),
            told.partition.accounts()
        ),
    );
    figure(
        "events a second in that flood, state encoded",
        &format!("{per_second:.0}"),
        &format!(
            "{:.2} of ordinary traffic ({ordinary:.0}); the longest hundred took {:.1} ms",
            per_second / ordinary,
            told.longest.as_secs_f64() * 1e3
        ),
    );
    if told.most > bound {
        over.push(format!("the flood took {} bytes of {bound}", told.most));
    }
    if told.longest > STALL {
        over.push(format!("a hundred events took {:?}", told.longest));
    }
    // Nobody's country was forgotten: each of them is asked about a new one.
    told.acted = 0;
    let asked = 10_000.min(owners);
    let time = (START_MS + told.offset / 20).to_string();
    let line = |n| success(n, BRAZIL).replace(&START_MS.to_string(), &time);
    told.tell_all((0..asked).map(|n| line(n).into_bytes()));
    if told.acted < asked {
        over.push(format!(
            "{} of {asked} places were forgotten",
            asked - told.acted
        ));
    }
}

/// One account, and ten million failures from four addresses, so that nothing fires.
fn one_account(floods: usize, ordinary: &f64, over: &mut Vec<String>) {
    let mut told = Told::default();
    let line = |n| failure(n, "one", 1, &format!("192.0.2.{}", n % 4)).into_bytes();
    told.tell_all((0..floods).map(line));
    figure(
        &format!("peak memory, {floods} failures on one account"),
        &format!("{:.1} KiB", told.most as f64 / 1024.0),
        &format!(
            "{:.2} of the bound (64 KiB); {:.2} of ordinary traffic's events a second",
            told.most as f64 / ONE_ACCOUNT as f64,
            told.per_second(floods) / ordinary
        ),
    );
    if told.most > ONE_ACCOUNT {
        over.push(format!("one account took {} bytes", told.most));
    }
}
