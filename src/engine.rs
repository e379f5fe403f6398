//! Decides. Takes events and broker time, keeps accounts, returns outputs as values.
//!
//! Owns what an account's recent past means: windows, streaks, known places, cases. It
//! refuses to know Kafka, clocks, files and randomness; `now` is always the broker's
//! timestamp of the record being handled (docs/rules.md 2).
//!
//! [`detect`] asks whether a rule hits, [`decide`] what follows from it, [`control`] what
//! answers and timers do to a case, [`recovery`] how a recovery is held, [`timer`] what falls
//! due, [`partition`] where accounts are kept. [`trace`] writes down, for whoever asks, what
//! every rule said of an event.

pub mod account;
mod accounts;
pub mod ahead;
pub mod bounce;
pub mod budget;
pub mod case;
pub mod codec;
mod contact;
mod control;
mod decide;
mod detect;
pub mod ended;
mod eras;
mod ids;
pub mod mailing;
pub mod operator;
pub mod output;
mod partition;
pub mod recovery;
mod room;
mod seen;
pub mod steps;
pub mod streak;
pub mod timer;
pub mod trace;
pub mod window;
mod work;

use std::sync::Arc;

use crate::enrich::{CountryLookup, Facts};
use crate::event::wire::MacKeys;
use crate::event::{Event, KnownType, MINUTE_MS, Outcome, Source, Timestamp};
use crate::rules::compile::Role;
use crate::rules::eval::Enriched;
use crate::rules::exceptions::{Exception, ExceptionEffect};
use crate::rules::{By, Rule, RuleSet};

pub use case::MAX_EVIDENCE as MAX_CASE_EVIDENCE;
pub use codec::StateError;
pub use decide::MAX_QUESTIONS;
pub use partition::{DueTimer, Partition};

use account::Account;
use budget::Budgets;
use codec::Residents;
use detect::{Place, account_key, ip_key, partition_key};
use output::{CaseId, Outputs};
use trace::{Before, Declined, Said, Trace};
use work::Work;

/// An event further ahead of the broker than this takes the broker's time (docs/rules.md 2).
const MAX_AHEAD_MS: i64 = MINUTE_MS;

/// Bytes of a shared account's record past which the person of whom least is held goes for
/// each that comes: it must fit into one message of `doorward.state`.
const MAX_SHARED_BYTES: usize = 256 * 1024;

/// An account, or an address of a rule kept `by: ip`, in `doorward.state`: a 128-bit keyed
/// hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(pub [u8; 16]);

/// What the engine needs beside rules and facts.
#[derive(Clone)]
pub struct Settings {
    /// docs/rules.md 3.
    pub max_lateness_ms: i64,
    /// docs/rules.md 4.
    pub act_within_ms: i64,
    /// How long links live, which a case shows as its end after an unlock.
    pub link_valid_ms: i64,
    /// Partitions of the input topic.
    pub partitions: u32,
    /// Bytes of one partition's memory at most for what can be forgotten: accounts that know
    /// no place, and the windows of those that do (docs/rules.md 15). Known places and cases
    /// are kept beyond it.
    pub max_forgettable_bytes: usize,
    pub state_key: [u8; 16],
    /// `None`: MACs are not checked (`replay`).
    pub answer_keys: Option<MacKeys>,
}

impl Settings {
    /// [`Settings::max_forgettable_bytes`] unless something else is said: room for about
    /// 170,000 accounts with one failed sign-in.
    pub const MAX_FORGETTABLE_BYTES: usize = 100 * 1024 * 1024;
}

/// The rules at work: shared by every partition of a shard.
pub struct Engine {
    rules: Arc<RuleSet>,
    facts: Arc<Facts>,
    settings: Settings,
    residents: Residents,
    /// Names rules and residents, for partitions to see that they are new.
    rule_set: u64,
    /// Of every partition's own record.
    partition_key: StateKey,
}

impl Engine {
    pub fn new(rules: Arc<RuleSet>, facts: Arc<Facts>, settings: Settings) -> Engine {
        let residents = residents(&rules);
        Engine {
            rule_set: named(&rules, residents),
            residents,
            partition_key: partition_key(&settings.state_key),
            rules,
            facts,
            settings,
        }
    }

