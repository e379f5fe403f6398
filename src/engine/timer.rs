//! What falls due in an account. Nothing is set or cancelled here: every timer follows from
//! what the account's durable record holds, so that timers survive restarts and moves as
//! the record does (docs/rules.md 11).

use crate::event::Timestamp;

use super::account::Account;
use super::case::KEEP_CLOSED_MS;
use super::output::CaseState;

/// Which timer. The names stand in `timer_due` events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// A lock ends by itself.
    LockUntil,
    /// A recovery was held long enough.
    RecoveryHold,
    /// The owner of an account that is not locked did not answer for long enough.
    CaseAsked,
    /// A closed case was kept long enough: its details go.
    CaseKept,
    /// The record of a closed case leaves `doorward.cases`.
    CaseListed,
}

impl TimerKind {
    const ALL: &[TimerKind] = &[
        TimerKind::LockUntil,
        TimerKind::RecoveryHold,
        TimerKind::CaseAsked,
        TimerKind::CaseKept,
        TimerKind::CaseListed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            TimerKind::LockUntil => "lock_until",
            TimerKind::RecoveryHold => "recovery_hold",
            TimerKind::CaseAsked => "case_asked",
            TimerKind::CaseKept => "case_kept",
            TimerKind::CaseListed => "case_listed",
        }
    }

    pub fn parse(name: &str) -> Option<TimerKind> {
        TimerKind::ALL.iter().copied().find(|k| k.as_str() == name)
    }
}

/// One timer of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer<'a> {
    pub kind: TimerKind,
    /// Broker time.
    pub deadline: Timestamp,
    pub case: &'a str,
    pub account: &'a str,
}

/// Every timer of `account`, in no order.
pub fn timers(account: &Account) -> impl Iterator<Item = Timer<'_>> {
    let rest = account.rest.as_deref();
    let case = account.case();
    let recovery = account.recovery();
    let ended = rest.and_then(|rest| rest.ended.as_deref());
    let lock_until = case.and_then(|case| {
        Some(Timer {
            kind: TimerKind::LockUntil,
            deadline: case.locked_until()?,
            case: &case.id,
            account: &case.account,
        })
    });
    let asked = case.and_then(|case| {
        Some(Timer {
            kind: TimerKind::CaseAsked,
            deadline: case.asked_until()?,
            case: &case.id,
            account: &case.account,
        })
    });
    let hold = recovery
        .filter(|recovery| recovery.state == CaseState::Held)
        .map(|recovery| Timer {
            kind: TimerKind::RecoveryHold,
            deadline: recovery.until,
            case: &recovery.id,
            account: &recovery.account,
        });
    let case_kept = case.and_then(|case| kept(&case.id, &case.account, case.closed_at));
    let recovery_kept = recovery.and_then(|held| kept(&held.id, &held.account, held.closed_at));
    let listed = ended.and_then(|ended| {
        let (case, deadline) = ended.next()?;
        Some(Timer {
            kind: TimerKind::CaseListed,
            deadline,
            case,
            account: &ended.account,
        })
    });
    [lock_until, hold, asked, case_kept, recovery_kept, listed]
        .into_iter()
        .flatten()
}

fn kept<'a>(case: &'a str, account: &'a str, closed: Option<Timestamp>) -> Option<Timer<'a>> {
    Some(Timer {
        kind: TimerKind::CaseKept,
        deadline: closed?.plus_ms(KEEP_CLOSED_MS),
        case,
        account,
    })
}
