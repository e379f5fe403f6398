//! The longest pause between two events that a shard handles at full speed, while everything
//! that can change is loaded again and again: rules, their tests, a list of a million entries
//! and the country database. Beside the longest of the same run without a reload, and beside
//! the longest commit of both. Ends with 1 where the pause is longer than that commit.
//!
//! `DOORWARD_KAFKA_LIB=… cargo bench --bench reload`; `DOORWARD_BENCH_EVENTS` sets how many
//! events a run has, 1,000,000 by default.

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
mod traffic;

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doorward::admin::Readiness;
use doorward::builtin;
use doorward::config::{GeoIp, Topics};
use doorward::document::{Diagnostics, render_all};
use doorward::engine::Settings;
use doorward::locale::Languages;
use doorward::log::{InputRecord, KafkaLog, Log, LogError, Transaction, Wakeup};
use doorward::metrics::Metrics;
use doorward::reload::{Ask, AtWork, Parts, Running, Sources, asks, read};
use doorward::shard::control::Stop;
use doorward::shard::latest::{Knowledge, Latest};
use figures::{Latencies, figure};
use rig::{STALLED, Watch, Watched};
use support::kafka::Cluster;
use tempfile::TempDir;

const PARTITIONS: i32 = 4;
const ACCOUNTS: usize = 20_000;
const ENTRIES: u32 = 1_000_000;
/// Runs of each kind, in turn: the longest pause of one run is mostly chance.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    if figures::is_trial() {
        return ExitCode::SUCCESS;
    }
    let Some(cluster) = rig::broker() else {
        return ExitCode::SUCCESS;
    };
    let count = std::env::var("DOORWARD_BENCH_EVENTS")
        .map_or(1_000_000, |text| text.parse().expect("a number of events"));
    let events = rig::make_topics(cluster, PARTITIONS, 1).events;
    fill(cluster, &events, count);
    let site = Site::new();
    let (mut still, mut loading) = (Run::default(), Run::default());
    for _ in 0..ROUNDS {
        still.add(run(cluster, &events, count, &site, false));
        loading.add(run(cluster, &events, count, &site, true));
    }
    println!("{:16} {still}\n{:16} {loading}", "no reload", "reloads");
    let commit = still.commits.at(1.0).max(loading.commits.at(1.0));
    figure(
        "reload: longest pause between two events at full load",
        &format!("{:.1} ms", loading.pauses.at(1.0)),
        &format!(
            "{:.2} of the same without a reload ({:.1} ms), {:.2} of the longest commit ({commit:.1} ms)",
            loading.pauses.at(1.0) / still.pauses.at(1.0),
            still.pauses.at(1.0),
            loading.pauses.at(1.0) / commit,
        ),
    );
    figure(
        "reload: a million entries, rules and their tests, a database",
        &format!("{:.0} ms", loading.reloads.at(0.5)),
        &format!(
            "{} of them; {:.2} of the events a second without ({:.0})",
            loading.reloads.len(),
            loading.per_second() / still.per_second(),
            still.per_second(),
        ),
    );
    match loading.pauses.at(1.0) <= commit {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn fill(cluster: &Cluster, topic: &str, count: usize) {
    let events = traffic::events(count, ACCOUNTS);
    let accounts: Vec<String> = (0..ACCOUNTS).map(|n| format!("u-{n:07}")).collect();
    let messages = events.iter().enumerate().map(|(n, event)| {
        let text = std::str::from_utf8(event).expect("JSON is UTF-8");
        (accounts[n % ACCOUNTS].as_str(), text)
    });
    cluster.produce(topic, messages);
}

/// Two versions of everything that can be loaded, and a link to the one that counts.
struct Site(TempDir);

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        for version in [0, 1] {
            write_version(&folder.path().join(version.to_string()), version);
        }
        let site = Site(folder);
        site.switch_to(0);
        site
    }

    /// As Kubernetes swaps a folder.
    fn switch_to(&self, version: usize) {
        let (link, new) = (self.0.path().join("now"), self.0.path().join("new"));
        symlink(version.to_string(), &new).expect("a link");
        fs::rename(new, link).expect("a link moved");
    }

    fn sources(&self) -> Sources {
        let now = self.0.path().join("now");
        Sources {
            rules_dir: Some(now.join("rules")),
            geoip: GeoIp {
                database: Some(now.join("country.mmdb")),
                ..GeoIp::default()
            },
            languages: Languages::default(),
            topic: "auth.events".into(),
        }
    }
}

