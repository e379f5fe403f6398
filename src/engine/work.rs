//! The handling of one event: what it knows, and how its effects are written down.

use std::sync::Arc;

use crate::event::{KnownType, Source, Timestamp};
use crate::rules::Rule;
use crate::rules::eval::Enriched;

use super::Engine;
use super::account::Account;
use super::budget::{self, Budgets, Taken};
use super::case::Case;
use super::ids::derived;
use super::mailing::{self, Sending};
use super::output::{
    BudgetSpent, CaseId, CaseState, CaseView, Command, CommandKind, Mail, Operator, Outputs,
    RecipientPart, Scope,
};
use super::timer::TimerKind;
use super::trace::{Declined, Said, Steered, Trace};

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
    /// The partition's, taken out of it.
    pub budgets: &'w mut Budgets,
    pub budgets_changed: bool,
    /// What [`super::Partition::questions`] was before the event.
    pub questions: usize,
    /// Where what is said of the event is written down, if anybody asked.
    pub trace: Option<&'w mut Trace>,
}

/// Why a command is given.
pub struct Cause<'a> {
    pub rule: Option<&'a str>,
    pub reason: &'a str,
    /// The timer that was due, from whose deadline the command's id comes then.
    pub timer: Option<(TimerKind, Timestamp)>,
}

/// Everything that a command says beside its kind.
#[derive(Default)]
pub struct About<'a> {
    pub account: &'a str,
    pub case: Option<CaseId>,
    pub rule: Option<&'a str>,
    pub reason: &'a str,
    pub timer: Option<(TimerKind, Timestamp)>,
    pub until: Option<Timestamp>,
    pub evidence: Vec<Box<str>>,
    /// The case that a `lock_account` is about.
    pub lock: Option<&'a Case>,
}

