//! The accounts of one partition: one map, dropped whole when the partition goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::event::{MINUTE_MS, Timestamp};

use super::account::Account;
use super::ids::derived;
use super::output::Outputs;
use super::recovery::Recovery;
use super::timer::{Timer, timers};
use super::{Engine, StateKey, detect};

/// A timer that has not acted is published again after this long.
const AGAIN_MS: i64 = MINUTE_MS;
/// Accounts whose timers are handed out at once: after a day's outage many are due.
const MAX_DUE: usize = 1_000;
/// Broker time between two sweeps, and accounts added between two.
const SWEEP_EVERY_MS: i64 = 10 * MINUTE_MS;
const SWEEP_SHARE: usize = 4;

/// A timer that the shard should publish as `timer_due` on the account's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    pub id: String,
    pub account: Arc<str>,
    pub case: Arc<str>,
    pub kind: &'static str,
    pub deadline: Timestamp,
}

/// The accounts of one partition, and what points into them.
#[derive(Debug, Default)]
pub struct Partition {
    accounts: HashTable<Account>,
    /// Cases and recoveries by id, for answers that name no account.
    cases: HashMap<Box<str>, StateKey>,
    open_cases: usize,
    /// The accounts that have a timer, by the time before which it is not handed out
    /// (again): the earliest deadline of each, or what `again` says.
    timers: BTreeSet<(Timestamp, StateKey)>,
    /// Those that were handed out and have not acted yet.
    again: HashMap<StateKey, Timestamp>,
    heap_bytes: usize,
    added: usize,
    swept_at: Timestamp,
}

/// What of an account other parts of the partition point at.
#[derive(Default, PartialEq)]
struct Pointers {
    case: Option<Box<str>>,
    recovery: Option<Box<str>>,
    open: usize,
    deadline: Option<Timestamp>,
}

impl Partition {
    /// Accounts in memory.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Bytes that they take: the map with its free places, and what hangs on it.
    pub fn bytes(&self) -> usize {
        self.accounts.allocation_size() + self.heap_bytes
    }

    /// Cases that are open.
    pub fn open_cases(&self) -> usize {
        self.open_cases
    }

    pub fn get(&self, key: StateKey) -> Option<&Account> {
        self.accounts.find(hash(key), |account| account.key == key)
    }

    pub fn holds(&self, key: StateKey) -> bool {
        self.get(key).is_some()
    }

    pub fn account_of_case(&self, case: &str) -> Option<StateKey> {
        self.cases.get(case).copied()
    }

    /// Runs `change` on an account, made first where `create` says so, and keeps everything
    /// that points into it. `change` says whether the durable record changed; so does this,
    /// where something in it was over besides.
    pub fn update(
        &mut self,
        key: StateKey,
        create: bool,
        now: Timestamp,
        change: impl FnOnce(&mut Account) -> bool,
    ) -> bool {
        if !create {
            return false;
        }
        let mut entry = self
            .accounts
            .entry(
                hash(key),
                |account| account.key == key,
                |account| hash(account.key),
            )
            .or_insert_with(|| {
                self.added += 1;
                Account::new(key)
            });
        let account = entry.get_mut();
        if account.rest.is_none() {
            // The ordinary case: a quiet account that stays quiet.
            let changed = change(account);
            if changed {
                account.touched_min = minutes(now);
            }
            if account.rest.is_none() {
                // Nothing came of it: no place, no record, nothing for a sweep to find.
                if !account.has_learned() {
                    entry.remove();
                }
                return changed;
            }
            account.tidy(now);
            self.heap_bytes += account.heap_bytes();
            let after = pointers(account);
            self.point(key, Pointers::default(), after);
            return changed;
        }
        let before = pointers(account);
        let bytes = account.heap_bytes();
        let mut changed = change(account);
        if changed {
            account.touched_min = minutes(now);
        }
        changed |= account.tidy(now);
        self.heap_bytes = self.heap_bytes + account.heap_bytes() - bytes;
        let after = pointers(account);
        self.point(key, before, after);
        changed
    }

    /// Takes an account out, and everything that points at it.
    pub fn remove(&mut self, key: StateKey) -> Option<Account> {
        let entry = self
            .accounts
            .find_entry(hash(key), |account| account.key == key)
            .ok()?;
        let (account, _) = entry.remove();
        self.heap_bytes -= account.heap_bytes();
        self.point(key, pointers(&account), Pointers::default());
        Some(account)
    }

    /// Puts a restored account in.
    pub fn insert(&mut self, account: Account) {
        let key = account.key;
        self.heap_bytes += account.heap_bytes();
        let after = pointers(&account);
        self.accounts
            .insert_unique(hash(key), account, |account| hash(account.key));
        self.point(key, Pointers::default(), after);
    }

    fn point(&mut self, key: StateKey, before: Pointers, after: Pointers) {
        if before == after {
            return;
        }
        self.open_cases = self.open_cases + after.open - before.open;
        for (before, after) in [(before.case, after.case), (before.recovery, after.recovery)] {
            if before != after {
                if let Some(id) = before {
                    self.cases.remove(&id);
                }
                if let Some(id) = after {
                    self.cases.insert(id, key);
                }
            }
        }
        if before.deadline != after.deadline {
            if let Some(deadline) = before.deadline {
                let at = self.again.remove(&key).unwrap_or(deadline);
                self.timers.remove(&(at, key));
            }
            if let Some(deadline) = after.deadline {
                self.timers.insert((deadline, key));
            }
        }
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The timers that are due by `now`, of at most [`MAX_DUE`] accounts.
    pub fn due_timers(&mut self, now: Timestamp) -> Vec<DueTimer> {
        let mut due = Vec::new();
        for _ in 0..MAX_DUE {
            let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) else {
                break;
            };
            let again = now.plus_ms(AGAIN_MS);
            self.timers.remove(&(at, key));
            self.timers.insert((again, key));
            self.again.insert(key, again);
            let Some(account) = self.get(key) else {
                continue;
            };
            due.extend(
                timers(account)
                    .filter(|timer| timer.deadline <= now)
                    .map(|timer| handed_out(&timer, now)),
            );
        }
        due
    }