fn write_version(folder: &Path, version: u32) {
    let rules = folder.join("rules");
    fs::create_dir_all(rules.join("lists")).expect("a folder");
    for name in builtin::rules_file_names() {
        let mut text = builtin::rules_file(name).expect("a file").to_owned();
        if name == "lists.yaml" {
            text.push_str("\n  feed: { file: lists/feed.txt }\n");
        }
        fs::write(rules.join(name), text).expect("written");
    }
    let feed = format!(
        "schema: 1\nid: feed\ntitle: Version {version}\nseverity: low\nmode: shadow\n\
         when: {{ type: login, outcome: success, ip: {{ in_list: feed }} }}\n\
         by: account\ndetect: each\n"
    );
    fs::write(rules.join("feed.rule.yaml"), feed).expect("written");
    let mut entries = String::new();
    for n in 0..ENTRIES {
        let address = Ipv4Addr::from_bits(0x0B00_0000 + n * 3 + version);
        let _ = writeln!(entries, "{address}");
    }
    fs::write(rules.join("lists/feed.txt"), entries).expect("written");
    let database = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("geoip/iptoasn-country.mmdb");
    let mut bytes = fs::read(database).expect("the database");
    // Behind its end nothing is read, but it is another file.
    bytes.push(u8::try_from(version).expect("a small number"));
    fs::write(folder.join("country.mmdb"), bytes).expect("written");
}

/// What was measured.
#[derive(Default)]
struct Run {
    events: usize,
    took: Duration,
    /// The longest of each 1,000 events, from the end of one to the end of the next.
    pauses: Latencies,
    commits: Latencies,
    reloads: Latencies,
}

impl Run {
    fn add(&mut self, other: Run) {
        self.events += other.events;
        self.took += other.took;
        self.pauses.extend(other.pauses);
        self.commits.extend(other.commits);
        self.reloads.extend(other.reloads);
    }

    fn per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} events/s; longest pauses of 1,000 events: half under {:.1} ms, 99% under \
             {:.1} ms, all under {:.1} ms; {} commits, half under {:.1} ms, all under {:.1} ms; \
             {} reloads",
            self.per_second(),
            self.pauses.at(0.5),
            self.pauses.at(0.99),
            self.pauses.at(1.0),
            self.commits.len(),
            self.commits.at(0.5),
            self.commits.at(1.0),
            self.reloads.len(),
        )
    }
}

fn run(cluster: &Cluster, events: &str, count: usize, site: &Site, reloads: bool) -> Run {
    let topics = Topics {
        events: events.to_owned(),
        ..rig::make_topics(cluster, PARTITIONS, 1)
    };
    let kafka = rig::kafka_settings(cluster, true);
    let metrics = Arc::new(Metrics::new());
    let stop = Stop::new();
    let measured = Arc::new(Mutex::new(Measured::new(count)));
    let log = Watched {
        log: KafkaLog::connect(&kafka, &topics, 0, Arc::clone(&metrics)).expect("a log"),
        watch: Pauses {
            begun: None,
            stop: stop.clone(),
            measured: Arc::clone(&measured),
        },
    };
    let parts = load(site, &metrics);
    let (sender, receiver) = asks();
    let latest = parts.latest.clone();
    let running = Running::start(parts, (sender.clone(), receiver)).expect("a thread");
    let settings = figures::engine(PARTITIONS as u32, Settings::MAX_FORGETTABLE_BYTES);
    let settings = settings.0.settings().clone();
    let done = AtomicBool::new(false);
    let mut took = Latencies::default();
    std::thread::scope(|scope| {
        let shard = scope.spawn(|| {
            let mut shard =
                rig::shard_by(log, settings.clone(), Arc::clone(&metrics), stop, latest);
            shard.run().expect("no failure");
            done.store(true, Ordering::Release);
        });
        let mut version = 0;
        while reloads && !done.load(Ordering::Acquire) {
            version = 1 - version;
            site.switch_to(version);
            let began = Instant::now();
            let before = loaded(&metrics);
            sender.send(Ask::Now).expect("the reloader");
            while loaded(&metrics) == before {
                assert!(began.elapsed() < STALLED, "no reload");
                std::thread::sleep(Duration::from_millis(1));
            }
            took.push(began.elapsed());
        }
        shard.join().expect("no panic");
    });
    running.end(Instant::now() + STALLED);
    site.switch_to(0);
    let mut measured = measured.lock().expect("no panic");
    Run {
        events: count - Measured::WARM,
        took: measured.last.duration_since(measured.warm),
        pauses: std::mem::take(&mut measured.pauses),
        commits: std::mem::take(&mut measured.commits),
        reloads: took,
    }
}

