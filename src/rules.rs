//! Rules that a security team writes, compiled into an immutable, hashed set.
//!
//! [`parse`] reads one `*.rule.yaml` and reports every mistake; [`compile`] makes the
//! dispatch table, so that an event meets only the rules that can apply to its type and
//! outcome; [`eval`] tests one event against one condition. What a match means for an
//! account is the engine's business.

pub mod compile;
pub mod eval;
pub mod exceptions;
pub mod parse;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::document::{Diagnostics, Kind, SourceFile};
use crate::engine::output::Scope;
use crate::enrich::iplist::{ListId, Lists};
use crate::event::FieldId;
use crate::event::decode::Decoder;

use compile::Dispatch;
use eval::Condition;
use exceptions::Exception;

/// The largest `at_least` (docs/rules.md 15).
pub const MAX_AT_LEAST: u32 = 64;

/// Locks that a rule may take in five minutes where it does not say (docs/rules.md 13).
pub const LOCK_BUDGET: u32 = 100;
/// The largest `lock_budget`.
pub const MAX_LOCK_BUDGET: u32 = 1_000_000;

/// What a rule's decisions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Decisions act.
    Enforce,
    /// Decisions are recorded and do nothing.
    Shadow,
    /// The rule is not looked at.
    Off,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
            Mode::Off => "off",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// Names a rule's state: a hash of its id, kind, `of`, `by`, `when` and `broken_by`
/// (docs/rules.md 14), so that a change of threshold, mode, cooldown or actions keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey(pub u64);

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub id: Arc<str>,
    /// The name of the file that it stands in.
    pub file: Arc<str>,
    pub title: String,
    pub severity: Severity,
    pub mode: Mode,
    pub key: RuleKey,
    pub when: Condition,
    pub by: By,
    pub detect: Detect,
    pub lock: Option<Lock>,
    /// Template of the mail to the owner.
    pub email: Option<Arc<str>>,
    pub cooldown_ms: i64,
    /// Locks that it may take in five minutes over all partitions, if accounts spread evenly
    /// (docs/rules.md 13).
    pub lock_budget: u32,
    pub tags: Vec<String>,
    /// The exceptions of the set that cover it (docs/rules.md 12).
    pub exceptions: Vec<usize>,
    /// Which databases it needs.
    pub needs: Needs,
    /// False where a list that it names could not be loaded: it does not fire, in either
    /// sense of its tests.
    pub usable: bool,
}

impl Rule {
    /// Whether it is looked at at all.
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off && self.usable
    }
}

/// What a rule cannot be judged without, unless the event itself says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub country: bool,
    pub asn: bool,
}

/// What a rule's windows and runs are kept by (docs/rules.md 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    Account,
    /// Within the account, people who share it apart.
    AccountAndUser,
    /// Within one partition; cannot lock.
    Ip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub reason: Arc<str>,
    pub scope: Scope,
    /// Broker time after which the lock ends by itself, in milliseconds from the lock.
    pub until_ms: Option<i64>,
}

/// A field whose values a rule counts or remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Id,
    Type,
    Account,
    Outcome,
    Ip,
    Method,
    Reason,
    User,
    Repeat,
    Actor,
    Role,
    Email,
    EmailVerified,
    PreviousEmail,
    Case,
    Locale,
    UserAgent,
    Session,
    Country,
    /// The number of the network; rules that look at it need a database.
    Asn,
    Owners,
    /// Any other field of the event, or `attributes.x`.
    Extra(FieldId),
}

/// How a rule turns matching events into a hit.
#[derive(Debug)]
pub enum Detect {
    Each,
    Count {
        at_least: u32,
        within_ms: i64,
    },
    Distinct {
        of: Field,
        at_least: u32,
        within_ms: i64,
        /// Bits that count of an IPv4 and an IPv6 address (docs/rules.md 6); 32 and 64.
        prefix4: u8,
        prefix6: u8,
    },
    Streak {
        at_least: u32,
        max_gap_ms: i64,
        broken_by: Vec<Condition>,
    },
    FirstSeen {
        of: Field,
        forget_after_ms: i64,
        learn: Learn,
    },
}