    /// A timer of this account was read back before its time: the guess that it was
    /// published by was wrong, however far. It is handed out again when its time has come,
    /// and not within a minute, since the next guess may be as wrong.
    pub fn put_off(&mut self, key: StateKey, now: Timestamp) {
        let deadline = self.get(key).and_then(earliest).filter(|at| *at > now);
        if let Some(deadline) = deadline
            && let Some(at) = self.again.get_mut(&key)
        {
            self.timers.remove(&(*at, key));
            *at = deadline.max(now.plus_ms(AGAIN_MS));
            self.timers.insert((*at, key));
        }
    }

    /// Sweeps now and then, by broker time and by what was added.
    pub fn note_time(&mut self, engine: &Engine, now: Timestamp, out: &mut Outputs) {
        let crowded = self.added > engine.settings().max_unlearned / SWEEP_SHARE;
        if !crowded && now.since_ms(self.swept_at) < SWEEP_EVERY_MS {
            return;
        }
        self.added = 0;
        self.swept_at = now;
        self.sweep(engine, now, out);
    }

    /// Drops what can never matter again, and, where too many accounts have learned
    /// nothing, the longest untouched of those (docs/rules.md 15).
    fn sweep(&mut self, engine: &Engine, now: Timestamp, out: &mut Outputs) {
        let settings = engine.settings();
        let mut spent = Vec::new();
        let mut unlearned: Vec<u32> = Vec::new();
        for account in &self.accounts {
            let idle = account.rest.as_ref().is_some_and(|rest| {
                rest.case.as_ref().is_some_and(|case| case.is_over(now))
                    || rest.has_expired(now, settings.act_within_ms)
                    || rest.rules.iter().any(|state| {
                        engine
                            .rules()
                            .rules()
                            .iter()
                            .find(|rule| rule.key == state.key)
                            .is_some_and(|rule| detect::is_spent(rule, state, settings, now))
                    })
            });
            if idle || (account.rest.is_none() && !account.has_learned()) {
                spent.push(account.key);
            } else if !account.has_learned() {
                unlearned.push(account.touched_min);
            }
        }
        for key in spent {
            self.clear_spent(engine, key, now, out);
        }
        if unlearned.len() > settings.max_unlearned {
            let excess = unlearned.len() - settings.max_unlearned;
            let (_, last, _) = unlearned.select_nth_unstable(excess.saturating_sub(1));
            let last = *last;
            let mut victims: Vec<StateKey> = self
                .accounts
                .iter()
                .filter(|account| !account.has_learned() && account.touched_min <= last)
                .map(|account| account.key)
                .collect();
            // The same minute may hold more than must go; which of them goes must not
            // depend on where the map put them.
            victims.sort_unstable_by_key(|key| {
                (
                    self.get(*key).map_or(0, |account| account.touched_min),
                    *key,
                )
            });
            victims.truncate(excess);
            for key in victims {
                self.remove(key);
                out.changed.push(key);
                out.counts.evicted += 1;
            }
        }
    }

    fn clear_spent(&mut self, engine: &Engine, key: StateKey, now: Timestamp, out: &mut Outputs) {
        let settings = engine.settings();
        self.update(key, true, now, |account| {
            if let Some(rest) = account.rest.as_mut() {
                // What the cut bars is too old to act on by now.
                if now.since_ms(rest.cut) > settings.act_within_ms {
                    rest.cut = Timestamp(0);
                }
                for state in &mut rest.rules {
                    let rule = engine.rules().rules().iter().find(|r| r.key == state.key);
                    if rule.is_some_and(|rule| detect::is_spent(rule, state, settings, now)) {
                        state.entries.clear();
                        state.last_acted = Timestamp(0);
                    }
                }
            }
            true
        });
        let empty = self
            .get(key)
            .is_some_and(|account| account.rest.is_none() && !account.has_learned());
        if empty {
            self.remove(key);
        }
        out.changed.push(key);
    }
}

/// The key is a keyed hash already.
fn hash(key: StateKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.0[..8]);
    u64::from_ne_bytes(first)
}

fn minutes(now: Timestamp) -> u32 {
    u32::try_from(now.0.div_euclid(MINUTE_MS)).unwrap_or(0)
}

fn handed_out(timer: &Timer<'_>, now: Timestamp) -> DueTimer {
    let (kind, deadline) = (timer.kind.as_str(), timer.deadline);
    DueTimer {
        id: derived(
            "t-",
            &[
                timer.case,
                kind,
                &deadline.0.to_string(),
                &now.0.to_string(),
            ],
        ),
        account: Arc::from(timer.account),
        case: Arc::from(timer.case),
        kind,
        deadline,
    }
}

fn earliest(account: &Account) -> Option<Timestamp> {
    timers(account).map(|timer| timer.deadline).min()
}

fn pointers(account: &Account) -> Pointers {
    let (case, recovery) = (account.case(), account.recovery());
    Pointers {
        case: case.map(|case| case.id.clone()),
        recovery: recovery.map(|recovery| recovery.id.clone()),
        open: usize::from(case.is_some_and(|case| case.state.is_open()))
            + usize::from(recovery.is_some_and(Recovery::is_open)),
        deadline: earliest(account),
    }
}