    /// From the next event on, these rules and facts are at work. What accounts hold stays
    /// (docs/rules.md 14).
    pub fn replace(&mut self, rules: Arc<RuleSet>, facts: Arc<Facts>) {
        self.residents = residents(&rules);
        self.rule_set = named(&rules, self.residents);
        self.rules = rules;
        self.facts = facts;
    }

    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Handles one event. `now` is the broker's timestamp of its record. What it causes is
    /// appended to `out`.
    pub fn handle(
        &self,
        partition: &mut Partition,
        event: &Event<'_>,
        source: Source,
        now: Timestamp,
        out: &mut Outputs,
    ) {
        self.handle_with(partition, event, source, now, out, None);
    }

    /// The same, and what every rule said of the event. What is decided does not depend on
    /// whether anybody asks.
    pub fn handle_traced(
        &self,
        partition: &mut Partition,
        event: &Event<'_>,
        source: Source,
        now: Timestamp,
        out: &mut Outputs,
    ) -> Trace {
        let mut trace = Trace::default();
        self.handle_with(partition, event, source, now, out, Some(&mut trace));
        trace
    }

    fn handle_with(
        &self,
        partition: &mut Partition,
        event: &Event<'_>,
        source: Source,
        now: Timestamp,
        out: &mut Outputs,
        mut trace: Option<&mut Trace>,
    ) {
        partition.follow(self.rule_set, self.residents);
        partition.ahead_mut().reach(source.offset);
        let mut time = event.time;
        if time.since_ms(now) > MAX_AHEAD_MS {
            time = now;
            out.counts.future += 1;
        }
        if event.account.is_none() {
            out.counts.unkeyed += 1;
        }
        let enriched = Enriched::new(event, time, &self.facts);
        let control = event.kind.known().filter(|kind| control::is_control(*kind));
        if control.is_some() || !self.rules.dispatch().candidates(event).is_empty() {
            let mut budgets = partition.take_budgets();
            let mut work = Work {
                engine: self,
                event: &enriched,
                source,
                now,
                out,
                commands_so_far: 0,
                budgets: &mut budgets,
                budgets_changed: false,
                questions: partition.questions(),
                trace: trace.as_deref_mut(),
            };
            self.with_account(partition, &mut work, control);
            work.out.end_share();
            self.by_address(partition, &mut work);
            if work.budgets_changed {
                work.out.changed.push(self.partition_key);
            }
            partition.put_budgets(budgets);
        }
        match enriched.looked_up() {
            None => {}
            Some(CountryLookup::Found(_)) => out.counts.geo_found += 1,
            Some(CountryLookup::NotFound) => out.counts.geo_not_found += 1,
            Some(CountryLookup::Special) => out.counts.geo_special += 1,
            Some(CountryLookup::Failed) => out.counts.geo_failed += 1,
            Some(CountryLookup::NoDatabase) => out.counts.geo_no_database += 1,
        }
        if let Some(trace) = trace {
            trace.complete(self, &enriched);
        }
        partition.note_time(self, now, out);
    }

    /// The control event, and the rules that are kept by account.
    fn with_account(
        &self,
        partition: &mut Partition,
        work: &mut Work<'_>,
        control: Option<KnownType>,
    ) {
        let event = work.event.event;
        let key = match (&event.account, control, &event.case) {
            (Some(account), _, _) => account_key(&self.settings.state_key, account),
            // The web may know a case's id before it has read the case.
            (None, Some(_), Some(case)) => match partition.account_of_case(case) {
                Some(key) => key,
                None => {
                    work.out.counts.answers_ignored += 1;
                    work.declined(Declined::NoCase);
                    return;
                }
            },
            (None, _, _) => return,
        };
        if partition.ahead().holds(key, work.source.offset, work.now) {
            return;
        }
        work.out.account = Some(key);
        if control == Some(KnownType::AccountDeleted) {
            match partition.remove(key) {
                Some(gone) => {
                    work.out.dropped_cases.extend(gone.case_ids());
                    work.out.changed.push(key);
                    work.applied();
                }
                None => {
                    work.declined(Declined::NoCase);
                }
            }
            return;
        }
        let asks_for_recovery =
            control == Some(KnownType::Recovery) && event.outcome == Some(Outcome::Requested);
        let creates = asks_for_recovery
            || matches!(
                control,
                None | Some(
                    KnownType::ReportedStolen
                        | KnownType::EmailChanged
                        | KnownType::OperatorRequest
                )
            )
            || !self.rules.dispatch().candidates(event).is_empty();
        let create = creates || partition.holds(key);
        if !create {
            if control == Some(KnownType::CaseResponse) {
                work.out.counts.answers_ignored += 1;
            }
            work.declined(Declined::NoCase);
        }
        let changed = partition.update(key, create, work.now, |account| {
            let mut changed = false;
            if let Some(kind) = control {
                changed |= control::apply(work, kind, account);
            }
            changed |= self.apply_rules(work, account, false);
            changed
        });
        if changed {
            work.out.changed.push(key);
        } else if control == Some(KnownType::TimerDue) {
            partition.put_off(key, work.now);
        }
    }

