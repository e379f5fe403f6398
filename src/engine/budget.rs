//! Lock budgets (docs/rules.md 13): how many accounts a rule may lock in one partition
//! within one window, so that a rule's mistake ends before everybody is locked out.
//!
//! What was spent is the partition's own: it stands in a record of its own in
//! `doorward.state`, and goes where the partition goes.

use minicbor::{Decode, Encode};

use crate::event::{MINUTE_MS, Timestamp};
use crate::rules::{Rule, RuleKey};

/// Windows follow each other without a gap, from 1970 on, by broker time.
pub const WINDOW_MS: i64 = 5 * MINUTE_MS;
/// Locks that a rule has in each partition however many there are.
const LEAST: u32 = 3;

/// Locks of `rule` in one window of one of `partitions`. Accounts do not spread evenly, so
/// each partition has twice its share.
pub fn limit(rule: &Rule, partitions: u32) -> u32 {
    let share = u64::from(rule.lock_budget) * 2;
    let share = share.div_ceil(u64::from(partitions.max(1)));
    u32::try_from(share).unwrap_or(u32::MAX).max(LEAST)
}

/// What one partition's rules have spent in the present window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Budgets {
    /// Windows since 1970; zero where nothing was ever spent.
    #[n(0)]
    window: i64,
    #[n(1)]
    #[cbor(decode_with = "super::codec::list")]
    spent: Vec<Spent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Spent {
    #[n(0)]
    rule: RuleKey,
    #[n(1)]
    locks: u32,
    /// Whether a lock was refused in this window.
    #[n(2)]
    refused: bool,
}

/// Whether a rule may lock one more account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Lock,
    /// The budget is used up.
    Refused {
        /// The first of this rule in this window.
        first: bool,
    },
}

impl Budgets {
    /// Takes one lock out of the budget of `rule`, which is `limit`, at broker time `now`.
    pub fn take(&mut self, rule: RuleKey, limit: u32, now: Timestamp) -> Taken {
        let window = self.window_at(now);
        if window != self.window {
            self.window = window;
            self.spent.clear();
        }
        let at = match self.spent.iter().position(|spent| spent.rule == rule) {
            Some(at) => at,
            None => {
                self.spent.push(Spent {
                    rule,
                    locks: 0,
                    refused: false,
                });
                self.spent.len() - 1
            }
        };
        let spent = &mut self.spent[at];
        if spent.locks < limit {
            spent.locks += 1;
            return Taken::Lock;
        }
        let first = !spent.refused;
        spent.refused = true;
        Taken::Refused { first }
    }

    /// Locks that `rule` has left at broker time `now`, which may be a guess.
    pub fn left(&self, rule: RuleKey, limit: u32, now: Timestamp) -> u32 {
        let spent = self.spent.iter().find(|spent| spent.rule == rule);
        match spent.filter(|_| self.window_at(now) == self.window) {
            Some(spent) => limit.saturating_sub(spent.locks),
            None => limit,
        }
    }

    /// When the present window ends.
    pub fn window_end(&self) -> Timestamp {
        Timestamp((self.window + 1).saturating_mul(WINDOW_MS))
    }

    pub fn is_untouched(&self) -> bool {
        *self == Budgets::default()
    }

    /// The window of `now`. A clock that goes back a little, as it may when another broker
    /// leads, stays in the window that it left: nothing is refilled by that.
    fn window_at(&self, now: Timestamp) -> i64 {
        let window = now.0.div_euclid(WINDOW_MS);
        if window == self.window - 1 {
            self.window
        } else {
            window
        }
    }
}
