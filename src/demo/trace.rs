//! What was seen of one attack, in the topics and in the mailbox.
//!
//! Owns the steps from the attack to the account's being free or secured. It believes only
//! records that were read back: nothing that the attacker or the page remembers counts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;
use crate::record::{CaseRecord, CommandRecord, DecisionRecord};

use super::attack::Attack;
use super::mailbox::Mail;

/// Events of the attacked account that are remembered: an attack has some five.
const MAX_EVENTS: usize = 64;

/// One record as somebody outside doorward sees it, and when it was read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// By this machine's clock.
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Event(Arc<EventLine>),
    Decision(Arc<DecisionRecord>),
    Command(Arc<CommandRecord>),
    Case(Arc<CaseRecord>),
    Mail(Arc<Mail>),
    /// An attack begins; what it leads to must be seen in the records that follow.
    Round(Arc<Round>),
}

/// The fields of an event that the console shows. Everything is optional but the type, as
/// anybody may write to the topic.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct EventLine {
    #[serde(default)]
    pub id: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    pub account: Option<String>,
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub ip: Option<String>,
    pub case: Option<String>,
    /// Of a `case_response`.
    pub answer: Option<String>,
    /// Filled in by the reader, from the country database.
    #[serde(skip)]
    pub country: Option<String>,
    /// The record's timestamp.
    #[serde(skip)]
    pub time: Timestamp,
}

/// One attack that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// `r1`, `r2`, …; the ids of its events begin with it.
    pub id: String,
    pub attack: Attack,
    pub account: String,
    pub email: String,
    /// The event that should complete the rule.
    pub completing: String,
    pub started: Timestamp,
}

/// The steps of a round, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The last event of the attack stands in `auth.events`.
    Attack,
    /// `doorward.decisions` has a decision of the expected rule that was acted on.
    Decision,
    /// `auth.commands` has the lock.
    Lock,
    /// The mailbox has the owner's mail.
    Mail,
    /// The login pipeline refused the attacker's next sign-in.
    Refused,
    /// The owner's answer stands in `auth.events`.
    Answer,
    /// `unlock_account` after "this was me".
    Unlocked,
    /// Both `revoke_sessions` and `require_password_change` after "this wasn't me".
    Secured,
    /// The password change that names the case stands in `auth.events`.
    PasswordChanged,
    /// `unlock_account` after that.
    Recovered,
}

/// What was seen of one round so far.
#[derive(Clone, Debug)]
pub struct Trace {
    pub round: Arc<Round>,
    pub case: Option<String>,
    /// `me` or `not_me`, as read back.
    pub answer: Option<String>,
    /// The case's newest state.
    pub state: Option<String>,
    pub mail: Option<Arc<Mail>>,
    /// The reason of an unlocking that no answer and no new password asked for.
    pub stray_unlock: Option<String>,
    steps: Vec<(Step, Timestamp)>,
    /// The account's events since the attack began, and when the broker had each.
    events: Vec<(String, Timestamp)>,
    /// The event that completed the rule, as the decision says. It may be an earlier one than
    /// the attack's last: what the owner got wrong before counts, too.
    completed_by: Option<String>,
    revoked: bool,
    change_required: bool,
}

impl Trace {
    pub fn new(round: Arc<Round>) -> Trace {
        Trace {
            round,
            case: None,
            answer: None,
            state: None,
            mail: None,
            stray_unlock: None,
            steps: Vec::new(),
            events: Vec::new(),
            completed_by: None,
            revoked: false,
            change_required: false,
        }
    }

    /// When `step` was seen first.
    pub fn at(&self, step: Step) -> Option<Timestamp> {
        self.steps
            .iter()
            .find(|(s, _)| *s == step)
            .map(|(_, at)| *at)
    }

    /// Milliseconds from `from` to `to`, where both were seen. Never negative: two readers
    /// of two topics may see effects before causes.
    pub fn ms(&self, from: Step, to: Step) -> Option<i64> {
        Some(self.at(to)?.since_ms(self.at(from)?).max(0))
    }

    /// Takes notice of `seen`; `true` where something of this round came to light.
    pub fn observe(&mut self, seen: &Seen) -> bool {
        match &seen.what {
            What::Event(event) => self.event(event, seen.at),
            What::Decision(decision) => self.decision(decision, seen.at),
            What::Command(command) => self.command(command, seen.at),
            What::Case(case) => self.case(case),
            What::Mail(mail) => self.mail(mail, seen.at),
            What::Round(_) => false,
        }
    }