    /// The rules that are kept by address, in records of their own (docs/rules.md 9).
    fn by_address(&self, partition: &mut Partition, work: &mut Work<'_>) {
        let event = work.event.event;
        let candidates = self.rules.dispatch().candidates(event);
        let some = candidates
            .iter()
            .any(|candidate| self.rules.rules()[candidate.rule].by == By::Ip);
        if !some {
            return;
        }
        let Some(ip) = event.ip else {
            work.out.counts.unkeyed += 1;
            return;
        };
        let key = ip_key(&self.settings.state_key, ip);
        if partition.ahead().holds(key, work.source.offset, work.now) {
            return;
        }
        work.out.address = Some(key);
        let changed = partition.update(key, true, work.now, |record| {
            record.set_by_ip();
            self.apply_rules(work, record, true)
        });
        if changed {
            work.out.changed.push(key);
        }
    }

    /// Looks at every rule that can apply; `by_ip` chooses which half of them.
    fn apply_rules(&self, work: &mut Work<'_>, account: &mut Account, by_ip: bool) -> bool {
        let enriched = work.event;
        let event = enriched.event;
        let mut changed = false;
        for candidate in self.rules.dispatch().candidates(event) {
            let rule = &self.rules.rules()[candidate.rule];
            if (rule.by == By::Ip) != by_ip || event.account.is_none() && !by_ip {
                continue;
            }
            let condition = match (candidate.role, &rule.detect) {
                (Role::Breaks(at), crate::rules::Detect::Streak { broken_by, .. }) => {
                    &broken_by[at]
                }
                _ => &rule.when,
            };
            if !enriched.has(rule.needs) || !condition.holds(enriched) {
                continue;
            }
            // Events at or before the cut never count again, for any rule (docs/rules.md 10).
            let cut = account.cut();
            if cut.0 != 0 && enriched.time <= cut {
                work.note(rule, || Said::BeforeCut { cut });
                continue;
            }
            let excepted = match &rule.exceptions[..] {
                [] => None,
                covering => self.excepted(work, covering),
            };
            if let Some(by) = excepted.filter(|by| by.effect == ExceptionEffect::Ignore) {
                work.note(rule, || Said::Ignored {
                    exception: Arc::clone(&by.id),
                });
                continue;
            }
            let group = match rule.by {
                By::AccountAndUser => match event.user.as_deref() {
                    Some(user) => Some(user),
                    None => {
                        work.out.counts.unkeyed += 1;
                        work.note(rule, || Said::Unkeyed { field: "user" });
                        continue;
                    }
                },
                By::Account | By::Ip => None,
            };
            if let Some(user) = group
                && account.make_place_for(rule.key, user, MAX_SHARED_BYTES)
            {
                work.out.counts.window_full += 1;
                changed = true;
            }
            let place = Place {
                settings: &self.settings,
                rule,
                resident: self.rules.resident() == Some(candidate.rule),
                resident_run: self.rules.resident_run() == Some(candidate.rule),
                group,
                anonymized: self.rules.anonymizers().is_some_and(|list| {
                    event
                        .ip
                        .is_some_and(|ip| self.facts.lists.contains(list, ip))
                }),
            };
            let before = work.trace.is_some().then(|| Before::of(account, &place));
            if let Role::Breaks(_) = candidate.role {
                changed |= detect::broken(&place, account, enriched, &mut work.out.counts);
                if let Some(before) = before {
                    work.note(rule, || before.end_of_run(&place, enriched));
                }
                continue;
            }
            let detected = detect::matched(&place, account, enriched, &mut work.out.counts);
            changed |= detected.changed;
            match detected.hit {
                Ok(hit) => {
                    changed |= decide::decide(work, account, &place, excepted, hit);
                    if let Some((before, decision)) = before.zip(work.out.decisions.last()) {
                        let said = before.hit(&place, decision);
                        work.note(rule, || said);
                    }
                }
                Err(why) => {
                    if let Some(before) = before {
                        work.note(rule, || before.no_hit(self, &place, enriched, why));
                    }
                }
            }
        }
        changed
    }

