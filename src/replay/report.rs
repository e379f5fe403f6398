//! What came of a replay, in numbers that stay bounded however much was decided: counts by
//! rule, over time, by country and account, the first decisions of each kind with their
//! evidence, and which accounts each rule set locked.

pub mod answers;
pub mod notes;
mod timeline;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::output::{CommandKind, Decision, Effect};
use crate::event::{Country, Timestamp};
use crate::rules::{Mode, RuleSet};

use super::BadLine;
use super::parallel::{Happening, Said};
use answers::{Answers, Given, Heard, Verdict};
pub use timeline::Timeline;

/// Bad lines that are kept; the others are counted.
pub const BAD_LINES: usize = 5;
/// Decisions that are kept with their evidence: of each rule and effect, and in all.
pub const KEPT_OF_A_KIND: usize = 200;
pub const KEPT: usize = 3_000;
/// Events of one decision's evidence that are kept, the last ones.
pub const KEPT_EVIDENCE: usize = 8;
/// Accounts that are told apart; of those that come after, only counts by rule remain.
pub const ACCOUNTS: usize = 1_000_000;
/// Accounts whose first lock is kept with its evidence.
const ACCOUNTS_WITH_EVIDENCE: usize = 100_000;

/// A decision, its evidence cut to [`KEPT_EVIDENCE`].
#[derive(Clone, Debug)]
pub struct Kept {
    pub decision: Decision,
    /// How much evidence there was.
    pub evidence: usize,
    /// Broker time.
    pub now: Timestamp,
}

/// A lock of an account: its first under a rule set.
#[derive(Clone, Debug)]
pub struct FirstLock {
    pub rule: Arc<str>,
    pub now: Timestamp,
    pub case: Option<Arc<str>>,
    /// `None` where too many are kept already.
    pub kept: Option<Box<Kept>>,
}

/// One account under both rule sets.
#[derive(Clone, Debug, Default)]
pub struct AccountReport {
    /// Decisions, and locks, by rule set.
    pub hits: [u32; 2],
    pub locks: [u32; 2],
    pub first: [Option<FirstLock>; 2],
    locked_case: [Option<Arc<str>>; 2],
    /// What its owner said of the same events or near in time, where no lock was answered.
    pub heard: Option<Given>,
}

/// One rule of one rule set.
#[derive(Clone, Debug)]
pub struct RuleReport {
    pub mode: Mode,
    pub effects: BTreeMap<Effect, u64>,
    pub locked_accounts: u64,
    /// Locks, repeats with a wider scope not counted.
    pub locks: u64,
    pub owners: Heard,
}

/// One rule set.
#[derive(Debug, Default)]
pub struct SideReport {
    /// Of every rule that is loaded, by id.
    pub rules: BTreeMap<Arc<str>, RuleReport>,
    pub hash: String,
    /// Where it was read.
    pub name: String,
    /// Rules, and exceptions, that a missing list switches off.
    pub missing_lists: Vec<(String, String)>,
    pub locks: u64,
    pub locked_accounts: u64,
    pub mails: u64,
    pub decisions: u64,
    pub timeline: Timeline,
    /// Decisions and locks by the country of the completing event.
    pub countries: BTreeMap<Option<Country>, [u64; 2]>,
    pub kept: Vec<Kept>,
    kept_of: HashMap<(Arc<str>, Effect), usize>,
}

/// All of it. Fed in the order of the stream.
#[derive(Debug, Default)]
pub struct Report {
    pub sides: Vec<SideReport>,
    pub accounts: HashMap<Arc<str>, AccountReport>,
    /// Accounts that came after [`ACCOUNTS`] others.
    pub accounts_beyond: u64,
    with_evidence: usize,
    pub bad: u64,
    /// The first few lines that are no events.
    pub bad_lines: Vec<BadLine>,
    answers: Answers,
}

impl Report {
    /// Of `sides`: the rule sets, each with the name of where it was read. The first is the
    /// one that is tried, the second the one it is held against.
    pub fn new(sides: &[(&RuleSet, String)]) -> Report {
        let side = |(rules, name): &(&RuleSet, String)| SideReport {
            rules: rules
                .rules()
                .iter()
                .map(|rule| {
                    let report = RuleReport {
                        mode: rule.mode,
                        effects: BTreeMap::new(),
                        locked_accounts: 0,
                        locks: 0,
                        owners: Heard::default(),
                    };
                    (Arc::clone(&rule.id), report)
                })
                .collect(),
            hash: rules.hash().to_owned(),
            name: name.clone(),
            missing_lists: off(rules),
            ..SideReport::default()
        };
        Report {
            sides: sides.iter().map(side).collect(),
            ..Report::default()
        }
    }

