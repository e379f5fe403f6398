//! Takes over rules, lists, databases and translations that change while doorward runs.
//!
//! One thread looks at the files once a second, and when SIGHUP asks for it. A change is
//! taken when the files have been at rest from one look to the next. Everything is read,
//! checked and tested apart; then shards get it whole, or what was at work stays, and the
//! metric, the log and `/readyz` say why. What a feed brings, a list's contents and a
//! database, is taken or left one by one: one that cannot be used keeps what it had. So are
//! translations, all of them together.

mod files;
pub mod read;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::admin::Readiness;
use crate::config::{Config, GeoIp};
use crate::document::{Diagnostics, Severity};
use crate::event::Timestamp;
use crate::facts::Loaded;
use crate::locale::Languages;
use crate::metrics::Metrics;
use crate::publish::wall_clock;
use crate::shard::latest::{Knowledge, Latest};

use files::Snapshot;
use read::Candidate;

/// How often the files are looked at; one that changed is taken at the next look that finds
/// all of them as the last one did.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that change at every look for so long are spoken of.
const RESTLESS: Duration = Duration::from_secs(60);
/// The line in `/readyz` that speaks of reloads.
const COMPONENT: &str = "reload";

/// Where rules and facts come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `None`: the built-in rules, which never change.
    pub rules_dir: Option<PathBuf>,
    pub geoip: GeoIp,
    /// Those that mails and pages speak; they know where they come from.
    pub languages: Languages,
    /// The input topic, which records name.
    pub topic: String,
}

impl Sources {
    pub fn of(config: &Config) -> Sources {
        Sources {
            rules_dir: config.rules_dir.clone(),
            geoip: config.geoip.clone(),
            languages: config.site.languages.clone(),
            topic: config.topics.events.clone(),
        }
    }
}

/// What a reloader is made of.
pub struct Parts {
    pub sources: Sources,
    pub latest: Latest,
    /// What is known of the facts at work besides.
    pub at_work: AtWork,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

/// What is remembered of a load beside the facts themselves.
#[derive(Debug, Default)]
pub struct AtWork {
    /// Names its content: equal ones need no reload.
    digest: String,
    /// The files that it was read from.
    files: Vec<PathBuf>,
    /// Lists, with when they were made and how old they may become.
    ages: Vec<crate::facts::Age>,
    /// Components that it gave a reason or a note in `/readyz`.
    unready: BTreeSet<String>,
    notes: BTreeSet<String>,
}

impl AtWork {
    /// `rule_set` is the hash of the rules that were loaded with it.
    pub fn new(loaded: &Loaded, rule_set: &str) -> AtWork {
        let names = |said: &[(String, String)]| said.iter().map(|(name, _)| name.clone()).collect();
        AtWork {
            digest: format!("{rule_set} {}", loaded.digest()),
            files: loaded.files.clone(),
            ages: loaded.ages.clone(),
            unready: names(&loaded.unready),
            notes: names(&loaded.notes),
        }
    }
}

/// What a reloader is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// SIGHUP: look now, whether or not something seems to have changed.
    Now,
    End,
}

/// A channel to ask a reloader by, before it runs.
pub fn asks() -> (Sender<Ask>, Receiver<Ask>) {
    mpsc::channel()
}

/// The reloader's thread.
pub struct Running {
    asks: Sender<Ask>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(parts: Parts, asks: (Sender<Ask>, Receiver<Ask>)) -> anyhow::Result<Running> {
        let (sender, receiver) = asks;
        let thread = std::thread::Builder::new()
            .name("reload".into())
            .spawn(move || Reloader::new(parts).run(&receiver))
            .context("the thread that reloads")?;
        Ok(Running {
            asks: sender,
            thread,
        })
    }

    /// Ends it. It may be in the middle of a large file, so nobody waits past `deadline`.
    pub fn end(self, deadline: Instant) {
        // It has ended already where nobody listens.
        let _ = self.asks.send(Ask::End);
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.thread.is_finished() && self.thread.join().is_err() {
            tracing::error!(part = "reload", "ended by a panic");
        }
    }
}

struct Reloader {
    sources: Sources,
    latest: Latest,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    at_work: AtWork,
    /// The files as they were when they were last read.
    taken: Snapshot,
    /// As the last look found them.
    seen: Snapshot,
    /// Since when they have been changing.
    restless: Option<Instant>,
    /// What shards may still hold. Freed here, since a large list takes a while.
    retired: Vec<Arc<Knowledge>>,
}

impl Reloader {
    fn new(parts: Parts) -> Reloader {
        // What was changed since it was read shows in its content only.
        let seen = files::look(&parts.sources, &parts.at_work.files);
        Reloader {
            taken: Snapshot::default(),
            seen,
            restless: None,
            retired: Vec::new(),
            sources: parts.sources,
            latest: parts.latest,
            metrics: parts.metrics,
            readiness: parts.readiness,
            at_work: parts.at_work,
        }
    }

