//! Events that steer cases: the owner's answer, operators, timers, mails that bounced, and
//! what the pipeline says of the account. They apply in log order, never late
//! (docs/rules.md 11). What they mean for a recovery is written in [`super::recovery`].

use crate::event::wire::{self, Signed};
use crate::event::{Control, Event, KnownType, MINUTE_MS, Timestamp};

use super::account::{Account, EmailChange};
use super::bounce;
use super::case::{Case, MAX_PLACES};
use super::detect::{contact, with_seen};
use super::ids::derived;
use super::mailing::{MAIL_RECOVERED, MAIL_SECURED, MAIL_UNLOCKED, Sending};
use super::operator;
use super::output::{CaseState, CommandKind, RecipientPart, Scope};
use super::recovery::hold;
use super::steps;
use super::timer::TimerKind;
use super::trace::Declined;
use super::work::{Cause, Work};

/// Applies a control event to its account. `true` where the durable record changed.
pub fn apply(work: &mut Work<'_>, kind: KnownType, account: &mut Account) -> bool {
    // Whatever turns away says why.
    work.applied();
    match kind {
        KnownType::CaseResponse => case_response(work, account),
        KnownType::OperatorRequest => operator::apply(work, account),
        KnownType::TimerDue => timer_due(work, account),
        KnownType::MailBounced => bounce::apply(work, account),
        KnownType::PasswordChanged => password_changed(work, account),
        KnownType::AccountUnlocked => account_unlocked(work, account),
        KnownType::EmailChanged => email_changed(work, account),
        KnownType::ReportedStolen => reported_stolen(work, account),
        KnownType::Recovery => hold::event(work, account),
        KnownType::TwoFactorEnabled | KnownType::TwoFactorDisabled => {
            steps::second_factor(work, account, kind)
        }
        _ => work.declined(Declined::Unknown),
    }
}

/// Whether events of this type are looked at here at all.
pub fn is_control(kind: KnownType) -> bool {
    matches!(
        kind,
        KnownType::CaseResponse
            | KnownType::OperatorRequest
            | KnownType::TimerDue
            | KnownType::MailBounced
            | KnownType::PasswordChanged
            | KnownType::AccountUnlocked
            | KnownType::EmailChanged
            | KnownType::ReportedStolen
            | KnownType::Recovery
            | KnownType::TwoFactorEnabled
            | KnownType::TwoFactorDisabled
            | KnownType::AccountDeleted
    )
}

/// Whether the event carries a valid MAC; without keys (`replay`) every one is valid.
fn is_genuine(work: &Work<'_>) -> bool {
    let Some(keys) = &work.engine.settings().answer_keys else {
        return true;
    };
    let event: &Event<'_> = work.event.event;
    let Some(control) = &event.control else {
        return false;
    };
    let places: Vec<&str> = match event.kind.known() {
        Some(KnownType::OperatorRequest | KnownType::MailBounced) => {
            wire::details(control.rule.as_deref(), control.to.as_deref())
        }
        _ => control.places.iter().map(|place| &**place).collect(),
    };
    let signed = Signed {
        kind: event.kind.as_str(),
        id: &event.id,
        account: event.account.as_deref().unwrap_or(""),
        case: event.case.as_deref().unwrap_or(""),
        case_version: control.case_version.unwrap_or(0),
        verb: control.verb.as_deref().unwrap_or(""),
        places: &places,
        by: control.by.as_deref().unwrap_or(""),
        reason: event.reason.as_deref().unwrap_or(""),
        time: event.time,
    };
    match (&control.key_id, &control.mac) {
        (Some(key_id), Some(mac)) => keys.verify(&signed, key_id, mac),
        _ => false,
    }
}

/// What a genuine answer, request or bounce says; a forged one is counted.
pub(super) fn genuine<'e>(work: &mut Work<'_>, event: &'e Event<'_>) -> Option<&'e Control<'e>> {
    if is_genuine(work) {
        event.control.as_deref()
    } else {
        work.out.counts.answers_forged += 1;
        work.declined(Declined::Forged);
        None
    }
}

