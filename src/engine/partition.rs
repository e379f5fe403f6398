//! The accounts of one partition: one map, dropped whole when the partition goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};

use super::account::Account;
use super::accounts::Accounts;
use super::ahead::Ahead;
use super::budget::Budgets;
use super::codec::{self, Residents, StateError};
use super::eras::{Begun, Eras};
use super::ids::derived;
use super::output::{CaseState, Outputs};
use super::recovery::Recovery;
use super::room::{Room, Weight};
use super::timer::{Timer, timers};
use super::{Engine, StateKey, detect};

/// A timer that has not acted is published again after this long.
const AGAIN_MS: i64 = MINUTE_MS;
/// Accounts whose timers are handed out at once: after a day's outage many are due.
const MAX_DUE: usize = 1_000;
/// Broker time in which every account that has a box is looked at once, whether something in
/// it has run out; between two steps of that round; and accounts in one step at most, so that
/// no event waits long for one.
const ROUND_MS: i64 = 10 * MINUTE_MS;
const STEP_MS: i64 = SECOND_MS;
const STEP: usize = 1_024;
/// Accounts that one event may push out at most.
const PUSHED_OUT: usize = 64;
/// How long what a rule set does not know is carried along with it (docs/rules.md 14).
const CARRIED_MS: i64 = DAY_MS;

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
    accounts: Accounts,
    room: Room,
    eras: Eras,
    /// Cases and recoveries by id, for answers that name no account.
    cases: HashMap<Box<str>, StateKey>,
    open_cases: usize,
    /// Of those, the ones whose account was only asked about.
    questions: usize,
    /// The accounts that have a timer, by the time before which it is not handed out
    /// (again): the earliest deadline of each, or what `again` says.
    timers: BTreeSet<(Timestamp, StateKey)>,
    /// Those that were handed out and have not acted yet.
    again: HashMap<StateKey, Timestamp>,
    stepped_at: Timestamp,
    budgets: Budgets,
    ahead: Ahead,
}

/// What of an account other parts of the partition point at.
#[derive(Default, PartialEq)]
struct Pointers {
    case: Option<Box<str>>,
    recovery: Option<Box<str>>,
    open: usize,
    question: bool,
    deadline: Option<Timestamp>,
}

impl Partition {
    /// Accounts in memory.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Bytes that they take: the map with its free places, what hangs on it, and what
    /// points into it.
    pub fn bytes(&self) -> usize {
        // A case's id, its place in a map at its worst load, and a timer's in a tree.
        const POINTERS: usize = 160;
        let pointers = (self.cases.len() + self.timers.len()) * POINTERS;
        self.accounts.bytes() + self.room.bytes() + pointers
    }

    /// Bytes of it that can be given back without losing a known place or a case
    /// ([`super::Settings::max_forgettable_bytes`]).
    pub fn forgettable_bytes(&self) -> usize {
        self.room.forgettable()
    }

    /// What the rules have spent of their lock budgets.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// The same, taken out while an event is handled.
    pub fn take_budgets(&mut self) -> Budgets {
        std::mem::take(&mut self.budgets)
    }

    pub fn put_budgets(&mut self, budgets: Budgets) {
        self.budgets = budgets;
    }

    /// Records that know more than the committed position.
    pub fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    pub fn ahead_mut(&mut self) -> &mut Ahead {
        &mut self.ahead
    }

    /// Cases that are open.
    pub fn open_cases(&self) -> usize {
        self.open_cases
    }

    /// Open cases of accounts that were only asked about, and not locked.
    pub fn questions(&self) -> usize {
        self.questions
    }

    pub fn get(&self, key: StateKey) -> Option<&Account> {
        self.accounts.get(key)
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
        let account = self.accounts.get_or_insert(key);
        if account.rest.is_none() {
            self.eras.bring(account);
            // The ordinary case: a quiet account that stays quiet.
            let changed = change(account);
            if account.rest.is_none() {
                // Nothing came of it: no place, no record, nothing for a sweep to find.
                if !account.has_learned() {
                    self.accounts.remove(key);
                }
                return changed;
            }
            account.tidy(now);
            let after = pointers(account);
            self.room.settle(account, Weight::NONE, changed);
            self.point(key, Pointers::default(), after);
            return changed;
        }
        let before = pointers(account);
        let weight = Weight::of(account);
        self.eras.bring(account);
        let mut changed = change(account);
        changed |= account.tidy(now);
        self.room.settle(account, weight, changed);
        let after = pointers(account);
        if account.rest.is_none() && !account.has_learned() {
            // Nothing is left of it; its record goes, too.
            self.accounts.remove(key);
            changed = true;
        }
        self.point(key, before, after);
        changed
    }

    /// Takes an account out, and everything that points at it.
    pub fn remove(&mut self, key: StateKey) -> Option<Account> {
        let account = self.accounts.remove(key)?;
        self.room.removed(Weight::of(&account));
        self.point(key, pointers(&account), Pointers::default());
        Some(account)
    }

    /// Puts a restored account in, in the place of what was known of it. It counts as just
    /// changed: records are restored in the order in which they were written.
    pub fn insert(&mut self, mut account: Account) {
        let key = account.key;
        account.set_era(self.eras.current());
        let held = self.accounts.get_or_insert(key);
        let before = pointers(held);
        let weight = Weight::of(held);
        *held = account;
        self.room.settle(held, weight, true);
        let after = pointers(held);
        self.point(key, before, after);
    }