    fn run(mut self, asks: &Receiver<Ask>) {
        loop {
            match asks.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => self.look(),
                Ok(Ask::Now) => {
                    tracing::info!("asked to reload");
                    self.reload(true);
                }
                Ok(Ask::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.retired.retain(|old| Arc::strong_count(old) > 1);
            self.tell_ages(wall_clock());
        }
    }

    fn look(&mut self) {
        let found = files::look(&self.sources, &self.at_work.files);
        if found == self.taken {
            self.restless = None;
            self.seen = found;
        } else if found == self.seen {
            self.restless = None;
            self.reload(false);
        } else {
            self.seen = found;
            let since = *self.restless.get_or_insert_with(Instant::now);
            if since.elapsed() >= RESTLESS {
                self.readiness.note(
                    COMPONENT,
                    "the files have been changing for a minute; they are taken when they rest",
                );
            }
        }
    }

    /// Reads everything. `asked`: somebody waits for a word, whatever comes of it.
    fn reload(&mut self, asked: bool) {
        let before = files::look(&self.sources, &self.at_work.files);
        let known = self.latest.get();
        let mut found = Diagnostics::default();
        let candidate = read::candidate(&self.sources, Some(&known), &mut found);
        let after = files::look(&self.sources, &self.at_work.files);
        if before != after {
            // Half of it may be old and half new: the next look that finds them at rest
            // decides.
            self.seen = after;
            self.taken = Snapshot::default();
            return;
        }
        self.seen = after.clone();
        self.taken = after;
        match candidate {
            Some(candidate) if !found.has_errors() => self.take(candidate, &known, asked),
            _ => self.refuse(&found, &known),
        }
    }

    fn take(&mut self, candidate: Candidate, known: &Knowledge, asked: bool) {
        let Candidate {
            mut rules,
            loaded,
            translations,
        } = candidate;
        rules.keep_residents_of(&known.rules);
        let at_work = AtWork::new(&loaded, rules.hash());
        let is_same = at_work.digest == self.at_work.digest;
        let result = match loaded.problems.has_errors() {
            true => "partly",
            false => "loaded",
        };
        if is_same && loaded.problems.found.is_empty() {
            self.readiness.clear_note(COMPONENT);
            if asked {
                tracing::info!(rule_set = rules.hash(), "nothing has changed");
            }
            self.tell(&loaded, at_work);
            return;
        }
        let rule_set = rules.hash().to_owned();
        for problem in &loaded.problems.found {
            tracing::warn!(place = problem.place(), problem = %problem.message, "cannot be used");
        }
        for (rule, list) in rules.missing_lists() {
            tracing::warn!(%rule, list, "the rule is off: its list could not be loaded");
        }
        for (exception, list) in rules.missing_for_exceptions() {
            tracing::warn!(%exception, list, "the exception does nothing: its list could not be loaded");
        }
        self.readiness.clear_note(COMPONENT);
        self.tell(&loaded, at_work);
        self.metrics.set_exceptions(rules.exceptions());
        if let Some(translations) = translations {
            self.sources.languages.replace(translations);
            tracing::info!(languages = ?self.sources.languages, "new translations are at work");
        }
        let provenance = loaded.provenance(&self.sources.topic, &rule_set);
        let old = self.latest.publish(Knowledge {
            rules: Arc::new(rules),
            facts: Arc::new(loaded.facts),
            provenance,
        });
        self.retired.push(old);
        self.metrics.set_rule_set(&rule_set);
        self.metrics
            .rules_reload_total
            .with_label_values(&[result])
            .inc();
        tracing::info!(
            rule_set,
            before = known.rules.hash(),
            result,
            "rules, lists, databases and translations are loaded",
        );
    }

    fn refuse(&mut self, found: &Diagnostics, known: &Knowledge) {
        let errors: Vec<_> = found
            .found
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .collect();
        for problem in &errors {
            tracing::error!(
                place = problem.place(),
                problem = %problem.message,
                help = problem.help.as_deref(),
                "the new rules are refused",
            );
        }
        self.metrics
            .rules_reload_total
            .with_label_values(&["refused"])
            .inc();
        let first = errors.first().map_or_else(String::new, |problem| {
            format!("{}: {}", problem.place(), problem.message)
        });
        let more = match errors.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more, see the log)", n - 1),
        };
        self.readiness.note(
            COMPONENT,
            format!(
                "refused: {first}{more}; the rule set {} stays at work",
                known.rules.hash()
            ),
        );
    }

    /// Tells metrics and readiness of what was loaded, and that what was said before is over.
    fn tell(&mut self, loaded: &Loaded, at_work: AtWork) {
        for gone in self.at_work.unready.difference(&at_work.unready) {
            self.readiness.clear(gone);
        }
        for gone in self.at_work.notes.difference(&at_work.notes) {
            self.readiness.clear_note(gone);
        }
        loaded.report(&self.metrics, &self.readiness, wall_clock());
        let gone = self.at_work.ages.iter().map(|age| &age.list);
        for list in gone.filter(|list| !at_work.ages.iter().any(|age| age.list == **list)) {
            self.metrics.forget_list(list);
        }
        self.at_work = at_work;
    }

    /// Lists grow old without their files changing.
    fn tell_ages(&self, now: Timestamp) {
        for age in &self.at_work.ages {
            age.report(&self.metrics, &self.readiness, now);
        }
    }
}
