//! Whose memory stands in the accounts' own bytes, as rule sets come and go
//! (docs/rules.md 14).
//!
//! Each account says in which era it was last touched, and each era names the rules whose
//! memory stood there. A new rule set begins an era; an account is moved to it when it is
//! touched next, so that no reload waits for millions of accounts.

use crate::event::Timestamp;
use crate::rules::RuleKey;

use super::account::{Account, Entry, MAX_ERAS, Seen};
use super::codec::Residents;
use super::window;

/// The eras of one partition.
#[derive(Debug, Default)]
pub struct Eras {
    eras: Vec<Residents>,
    current: u8,
    /// The rule set at work, as the engine names it; zero: none yet.
    rule_set: u64,
    /// Broker time since which it is, here; zero until it is known.
    since: Timestamp,
}

/// What beginning an era asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Accounts follow as they are touched.
    Done,
    /// No more eras can be told apart: every account must be moved to the current one with
    /// [`Eras::bring`], and then [`Eras::only_current`] called.
    Full,
}

impl Eras {
    /// Whether the rule set `rule_set` is the one at work.
    pub fn is_at(&self, rule_set: u64) -> bool {
        self.rule_set == rule_set
    }

    /// From now on `rule_set` is at work, and its `residents` have the accounts' own bytes.
    pub fn begin(&mut self, rule_set: u64, residents: Residents) -> Begun {
        self.rule_set = rule_set;
        self.since = Timestamp(0);
        match self.eras.iter().position(|era| *era == residents) {
            Some(at) => self.current = at as u8,
            None if self.eras.len() + 1 < MAX_ERAS => {
                self.current = self.eras.len() as u8;
                self.eras.push(residents);
            }
            None => {
                self.current = self.eras.len() as u8;
                self.eras.push(residents);
                return Begun::Full;
            }
        }
        Begun::Done
    }

    /// Takes note that no account is of another era than the current one.
    pub fn only_current(&mut self) {
        self.eras = vec![self.residents()];
        self.current = 0;
    }

    /// Takes note of broker time.
    pub fn note_time(&mut self, now: Timestamp) {
        if self.since.0 == 0 {
            self.since = now;
        }
    }

    /// How long the rule set has been at work here by broker time `now`, in milliseconds.
    pub fn age_ms(&self, now: Timestamp) -> i64 {
        match self.since.0 {
            0 => 0,
            _ => now.since_ms(self.since),
        }
    }

    pub fn current(&self) -> u8 {
        self.current
    }

    /// The rules whose memory stands in accounts of the current era.
    pub fn residents(&self) -> Residents {
        self.of(self.current)
    }

    /// The same of `account`.
    pub fn residents_of(&self, account: &Account) -> Residents {
        self.of(account.era())
    }

    fn of(&self, era: u8) -> Residents {
        self.eras.get(usize::from(era)).copied().unwrap_or_default()
    }

    /// [`Self::move_on`], where the account is of an earlier era.
    #[inline]
    pub fn bring(&self, account: &mut Account) {
        if account.era() != self.current {
            self.move_on(account);
        }
    }

    /// Moves what stands in the account's own bytes to where its rule finds it in the
    /// current era, and the other way round. Nothing is lost by it.
    fn move_on(&self, account: &mut Account) {
        let (from, to) = (self.residents_of(account), self.residents());
        if from.seen != to.seen {
            unfold_seen(account, from.seen);
            if let Some(rule) = to.seen {
                fold_seen(account, rule);
            }
        }
        if from.run != to.run {
            if let Some(at) = account.take_run_end()
                && let Some(rule) = from.run
                && let Some(state) = account.rule_mut(rule, None)
            {
                window::insert(&mut state.entries, Entry::end_of_run(at));
            }
            if let Some(rule) = to.run {
                account.fold_run_end(rule);
            }
        }
        account.set_era(self.current);
    }
}

fn unfold_seen(account: &mut Account, rule: Option<RuleKey>) {
    let seen = account.take_inline();
    if seen != Seen::default()
        && let Some(rule) = rule
        && let Some(state) = account.rule_mut(rule, None)
    {
        state.seen = Some(Box::new(seen));
    }
}

fn fold_seen(account: &mut Account, rule: RuleKey) {
    if account
        .rule(rule, None)
        .is_none_or(|state| state.seen.is_none())
    {
        return;
    }
    let Some(seen) = account
        .rule_mut(rule, None)
        .and_then(|state| state.seen.take())
    else {
        return;
    };
    if let Some(too_big) = account.put_inline(*seen)
        && let Some(state) = account.rule_mut(rule, None)
    {
        state.seen = Some(Box::new(too_big));
    }
}