    fn mark(&mut self, step: Step, at: Timestamp) -> bool {
        let new = self.at(step).is_none();
        if new {
            self.steps.push((step, at));
        }
        new
    }

    /// The same, whatever was marked before.
    fn mark_anew(&mut self, step: Step, at: Timestamp) {
        self.steps.retain(|(marked, _)| *marked != step);
        self.steps.push((step, at));
    }

    fn event(&mut self, event: &EventLine, at: Timestamp) -> bool {
        // The web may answer before it has read the case and then names no account.
        let mine = event.account.as_deref() == Some(&self.round.account)
            || (event.case.is_some() && event.case == self.case);
        if !mine {
            return false;
        }
        if self.events.len() < MAX_EVENTS {
            self.events.push((event.id.clone(), event.time));
        }
        match event.kind.as_str() {
            _ if event.id == self.round.completing => {
                self.time_attack();
                true
            }
            "case_response" => self.answered(event.answer.as_deref(), at),
            "login"
                if event.outcome.as_deref() == Some("failure")
                    && event.reason.as_deref() == Some("account_locked") =>
            {
                self.mark(Step::Refused, at)
            }
            "password_changed" if event.case.is_some() && event.case == self.case => {
                self.mark(Step::PasswordChanged, at)
            }
            _ => false,
        }
    }

    /// What comes of an attack is measured from when the broker had the event that completed
    /// the rule.
    fn time_attack(&mut self) {
        let by = self.completed_by.as_deref();
        let by = by.unwrap_or(&self.round.completing);
        let times = |id: &str| self.events.iter().find(|(seen, _)| seen == id);
        let time = times(by).or_else(|| times(&self.round.completing));
        if let Some((_, time)) = time.cloned() {
            self.mark_anew(Step::Attack, time);
        }
    }

    /// "Not me" may follow "me"; the result is measured from the answer that led to it.
    fn answered(&mut self, answer: Option<&str>, at: Timestamp) -> bool {
        let newer = match (answer, self.answer.as_deref()) {
            (Some("me"), None) => true,
            (Some("not_me"), before) => before != Some("not_me"),
            _ => false,
        };
        if newer {
            self.answer = answer.map(str::to_owned);
            self.mark_anew(Step::Answer, at);
        }
        newer
    }

    fn decision(&mut self, decision: &DecisionRecord, at: Timestamp) -> bool {
        if decision.account != self.round.account
            || decision.rule != self.round.attack.rule()
            || decision.effect != "acted"
        {
            return false;
        }
        self.case.clone_from(&decision.case);
        self.completed_by = Some(decision.event.clone());
        self.time_attack();
        self.mark(Step::Decision, at)
    }

    fn command(&mut self, command: &CommandRecord, at: Timestamp) -> bool {
        if command.account != self.round.account {
            return false;
        }
        match command.command.as_str() {
            "lock_account" => {
                if self.case.is_none() {
                    self.case.clone_from(&command.case);
                }
                self.mark(Step::Lock, at)
            }
            // Which of two topics is read first says nothing about what came first, so the
            // command's own reason tells which unlocking it is.
            "unlock_account" => match command.reason.as_str() {
                "owner_confirmed" => self.mark(Step::Unlocked, at),
                "password_changed" => self.mark(Step::Recovered, at),
                other => {
                    self.stray_unlock = Some(other.to_owned());
                    true
                }
            },
            "revoke_sessions" => {
                self.revoked = true;
                self.secured(at)
            }
            "require_password_change" => {
                self.change_required = true;
                self.secured(at)
            }
            _ => false,
        }
    }

    fn secured(&mut self, at: Timestamp) -> bool {
        self.revoked && self.change_required && self.mark(Step::Secured, at)
    }

    fn case(&mut self, case: &CaseRecord) -> bool {
        if case.account != self.round.account || self.state.as_deref() == Some(&case.state) {
            return false;
        }
        self.state = Some(case.state.clone());
        true
    }

    fn mail(&mut self, mail: &Arc<Mail>, at: Timestamp) -> bool {
        if !mail.recipients.iter().any(|to| *to == self.round.email) {
            return false;
        }
        self.mail = Some(Arc::clone(mail));
        self.mark(Step::Mail, at)
    }
}
