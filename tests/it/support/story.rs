//! A story told to the engine: events at times, and what it said.
//!
//! The broker's clock follows the events unless a story sets it apart, so that lateness and
//! staleness are said where they matter.

use std::sync::{Arc, LazyLock};

use doorward::document::{Diagnostics, SourceFile, render_all};
use doorward::engine::output::{Command, CommandKind, Decision, Effect, Mail, Outputs};
use doorward::engine::trace::{Said as RuleWord, Trace};
use doorward::engine::{Engine, Partition, Settings, StateKey};
use doorward::enrich::Facts;
use doorward::enrich::iplist::Lists;
use doorward::event::decode::{Decoder, Dropped};
use doorward::event::wire::MacKeys;
use doorward::event::{Source, Timestamp};
use doorward::rules::RuleSet;
use serde_json::{Value, json};

/// 2026-11-22T06:00:00Z, when every story begins.
pub const START: i64 = 1_795_327_200_000;
pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Addresses in the built-in database's countries.
pub const NORWAY: &str = "81.167.144.58";
pub const GERMANY: &str = "84.128.0.1";
pub const BRAZIL: &str = "200.160.2.3";
pub const JAPAN: &str = "133.11.93.1";
pub const MALICIOUS: &str = "198.51.100.7";
pub const ANONYMIZER: &str = "203.0.113.200";

pub struct Story {
    pub engine: Engine,
    pub partition: Partition,
    decoder: Decoder,
    offset: i64,
    /// Broker time, in milliseconds from the start of the story.
    pub now: i64,
    /// Everything said so far.
    pub said: Outputs,
}

/// What one event caused.
#[derive(Debug, Default)]
pub struct Said {
    pub commands: Vec<Command>,
    pub decisions: Vec<Decision>,
    pub mails: Vec<Mail>,
    pub cases: usize,
    pub changed: usize,
    /// Keys of the records that changed, in order.
    pub changed_keys: Vec<StateKey>,
    /// What every rule said of it.
    pub trace: Trace,
}

impl Said {
    /// `rule effect value` of each decision.
    pub fn decisions(&self) -> Vec<String> {
        self.decisions
            .iter()
            .map(|d| format!("{} {} {}", d.rule, d.effect.as_str(), d.value))
            .collect()
    }

    pub fn commands(&self) -> Vec<&'static str> {
        self.commands.iter().map(|c| c.kind.as_str()).collect()
    }

    /// What the rule of this id said of the event.
    pub fn by(&self, rule: &str) -> &RuleWord {
        let said = self.trace.of(rule);
        said.unwrap_or_else(|| panic!("{rule} said nothing: {:?}", self.trace))
    }

    pub fn acted(&self) -> bool {
        self.decisions.iter().any(|d| d.effect == Effect::Acted)
    }

    pub fn locked(&self) -> bool {
        self.commands
            .iter()
            .any(|c| c.kind == CommandKind::LockAccount)
    }

    pub fn is_silent(&self) -> bool {
        self.commands.is_empty() && self.decisions.is_empty() && self.mails.is_empty()
    }
}

pub fn settings() -> Settings {
    Settings {
        max_lateness_ms: 5 * MINUTE,
        act_within_ms: 24 * HOUR,
        link_valid_ms: 24 * HOUR,
        partitions: 4,
        max_forgettable_bytes: Settings::MAX_FORGETTABLE_BYTES,
        state_key: *b"a key for tests!",
        answer_keys: None,
    }
}

pub fn lists() -> Lists {
    Lists::from_entries(&[
        ("malicious_ips", &["198.51.100.0/24", "2001:db8:bad::/48"]),
        ("anonymizers", &["203.0.113.128/25"]),
    ])
    .unwrap()
}

/// With the built-in country database, which is opened once.
pub fn facts() -> Arc<Facts> {
    static FACTS: LazyLock<Arc<Facts>> = LazyLock::new(|| {
        Arc::new(Facts {
            geo: Some(Arc::new(doorward::builtin::geoip().unwrap())),
            previous_geo: None,
            asn: None,
            lists: lists(),
        })
    });
    Arc::clone(&FACTS)
}

/// The rules in these texts.
///
/// # Panics
/// With the rendered mistakes.
pub fn rule_set(texts: &[&str]) -> RuleSet {
    let files: Vec<Arc<SourceFile>> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| SourceFile::new(format!("{at}.rule.yaml"), *text))
        .collect();
    let mut found = Diagnostics::default();
    let rules = RuleSet::load(&files, &lists(), &mut found);
    rules.unwrap_or_else(|| panic!("{}", render_all(&found, false)))
}

/// The four rules that lock, of those that are built in: what most stories are about.
pub const FOUR: [&str; 4] = [
    "failed-logins-many-ips",
    "first-seen-country",
    "reset-from-malicious-ip",
    "two-factor-failure-streak",
];

pub fn shipped() -> RuleSet {
    let texts = FOUR.map(|id| {
        doorward::builtin::rules_file(&format!("{id}.rule.yaml")).expect("it is built in")
    });
    rule_set(&texts)
}

