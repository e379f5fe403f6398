//! What events, answers, operators and the timer do to a recovery.

use crate::engine::account::{Account, Contact};
use crate::engine::bounce::{self, Follows};
use crate::engine::case::device_of;
use crate::engine::ids::derived;
use crate::engine::mailing;
use crate::engine::output::{CaseState, CommandKind, Evidence, RecipientPart};
use crate::engine::timer::TimerKind;
use crate::engine::trace::Declined;
use crate::engine::work::{About, Work};
use crate::event::{Control, Outcome};

use super::told::{
    known_contact, mail, recipients, resend, tell_of_refusal, tell_of_release, tell_unreached,
};
use super::{HOLD_MS, IN_A_ROW_MS, MAX_REQUESTS, REASON, RULE, Recovery};

/// The role that may recover a team account, in any letter case.
const OWNER_ROLE: &str = "owner";

/// A `recovery` event of the pipeline. `true` where the durable record changed.
pub fn event(work: &mut Work<'_>, account: &mut Account) -> bool {
    match work.event.event.outcome {
        Some(Outcome::Requested) => requested(work, account),
        Some(Outcome::Cancelled) => ended_elsewhere(work, account, CaseState::Cancelled),
        Some(Outcome::Success) => ended_elsewhere(work, account, CaseState::Released),
        // Somebody's failed try must not end the owner's recovery.
        Some(Outcome::Failure) | None => work.declined(Declined::EndsNothing),
    }
}

fn requested(work: &mut Work<'_>, account: &mut Account) -> bool {
    let (event, time, now) = (work.event.event, work.event.time, work.now);
    let Some(account_id) = event.account.as_deref() else {
        return work.declined(Declined::NoCase);
    };
    // No rule can have this name, so no case of a rule has this id.
    let id = derived("k-", &[account_id, "recovery:hold", &event.id]);
    let repeated = account.recovery().is_some_and(|held| {
        *held.id == *id || held.requests.iter().any(|request| *request.id == *event.id)
    });
    if repeated || account.has_ended(&id) {
        work.out.counts.duplicate += 1;
        return work.declined(Declined::Repeated);
    }
    let told = known_contact(work, account);
    if let Some(role) = event.role.as_deref()
        && !role.eq_ignore_ascii_case(OWNER_ROLE)
    {
        refuse(work, account_id, "not_an_owner");
        work.declined(Declined::WrongRole);
        return tell_of_refusal(work, account, &id, told.as_ref());
    }
    let request = Evidence {
        id: Box::from(&*event.id),
        time,
        ip: event.ip,
        country: work.event.country(),
    };
    if account.recovery().is_some_and(Recovery::is_open) {
        return join(work, account, request, told);
    }
    let to = recipients(account, told.as_ref(), now);
    let recoveries = account.rest_mut().recoveries.get_or_insert_default();
    // A hold that its owner cannot be told of would be no hold.
    if !to.is_empty() && !mailing::may_send(&mut recoveries.mails, 0, now) {
        work.out.counts.mail_capped += 1;
        refuse(work, account_id, "too_many_requests");
        return work.declined(Declined::TooMany);
    }
    let held = Recovery {
        id: id.into(),
        account: account_id.into(),
        state: CaseState::Held,
        version: 1,
        opened: now,
        updated: now,
        until: now.plus_ms(HOLD_MS),
        requests: vec![request],
        device: device_of(event),
        contact: told.map(Box::new),
        closed_at: None,
        disputed_at: None,
        told: !to.is_empty(),
        bounced: Vec::new(),
    };
    command(work, CommandKind::HoldRecovery, &held, REASON, false);
    work.show_view(held.view(work.source));
    if to.is_empty() {
        work.out.counts.mail_no_address += 1;
    }
    mail(work, &held, to, "");
    account.begin_recovery(held);
    true
}

/// Another request while one is held: it is named on the owner's page, and neither restarts
/// the hold nor is released with it.
fn join(
    work: &mut Work<'_>,
    account: &mut Account,
    request: Evidence,
    told: Option<Contact>,
) -> bool {
    let now = work.now;
    let to = recipients(account, told.as_ref(), now);
    let Some(recoveries) = account.rest_mut().recoveries.as_deref_mut() else {
        return false;
    };
    let Some(held) = recoveries.current.as_deref_mut() else {
        return false;
    };
    if held.requests.len() >= MAX_REQUESTS {
        work.out.counts.window_full += 1;
        return work.declined(Declined::TooMany);
    }
    held.requests.push(request);
    held.contact = told.map(Box::new).or(held.contact.take());
    held.touch(now);
    // The first one came without an address.
    let mail_now = !held.told && !to.is_empty() && mailing::may_send(&mut recoveries.mails, 0, now);
    held.told |= mail_now;
    let held = held.clone();
    work.show_view(held.view(work.source));
    if mail_now {
        mail(work, &held, to, "");
    }
    true
}

