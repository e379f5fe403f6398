//! The handling of one event: what it knows, and how its effects are written down.

use std::sync::Arc;

use crate::event::{Source, Timestamp};
use crate::rules::eval::Enriched;

use super::Engine;
use super::account::{Account, EmailChange};
use super::case::Case;
use super::ids::derived;
use super::mailing;
use super::output::{CaseId, Command, CommandKind, Evidence, Mail, Outputs, Scope};

/// Positions that `seq` leaves for the commands of one event.
const COMMANDS_PER_EVENT: i64 = 16;
/// Events that a command names.
const MAX_EVIDENCE_IDS: usize = 64;

/// One event being handled.
pub struct Work<'w> {
    pub engine: &'w Engine,
    pub event: &'w Enriched<'w>,
    pub source: Source,
    /// Broker time.
    pub now: Timestamp,
    pub out: &'w mut Outputs,
    pub commands_so_far: i64,
}

/// Why a command is given.
pub struct Cause<'a> {
    pub rule: Option<&'a str>,
    pub reason: &'a str,
    /// Replaces the event's id in the command's id, for timers.
    pub id: Option<&'a str>,
}

impl Work<'_> {
    /// A command about `case`, or about an account that has none.
    pub fn command(
        &mut self,
        kind: CommandKind,
        account: &str,
        case: Option<&Case>,
        cause: &Cause<'_>,
    ) {
        let event = self.event;
        let by = cause
            .rule
            .or(case.map(|case| &*case.id))
            .unwrap_or(cause.reason);
        let id = match cause.id {
            Some(id) => derived("c-", &[account, id, kind.as_str()]),
            None => derived("c-", &[account, by, &event.event.id, kind.as_str()]),
        };
        let seq = self.source.offset * COMMANDS_PER_EVENT
            + self.commands_so_far.min(COMMANDS_PER_EVENT - 1);
        self.commands_so_far += 1;
        let lock = case.filter(|_| kind == CommandKind::LockAccount);
        self.out.commands.push(Command {
            id,
            seq,
            kind,
            account: Arc::from(account),
            case: case.map(Case::case_id),
            time: event.time,
            rule: cause.rule.map(Arc::from),
            reason: Arc::from(cause.reason),
            scope: lock.map(|case| case.scope),
            since: lock.map(|case| case.since),
            sessions: lock.map_or_else(Vec::new, |case| {
                case.sessions.iter().map(|s| s.to_string()).collect()
            }),
            until: lock.and_then(|case| case.lock_until),
            evidence: case.map_or_else(Vec::new, |case| {
                case.evidence
                    .iter()
                    .rev()
                    .take(MAX_EVIDENCE_IDS)
                    .map(|e| e.id.clone())
                    .collect()
            }),
            source: self.source,
        });
    }

    /// The latest state of `case`, for `doorward.cases`. Only the last one of an event is
    /// kept.
    pub fn show(&mut self, case: &Case) {
        let view = case.view(self.source, self.engine.settings().link_valid_ms);
        self.out.cases.retain(|shown| shown.id != view.id);
        self.out.cases.push(view);
    }

    /// Mails about the account's case to everybody who is told, unless the caps say no.
    pub fn mail(&mut self, account: &mut Account, rule: &str, resend: bool) {
        let now = self.now;
        let Some(rest) = account.rest.as_mut() else {
            return;
        };
        let Some(case) = rest.case.as_deref() else {
            return;
        };
        let only_failures = case.only_failures;
        let change: Option<&EmailChange> = rest.email_change.as_ref();
        let to = mailing::recipients(case.contact.as_deref(), change, now);
        if to.is_empty() {
            self.out.counts.mail_no_address += 1;
            return;
        }
        if !mailing::may_mail(rest, only_failures, now) {
            self.out.counts.mail_capped += 1;
            return;
        }
        let Some(case) = rest.case.as_deref() else {
            return;
        };
        let template: Arc<str> = Arc::from(case.template.as_deref().unwrap_or("was_this_you"));
        let evidence: Vec<Evidence> = case.evidence.iter().rev().cloned().collect();
        let version = case.version.to_string();
        let again = if resend { &*self.event.event.id } else { "" };
        for (address, part) in to {
            self.out.mails.push(Mail {
                id: derived("m-", &[&case.id, &version, &address, again]),
                to: address,
                part,
                template: Arc::clone(&template),
                locale: case.contact.as_ref().and_then(|c| c.locale.clone()),
                account: Arc::from(&*case.account),
                partition: self.source.partition,
                case: CaseId(Arc::from(&*case.id)),
                case_version: case.version,
                rule: Arc::from(rule),
                reason: Arc::from(&*case.reason),
                locked: case.state.is_locked().then_some(case.scope),
                time: case.newest,
                evidence: evidence.clone(),
                device: case.device.clone(),
            });
        }
    }
}

/// The wider of two scopes.
pub fn wider(a: Scope, b: Scope) -> Scope {
    a.max(b)
}