fn case_response(work: &mut Work<'_>, account: &mut Account) -> bool {
    let event = work.event.event;
    let Some(control) = genuine(work, event) else {
        return false;
    };
    let named = event.case.as_deref().unwrap_or("");
    let version = control.case_version.unwrap_or(0);
    let by_owner = control.by.as_deref() == Some(RecipientPart::Owner.as_str());
    let now = work.now;
    if account.recovery().is_some_and(|held| *held.id == *named) {
        let applied = hold::answered(work, account, control);
        return count_answer(work, applied);
    }
    let current = match current(account, now) {
        Ok(current) => current,
        Err(why) => return count_answer(work, Err(why)),
    };
    let (state, is_current) = (current.state, *current.id == *named);
    let other = Declined::OtherCase {
        current: current.case_id(),
    };
    let applied = match control.verb.as_deref() {
        // Believed whatever version was shown; it secures the account's current case, unless
        // that began after the answer was given: a copied answer stays in the log.
        Some("not_me") if !is_current && !began_before(current, event.time) => {
            Err(Declined::Earlier {
                current: current.case_id(),
            })
        }
        Some("not_me") if matches!(state, CaseState::Secured | CaseState::Recovered) => {
            Err(Declined::InState(state))
        }
        Some("not_me") => {
            note_answer(work, account, "not_me");
            secure(work, account, "owner_denied");
            work.tell(account, MAIL_SECURED);
            Ok(())
        }
        Some("me" | "rotate_keys") if !by_owner => Err(Declined::NotTheOwner),
        Some("me" | "rotate_keys" | "resend") if !is_current => Err(other),
        Some("me") if !matches!(state, CaseState::Open | CaseState::Asked) => {
            Err(Declined::InState(state))
        }
        Some("me") if current.version != version => Err(Declined::OtherVersion {
            named: version,
            current: current.version,
        }),
        Some("me") => {
            note_answer(work, account, "me");
            let ticked: Vec<&str> = control.places.iter().map(|place| &**place).collect();
            confirm(work, account, &ticked);
            Ok(())
        }
        Some("rotate_keys") => steps::rotate_keys(work, account),
        // A case that is closed asks nothing any more.
        Some("resend") if !state.is_open() => Err(Declined::InState(state)),
        Some("resend") => {
            if let Some(rule) = current.rules.first().cloned() {
                work.mail(account, &rule, Sending::Again);
            }
            Ok(())
        }
        _ => Err(Declined::Unknown),
    };
    count_answer(work, applied)
}

/// The account's case, as long as answers and requests may be about it.
pub(super) fn current(account: &Account, now: Timestamp) -> Result<&Case, Declined> {
    match account.case() {
        None => Err(Declined::NoCase),
        Some(case) if case.is_over(now) => Err(Declined::Over {
            case: case.case_id(),
        }),
        Some(case) => Ok(case),
    }
}

/// Counts an answer or a request; true where it was applied.
pub(super) fn count_answer(work: &mut Work<'_>, applied: Result<(), Declined>) -> bool {
    match applied {
        Ok(()) => {
            work.out.counts.answers_applied += 1;
            true
        }
        Err(why) => {
            work.out.counts.answers_ignored += 1;
            work.declined(why)
        }
    }
}

/// Tells metrics what the owner of a case said.
fn note_answer(work: &mut Work<'_>, account: &Account, answer: &'static str) {
    let Some(case) = account.case() else {
        return;
    };
    if let Some(rule) = case.rules.first() {
        work.out.answers.push((rule.clone(), answer));
    }
    for rule in &case.shadows {
        work.out.shadow_answers.push((rule.clone(), answer));
    }
}

/// Whether `case` was there when something was said at `time`, by another clock than the
/// broker's.
pub(super) fn began_before(case: &Case, time: Timestamp) -> bool {
    case.opened <= time.plus_ms(MINUTE_MS)
}