/// The pipeline says that the recovery ended without doorward: it was withdrawn, or somebody
/// completed it at a console.
fn ended_elsewhere(work: &mut Work<'_>, account: &mut Account, state: CaseState) -> bool {
    let (named, time) = (work.event.event.case.as_deref(), work.event.time);
    let Some(held) = account.recovery() else {
        return work.declined(Declined::NoCase);
    };
    let current = held.case_id();
    let misses = match named {
        Some(named) => (*named != *held.id).then_some(Declined::OtherCase { current }),
        // The echo of an earlier recovery's end must not end this one.
        None => {
            let echo = held.requests.first().is_some_and(|first| time < first.time);
            echo.then_some(Declined::Earlier { current })
        }
    };
    // What is disputed stays so: withdrawing and asking again would be a way around it.
    let ends = match held.state {
        CaseState::Held => true,
        CaseState::NeedsOperator => state == CaseState::Released,
        _ => false,
    };
    let misses = misses.or_else(|| (!ends).then_some(Declined::InState(held.state)));
    if let Some(why) = misses {
        return work.declined(why);
    }
    close(work, account, state);
    true
}

/// The owner's answer to the account's recovery.
pub fn answered(
    work: &mut Work<'_>,
    account: &mut Account,
    control: &Control<'_>,
) -> Result<(), Declined> {
    let Some(held) = account.recovery() else {
        return Err(Declined::NoCase);
    };
    let state = held.state;
    let may_stop = [RecipientPart::Owner, RecipientPart::CoOwner]
        .iter()
        .any(|part| control.by.as_deref() == Some(part.as_str()));
    match control.verb.as_deref() {
        // "This wasn't me" says the same, where a page did not know yet what it was about.
        Some("cancel_recovery" | "not_me") if !may_stop => Err(Declined::NotTheOwner),
        // Of one that is disputed there is nothing to press.
        Some("cancel_recovery" | "not_me" | "resend") if state != CaseState::Held => {
            Err(Declined::InState(state))
        }
        Some("cancel_recovery" | "not_me") => {
            stop(work, account);
            Ok(())
        }
        Some("resend") => sent(resend(work, account)),
        _ => Err(Declined::Unknown),
    }
}

/// Whether a mail could be sent again.
fn sent(again: bool) -> Result<(), Declined> {
    match again {
        true => Ok(()),
        false => Err(Declined::NobodyToTell),
    }
}

/// A mail about the account's recovery, to the address `to`, will not arrive. Who is left of
/// those that may stop it hears that it is up to them.
///
/// # Errors
/// Why there was nothing to note.
pub fn bounced(work: &mut Work<'_>, account: &mut Account, to: &str) -> Result<(), Declined> {
    let now = work.now;
    let told = match account.recovery() {
        Some(held) if held.state == CaseState::Held => {
            recipients(account, held.contact.as_deref(), now)
        }
        Some(held) => return Err(Declined::InState(held.state)),
        None => return Err(Declined::NoCase),
    };
    let recoveries = account.rest_mut().recoveries.get_or_insert_default();
    let held = recoveries.current.as_deref_mut().ok_or(Declined::NoCase)?;
    let follows = bounce::note(&mut held.bounced, &told, to, now)?;
    let held = held.clone();
    work.show_view(held.view(work.source));
    match follows {
        Follows::Nothing => {}
        Follows::Tell(left) => tell_unreached(work, &held, left),
        Follows::Nobody => work.unreached(held.case_id()),
    }
    Ok(())
}

fn stop(work: &mut Work<'_>, account: &mut Account) {
    let now = work.now;
    work.out.answers.push((RULE.into(), "cancel_recovery"));
    let recoveries = account.rest_mut().recoveries.get_or_insert_default();
    let again = recoveries
        .cancelled
        .is_some_and(|at| now.since_ms(at) < IN_A_ROW_MS);
    recoveries.cancelled = Some(now);
    if !again {
        if let Some(held) = close(work, account, CaseState::Cancelled) {
            let kind = CommandKind::CancelRecovery;
            command(work, kind, &held, "owner_cancelled", true);
        }
        return;
    }
    work.out.counts.recovery_disputed += 1;
    if let Some(held) = recoveries.current.as_deref_mut() {
        held.become_state(CaseState::NeedsOperator, now);
        let view = held.view(work.source);
        work.show_view(view);
    }
}