    /// Takes in what happened next.
    pub fn add(&mut self, happening: Happening) {
        match happening {
            Happening::Said(said) => self.said(&said),
            Happening::Answer(answer) => {
                let accounts = &mut self.accounts;
                let sides = &mut self.sides;
                self.answers.hear(
                    &answer,
                    |account, given| {
                        if let Some(account) = accounts.get_mut(account) {
                            account.heard = Some(Given::better(account.heard, given));
                        }
                    },
                    |episode| settle(sides, episode),
                );
            }
            Happening::Bad(bad) => {
                self.bad += 1;
                if self.bad_lines.len() < BAD_LINES {
                    self.bad_lines.push(bad);
                }
            }
        }
    }

    /// To be called once, after all was added.
    pub fn finish(&mut self) {
        let sides = &mut self.sides;
        self.answers.finish(|episode| settle(sides, episode));
    }

    /// Answers "this was me" and "this wasn't me" in the stream.
    pub fn answers(&self) -> [u64; 2] {
        self.answers.given
    }

    /// What the owner said of exactly this decision's case, or of the one it would have begun.
    pub fn verdict_on(&self, decision: &Decision) -> Option<Verdict> {
        let named = decision
            .case
            .as_ref()
            .and_then(|case| self.answers.of_case(&case.0));
        named.or_else(|| self.answers.of_case(&answers::would_be_case(&decision.id)))
    }

    /// What the owner said of an account's locks.
    pub fn verdict_of(&self, account: &AccountReport) -> Option<Given> {
        let cases = account
            .first
            .iter()
            .flatten()
            .filter_map(|first| first.case.as_ref());
        let exact = cases.filter_map(|case| self.answers.of_case(case)).max();
        exact.map(Given::of_case).or(account.heard)
    }

    fn said(&mut self, said: &Said) {
        self.sides[said.side].mails += said.mails as u64;
        for decision in &said.decisions {
            self.decided(said, decision);
        }
    }

    fn decided(&mut self, said: &Said, decision: &Decision) {
        let locks = said.commands.iter().any(|command| {
            command.kind == CommandKind::LockAccount
                && command.rule.as_ref() == Some(&decision.rule)
                && command.account == decision.account
        });
        let side = &mut self.sides[said.side];
        side.decisions += 1;
        let known = self.accounts.contains_key(&decision.account);
        let mut is_new_lock = locks;
        let mut is_first_lock = locks;
        if known || self.accounts.len() < ACCOUNTS {
            let account = self
                .accounts
                .entry(Arc::clone(&decision.account))
                .or_default();
            account.hits[said.side] += 1;
            let case = decision.case.as_ref().map(|case| Arc::clone(&case.0));
            // The same case locked again with a wider scope is no second lock.
            is_new_lock = locks && (case.is_none() || account.locked_case[said.side] != case);
            is_first_lock = is_new_lock && account.locks[said.side] == 0;
            if is_new_lock {
                account.locks[said.side] += 1;
                account.locked_case[said.side].clone_from(&case);
            }
            if is_first_lock {
                let keep = self.with_evidence < ACCOUNTS_WITH_EVIDENCE;
                self.with_evidence += usize::from(keep);
                account.first[said.side] = Some(FirstLock {
                    rule: Arc::clone(&decision.rule),
                    now: said.now,
                    case,
                    kept: keep.then(|| Box::new(Kept::new(decision, said.now))),
                });
            }
        } else {
            self.accounts_beyond += 1;
        }
        side.count(decision, said.now, is_new_lock, is_first_lock);
        self.answers
            .decided(said.side, decision, said.now, |episode| {
                settle(&mut self.sides, episode);
            });
    }
}

/// What a missing list switches off, and the list.
fn off(rules: &RuleSet) -> Vec<(String, String)> {
    let named = |what, all: &[(Arc<str>, String)]| -> Vec<(String, String)> {
        let named = all.iter();
        named
            .map(|(id, list)| (format!("{what} {id}"), list.clone()))
            .collect()
    };
    let mut off = named("rule", rules.missing_lists());
    off.extend(named("exception", rules.missing_for_exceptions()));
    off
}