/// "This was me": ticked places are taught; where one is left, the lock stays.
fn confirm(work: &mut Work<'_>, account: &mut Account, ticked: &[&str]) {
    let now = work.now;
    let Some(case) = account.rest_mut().case.as_deref_mut() else {
        return;
    };
    for place in &mut case.places {
        place.known |= ticked.contains(&&*place.text);
    }
    // With a full list there may be places that nobody could tick.
    let all_listed = case.places.len() < MAX_PLACES;
    let all_known = all_listed && case.places.iter().all(|place| place.known);
    teach_places(work, account, false);
    if all_known {
        let locked = account.case().is_some_and(|case| case.state.is_locked());
        let state = if locked {
            CaseState::Unlocked
        } else {
            CaseState::Closed
        };
        close(work, account, state, "owner_confirmed", locked);
        if locked {
            work.tell(account, MAIL_UNLOCKED);
        }
    } else if let Some(case) = account.rest_mut().case.as_deref_mut() {
        case.touch(now);
        let case = case.clone();
        work.show(&case);
    }
}

/// Makes the confirmed places of the case known; all of them where `all` says so.
pub(super) fn teach_places(work: &Work<'_>, account: &mut Account, all: bool) {
    let Some(case) = account.rest_mut().case.as_deref_mut() else {
        return;
    };
    if all {
        for place in &mut case.places {
            place.known = true;
        }
    }
    let places = case.places.clone();
    let rules = work.engine.rules();
    for place in places.iter().filter(|place| place.known && place.teach) {
        let resident = rules
            .resident()
            .is_some_and(|at| rules.rules()[at].key == place.rule);
        with_seen(
            account,
            place.rule,
            place.group.as_deref(),
            resident,
            |seen| {
                seen.teach(place.value, place.time.day());
            },
        );
    }
}

/// "This wasn't me": the lock holds or comes back, sessions end, a new password is due.
fn secure(work: &mut Work<'_>, account: &mut Account, reason: &str) {
    let now = work.now;
    let Some(case) = account.rest_mut().case.as_deref_mut() else {
        return;
    };
    let lock = !case.state.is_locked() || case.scope != Scope::All || case.lock_until.is_some();
    case.scope = Scope::All;
    case.lock_until = None;
    for place in &mut case.places {
        place.known = false;
    }
    if case.since.0 == i64::MAX {
        case.since = work.event.time;
    }
    case.become_state(CaseState::Secured, now);
    let case = case.clone();
    unteach_places(work, account, &case);
    let cause = Cause {
        rule: None,
        reason,
        timer: None,
    };
    if lock {
        work.command(CommandKind::LockAccount, &case.account, Some(&case), &cause);
    }
    for kind in [
        CommandKind::RevokeSessions,
        CommandKind::RequirePasswordChange,
    ] {
        work.command(kind, &case.account, Some(&case), &cause);
    }
    work.show(&case);
}

/// What the owner denies is not known, whoever said otherwise before.
fn unteach_places(work: &Work<'_>, account: &mut Account, case: &Case) {
    let rules = work.engine.rules();
    for place in &case.places {
        let resident = rules
            .resident()
            .is_some_and(|at| rules.rules()[at].key == place.rule);
        with_seen(
            account,
            place.rule,
            place.group.as_deref(),
            resident,
            |seen| seen.forget(place.value),
        );
    }
}

