//! The reloader and real files, without a broker: what shards would be handed.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use doorward::admin::Readiness;
use doorward::config::GeoIp;
use doorward::document::{Diagnostics, render_all};
use doorward::event::Timestamp;
use doorward::locale::{Languages, translation};
use doorward::metrics::Metrics;
use doorward::reload::{Ask, AtWork, Parts, Running, Sources, asks, read};
use doorward::shard::latest::{Knowledge, Latest};
use tempfile::TempDir;

use super::many_addresses;
use crate::support::{PATIENCE, eventually};

/// A folder of rules, and the reloader that watches it.
pub struct Site {
    folder: TempDir,
    pub latest: Latest,
    /// As mails and pages hold them.
    pub languages: Languages,
    metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub asks: Sender<Ask>,
    running: Option<Running>,
}

impl Site {
    /// With what `prepare` puts into an empty folder. The rules are in `rules/`, translations
    /// in `locale/`.
    pub fn new(prepare: impl FnOnce(&Path), geoip: impl FnOnce(&Path) -> GeoIp) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let locale = folder.path().join("locale");
        let languages = match locale.exists() {
            true => translation::load(&locale, &mut Diagnostics::default()),
            false => Languages::default(),
        };
        let sources = Sources {
            rules_dir: Some(folder.path().join("rules")),
            geoip: geoip(folder.path()),
            languages: languages.clone(),
            topic: "auth.events".into(),
        };
        let mut found = Diagnostics::default();
        let candidate = read::candidate(&sources, None, &mut found);
        let candidate = candidate.unwrap_or_else(|| panic!("{}", render_all(&found, false)));
        let (metrics, readiness) = (Arc::new(Metrics::new()), Readiness::new());
        let (rules, loaded) = (candidate.rules, candidate.loaded);
        loaded.report(&metrics, &readiness, Timestamp(1_790_000_000_000));
        metrics.set_rule_set(rules.hash());
        let at_work = AtWork::new(&loaded, rules.hash());
        let latest = Latest::new(Knowledge {
            provenance: loaded.provenance("auth.events", rules.hash()),
            rules: Arc::new(rules),
            facts: Arc::new(loaded.facts),
        });
        let (sender, receiver) = asks();
        let parts = Parts {
            sources,
            latest: latest.clone(),
            at_work,
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
        };
        Site {
            running: Some(Running::start(parts, (sender.clone(), receiver)).expect("a thread")),
            asks: sender,
            folder,
            latest,
            languages,
            metrics,
            readiness,
        }
    }

    /// With one rule and one list.
    fn plain() -> Site {
        Site::new(
            |folder| {
                fs::create_dir(folder.join("rules")).expect("a folder");
                write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
                write(
                    &folder.join("rules/lists.yaml"),
                    "schema: 1\nlists:\n  bad: { file: bad.txt }\n",
                );
                write(&folder.join("rules/bad.txt"), "192.0.2.1\n");
            },
            |_| GeoIp::default(),
        )
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn rule_set(&self) -> String {
        self.latest.get().rules.hash().to_owned()
    }

    /// How often a reload had this result.
    pub fn count(&self, result: &str) -> u64 {
        let counter = &self.metrics.rules_reload_total;
        counter.with_label_values(&[result]).get()
    }

    #[track_caller]
    pub fn wait_for(&self, result: &str, count: u64) {
        eventually(&format!("{count} {result}"), PATIENCE, || {
            (self.count(result) >= count).then_some(())
        });
        assert_eq!(self.count(result), count, "{result}");
    }

    /// What `/readyz` adds, without the folder's name.
    pub fn notes(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.readiness.notes().join("\n").replace(&folder, "")
    }

    fn has(&self, list: &str, ip: &str) -> bool {
        let latest = self.latest.get();
        let lists = &latest.facts.lists;
        lists.contains(lists.id(list).expect("a list"), address(ip))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end(Instant::now() + PATIENCE);
        }
    }
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn database(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/geoip")
            .join(name),
    )
    .expect("a database")
}

