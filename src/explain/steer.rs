//! What became of the events that steer cases: answers, requests, timers, and what the
//! pipeline says of the account.

use crate::engine::output::CaseView;
use crate::event::{Control, Event, KnownType, Timestamp};

use super::record::Steered;

/// A timer that fell due, as the shard would have published it.
pub fn timer() -> Steered {
    Steered {
        applied: true,
        what: "a timer fell due".to_owned(),
    }
}

/// What `event` said, and what it did. `case` is the account's case before it, `applied`
/// whether the engine counted an answer as applied, `changed` whether a case changed or
/// something was ordered. `None` for events that steer nothing.
pub fn steered(
    event: &Event<'_>,
    case: Option<&CaseView>,
    now: Timestamp,
    applied: bool,
    changed: bool,
) -> Option<Steered> {
    let kind = event.kind.known()?;
    let control = event.control.as_deref();
    let said = said(event, kind, control)?;
    let applied = match kind {
        KnownType::CaseResponse | KnownType::OperatorRequest => applied,
        KnownType::EmailChanged => event.previous_email.is_some(),
        KnownType::AccountDeleted => true,
        _ => changed,
    };
    let what = match (applied, kind) {
        (true, _) => said,
        (false, KnownType::CaseResponse | KnownType::OperatorRequest) => {
            format!("{said}; it did nothing: {}", why(event, control, case, now))
        }
        (false, _) => format!("{said}; no case waited for that"),
    };
    Some(Steered { applied, what })
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
        KnownType::TimerDue => "a timer fell due".to_owned(),
        KnownType::PasswordChanged => "the password was changed".to_owned(),
        KnownType::AccountUnlocked => "the pipeline unlocked the account".to_owned(),
        KnownType::EmailChanged => match event.previous_email {
            Some(_) => "the address changed; mail goes to the previous one for a while".to_owned(),
            None => "the address changed".to_owned(),
        },
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

/// Why an answer or a request did nothing, as far as the case before it tells.
fn why(
    event: &Event<'_>,
    control: Option<&Control<'_>>,
    case: Option<&CaseView>,
    now: Timestamp,
) -> String {
    let Some(case) = case else {
        return "the account had no case".to_owned();
    };
    let named = event.case.as_deref();
    if named.is_some_and(|named| *named != *case.id.0) {
        return format!("it names another case than the account's, {}", case.id);
    }
    if !case.state.is_open() {
        let (state, id) = (case.state.as_str(), &case.id);
        return format!("the case {id} was {state} already at {}", clock(now));
    }
    let control = control.map(|control| (control.verb.as_deref(), control));
    match control {
        Some((Some("me"), control)) if control.by.as_deref() != Some("owner") => {
            "only the owner can say that".to_owned()
        }
        Some((Some("me"), control)) if control.case_version != Some(case.version) => format!(
            "it answers version {} of the case, which was at version {}: what was asked had \
             changed",
            control.case_version.unwrap_or(0),
            case.version
        ),
        Some((Some("me" | "not_me"), _)) => {
            format!("the case was {} already", case.state.as_str())
        }
        _ => format!(
            "a case that is {} knows no such request",
            case.state.as_str()
        ),
    }
}

fn clock(time: Timestamp) -> String {
    super::words::clock(&time.to_string())
}
