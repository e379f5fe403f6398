//! What operators ask for (`doorward unlock`, `undo`, `resend`), and how it is remembered.
//!
//! A request is carried out or refused here, where the account's state is known; either way
//! the case notes who asked, why, and what came of it.

use minicbor::{Decode, Encode};

use crate::event::{Control, Timestamp};

use super::account::{Account, text_bytes};
use super::case::Case;
use super::control::{began_before, close, count_answer, current, genuine, teach_places};
use super::mailing::{self, MAIL_UNLOCKED};
use super::output::{CaseState, CommandKind, RecipientPart};
use super::recovery::hold;
use super::trace::Declined;
use super::work::{Cause, Work};

/// Template of the mail that says that a lock was a mistake.
pub const MAIL_UNDONE: &str = "our_mistake";
/// Requests that a case remembers; the oldest goes first.
const MAX_NOTES: usize = 8;
/// Bytes of an operator's name, of a reason and of an id that are kept.
const MAX_TEXT: usize = 512;

/// One request about a case.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Note {
    /// Id of the event.
    #[n(0)]
    pub event: Box<str>,
    #[n(1)]
    pub request: Box<str>,
    #[n(2)]
    pub operator: Box<str>,
    #[n(3)]
    pub reason: Box<str>,
    /// Broker time.
    #[n(4)]
    pub time: Timestamp,
    /// Whether it was carried out.
    #[n(5)]
    pub done: bool,
}

impl Note {
    pub fn heap_bytes(&self) -> usize {
        [&self.event, &self.request, &self.operator, &self.reason]
            .into_iter()
            .map(|text| text_bytes(text))
            .sum()
    }
}

/// A rule that asked for the lock of a case.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LockedBy {
    #[n(0)]
    pub rule: Box<str>,
    /// Broker time of its first hit.
    #[n(1)]
    pub time: Timestamp,
}

/// `text`, cut to what is kept.
fn kept(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or_default()
        .into()
}

/// Applies a genuine request to its account. `true` where the durable record changed.
pub fn apply(work: &mut Work<'_>, account: &mut Account) -> bool {
    let event = work.event.event;
    let Some(control) = genuine(work, event) else {
        return false;
    };
    let request = control.verb.as_deref().unwrap_or("");
    let now = work.now;
    if let Some(applied) = hold::operator(work, account, request) {
        return count_answer(work, applied);
    }
    let current = current(account, now);
    let is_open = current.as_ref().is_ok_and(|case| case.state.is_open());
    if request == "unlock" && event.case.is_none() && !is_open {
        // No case here, but support was asked: the pipeline may still hold a lock.
        let account_id = event.account.as_deref().unwrap_or("").to_owned();
        let cause = cause("operator_unlock");
        work.command(CommandKind::UnlockAccount, &account_id, None, &cause);
        work.out.counts.answers_applied += 1;
        return false;
    }
    let misses = match (&event.case, current) {
        (_, Err(why)) => Err(why),
        (Some(named), Ok(case)) if **named != *case.id => Err(Declined::OtherCase {
            current: case.case_id(),
        }),
        // A copied request must not open a later lock.
        (None, Ok(case)) if !began_before(case, event.time) => Err(Declined::Earlier {
            current: case.case_id(),
        }),
        (_, Ok(case)) => Ok((case.state, may_undo(case, control.rule.as_deref()))),
    };
    let (state, may_undo) = match misses {
        Ok(fits) => fits,
        Err(why) => return count_answer(work, Err(why)),
    };
    let done = match request {
        "unlock" if is_open => {
            note(work, account, control, true);
            teach_places(work, account, true);
            let was_locked = current_is_locked(account);
            end(work, account, "operator_unlock");
            if was_locked {
                work.tell(account, MAIL_UNLOCKED);
            }
            Ok(())
        }
        "undo" if may_undo.is_ok() => {
            note(work, account, control, true);
            end(work, account, "operator_undo");
            let to = work.told(account);
            work.mail_about(account, Some(MAIL_UNDONE), to);
            Ok(())
        }
        "resend" => {
            let to = match control.to.as_deref() {
                Some(address) if mailing::is_usable(address) => {
                    vec![(address.into(), RecipientPart::Owner)]
                }
                Some(_) => Vec::new(),
                None => work.told(account),
            };
            let done = !to.is_empty();
            note(work, account, control, done);
            work.mail_about(account, None, to);
            show(work, account);
            match done {
                true => Ok(()),
                false => Err(Declined::NobodyToTell),
            }
        }
        _ => {
            note(work, account, control, false);
            show(work, account);
            Err(match request {
                "unlock" => Declined::InState(state),
                "undo" => may_undo.err().unwrap_or(Declined::Unknown),
                _ => Declined::Unknown,
            })
        }
    };
    count_answer(work, done);
    // What came of it is remembered either way.
    true
}

fn current_is_locked(account: &Account) -> bool {
    account.case().is_some_and(|case| case.state.is_locked())
}

fn cause(reason: &str) -> Cause<'_> {
    Cause {
        rule: None,
        reason,
        timer: None,
    }
}

/// Whether the lock of `case` may be taken back as a mistake of `rule`. What the owner denied
/// is not undone with it, nor what another rule would have locked; of a case of an earlier
/// version it is not known which of its rules lock.
fn may_undo(case: &Case, rule: Option<&str>) -> Result<(), Declined> {
    let only = |rule: &str| match &case.locks[..] {
        [] => matches!(&case.rules[..], [only] if **only == *rule),
        locks => locks.iter().all(|lock| *lock.rule == *rule),
    };
    let state = case.state;
    match (rule, state) {
        (Some(rule), CaseState::Open) if !only(rule) => Err(Declined::OtherRule),
        (_, CaseState::Open) | (None, CaseState::Asked) => Ok(()),
        _ => Err(Declined::InState(state)),
    }
}

/// Ends the case as an operator wants it.
fn end(work: &mut Work<'_>, account: &mut Account, reason: &str) {
    let Some(before) = account.case().map(|case| case.state) else {
        return;
    };
    let state = match before {
        CaseState::Secured => CaseState::Recovered,
        CaseState::Asked => CaseState::Closed,
        _ => CaseState::Unlocked,
    };
    close(work, account, state, reason, before.is_locked());
}

fn note(work: &Work<'_>, account: &mut Account, control: &Control<'_>, done: bool) {
    let event = work.event.event;
    let Some(case) = account.rest_mut().case.as_deref_mut() else {
        return;
    };
    if case.notes.len() >= MAX_NOTES {
        case.notes.remove(0);
    }
    case.notes.push(Note {
        event: Box::from(&*event.id),
        request: kept(control.verb.as_deref().unwrap_or("")),
        operator: kept(control.by.as_deref().unwrap_or("")),
        reason: kept(event.reason.as_deref().unwrap_or("")),
        time: work.now,
        done,
    });
}

/// Shows the case as it is, in the same version: nothing of it changed for its owner.
fn show(work: &mut Work<'_>, account: &Account) {
    if let Some(case) = account.case().cloned() {
        work.show(&case);
    }
}