/// Every rule that is built in.
pub fn built_in() -> RuleSet {
    let texts: Vec<&str> = doorward::builtin::rules_file_names()
        .filter(|name| name.ends_with(".rule.yaml"))
        .filter_map(doorward::builtin::rules_file)
        .collect();
    assert!(texts.len() > FOUR.len());
    rule_set(&texts)
}

impl Story {
    /// With the shipped rules.
    pub fn new() -> Story {
        Story::with(shipped(), facts(), settings())
    }

    /// With one rule of its own.
    pub fn of_rule(text: &str) -> Story {
        Story::with(rule_set(&[text]), facts(), settings())
    }

    pub fn with_keys(keys: MacKeys) -> Story {
        let mut settings = settings();
        settings.answer_keys = Some(keys);
        Story::with(shipped(), facts(), settings)
    }

    pub fn with(rules: RuleSet, facts: impl Into<Arc<Facts>>, settings: Settings) -> Story {
        Story {
            decoder: rules.decoder(),
            engine: Engine::new(Arc::new(rules), facts.into(), settings),
            partition: Partition::default(),
            offset: 0,
            now: 0,
            said: Outputs::default(),
        }
    }

    /// The same rules and facts with other settings, from the beginning.
    pub fn with_rules(of: &Story, settings: Settings) -> Story {
        Story {
            decoder: of.decoder.clone(),
            engine: Engine::new(
                Arc::clone(of.engine.rules()),
                Arc::clone(of.engine.facts()),
                settings,
            ),
            partition: Partition::default(),
            offset: 0,
            now: 0,
            said: Outputs::default(),
        }
    }

    /// Goes on with these rules and the same facts, as a reload does it.
    pub fn reload(&mut self, texts: &[&str]) {
        self.reload_with(rule_set(texts), Arc::clone(self.engine.facts()));
    }

    /// Goes on with these rules and facts.
    pub fn reload_with(&mut self, mut rules: RuleSet, facts: Arc<Facts>) {
        rules.keep_residents_of(self.engine.rules());
        self.decoder = rules.decoder();
        self.engine.replace(Arc::new(rules), facts);
    }

    /// Goes on with these rules in another process, which never had others, with what is
    /// durable of `accounts`.
    pub fn move_to(&mut self, texts: &[&str], accounts: &[&str]) {
        let records: Vec<_> = accounts
            .iter()
            .map(|account| {
                let key = self.engine.state_key(account);
                (key, self.engine.encode_state(&self.partition, key))
            })
            .collect();
        let rules = rule_set(texts);
        self.decoder = rules.decoder();
        self.engine = Engine::new(
            Arc::new(rules),
            Arc::clone(self.engine.facts()),
            self.engine.settings().clone(),
        );
        self.partition = Partition::default();
        for (key, bytes) in records {
            self.engine
                .restore_state(&mut self.partition, &key.0, bytes.as_deref())
                .unwrap();
        }
    }