    /// The exception, of those numbered `covering`, that holds for this event: one that makes
    /// the rule not see it before one that only keeps it from acting (docs/rules.md 12).
    fn excepted(&self, work: &mut Work<'_>, covering: &[usize]) -> Option<&Exception> {
        let mut found: Option<(usize, &Exception)> = None;
        for at in covering {
            let exception = &self.rules.exceptions()[*at];
            let weaker = found.is_some_and(|(_, held)| held.effect >= exception.effect);
            if weaker || !exception.usable || exception.when.first_unmet(work.event).is_some() {
                continue;
            }
            if exception.has_expired(work.now) {
                work.out.exceptions_expired.push(*at);
            } else {
                found = Some((*at, exception));
            }
        }
        let (at, exception) = found?;
        work.out.exceptions_hit.push(at);
        Some(exception)
    }

    /// When the next timer of this partition may be handed out, by broker time.
    pub fn next_deadline(&self, partition: &Partition) -> Option<Timestamp> {
        partition.next_deadline()
    }

    /// Timers that are due at `now`, which is a guess by the shard's own clock: they act
    /// only when they are read back from the log (docs/rules.md 11). Each is handed out again
    /// after a minute while it has not acted, and one that was read back too early when its
    /// time has come. Of very many some are handed out, the rest when asked again.
    pub fn due_timers(&self, partition: &mut Partition, now: Timestamp) -> Vec<DueTimer> {
        partition.due_timers(now)
    }

    /// Locks that `rule` may still take in `partition` in the window of `now`, which may be
    /// a guess (docs/rules.md 13).
    pub fn lock_budget_left(&self, partition: &Partition, rule: &Rule, now: Timestamp) -> u32 {
        let limit = budget::limit(rule, self.settings.partitions);
        partition.budgets().left(rule.key, limit, now)
    }

    /// The key of a partition's own record in `doorward.state`.
    pub fn partition_key(&self) -> StateKey {
        self.partition_key
    }

    /// Bytes of the durable record of `key`; `None` is a tombstone.
    pub fn encode_state(&self, partition: &Partition, key: StateKey) -> Option<Vec<u8>> {
        if key == self.partition_key {
            return codec::encode_partition(partition.budgets());
        }
        partition.encode(key)
    }

    /// Takes one record of `doorward.state` back into memory; `None` is a tombstone.
    ///
    /// # Errors
    /// Where the bytes are damaged or newer than this program.
    pub fn restore_state(
        &self,
        partition: &mut Partition,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let key: [u8; 16] = key
            .try_into()
            .map_err(|_| StateError::Damaged("its key is not 16 bytes"))?;
        let key = StateKey(key);
        if key == self.partition_key {
            partition.put_budgets(Budgets::default());
            if let Some(bytes) = value {
                partition.put_budgets(codec::decode_partition(bytes)?);
            }
            return Ok(());
        }
        match value {
            None => {
                partition.remove(key);
            }
            Some(bytes) => {
                partition.follow(self.rule_set, self.residents);
                if let Err(error) = partition.decode(key, bytes) {
                    // What an earlier record said is wrong by now.
                    partition.remove(key);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The key of an account in `doorward.state`.
    pub fn state_key(&self, account: &str) -> StateKey {
        account_key(&self.settings.state_key, account)
    }

    /// The account's current case, for tests and tools.
    pub fn case_of(&self, partition: &Partition, account: &str) -> Option<CaseId> {
        let key = self.state_key(account);
        partition.get(key)?.case().map(case::Case::case_id)
    }

    /// The account's recovery, the one that is held or the last one, for tests and tools.
    pub fn recovery_of(&self, partition: &Partition, account: &str) -> Option<CaseId> {
        let key = self.state_key(account);
        let recovery = partition.get(key)?.recovery()?;
        Some(recovery.case_id())
    }
}

fn residents(rules: &RuleSet) -> Residents {
    let key = |at: usize| rules.rules()[at].key;
    Residents {
        seen: rules.resident().map(key),
        run: rules.resident_run().map(key),
    }
}

fn named(rules: &RuleSet, residents: Residents) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hash = siphasher::sip::SipHasher13::new();
    rules.hash().hash(&mut hash);
    residents.hash(&mut hash);
    // Zero is no rule set.
    hash.finish().max(1)
}
