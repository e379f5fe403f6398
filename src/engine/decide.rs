//! From a hit to its effect: what is recorded, what is locked, who is mailed
//! (docs/contract.md section 4, docs/rules.md 4, 8, 10).

use std::sync::Arc;

use crate::event::Outcome;
use crate::rules::exceptions::Exception;
use crate::rules::{Detect, Mode, Rule};

use super::account::Account;
use super::case::{Addition, Case, device_of};
use super::detect::{Hit, Place, with_seen};
use super::ids::derived;
use super::mailing::Sending;
use super::output::{CaseState, CommandKind, Decision, Effect};
use super::work::{Cause, Work, wider};

/// Accounts of one partition that may be asked about at a time without being locked
/// (docs/rules.md 13). No lock budget bounds them, and an open case is never forgotten.
pub const MAX_QUESTIONS: usize = 10_000;

/// Carries out what follows from `hit`; `excepted` is the exception that covers the
/// completing event. `true` where the account's durable record changed.
pub fn decide(
    work: &mut Work<'_>,
    account: &mut Account,
    place: &Place<'_>,
    excepted: Option<&Exception>,
    mut hit: Hit,
) -> bool {
    let (rule, group, resident) = (place.rule, place.group, place.resident);
    let effect = match excepted {
        Some(_) => Effect::Excepted,
        None => effect(work, account, rule, group),
    };
    let mut changed = false;
    let account_id = work.event.event.account.as_deref().unwrap_or("").to_owned();
    let asks_owner = rule.lock.is_some() || rule.email.is_some();
    let evidence = hit.evidence.clone();
    let event_id: Box<str> = Box::from(&*work.event.event.id);
    let value = hit.value;
    match effect {
        Effect::Shadow | Effect::Stale | Effect::Excepted => {
            if let (Some(place), Detect::FirstSeen { .. }) = (&hit.place, &rule.detect)
                && place.teach
            {
                let (value, time) = (place.value, place.time);
                with_seen(account, rule.key, group, resident, |seen| {
                    seen.note_pending(value, time);
                });
                changed = true;
            }
            if effect == Effect::Shadow {
                changed |= note_shadow(account, rule);
            }
        }
        Effect::CaseOpen => {
            join(work, account, rule, &mut hit);
            changed = true;
        }
        Effect::Acted => {
            if rule.cooldown_ms > 0
                && let Some(state) = account.rule_mut(rule.key, group)
            {
                state.last_acted = work.now;
                changed = true;
            }
            if asks_owner {
                open(work, account, rule, &account_id, &mut hit);
                changed = true;
            }
        }
        Effect::Cooldown | Effect::Held => {}
    }
    let case = match effect {
        Effect::CaseOpen => account.case().map(Case::case_id),
        Effect::Acted if asks_owner => account.case().map(Case::case_id),
        _ => None,
    };
    let mut actions = Vec::new();
    if rule.lock.is_some() {
        actions.push(CommandKind::LockAccount.as_str());
    }
    if rule.email.is_some() {
        actions.push("email_user");
    }
    work.out.decisions.push(Decision {
        id: derived("d-", &[&account_id, &rule.id, &event_id]),
        time: work.event.time,
        account: Arc::from(account_id),
        rule: Arc::clone(&rule.id),
        mode: rule.mode,
        effect,
        value,
        event: event_id,
        evidence,
        actions,
        case,
        exception: excepted.map(|exception| Arc::clone(&exception.id)),
        source: work.source,
    });
    changed
}

/// The first effect that applies.
fn effect(work: &mut Work<'_>, account: &Account, rule: &Rule, group: Option<&str>) -> Effect {
    let settings = work.engine.settings();
    if work.now.since_ms(work.event.time) > settings.act_within_ms {
        return Effect::Stale;
    }
    if rule.mode == Mode::Shadow {
        return Effect::Shadow;
    }
    let asks_owner = rule.lock.is_some() || rule.email.is_some();
    if let Some(case) = account.case().filter(|case| case.state.is_open())
        && asks_owner
    {
        // What is locked already costs nothing; an account that was only asked about does.
        let locks = rule.lock.is_some() && case.state == CaseState::Asked;
        return if !locks || work.may_lock(rule) {
            Effect::CaseOpen
        } else {
            Effect::Held
        };
    }
    let cooling = account.rule(rule.key, group).is_some_and(|state| {
        state.last_acted.0 != 0 && work.now.since_ms(state.last_acted) < rule.cooldown_ms
    });
    if cooling {
        return Effect::Cooldown;
    }
    let has_room = match rule.lock {
        Some(_) => work.may_lock(rule),
        None => rule.email.is_none() || work.questions < MAX_QUESTIONS,
    };
    if !has_room {
        return Effect::Held;
    }
    Effect::Acted
}