impl Detect {
    pub fn kind(&self) -> &'static str {
        match self {
            Detect::Each => "each",
            Detect::Count { .. } => "count",
            Detect::Distinct { .. } => "distinct",
            Detect::Streak { .. } => "streak",
            Detect::FirstSeen { .. } => "first_seen",
        }
    }

    /// The field whose values are counted or remembered.
    pub fn of(&self) -> Option<Field> {
        match self {
            Detect::Distinct { of, .. } | Detect::FirstSeen { of, .. } => Some(*of),
            Detect::Each | Detect::Count { .. } | Detect::Streak { .. } => None,
        }
    }

    /// How many it takes; 1 where there is nothing to count.
    pub fn at_least(&self) -> u32 {
        match self {
            Detect::Count { at_least, .. }
            | Detect::Distinct { at_least, .. }
            | Detect::Streak { at_least, .. } => *at_least,
            Detect::Each | Detect::FirstSeen { .. } => 1,
        }
    }
}

/// What `first_seen` only learns from at first (docs/rules.md 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    Events(u32),
    /// From the first event on.
    SpanMs(i64),
}

/// All rules of one folder: immutable, and named by the hash of their files.
#[derive(Debug)]
pub struct RuleSet {
    hash: String,
    rules: Vec<Rule>,
    dispatch: Dispatch,
    /// Names of the extra fields, by [`FieldId`]; attributes as `attributes.x`.
    extra_fields: Vec<Box<str>>,
    /// The rule whose known countries are kept in the account's own 40 bytes.
    resident: Option<usize>,
    /// The rule of runs whose last end is kept there.
    resident_run: Option<usize>,
    anonymizers: Option<ListId>,
    missing_lists: Vec<(Arc<str>, String)>,
    exceptions: Vec<Exception>,
    missing_for_exceptions: Vec<(Arc<str>, String)>,
}

impl RuleSet {
    /// Reads and compiles rule files, and `exceptions.yaml` where it is among them. Every
    /// mistake of every file goes to `found`; the set is `None` where one of them is an error.
    /// That an exception has expired is none: nothing here has a clock.
    ///
    /// A rule that names a list which could not be loaded is off, and
    /// [`RuleSet::missing_lists`] tells: a broken feed must not stop the service.
    pub fn load(
        files: &[Arc<SourceFile>],
        lists: &Lists,
        found: &mut Diagnostics,
    ) -> Option<RuleSet> {
        let errors_before = found.error_count();
        let mut reader = parse::Reader::new(lists);
        let mut rules: Vec<Rule> = Vec::new();
        let mut ids: Vec<(Arc<str>, Arc<SourceFile>)> = Vec::new();
        let is_of_exceptions =
            |file: &&Arc<SourceFile>| std::path::Path::new(&file.name).ends_with(exceptions::FILE);
        for file in files.iter().filter(|file| !is_of_exceptions(file)) {
            let Some(parsed) = reader.rule(file, found) else {
                continue;
            };
            if let Some((_, other)) = ids.iter().find(|(id, _)| *id == parsed.id) {
                found.mistake(
                    Kind::DuplicateId,
                    file,
                    parsed.id_span,
                    format!("the id `{}` is already taken by {}", parsed.id, other.name),
                    Some("ids name a rule's memory: give each rule its own".into()),
                );
            }
            ids.push((parsed.id, Arc::clone(file)));
            rules.extend(parsed.rule);
        }
        let all_read = found.error_count() == errors_before;
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let mut exceptions = Vec::new();
        for file in files.iter().filter(is_of_exceptions) {
            let rules = all_read.then_some(&mut rules[..]);
            exceptions = reader.exceptions(file, rules, found);
        }
        if found.error_count() > errors_before {
            return None;
        }
        for rule in &mut rules {
            rule.usable = !reader.missing_lists.iter().any(|(id, _)| *id == rule.id);
        }
        Some(RuleSet {
            hash: hash_of(files),
            dispatch: Dispatch::new(&rules),
            resident: first_of(&rules, can_be_resident),
            resident_run: first_of(&rules, can_be_resident_run),
            anonymizers: lists.id("anonymizers"),
            missing_lists: reader.missing_lists,
            exceptions,
            missing_for_exceptions: reader.missing_for_exceptions,
            extra_fields: reader.extra_fields,
            rules,
        })
    }