fn settle(sides: &mut [SideReport], episode: &answers::Episode) {
    if let Some(rule) = sides[episode.side].rules.get_mut(&episode.rule) {
        rule.owners.add(episode.given);
    }
}

impl SideReport {
    fn count(&mut self, decision: &Decision, now: Timestamp, lock: bool, first: bool) {
        self.locks += u64::from(lock);
        self.locked_accounts += u64::from(first);
        if let Some(rule) = self.rules.get_mut(&decision.rule) {
            *rule.effects.entry(decision.effect).or_default() += 1;
            rule.locks += u64::from(lock);
            rule.locked_accounts += u64::from(first);
        }
        self.timeline.add(now, decision.effect, lock);
        let country = decision.evidence.last().and_then(|last| last.country);
        let [hits, locks] = self.countries.entry(country).or_default();
        *hits += 1;
        *locks += u64::from(lock);
        let key = (Arc::clone(&decision.rule), decision.effect);
        let of_kind = self.kept_of.entry(key).or_default();
        if *of_kind < KEPT_OF_A_KIND && self.kept.len() < KEPT {
            *of_kind += 1;
            self.kept.push(Kept::new(decision, now));
        }
    }

    /// Decisions of one effect, over all rules.
    pub fn with_effect(&self, effect: Effect) -> u64 {
        self.rules
            .values()
            .filter_map(|rule| rule.effects.get(&effect))
            .sum()
    }
}

impl Kept {
    fn new(decision: &Decision, now: Timestamp) -> Kept {
        let mut kept = decision.clone();
        let evidence = kept.evidence.len();
        kept.evidence
            .drain(..evidence.saturating_sub(KEPT_EVIDENCE));
        Kept {
            decision: kept,
            evidence,
            now,
        }
    }
}

/// By which of two rule sets an account was locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockedBy {
    OnlyNew,
    OnlyOld,
    Both,
}

impl LockedBy {
    pub const ALL: &[LockedBy] = &[LockedBy::OnlyNew, LockedBy::OnlyOld, LockedBy::Both];

    pub fn as_str(self) -> &'static str {
        match self {
            LockedBy::OnlyNew => "new",
            LockedBy::OnlyOld => "old",
            LockedBy::Both => "both",
        }
    }
}

impl AccountReport {
    /// `None` where neither locked it. The first rule set is the new one.
    pub fn locked_by(&self) -> Option<LockedBy> {
        match &self.first {
            [Some(_), Some(_)] => Some(LockedBy::Both),
            [Some(_), None] => Some(LockedBy::OnlyNew),
            [None, Some(_)] => Some(LockedBy::OnlyOld),
            [None, None] => None,
        }
    }

    fn first_now(&self) -> Option<Timestamp> {
        self.first.iter().flatten().map(|first| first.now).min()
    }
}

/// An account that at least one of two rule sets locked.
pub type Compared<'r> = (LockedBy, &'r Arc<str>, &'r AccountReport);

impl Report {
    /// Every account that at least one rule set locked: those that only one locks first, in
    /// order of time.
    pub fn compared(&self) -> Vec<Compared<'_>> {
        let mut all: Vec<Compared<'_>> = self
            .accounts
            .iter()
            .filter_map(|(account, report)| Some((report.locked_by()?, account, report)))
            .collect();
        all.sort_by_key(|(by, account, report)| (*by, report.first_now(), Arc::clone(account)));
        all
    }

    /// The accounts with the most locks of the first rule set, then the most decisions.
    pub fn top_accounts(&self, at_most: usize) -> Vec<(&Arc<str>, &AccountReport)> {
        let mut all: Vec<_> = self
            .accounts
            .iter()
            .filter(|(_, report)| report.hits[0] > 0)
            .collect();
        let order = |(account, report): &(&Arc<str>, &AccountReport)| {
            let (locks, hits) = (report.locks[0], report.hits[0]);
            (std::cmp::Reverse((locks, hits)), Arc::clone(account))
        };
        if all.len() > at_most {
            all.select_nth_unstable_by_key(at_most, order);
            all.truncate(at_most);
        }
        all.sort_by_key(order);
        all
    }
}