/// A hit of a rule in shadow while a case is open: its owner's answer says whether the rule
/// was right, too.
fn note_shadow(account: &mut Account, rule: &Rule) -> bool {
    let open = |case: &&mut Box<Case>| case.state.is_open();
    let rest = account.rest.as_deref_mut();
    let case = rest.and_then(|rest| rest.case.as_mut()).filter(open);
    case.is_some_and(|case| case.note_shadow(&rule.id))
}

fn addition<'r>(work: &Work<'_>, rule: &'r Rule, hit: &mut Hit) -> Addition<'r> {
    let event = work.event.event;
    Addition {
        rule: &rule.id,
        evidence: std::mem::take(&mut hit.evidence),
        sessions: std::mem::take(&mut hit.sessions),
        place: hit.place.take(),
        device: device_of(event),
        contact: hit.contact.take(),
        // What has no outcome has happened: a second factor switched off, a code used.
        success: matches!(event.outcome, Some(Outcome::Success) | None),
    }
}

fn open(work: &mut Work<'_>, account: &mut Account, rule: &Rule, account_id: &str, hit: &mut Hit) {
    let id = derived("k-", &[account_id, &rule.id, &work.event.event.id]);
    let reason = rule
        .lock
        .as_ref()
        .map_or(&*rule.id, |lock| &*lock.reason)
        .to_owned();
    let mut case = Case::new(id, account_id, &reason, work.now);
    let addition = addition(work, rule, hit);
    case.join(addition, work.now);
    case.template = rule.email.as_deref().map(Box::from);
    let cause = Cause {
        rule: Some(&rule.id),
        reason: &reason,
        timer: None,
    };
    if let Some(lock) = &rule.lock {
        case.state = CaseState::Open;
        case.scope = lock.scope;
        case.lock_by(&rule.id, work.now);
        case.lock_until = lock.until_ms.map(|ms| work.now.plus_ms(ms));
        work.command(CommandKind::LockAccount, account_id, Some(&case), &cause);
    }
    // What a rule in shadow decided about the same event belongs to the case, too.
    for decision in &work.out.decisions {
        if decision.effect == Effect::Shadow
            && *decision.account == *account_id
            && *decision.event == *work.event.event.id
        {
            case.note_shadow(&decision.rule);
        }
    }
    work.show(&case);
    account.begin_case(case);
    if rule.email.is_some() {
        work.mail(account, &rule.id, Sending::First);
    }
}

/// A hit while a case is open: it joins (docs/rules.md 10), and a wider scope or new sessions
/// send the lock again with the union (docs/contract.md section 3).
fn join(work: &mut Work<'_>, account: &mut Account, rule: &Rule, hit: &mut Hit) {
    let addition = addition(work, rule, hit);
    let now = work.now;
    let Some(case) = account.rest_mut().case.as_deref_mut() else {
        return;
    };
    let before = case.version;
    let joined = case.join(addition, now);
    let mut lock_again = joined.new_sessions && case.state.is_locked();
    let newly_locked = rule.lock.is_some() && case.state == CaseState::Asked;
    if let Some(lock) = &rule.lock {
        case.lock_by(&rule.id, now);
        let scope = wider(
            lock.scope,
            if newly_locked { lock.scope } else { case.scope },
        );
        if newly_locked || scope != case.scope {
            case.state = match case.state {
                CaseState::Asked => CaseState::Open,
                state => state,
            };
            case.scope = scope;
            lock_again = true;
        }
        // The longer of two locks stands: one without an end outlasts every other.
        let until = lock.until_ms.map(|ms| now.plus_ms(ms));
        let longer = match (newly_locked, case.lock_until, until) {
            (true, _, until) => until,
            (false, Some(held), Some(until)) => Some(held.max(until)),
            (false, _, _) => None,
        };
        if longer != case.lock_until {
            case.lock_until = longer;
            lock_again = true;
        }
    }
    let first_mail = case.template.is_none() && rule.email.is_some();
    if case.template.is_none() {
        case.template = rule.email.as_deref().map(Box::from);
    }
    if lock_again && case.version == before {
        case.touch(now);
    }
    // The owner hears again when it got worse: somebody is in, or the account that was only
    // asked about is locked.
    let worse = joined.first_success && rule.email.is_some();
    let mail_again = (first_mail || newly_locked || worse)
        && case.template.is_some()
        && matches!(case.state, CaseState::Open | CaseState::Asked);
    if case.version == before {
        return;
    }
    let case = case.clone();
    if lock_again {
        let cause = Cause {
            rule: Some(&rule.id),
            reason: &case.reason,
            timer: None,
        };
        work.command(CommandKind::LockAccount, &case.account, Some(&case), &cause);
    }
    work.show(&case);
    if mail_again {
        work.mail(account, &rule.id, Sending::First);
    }
}