    /// The same rules, all of them in `mode`.
    pub fn in_mode(mut self, mode: Mode) -> RuleSet {
        for rule in &mut self.rules {
            rule.mode = mode;
        }
        self.dispatch = Dispatch::new(&self.rules);
        self.resident = first_of(&self.rules, can_be_resident);
        self.resident_run = first_of(&self.rules, can_be_resident_run);
        self
    }

    /// `sha256:` and the hash of the rule files' texts.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// By id.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// Leaves inline what `before` kept inline, where its rule is still here: whatever else is
    /// right, too, would move the memory of every account.
    pub fn keep_residents_of(&mut self, before: &RuleSet) {
        let here = |at: Option<usize>, fits: fn(&Rule) -> bool| {
            let key = before.rules[at?].key;
            self.rules
                .iter()
                .position(|rule| rule.key == key && fits(rule))
        };
        let seen = here(before.resident, can_be_resident);
        let run = here(before.resident_run, can_be_resident_run);
        self.resident = seen.or(self.resident);
        self.resident_run = run.or(self.resident_run);
    }

    /// Whether a rule of the set, one that is off included, has this state.
    pub fn knows(&self, key: RuleKey) -> bool {
        self.rules.iter().any(|rule| rule.key == key)
    }

    /// Index of the rule whose known countries are kept inline.
    pub fn resident(&self) -> Option<usize> {
        self.resident
    }

    /// Index of the rule of runs whose last end is kept inline.
    pub fn resident_run(&self) -> Option<usize> {
        self.resident_run
    }

    /// The list whose addresses are judged and never taught (docs/rules.md 8).
    pub fn anonymizers(&self) -> Option<ListId> {
        self.anonymizers
    }

    /// Rules that name a list which is not loaded, and that list.
    pub fn missing_lists(&self) -> &[(Arc<str>, String)] {
        &self.missing_lists
    }

    /// What is excepted (docs/rules.md 12), in the order of the file.
    pub fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    /// Exceptions that name a list which is not loaded, and that list.
    pub fn missing_for_exceptions(&self) -> &[(Arc<str>, String)] {
        &self.missing_for_exceptions
    }

    /// Whether some enabled rule looks at the country, and so needs a database.
    pub fn needs_country(&self) -> bool {
        let excepted = self.exceptions.iter();
        let mut excepted = excepted.filter(|exception| exception.usable);
        excepted.any(|exception| exception.when.looks_at(Field::Country))
            || self.rules.iter().any(|rule| {
                let counts = matches!(
                    rule.detect,
                    Detect::FirstSeen {
                        of: Field::Country,
                        ..
                    } | Detect::Distinct {
                        of: Field::Country,
                        ..
                    }
                );
                rule.is_on() && (rule.needs.country || counts)
            })
    }

    /// Whether some enabled rule looks at the network's number, and so needs a database.
    pub fn needs_asn(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_on() && rule.needs.asn)
    }

    /// The name of a field, as rules write it.
    pub fn field_name(&self, field: Field) -> &str {
        match field {
            Field::Extra(id) => self.extra_fields.get(id.0 as usize).map_or("", |name| name),
            known => parse::fields::name_of(known).unwrap_or(""),
        }
    }

    /// The decoder that extracts what these rules look at.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(&self.extra_fields)
    }
}

/// Of the rules that fit, the one that most accounts will need: one that acts before one
/// that only watches, and that before one that is off and keeps what it has.
fn first_of(rules: &[Rule], fits: fn(&Rule) -> bool) -> Option<usize> {
    let fitting = rules.iter().enumerate().filter(|(_, rule)| fits(rule));
    let first = fitting.min_by_key(|(_, rule)| (!rule.is_on(), rule.mode));
    first.map(|(at, _)| at)
}

fn can_be_resident(rule: &Rule) -> bool {
    rule.by == By::Account
        && matches!(
            rule.detect,
            Detect::FirstSeen { of: Field::Country, learn: Learn::Events(n), .. } if n <= 255
        )
}

fn can_be_resident_run(rule: &Rule) -> bool {
    rule.by == By::Account && matches!(rule.detect, Detect::Streak { .. })
}

fn hash_of(files: &[Arc<SourceFile>]) -> String {
    let mut texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
    texts.sort_unstable();
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}
