//! What follows "this wasn't me": steps that the owner's page lists, and that tick themselves
//! off as events arrive. They open and close nothing; only [`rotate_keys`] orders something.

use minicbor::{Decode, Encode};

use crate::event::{KnownType, Timestamp};

use super::account::Account;
use super::case::Case;
use super::output::{CaseState, CommandKind};
use super::trace::Declined;
use super::work::{Cause, Work};

/// Broker times at which something was done, of a case that is or was secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Steps {
    /// A password change that names the case.
    #[n(0)]
    pub password: Option<Timestamp>,
    /// The second factor was switched on, and not off again.
    #[n(1)]
    pub second_factor: Option<Timestamp>,
    /// New API keys were asked for.
    #[n(2)]
    pub api_keys: Option<Timestamp>,
}

/// The account's case where its owner has said "this wasn't me", whether or not the owner is
/// back in.
fn secured(account: &mut Account, now: Timestamp) -> Option<&mut Case> {
    let case = account.rest.as_mut()?.case.as_deref_mut()?;
    let state = matches!(case.state, CaseState::Secured | CaseState::Recovered);
    (state && case.secured_at.is_some() && !case.is_over(now)).then_some(case)
}

/// The owner's own button: it breaks what runs on the old keys, so it is a step of its own,
/// and once is enough.
pub fn rotate_keys(work: &mut Work<'_>, account: &mut Account) -> Result<(), Declined> {
    let now = work.now;
    let state = account.case().map(|case| case.state);
    let Some(case) = secured(account, now) else {
        return Err(state.map_or(Declined::NoCase, Declined::InState));
    };
    let steps = case.steps.get_or_insert_default();
    if steps.api_keys.is_some() {
        return Err(Declined::Repeated);
    }
    steps.api_keys = Some(now);
    case.touch(now);
    let case = case.clone();
    let cause = Cause {
        rule: None,
        reason: "owner_denied",
        timer: None,
    };
    let kind = CommandKind::RotateApiKeys;
    work.command(kind, &case.account, Some(&case), &cause);
    work.show(&case);
    Ok(())
}

/// The second factor was switched on or off. What happened before the owner spoke, and is
/// only delivered late, may be the thief's own.
pub fn second_factor(work: &mut Work<'_>, account: &mut Account, kind: KnownType) -> bool {
    let (now, time) = (work.now, work.event.time);
    let Some(case) = secured(account, now) else {
        return work.declined(Declined::NoCase);
    };
    if case.secured_at.is_none_or(|since| time < since) {
        let current = case.case_id();
        return work.declined(Declined::Earlier { current });
    }
    let step = (kind == KnownType::TwoFactorEnabled).then_some(now);
    let held = case.steps.unwrap_or_default().second_factor;
    if held.is_some() == step.is_some() {
        return work.declined(Declined::Repeated);
    }
    case.steps.get_or_insert_default().second_factor = step;
    case.touch(now);
    let case = case.clone();
    work.show(&case);
    true
}
