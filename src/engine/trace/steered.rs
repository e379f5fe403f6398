//! What became of an event that steers cases: an answer, an operator's request, a timer, or a
//! word of the pipeline about the account.

use crate::engine::output::{CaseId, CaseState};
use crate::event::Timestamp;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steered {
    /// It was carried out.
    Applied,
    Declined(Declined),
}

/// Why it was not carried out: the first reason at which the engine turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// It has no MAC, or none by one of the keys.
    Forged,
    /// The account has no case, or no recovery, that it could be about.
    NoCase,
    /// The case was closed more than 72 hours before.
    Over { case: CaseId },
    /// It names another one than the account's.
    OtherCase { current: CaseId },
    /// It names none, where it must.
    Unnamed { current: CaseId },
    /// The account's one began after it was said: it is old, or a copy.
    Earlier { current: CaseId },
    /// What was asked has changed since.
    OtherVersion { named: u32, current: u32 },
    /// Only the owner can say that.
    NotTheOwner,
    /// The case or recovery asks nothing of the kind in this state.
    InState(CaseState),
    /// The same was done before.
    Repeated,
    /// Another rule would have locked the account, too.
    OtherRule,
    /// Nobody is left who may be written to.
    NobodyToTell,
    /// It is about mail to an address that hears of the case no more.
    NotAddressed,
    /// More than is kept or mailed about.
    TooMany,
    /// The deadline that the account holds has not come.
    NotDue { until: Timestamp },
    /// It is older than `act_within` (docs/rules.md 4).
    TooOld,
    /// Who has another role than owner recovers no team account.
    WrongRole,
    /// A recovery that somebody failed at ends none.
    EndsNothing,
    /// It does not say what the address was before.
    NoPreviousAddress,
    /// The address before an earlier change is trusted still.
    StillGuarded,
    /// What it asks for does not exist.
    Unknown,
}

impl Declined {
    /// One word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Declined::Forged => "forged",
            Declined::NoCase => "no_case",
            Declined::Over { .. } => "over",
            Declined::OtherCase { .. } => "other_case",
            Declined::Unnamed { .. } => "unnamed",
            Declined::Earlier { .. } => "earlier",
            Declined::OtherVersion { .. } => "other_version",
            Declined::NotTheOwner => "not_the_owner",
            Declined::InState(_) => "state",
            Declined::Repeated => "repeated",
            Declined::OtherRule => "other_rule",
            Declined::NobodyToTell => "nobody_to_tell",
            Declined::NotAddressed => "not_addressed",
            Declined::TooMany => "too_many",
            Declined::NotDue { .. } => "not_due",
            Declined::TooOld => "too_old",
            Declined::WrongRole => "wrong_role",
            Declined::EndsNothing => "ends_nothing",
            Declined::NoPreviousAddress => "no_previous_address",
            Declined::StillGuarded => "still_guarded",
            Declined::Unknown => "unknown",
        }
    }
}