#[test]
fn a_file_that_is_written_or_renamed_over_is_taken() {
    let site = Site::plain();
    let first = site.rule_set();
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("loaded", 1);
    let second = site.rule_set();
    assert_ne!(first, second);
    let text = site.metrics.text();
    assert!(text.contains(&format!("doorward_rules_info{{rule_set=\"{second}\"}} 1")));
    assert!(!text.contains(&first));

    write(&site.path("rules/.many.tmp"), &many_addresses(5));
    fs::rename(
        site.path("rules/.many.tmp"),
        site.path("rules/many.rule.yaml"),
    )
    .expect("renamed");
    site.wait_for("loaded", 2);
    assert_eq!(site.rule_set(), first);

    write(&site.path("rules/bad.txt"), "192.0.2.1\n192.0.2.2\n");
    site.wait_for("loaded", 3);
    assert!(site.has("bad", "192.0.2.2"));
    let latest = site.latest.get();
    assert_eq!(latest.provenance.rule_set, first);
    assert!(
        site.metrics
            .text()
            .contains("doorward_list_entries{list=\"bad\"} 2")
    );
    assert!(site.notes().is_empty());
}

#[test]
fn a_folder_that_is_swapped_by_a_link_is_taken_whole() {
    // As Kubernetes mounts a ConfigMap: the files are links through `..data`.
    let release = |folder: &Path, name: &str, at_least: u32, entry: &str| {
        let release = folder.join("rules").join(name);
        fs::create_dir_all(&release).expect("a folder");
        write(&release.join("many.rule.yaml"), &many_addresses(at_least));
        write(
            &release.join("lists.yaml"),
            "schema: 1\nlists:\n  bad: { file: bad.txt }\n",
        );
        write(&release.join("bad.txt"), entry);
    };
    let site = Site::new(
        |folder| {
            release(folder, "..1", 5, "192.0.2.1\n");
            symlink("..1", folder.join("rules/..data")).expect("a link");
            for name in ["many.rule.yaml", "lists.yaml", "bad.txt"] {
                let target = Path::new("..data").join(name);
                symlink(target, folder.join("rules").join(name)).expect("a link");
            }
        },
        |_| GeoIp::default(),
    );
    let first = site.rule_set();
    release(site.folder.path(), "..2", 6, "192.0.2.2\n");
    symlink("..2", site.path("rules/..data_tmp")).expect("a link");
    fs::rename(site.path("rules/..data_tmp"), site.path("rules/..data")).expect("renamed");
    fs::remove_dir_all(site.path("rules/..1")).expect("removed");
    site.wait_for("loaded", 1);
    assert_ne!(site.rule_set(), first);
    assert!(site.has("bad", "192.0.2.2") && !site.has("bad", "192.0.2.1"));
}

#[test]
fn rules_14_a_mistake_keeps_what_was_at_work_and_says_where_it_is() {
    let site = Site::plain();
    let first = site.rule_set();
    let broken = many_addresses(5).replace("at_least: 5", "at_least: 500");
    write(&site.path("rules/many.rule.yaml"), &broken);
    write(
        &site.path("rules/other.rule.yaml"),
        "schema: 1\nid: other\n",
    );
    site.wait_for("refused", 1);
    assert_eq!(site.rule_set(), first);
    assert!(site.readiness.is_ready(), "{:?}", site.readiness.reasons());
    insta::assert_snapshot!(site.notes().replace(&first, "sha256:…"));

    // Whoever asks is told again.
    site.asks.send(Ask::Now).expect("it listens");
    site.wait_for("refused", 2);

    write(&site.path("rules/many.rule.yaml"), &many_addresses(7));
    fs::remove_file(site.path("rules/other.rule.yaml")).expect("removed");
    site.wait_for("loaded", 1);
    assert_ne!(site.rule_set(), first);
    assert_eq!(site.notes(), "");
}

#[test]
fn a_folder_that_goes_away_takes_nothing_with_it() {
    let site = Site::plain();
    let first = site.rule_set();
    fs::rename(site.path("rules"), site.path("elsewhere")).expect("renamed");
    site.wait_for("refused", 1);
    assert_eq!(site.rule_set(), first);
    assert!(site.notes().contains("cannot be read"), "{}", site.notes());
    fs::rename(site.path("elsewhere"), site.path("rules")).expect("renamed");
    eventually("the note to go", PATIENCE, || {
        site.notes().is_empty().then_some(())
    });
    assert_eq!(site.rule_set(), first);
    assert_eq!(site.count("loaded"), 0, "its content is what it was");
}

