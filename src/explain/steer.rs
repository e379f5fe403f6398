//! What became of the events that steer cases: answers, requests, timers, and what the
//! pipeline says of the account.

use crate::engine::trace::{Declined, Steered as Outcome, Trace};
use crate::event::{Control, Event, KnownType};

use super::record::Steered;

/// A timer that fell due, as the shard would have published it.
pub fn timer() -> Steered {
    Steered {
        applied: true,
        why: None,
        what: "a timer fell due".to_owned(),
    }
}

/// What `event` said, and what it did, as the engine wrote it down. `None` for events that
/// steer nothing.
pub fn steered(event: &Event<'_>, trace: &Trace) -> Option<Steered> {
    let kind = event.kind.known()?;
    let said = said(event, kind, event.control.as_deref())?;
    Some(match trace.steered.as_ref()? {
        Outcome::Applied => Steered {
            applied: true,
            why: None,
            what: match kind {
                KnownType::EmailChanged => {
                    format!("{said}; mail goes to the previous one for a while")
                }
                _ => said,
            },
        },
        Outcome::Declined(why) => Steered {
            applied: false,
            what: match why {
                // The pipeline hears of these, and so may the owner.
                Declined::WrongRole | Declined::TooMany => {
                    format!("{said}; it was refused: {}", reason(why, event))
                }
                _ => format!("{said}; it did nothing: {}", reason(why, event)),
            },
            why: Some(why.as_str()),
        },
    })
}

fn said(event: &Event<'_>, kind: KnownType, control: Option<&Control<'_>>) -> Option<String> {
    let verb = control.and_then(|control| control.verb.as_deref());
    let by = control.and_then(|control| control.by.as_deref());
    let text = match kind {
        KnownType::CaseResponse => {
            let who = match by {
                Some("owner") | None => "the owner",
                Some("co_owner") => "a co-owner",
                Some(_) => "somebody who was only told",
            };
            let what = match verb {
                Some("me") => "answered \"this was me\"",
                Some("not_me") => "answered \"this wasn't me\"",
                Some("resend") => "asked for the mail again",
                Some("rotate_keys") => "asked for new API keys",
                Some("cancel_recovery") => "stopped the recovery",
                _ => "gave an answer that nobody knows",
            };
            format!("{who} {what}")
        }
        KnownType::OperatorRequest => format!(
            "the operator {} asked for {}",
            by.map_or_else(|| "(unnamed)".to_owned(), super::words::shown),
            verb.map_or_else(|| "nothing".to_owned(), super::words::shown)
        ),
        KnownType::MailBounced => {
            let whose = match by {
                Some("co_owner") => "a co-owner",
                Some("notice") => "an address that is only told",
                _ => "the owner",
            };
            format!("the mail to {whose} did not arrive")
        }
        KnownType::TimerDue => "a timer fell due".to_owned(),
        KnownType::PasswordChanged => "the password was changed".to_owned(),
        KnownType::AccountUnlocked => "the pipeline unlocked the account".to_owned(),
        KnownType::EmailChanged => "the address changed".to_owned(),
        KnownType::ReportedStolen => "the owner reported the account as stolen".to_owned(),
        KnownType::Recovery => match event.outcome {
            Some(outcome) => format!("a recovery of the account: {}", outcome.as_str()),
            None => "a recovery of the account".to_owned(),
        },
        KnownType::AccountDeleted => "the account was deleted".to_owned(),
        _ => return None,
    };
    Some(text)
}

/// Why it did nothing, in words.
fn reason(why: &Declined, event: &Event<'_>) -> String {
    match why {
        Declined::Forged => "its MAC is missing, or by none of the keys".to_owned(),
        Declined::NoCase => match event.kind.known() {
            Some(KnownType::Recovery) => "no recovery of the account was held".to_owned(),
            Some(KnownType::AccountDeleted) => "nothing was known of it".to_owned(),
            _ => "the account had no case".to_owned(),
        },
        Declined::NotAddressed => "mail about the case goes to other addresses by now".to_owned(),
        Declined::Over { case } => {
            format!("the case {case} was closed more than 72 hours before")
        }
        Declined::OtherCase { current } => {
            format!("it names another case than the account's, {current}")
        }
        Declined::Unnamed { current } => {
            format!("it does not name the case {current}, which only a change for it ends")
        }
        Declined::Earlier { current } => {
            format!("the case {current} began after that was said")
        }
        Declined::OtherVersion { named, current } => format!(
            "it answers version {named} of the case, which was at version {current}: what was \
             asked had changed"
        ),
        Declined::NotTheOwner => "only the owner can say that".to_owned(),
        Declined::InState(state) => format!("the case was {} already", state.as_str()),
        Declined::Repeated => match event.kind.known() {
            Some(KnownType::MailBounced) => "that was known".to_owned(),
            _ => "the same was done before".to_owned(),
        },
        Declined::OtherRule => "another rule would have locked the account, too".to_owned(),
        Declined::NobodyToTell => "nobody could be written to".to_owned(),
        Declined::TooMany => "there were too many of them".to_owned(),
        Declined::NotDue { until } => {
            format!("it was due at {}", super::words::clock(&until.to_string()))
        }
        Declined::TooOld => "it was too old when it arrived".to_owned(),
        Declined::WrongRole => "only an owner recovers a team account".to_owned(),
        Declined::EndsNothing => "a recovery that somebody failed at ends none".to_owned(),
        Declined::NoPreviousAddress => {
            "it does not say what the address was before, so none is trusted longer".to_owned()
        }
        Declined::StillGuarded => {
            "the address before an earlier change is trusted still".to_owned()
        }
        Declined::Unknown => "there is no such request".to_owned(),
    }
}