impl Work<'_> {
    /// Takes one lock out of the budget of `rule`; false where that is used up, which is said
    /// once in a window.
    pub fn may_lock(&mut self, rule: &Rule) -> bool {
        let limit = budget::limit(rule, self.engine.settings().partitions);
        match self.budgets.take(rule.key, limit, self.now) {
            Taken::Lock => {
                self.budgets_changed = true;
                true
            }
            Taken::Refused { first } => {
                if first {
                    self.budgets_changed = true;
                    self.out.budgets_spent.push(BudgetSpent {
                        rule: Arc::clone(&rule.id),
                        partition: self.source.partition,
                        limit,
                        until: self.budgets.window_end(),
                    });
                }
                false
            }
        }
    }

    /// Writes down what `rule` says of the event.
    pub fn note(&mut self, rule: &Rule, said: impl FnOnce() -> Said) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.push(rule, said());
        }
    }

    /// Writes down that the event, which steers cases, was carried out.
    pub fn applied(&mut self) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.steered = Some(Steered::Applied);
        }
    }

    /// Writes down why the event, which steers cases, was not carried out; false.
    pub fn declined(&mut self, why: Declined) -> bool {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.steered = Some(Steered::Declined(why));
        }
        false
    }

    /// A command about `case`, or about an account that has none.
    pub fn command(
        &mut self,
        kind: CommandKind,
        account: &str,
        case: Option<&Case>,
        cause: &Cause<'_>,
    ) {
        let lock = case.filter(|_| kind == CommandKind::LockAccount);
        self.order(
            kind,
            About {
                account,
                case: case.map(Case::case_id),
                rule: cause.rule,
                reason: cause.reason,
                timer: cause.timer,
                until: lock.and_then(|case| case.lock_until),
                evidence: case.map_or_else(Vec::new, |case| {
                    case.evidence
                        .iter()
                        .rev()
                        .take(MAX_EVIDENCE_IDS)
                        .map(|e| e.id.clone())
                        .collect()
                }),
                lock,
            },
        );
    }

    /// A command, with all that it says.
    pub fn order(&mut self, kind: CommandKind, about: About<'_>) {
        let event = self.event;
        let case = about.case.as_ref().map(|case| &*case.0);
        let id = match about.timer {
            Some((timer, deadline)) => derived(
                "c-",
                &[case.unwrap_or(""), timer.as_str(), &deadline.0.to_string()],
            ),
            None => {
                let by = about.rule.or(case).unwrap_or(about.reason);
                derived("c-", &[about.account, by, &event.event.id, kind.as_str()])
            }
        };
        let seq = self.source.offset * COMMANDS_PER_EVENT
            + self.commands_so_far.min(COMMANDS_PER_EVENT - 1);
        self.commands_so_far += 1;
        self.out.commands.push(Command {
            id,
            seq,
            kind,
            account: Arc::from(about.account),
            case: about.case,
            time: event.time,
            rule: about.rule.map(Arc::from),
            reason: Arc::from(about.reason),
            scope: about.lock.map(|case| case.scope),
            since: about.lock.map(|case| case.since),
            sessions: about.lock.map_or_else(Vec::new, |case| {
                case.sessions.iter().map(|s| s.to_string()).collect()
            }),
            until: about.until,
            evidence: about.evidence,
            operator: self.operator(),
            source: self.source,
        });
    }

    /// Who asked for what is done, where that was an operator's request, which is genuine
    /// where anything is done for it.
    fn operator(&self) -> Option<Operator> {
        let event = self.event.event;
        let control = event.control.as_deref()?;
        let asks = event.kind.known() == Some(KnownType::OperatorRequest);
        asks.then(|| Operator {
            name: control.by.as_deref().unwrap_or("").into(),
            reason: event.reason.as_deref().unwrap_or("").into(),
        })
    }

    /// The latest state of `case`, for `doorward.cases`.
    pub fn show(&mut self, case: &Case) {
        self.show_view(case.view(self.source, self.engine.settings().link_valid_ms));
    }

    /// The same for whatever has a page. Only the last one of an event is kept.
    pub fn show_view(&mut self, view: CaseView) {
        self.out.cases.retain(|shown| shown.id != view.id);
        self.out.cases.push(view);
    }

    /// Mails about the account's case to everybody who is told, unless the caps say no.
    pub fn mail(&mut self, account: &mut Account, rule: &str, sending: Sending) {
        let to = self.told(account);
        let now = self.now;
        let Some(rest) = account.rest.as_mut() else {
            return;
        };
        let Some(case) = rest.case.as_deref() else {
            return;
        };
        let only_failures = case.only_failures;
        if to.is_empty() {
            self.out.counts.mail_no_address += 1;
            return;
        }
        if !mailing::may_mail(rest, only_failures, sending, now) {
            self.out.counts.mail_capped += 1;
            return;
        }
        let Some(case) = rest.case.as_deref() else {
            return;
        };
        let mail = self.letter(case, rule);
        let again = match sending {
            Sending::First => "",
            Sending::Again => &*self.event.event.id,
        };
        self.send(to, again, &mail);
    }

    /// Tells everybody who was asked how the account's case stands by now. Nothing depends on
    /// such a mail, so the caps may silence it.
    pub fn tell(&mut self, account: &mut Account, template: &'static str) {
        let to = self.told(account);
        let now = self.now;
        let Some(rest) = account.rest.as_mut() else {
            return;
        };
        // Where a rule only locks, nobody was asked.
        let Some(case) = rest
            .case
            .as_deref()
            .filter(|case| case.template.is_some() || case.secured_at.is_some())
        else {
            return;
        };
        let rule = case.rules.first().cloned().unwrap_or_default();
        let mut mail = self.letter(case, &rule);
        mail.template = Arc::from(template);
        if to.is_empty() {
            self.out.counts.mail_no_address += 1;
        } else if mailing::may_tell(rest, now) {
            self.send(to, "", &mail);
        } else {
            self.out.counts.mail_untold += 1;
        }
    }

    /// Mails about the account's case to `to`, as an operator asked: the caps, which are
    /// there against noise, do not count. A `template` of its own has no links.
    pub fn mail_about(
        &mut self,
        account: &Account,
        template: Option<&str>,
        mut to: Vec<(Box<str>, RecipientPart)>,
    ) {
        let Some(case) = account.case() else {
            return;
        };
        if to.is_empty() {
            self.out.counts.mail_no_address += 1;
            return;
        }
        let rule = case.rules.first().map_or("", |rule| &**rule);
        let mut mail = self.letter(case, rule);
        if let Some(template) = template {
            mail.template = Arc::from(template);
            to.iter_mut()
                .for_each(|(_, part)| *part = RecipientPart::Notice);
        }
        let event = self.event;
        self.send(to, &event.event.id, &mail);
    }

    /// Tells those who are left of the account's case that its owner does not hear of it. It
    /// follows from a mail that was within the caps, once for each address, so it has none of
    /// its own.
    pub fn tell_unreached(&mut self, account: &Account, to: Vec<(Box<str>, RecipientPart)>) {
        let Some(case) = account.case() else {
            return;
        };
        let rule = case.rules.first().map_or("", |rule| &**rule);
        let mut mail = self.letter(case, rule);
        mail.template = Arc::from(match case.state {
            CaseState::Secured => mailing::MAIL_UNREACHED_SECURED,
            _ => mailing::MAIL_UNREACHED,
        });
        let event = self.event;
        self.send(to, &event.event.id, &mail);
    }

    /// Notes that nobody hears of `case`.
    pub fn unreached(&mut self, case: CaseId) {
        self.out.counts.mail_unreached += 1;
        self.out.unreached.push(case);
    }

    /// Everybody who is told about the account's case.
    pub fn told(&self, account: &Account) -> Vec<(Box<str>, RecipientPart)> {
        let Some(rest) = account.rest.as_deref() else {
            return Vec::new();
        };
        let contact = rest.case.as_ref().and_then(|case| case.contact.as_deref());
        mailing::recipients(contact, rest.email_change.as_ref(), self.now)
    }

    /// What every mail about `case` says, whoever it goes to.
    fn letter(&self, case: &Case, rule: &str) -> Mail {
        let template = match case.state {
            CaseState::Secured => mailing::MAIL_SECURED,
            _ => case.template.as_deref().unwrap_or("was_this_you"),
        };
        Mail {
            id: String::new(),
            to: Box::default(),
            part: RecipientPart::Notice,
            template: Arc::from(template),
            locale: case.contact.as_ref().and_then(|c| c.locale.clone()),
            account_name: case.contact.as_ref().and_then(|c| c.name.clone()),
            account: Arc::from(&*case.account),
            partition: self.source.partition,
            case: CaseId(Arc::from(&*case.id)),
            case_version: case.version,
            rule: Arc::from(rule),
            reason: Arc::from(&*case.reason),
            locked: case.state.is_locked().then_some(case.scope),
            time: case.newest,
            evidence: case.evidence.iter().rev().cloned().collect(),
            device: case.device.clone(),
            until: None,
        }
    }

    /// `mail` to each of `to`, with an id of its own. `again` sets one that is sent once
    /// more apart from the first.
    pub fn send(&mut self, to: Vec<(Box<str>, RecipientPart)>, again: &str, mail: &Mail) {
        let version = mail.case_version.to_string();
        for (address, part) in to {
            self.out.mails.push(Mail {
                id: derived("m-", &[&mail.case.0, &version, &address, again]),
                to: address,
                part,
                // A notice may reach a stranger.
                account_name: mail
                    .account_name
                    .clone()
                    .filter(|_| part != RecipientPart::Notice),
                ..mail.clone()
            });
        }
    }
}

/// The wider of two scopes.
pub fn wider(a: Scope, b: Scope) -> Scope {
    a.max(b)
}