#[test]
fn files_that_were_only_touched_are_no_news() {
    let site = Site::plain();
    let before = site.latest.get();
    let rule = site.path("rules/many.rule.yaml");
    write(&rule, &many_addresses(5));
    site.asks.send(Ask::Now).expect("it listens");
    // A change that is taken comes after the one that is not.
    write(&site.path("rules/bad.txt"), "192.0.2.9\n");
    site.wait_for("loaded", 1);
    assert!(!Arc::ptr_eq(&before, &site.latest.get()));
    assert_eq!(before.rules.hash(), site.latest.get().rules.hash());
}

#[test]
fn a_list_that_cannot_be_used_keeps_its_entries_while_the_rules_go_on() {
    let site = Site::plain();
    let first = site.rule_set();
    write(
        &site.path("rules/bad.txt"),
        "<html>429 Too Many Requests</html>\n",
    );
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("partly", 1);
    assert_ne!(site.rule_set(), first, "the new rules are at work");
    assert!(site.has("bad", "192.0.2.1"), "with the old list");
    assert!(site.readiness.is_ready());
    insta::assert_snapshot!(site.notes());
    write(&site.path("rules/bad.txt"), "192.0.2.7\n");
    site.wait_for("loaded", 1);
    assert!(site.has("bad", "192.0.2.7") && !site.has("bad", "192.0.2.1"));
    assert_eq!(site.notes(), "");
}

#[test]
fn a_database_is_replaced_by_garbage_and_then_by_a_new_one() {
    let site = Site::new(
        |folder| {
            fs::create_dir(folder.join("rules")).expect("a folder");
            write(&folder.join("rules/many.rule.yaml"), &many_addresses(5));
            fs::write(
                folder.join("geo.mmdb"),
                database("GeoIP2-Country-Test.mmdb"),
            )
            .expect("written");
        },
        |folder| GeoIp {
            database: Some(folder.join("geo.mmdb")),
            previous: None,
            asn_database: None,
        },
    );
    let country = || site.latest.get().facts.country(address("2.125.160.216"));
    let before = country();
    assert!(before.country().is_some());
    let built = || {
        site.latest
            .get()
            .facts
            .geo
            .as_ref()
            .expect("a database")
            .built()
    };
    let first = built();

    let whole = database("GeoIP2-City-Test.mmdb");
    fs::write(site.path("geo.mmdb"), &whole[..whole.len() / 2]).expect("written");
    site.wait_for("partly", 1);
    assert_eq!(country(), before);
    assert!(site.readiness.is_ready());
    assert!(site.notes().contains("stays at work"), "{}", site.notes());
    assert!(site.latest.get().facts.previous_geo.is_none());

    fs::write(site.path("geo.mmdb"), &whole).expect("written");
    site.wait_for("loaded", 1);
    assert_eq!(site.notes(), "");
    assert_eq!(country(), before);
    let facts = Arc::clone(&site.latest.get().facts);
    let previous = facts.previous_geo.as_ref().expect("the one before");
    assert_eq!(previous.built(), first);
    assert_eq!(previous.kind(), "GeoIP2-Country");
    let seconds = built().0 / 1_000;
    let line = format!("doorward_geoip_build_timestamp_seconds {seconds}");
    assert!(site.metrics.text().contains(&line));

    // The previous one stays over reloads that bring no other database.
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("loaded", 2);
    let facts = Arc::clone(&site.latest.get().facts);
    assert_eq!(facts.previous_geo.as_ref().expect("still").built(), first);
}

#[test]
fn what_nobody_uses_any_more_is_let_go() {
    let site = Site::plain();
    let old = Arc::downgrade(&site.latest.get());
    write(&site.path("rules/many.rule.yaml"), &many_addresses(6));
    site.wait_for("loaded", 1);
    eventually("the old rules to be let go", PATIENCE, || {
        (old.strong_count() == 0).then_some(())
    });
}

#[test]
fn half_a_file_is_not_taken_while_it_is_being_written() {
    let site = Site::plain();
    let first = site.rule_set();
    let whole = many_addresses(6);
    let path = site.path("rules/many.rule.yaml");
    // It grows between any two looks, until it is whole.
    let begun = Instant::now();
    let mut end = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        end = (end + 1) % whole.len();
        write(&path, &whole[..end]);
        std::thread::yield_now();
    }
    write(&path, &whole);
    site.wait_for("loaded", 1);
    assert_eq!(site.count("refused"), 0);
    assert_ne!(site.rule_set(), first);
}