/// Closes the case, sets the cut (docs/rules.md 10), and unlocks where `unlock` says so.
pub(super) fn close(
    work: &mut Work<'_>,
    account: &mut Account,
    state: CaseState,
    reason: &str,
    unlock: bool,
) {
    let now = work.now;
    let run_end = account.take_run_end();
    let rest = account.rest_mut();
    let held = rest
        .rules
        .iter()
        .filter_map(|rule| rule.entries.last())
        .map(|entry| entry.time)
        .chain(run_end)
        .max();
    let Some(case) = rest.case.as_deref_mut() else {
        return;
    };
    let lock_until = case.lock_until;
    let cut = case.newest.max(held.unwrap_or_default());
    rest.cut = rest.cut.max(cut);
    case.become_state(state, now);
    let case: Case = case.clone();
    // Everything that is held is at or before the cut and never counts again.
    for rule in &mut rest.rules {
        rule.entries.clear();
        rule.contact = None;
    }
    if unlock {
        let timer = TimerKind::LockUntil;
        let cause = Cause {
            rule: None,
            reason,
            timer: lock_until
                .filter(|_| reason == timer.as_str())
                .map(|until| (timer, until)),
        };
        work.command(
            CommandKind::UnlockAccount,
            &case.account,
            Some(&case),
            &cause,
        );
    }
    work.show(&case);
}

/// Acts only when broker time has reached the deadline that the account itself holds; the
/// event's own word for it proves nothing, and repeats do nothing.
fn timer_due(work: &mut Work<'_>, account: &mut Account) -> bool {
    let event = work.event.event;
    let timer = event
        .control
        .as_ref()
        .and_then(|control| TimerKind::parse(control.timer.as_deref()?));
    match timer {
        Some(TimerKind::LockUntil) => lock_until(work, account),
        Some(TimerKind::RecoveryHold) => hold::due(work, account),
        Some(TimerKind::CaseAsked) => unanswered(work, account),
        Some(TimerKind::CaseKept) => account.retire(work.now) || work.declined(Declined::NoCase),
        Some(TimerKind::CaseListed) => unlist(work, account) || work.declined(Declined::NoCase),
        None => work.declined(Declined::Unknown),
    }
}

/// Whether the timer at hand is of the account's case, and what it waits for, by the case's
/// own word, has come.
fn is_due(
    work: &mut Work<'_>,
    account: &Account,
    deadline: fn(&Case) -> Option<Timestamp>,
) -> bool {
    let named = work.event.event.case.as_deref();
    let why = match account.case() {
        None => Some(Declined::NoCase),
        Some(case) if Some(&*case.id) != named => Some(Declined::OtherCase {
            current: case.case_id(),
        }),
        Some(case) => match deadline(case) {
            None => Some(Declined::InState(case.state)),
            Some(until) => (work.now < until).then_some(Declined::NotDue { until }),
        },
    };
    why.is_none_or(|why| work.declined(why))
}

fn lock_until(work: &mut Work<'_>, account: &mut Account) -> bool {
    if !is_due(work, account, Case::locked_until) {
        return false;
    }
    let reason = TimerKind::LockUntil.as_str();
    close(work, account, CaseState::Unlocked, reason, true);
    work.tell(account, MAIL_UNLOCKED);
    true
}

/// Closes a question that nobody answered. Unlike [`close`] it sets no cut and clears no
/// window: nobody said that what happened was right, and it may go on.
fn unanswered(work: &mut Work<'_>, account: &mut Account) -> bool {
    if !is_due(work, account, Case::asked_until) {
        return false;
    }
    let now = work.now;
    if let Some(case) = account.rest_mut().case.as_deref_mut() {
        case.become_state(CaseState::Closed, now);
        let case = case.clone();
        work.show(&case);
    }
    true
}

/// Removes the records of cases that were closed long ago.
fn unlist(work: &mut Work<'_>, account: &mut Account) -> bool {
    let Some(ended) = account
        .rest
        .as_mut()
        .and_then(|rest| rest.ended.as_deref_mut())
    else {
        return false;
    };
    let due = ended.take_due(work.now);
    let some = !due.is_empty();
    work.out.dropped_cases.extend(due);
    some
}