fn loaded(metrics: &Metrics) -> u64 {
    metrics
        .rules_reload_total
        .with_label_values(&["loaded"])
        .get()
}

/// What a reloader starts from.
fn load(site: &Site, metrics: &Arc<Metrics>) -> Parts {
    let sources = site.sources();
    let mut found = Diagnostics::default();
    let candidate = read::candidate(&sources, None, &mut found);
    let candidate = candidate.filter(|_| !found.has_errors());
    let candidate = candidate.unwrap_or_else(|| panic!("{}", render_all(&found, false)));
    let (rules, loaded) = (candidate.rules, candidate.loaded);
    let at_work = AtWork::new(&loaded, rules.hash());
    let provenance = loaded.provenance(&sources.topic, rules.hash());
    Parts {
        latest: Latest::new(Knowledge {
            rules: Arc::new(rules),
            facts: Arc::new(loaded.facts),
            provenance,
        }),
        sources,
        at_work,
        metrics: Arc::clone(metrics),
        readiness: Readiness::new(),
    }
}

/// What a shard's log saw.
struct Measured {
    left: usize,
    seen: usize,
    /// When enough events had gone by that everything is in place.
    warm: Instant,
    /// When the last event was handled.
    last: Instant,
    longest: Duration,
    pauses: Latencies,
    commits: Latencies,
}

impl Measured {
    /// Each account five times, and the first commits.
    const WARM: usize = 100_000;

    fn new(count: usize) -> Measured {
        assert!(
            count > Measured::WARM,
            "more events than {}",
            Measured::WARM
        );
        Measured {
            left: count,
            seen: 0,
            warm: Instant::now(),
            last: Instant::now(),
            longest: Duration::ZERO,
            pauses: Latencies::default(),
            commits: Latencies::default(),
        }
    }

    fn handled(&mut self) {
        let now = Instant::now();
        self.left = self.left.saturating_sub(1);
        self.seen += 1;
        if self.seen == Measured::WARM {
            self.warm = now;
        } else if self.seen > Measured::WARM {
            self.longest = self.longest.max(now - self.last);
            if self.seen.is_multiple_of(1_000) {
                self.pauses.push(std::mem::take(&mut self.longest));
            }
        }
        self.last = now;
    }
}

/// Measures, and asks the shard to end when it has handled everything.
struct Pauses {
    begun: Option<Instant>,
    stop: Stop,
    measured: Arc<Mutex<Measured>>,
}

impl Watch for Pauses {
    fn poll(
        &mut self,
        log: &mut KafkaLog,
        wait: Duration,
        each: &mut dyn FnMut(InputRecord<'_>),
    ) -> Result<Wakeup, LogError> {
        let mut measured = self.measured.lock().expect("no panic");
        let woken = log.poll(wait, &mut |record| {
            each(record);
            measured.handled();
        });
        if measured.left == 0 {
            self.stop.request(STALLED);
        }
        woken
    }

    fn begins(&mut self, _: &Arc<Transaction>) {
        self.begun = Some(Instant::now());
    }

    fn ended(&mut self, _: &Result<(), LogError>) {
        let mut measured = self.measured.lock().expect("no panic");
        if let Some(begun) = self.begun.take()
            && measured.seen > Measured::WARM
        {
            measured.commits.push(begun.elapsed());
        }
    }
}