/// An operator's word about the account's recovery: `Some` where it is about that at all.
pub fn operator(
    work: &mut Work<'_>,
    account: &mut Account,
    request: &str,
) -> Option<Result<(), Declined>> {
    let (event, now) = (work.event.event, work.now);
    let held = account.recovery();
    let named = held.is_some_and(|held| event.case.as_deref() == Some(&*held.id));
    let fits = held.is_some_and(|held| match &event.case {
        Some(_) => named && held.was_open_at(event.time),
        None => held.was_open_at(event.time),
    });
    let state = held.filter(|_| fits).map(|held| held.state);
    match (request, state) {
        ("cancel_recovery", Some(CaseState::Held | CaseState::NeedsOperator)) => {
            if let Some(held) = close(work, account, CaseState::Cancelled) {
                let kind = CommandKind::CancelRecovery;
                command(work, kind, &held, "operator_cancelled", true);
            }
            forget_cancellations(account);
            Some(Ok(()))
        }
        ("release_recovery", Some(CaseState::NeedsOperator)) => {
            let early = held.is_some_and(|held| now < held.until);
            if early {
                // Not even an operator shortens the hold: it goes on as if undisputed.
                let recoveries = account.rest_mut().recoveries.get_or_insert_default();
                if let Some(held) = recoveries.current.as_deref_mut() {
                    held.become_state(CaseState::Held, now);
                    let view = held.view(work.source);
                    work.show_view(view);
                }
            } else if let Some(held) = close(work, account, CaseState::Released) {
                let kind = CommandKind::ReleaseRecovery;
                command(work, kind, &held, "operator_released", false);
            }
            Some(Ok(()))
        }
        ("cancel_recovery" | "release_recovery", state) => Some(Err(match (held, state) {
            (None, _) => Declined::NoCase,
            (Some(_), Some(state)) => Declined::InState(state),
            (Some(held), None) => match &event.case {
                Some(_) if !named => Declined::OtherCase {
                    current: held.case_id(),
                },
                _ => Declined::Earlier {
                    current: held.case_id(),
                },
            },
        })),
        ("resend", _) if named => {
            let state = held.map(|held| held.state);
            Some(match state {
                Some(CaseState::Held) => sent(resend(work, account)),
                other => Err(other.map_or(Declined::NoCase, Declined::InState)),
            })
        }
        _ => None,
    }
}

/// The hold's timer, read back: releases a recovery that is still held, once broker time has
/// reached its end.
pub fn due(work: &mut Work<'_>, account: &mut Account) -> bool {
    let now = work.now;
    let named = work.event.event.case.as_deref();
    let why = match account.recovery() {
        None => Some(Declined::NoCase),
        Some(held) if Some(&*held.id) != named => Some(Declined::OtherCase {
            current: held.case_id(),
        }),
        Some(held) if held.state != CaseState::Held => Some(Declined::InState(held.state)),
        Some(held) => (now < held.until).then_some(Declined::NotDue { until: held.until }),
    };
    if let Some(why) = why {
        return work.declined(why);
    }
    if let Some(held) = close(work, account, CaseState::Released) {
        work.order(
            CommandKind::ReleaseRecovery,
            About {
                account: &held.account,
                case: Some(held.case_id()),
                reason: "hold_over",
                timer: Some((TimerKind::RecoveryHold, held.until)),
                evidence: held.request_ids(false),
                ..About::default()
            },
        );
    }
    true
}

/// Ends the recovery and shows it; what was said before its end counts against no later one.
fn close(work: &mut Work<'_>, account: &mut Account, state: CaseState) -> Option<Recovery> {
    let recoveries = account.rest_mut().recoveries.as_deref_mut()?;
    let held = recoveries.current.as_deref_mut()?;
    held.become_state(state, work.now);
    let held = held.clone();
    work.show_view(held.view(work.source));
    if state == CaseState::Released {
        forget_cancellations(account);
        tell_of_release(work, account, &held);
    }
    Some(held)
}

fn forget_cancellations(account: &mut Account) {
    if let Some(recoveries) = account.rest_mut().recoveries.as_deref_mut() {
        recoveries.cancelled = None;
    }
}

/// A command about `held`, naming all of its requests or the one that is held.
fn command(work: &mut Work<'_>, kind: CommandKind, held: &Recovery, reason: &str, all: bool) {
    work.order(
        kind,
        About {
            account: &held.account,
            case: Some(held.case_id()),
            reason,
            until: (kind == CommandKind::HoldRecovery).then_some(held.until),
            evidence: held.request_ids(all),
            ..About::default()
        },
    );
}

/// Refuses the request at hand, and no other.
fn refuse(work: &mut Work<'_>, account: &str, reason: &str) {
    let evidence = vec![Box::from(&*work.event.event.id)];
    work.order(
        CommandKind::CancelRecovery,
        About {
            account,
            reason,
            evidence,
            ..About::default()
        },
    );
}