/// Closes a secured case, if it names it: the thief's own reset names none.
fn password_changed(work: &mut Work<'_>, account: &mut Account) -> bool {
    let named = work.event.event.case.as_deref();
    let why = match account.case() {
        None => Some(Declined::NoCase),
        Some(case) if case.state != CaseState::Secured => Some(Declined::InState(case.state)),
        Some(case) => misses(named, case),
    };
    if let Some(why) = why {
        return work.declined(why);
    }
    let now = work.now;
    if let Some(case) = account.rest_mut().case.as_deref_mut() {
        case.steps.get_or_insert_default().password = Some(now);
    }
    close(
        work,
        account,
        CaseState::Recovered,
        "password_changed",
        true,
    );
    work.tell(account, MAIL_RECOVERED);
    true
}

/// Why an event that must name `case` does not.
fn misses(named: Option<&str>, case: &Case) -> Option<Declined> {
    let current = case.case_id();
    match named {
        None => Some(Declined::Unnamed { current }),
        Some(named) if *named != *case.id => Some(Declined::OtherCase { current }),
        Some(_) => None,
    }
}

/// The pipeline, or somebody at its console, unlocked the account. Naming the case teaches
/// its places; without a case it does not. Another case's name is old news.
fn account_unlocked(work: &mut Work<'_>, account: &mut Account) -> bool {
    let named = work.event.event.case.as_deref();
    let Some(case) = account.case() else {
        return work.declined(Declined::NoCase);
    };
    let why = match named {
        _ if !case.state.is_open() => Some(Declined::InState(case.state)),
        Some(_) => misses(named, case),
        // The echo of an earlier case's unlock must not close this one.
        None => (work.event.time < case.opened).then(|| Declined::Earlier {
            current: case.case_id(),
        }),
    };
    if let Some(why) = why {
        return work.declined(why);
    }
    let locked = case.state.is_locked();
    let state = match case.state {
        CaseState::Secured => CaseState::Recovered,
        CaseState::Asked => CaseState::Closed,
        _ => CaseState::Unlocked,
    };
    if named.is_some() {
        teach_places(work, account, true);
    }
    close(work, account, state, "account_unlocked", false);
    if locked {
        work.tell(account, MAIL_UNLOCKED);
    }
    true
}

fn email_changed(work: &mut Work<'_>, account: &mut Account) -> bool {
    let Some(previous) = work.event.event.previous_email.as_deref() else {
        return work.declined(Declined::NoPreviousAddress);
    };
    let now = work.now;
    let rest = account.rest_mut();
    // A second change within the seven days must not shift trust to the first one's address.
    let still_guarded = rest
        .email_change
        .as_ref()
        .is_some_and(|change| now.since_ms(change.at) < super::mailing::EMAIL_CHANGE_MS);
    if still_guarded {
        return work.declined(Declined::StillGuarded);
    }
    rest.email_change = Some(EmailChange {
        at: now,
        previous: previous.into(),
    });
    true
}

/// The owner says at the help desk that the account is stolen: secured at once.
fn reported_stolen(work: &mut Work<'_>, account: &mut Account) -> bool {
    let now = work.now;
    if now.since_ms(work.event.time) > work.engine.settings().act_within_ms {
        return work.declined(Declined::TooOld);
    }
    let event = work.event.event;
    let account_id = event.account.as_deref().unwrap_or("").to_owned();
    let id = derived("k-", &[&account_id, "reported_stolen", &event.id]);
    if account.case().is_some_and(|case| *case.id == *id) {
        return work.declined(Declined::Repeated);
    }
    let open = account.case().filter(|case| case.state.is_open());
    if open.is_some_and(|case| case.state == CaseState::Secured) {
        return work.declined(Declined::InState(CaseState::Secured));
    }
    if open.is_none() {
        let mut case = Case::new(id, &account_id, "reported_stolen", now);
        case.since = work.event.time;
        case.newest = work.event.time;
        case.rules.push("reported_stolen".into());
        case.contact = contact(work.event).map(Box::new);
        case.only_failures = false;
        account.begin_case(case);
    }
    secure(work, account, "reported_stolen");
    work.mail(account, "reported_stolen", Sending::First);
    true
}