    /// Goes on at `offset`, as a process does that takes over.
    pub fn offset_at(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// An event `at` milliseconds after the start; the broker receives it then, or at once
    /// where its clock is already further. `id` and `time` are filled in.
    pub fn event(&mut self, at: i64, fields: Value) -> Said {
        self.now = self.now.max(at);
        let now = self.now;
        self.event_received(at, now, fields)
    }

    /// An event of one time that the broker receives at another.
    pub fn event_received(&mut self, at: i64, now: i64, fields: Value) -> Said {
        self.now = now;
        let mut event = json!({ "id": format!("e{}", self.offset), "time": START + at });
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        self.bytes(now, &serde_json::to_vec(&event).unwrap())
    }

    /// The bytes of one message.
    pub fn bytes(&mut self, now: i64, payload: &[u8]) -> Said {
        self.now = now;
        let source = Source {
            partition: 0,
            offset: self.offset,
        };
        self.offset += 1;
        let mut out = Outputs::default();
        let event = self.decoder.decode(payload, &mut Dropped::new()).unwrap();
        let trace = self.engine.handle_traced(
            &mut self.partition,
            &event,
            source,
            Timestamp(START + now),
            &mut out,
        );
        let said = Said {
            commands: out.commands.clone(),
            decisions: out.decisions.clone(),
            mails: out.mails.clone(),
            cases: out.cases.len(),
            changed: out.changed.len(),
            changed_keys: std::mem::take(&mut out.changed),
            trace,
        };
        self.said.commands.append(&mut out.commands);
        self.said.decisions.append(&mut out.decisions);
        self.said.mails.append(&mut out.mails);
        self.said.cases.append(&mut out.cases);
        self.said.dropped_cases.append(&mut out.dropped_cases);
        self.said.answers.append(&mut out.answers);
        self.said.shadow_answers.append(&mut out.shadow_answers);
        self.said.budgets_spent.append(&mut out.budgets_spent);
        self.said.exceptions_hit.append(&mut out.exceptions_hit);
        self.said
            .exceptions_expired
            .append(&mut out.exceptions_expired);
        self.said.unreached.append(&mut out.unreached);
        add(&mut self.said, &out);
        said
    }

    pub fn failed_login(&mut self, at: i64, account: &str, ip: &str) -> Said {
        self.event(
            at,
            json!({ "type": "login", "outcome": "failure", "account": account, "ip": ip,
                    "reason": "bad_password", "email": format!("{account}@example.org") }),
        )
    }

    pub fn login(&mut self, at: i64, account: &str, ip: &str) -> Said {
        self.event(
            at,
            json!({ "type": "login", "outcome": "success", "account": account, "ip": ip,
                    "session": format!("s-{at}"), "email": format!("{account}@example.org") }),
        )
    }

    pub fn second_factor(&mut self, at: i64, account: &str, outcome: &str) -> Said {
        self.event(
            at,
            json!({ "type": "two_factor", "outcome": outcome, "account": account, "ip": NORWAY,
                    "email": format!("{account}@example.org") }),
        )
    }

    /// The owner's answer to the account's current case.
    pub fn answer(&mut self, at: i64, account: &str, answer: &str, places: &[&str]) -> Said {
        let case = self.case(account);
        let version = self.version(account);
        self.event(
            at,
            json!({ "type": "case_response", "account": account, "case": case,
                    "case_version": version, "answer": answer, "places": places,
                    "by": "owner" }),
        )
    }

    /// The id of the account's recovery.
    pub fn recovery(&self, account: &str) -> String {
        self.engine
            .recovery_of(&self.partition, account)
            .unwrap_or_else(|| panic!("{account} has no recovery"))
            .to_string()
    }

    /// A case or a recovery as it was last shown.
    pub fn shown(&self, id: &str) -> &doorward::engine::output::CaseView {
        self.said
            .cases
            .iter()
            .rev()
            .find(|case| *case.id.0 == *id)
            .unwrap_or_else(|| panic!("{id} was never shown"))
    }

    /// Time passes with nothing but a shard: every timer that falls due until `at` is
    /// published and read back in that moment.
    pub fn wait_until(&mut self, at: i64) -> Said {
        let mut all = Said::default();
        while let Some(due) = self
            .engine
            .next_deadline(&self.partition)
            .filter(|due| *due <= Timestamp(START + at))
        {
            let now = due.max(Timestamp(START + self.now));
            for timer in self.engine.due_timers(&mut self.partition, now) {
                let bytes = doorward::event::wire::timer_due(
                    &timer.id,
                    &timer.account,
                    &timer.case,
                    timer.kind,
                    timer.deadline,
                    now,
                );
                let mut said = self.bytes(now.0 - START, &bytes);
                all.commands.append(&mut said.commands);
                all.mails.append(&mut said.mails);
                all.cases += said.cases;
                all.changed += said.changed;
            }
        }
        self.now = self.now.max(at);
        all
    }

    /// The story's state as another process reads it back, of every account it has.
    pub fn restart(&mut self, accounts: &[&str]) {
        let mut partition = Partition::default();
        let accounts = accounts.iter();
        let keys = accounts.map(|account| self.engine.state_key(account));
        for key in keys.chain([self.engine.partition_key()]) {
            let bytes = self.engine.encode_state(&self.partition, key);
            self.engine
                .restore_state(&mut partition, &key.0, bytes.as_deref())
                .unwrap();
        }
        self.partition = partition;
    }

    /// The id of the account's current case.
    pub fn case(&self, account: &str) -> String {
        self.engine
            .case_of(&self.partition, account)
            .unwrap_or_else(|| panic!("{account} has no case"))
            .to_string()
    }

    /// The version that the account's case was last shown with.
    pub fn version(&self, account: &str) -> u32 {
        self.view(account).version
    }

    /// The account's case as it was last shown.
    pub fn view(&self, account: &str) -> &doorward::engine::output::CaseView {
        self.said
            .cases
            .iter()
            .rev()
            .find(|case| *case.account == *account)
            .unwrap_or_else(|| panic!("no case of {account} was shown"))
    }
}

fn add(sum: &mut Outputs, out: &Outputs) {
    let (sum, more) = (&mut sum.counts, &out.counts);
    sum.late += more.late;
    sum.duplicate += more.duplicate;
    sum.id_conflict += more.id_conflict;
    sum.unkeyed += more.unkeyed;
    sum.future += more.future;
    sum.country_unknown += more.country_unknown;
    sum.window_full += more.window_full;
    sum.answers_applied += more.answers_applied;
    sum.answers_ignored += more.answers_ignored;
    sum.answers_forged += more.answers_forged;
    sum.mail_no_address += more.mail_no_address;
    sum.mail_capped += more.mail_capped;
    sum.mail_untold += more.mail_untold;
    sum.mail_unreached += more.mail_unreached;
    sum.evicted += more.evicted;
    sum.recovery_disputed += more.recovery_disputed;
    sum.geo_special += more.geo_special;
    sum.geo_no_database += more.geo_no_database;
}