    /// The rule set that `rule_set` names is at work from the next event on, and what
    /// accounts keep in their own bytes is its `residents`'. Cheap where nothing is new.
    pub fn follow(&mut self, rule_set: u64, residents: Residents) {
        if self.eras.is_at(rule_set) {
            return;
        }
        if self.eras.begin(rule_set, residents) == Begun::Full {
            for key in self.accounts.keys() {
                let account = self.accounts.get_or_insert(key);
                let weight = Weight::of(account);
                self.eras.bring(account);
                self.room.settle(account, weight, false);
            }
            self.eras.only_current();
            for key in self.accounts.keys() {
                self.accounts.get_or_insert(key).set_era(0);
            }
        }
    }

    /// The durable record of `key`; `None` where nothing is worth keeping.
    pub fn encode(&self, key: StateKey) -> Option<Vec<u8>> {
        let account = self.get(key)?;
        codec::encode_account(account, self.eras.residents_of(account))
    }

    /// Takes the durable record of `key` back.
    ///
    /// # Errors
    /// Where the bytes are damaged or of a version that this program does not know.
    pub fn decode(&mut self, key: StateKey, bytes: &[u8]) -> Result<(), StateError> {
        let account = codec::decode_account(key, bytes, self.eras.residents())?;
        self.insert(account);
        Ok(())
    }

    fn point(&mut self, key: StateKey, before: Pointers, after: Pointers) {
        if before == after {
            return;
        }
        self.open_cases = self.open_cases + after.open - before.open;
        self.questions =
            self.questions + usize::from(after.question) - usize::from(before.question);
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

    /// Makes room where too much could be forgotten, and looks at a few accounts, whether
    /// something in them has run out. Called after each event; what it does is bounded.
    pub fn note_time(&mut self, engine: &Engine, now: Timestamp, out: &mut Outputs) {
        self.eras.note_time(now);
        if self.room.forgettable() > engine.settings().max_forgettable_bytes {
            self.make_room(engine, now, out);
        }
        let since_ms = now.since_ms(self.stepped_at);
        if since_ms >= STEP_MS {
            self.stepped_at = now;
            self.step(engine, now, since_ms, out);
        }
    }

    /// Pushes out what is worth least until the rest fits (docs/rules.md 15).
    fn make_room(&mut self, engine: &Engine, now: Timestamp, out: &mut Outputs) {
        for _ in 0..PUSHED_OUT {
            if self.room.forgettable() <= engine.settings().max_forgettable_bytes {
                return;
            }
            let Some(key) = self.room.victim() else {
                return;
            };
            if self.get(key).is_some_and(Account::has_learned) {
                self.update(key, true, now, |account| {
                    account.forget_windows();
                    true
                });
            } else {
                self.remove(key);
            }
            out.changed.push(key);
            out.counts.evicted += 1;
        }
    }

    /// One step of the round over all accounts that have a box: clears what can never
    /// matter again.
    fn step(&mut self, engine: &Engine, now: Timestamp, since_ms: i64, out: &mut Outputs) {
        let round = self.room.round() as i64;
        let due = round.saturating_mul(since_ms.min(ROUND_MS)) / ROUND_MS + 1;
        // Another instance may have a rule set that knows more, or this one get it back.
        let carries = self.eras.age_ms(now) < CARRIED_MS;
        for _ in 0..(due.min(round) as usize).min(STEP) {
            let Some(key) = self.room.look() else {
                continue;
            };
            if self
                .get(key)
                .is_some_and(|account| has_run_out(engine, account, carries, now))
            {
                self.clear_spent(engine, key, carries, now, out);
            }
        }
    }

    fn clear_spent(
        &mut self,
        engine: &Engine,
        key: StateKey,
        carries: bool,
        now: Timestamp,
        out: &mut Outputs,
    ) {
        self.update(key, true, now, |account| {
            if let Some(rest) = account.rest.as_mut() {
                // What the cut bars is too old to act on by now.
                if now.since_ms(rest.cut) > engine.settings().act_within_ms {
                    rest.cut = Timestamp(0);
                }
                rest.rules
                    .retain(|state| carries || engine.rules().knows(state.key));
                for state in &mut rest.rules {
                    if detect::is_spent(engine, state, now) {
                        state.forget_window();
                    }
                }
            }
            true
        });
        out.changed.push(key);
    }
}

/// Whether something in `account` can never matter again, or is not carried along.
fn has_run_out(engine: &Engine, account: &Account, carries: bool, now: Timestamp) -> bool {
    account.rest.as_ref().is_some_and(|rest| {
        rest.case.as_ref().is_some_and(|case| case.is_over(now))
            || rest.has_expired(now, engine.settings().act_within_ms)
            || rest.rules.iter().any(|state| {
                state.is_forgettable() && detect::is_spent(engine, state, now)
                    || !carries && !engine.rules().knows(state.key)
            })
    })
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
        question: case.is_some_and(|case| case.state == CaseState::Asked),
        deadline: earliest(account),
    }
}
