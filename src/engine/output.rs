//! What the engine says: values that the shell carries to the log.
//!
//! These are the meaning; [`crate::record`] is their JSON.

use std::net::IpAddr;
use std::sync::Arc;

use super::bounce::Bounced;
use super::operator::{LockedBy, Note};
use crate::event::{Country, Source, Timestamp};

/// Everything that one input event caused, in order. The shell clears and reuses it.
#[derive(Debug, Default)]
pub struct Outputs {
    pub commands: Vec<Command>,
    pub decisions: Vec<Decision>,
    pub cases: Vec<CaseView>,
    pub mails: Vec<Mail>,
    /// State keys of accounts whose durable record changed, and must be written.
    pub changed: Vec<crate::engine::StateKey>,
    /// Cases whose time is over, or that are gone with their account: tombstones in
    /// `doorward.cases`.
    pub dropped_cases: Vec<CaseId>,
    /// Answers that were applied: the case's first rule, and what its owner said.
    pub answers: Vec<(Box<str>, &'static str)>,
    /// The same for rules in shadow whose hits fell into the case.
    pub shadow_answers: Vec<(Box<str>, &'static str)>,
    /// Rules whose lock budget ran out, each said once in a window.
    pub budgets_spent: Vec<BudgetSpent>,
    /// Exceptions that kept an event from a rule or its hit from acting, by their number in
    /// the rule set.
    pub exceptions_hit: Vec<usize>,
    /// Those that would have, had they not expired.
    pub exceptions_expired: Vec<usize>,
    /// Cases of which nobody hears: every mail about them bounced.
    pub unreached: Vec<CaseId>,
    pub counts: Counts,
    /// The records that the event was handled for: its account's, and its address's where a
    /// rule is kept by address.
    pub account: Option<crate::engine::StateKey>,
    pub address: Option<crate::engine::StateKey>,
    /// Decisions that the account's record caused; the others are the address's. Nothing else
    /// comes from an address: such rules neither lock nor mail.
    account_decisions: usize,
}

/// A rule has locked as many accounts as it may for now (docs/rules.md 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpent {
    pub rule: Arc<str>,
    pub partition: i32,
    /// Locks that it had.
    pub limit: u32,
    /// When the window ends, by broker time.
    pub until: Timestamp,
}

impl Outputs {
    pub fn clear(&mut self) {
        self.commands.clear();
        self.decisions.clear();
        self.cases.clear();
        self.mails.clear();
        self.changed.clear();
        self.dropped_cases.clear();
        self.answers.clear();
        self.shadow_answers.clear();
        self.budgets_spent.clear();
        self.exceptions_hit.clear();
        self.exceptions_expired.clear();
        self.unreached.clear();
        self.counts = Counts::default();
        (self.account, self.address) = (None, None);
        self.account_decisions = 0;
    }

    /// What follows is the address's.
    pub fn end_share(&mut self) {
        self.account_decisions = self.decisions.len();
    }

    /// The record that caused the decision number `at`.
    pub fn cause_of_decision(&self, at: usize) -> Option<crate::engine::StateKey> {
        if at < self.account_decisions {
            self.account
        } else {
            self.address
        }
    }

    /// Whether something must reach the log at once, rather than with the next commit. A hit
    /// that is held must, too: whoever handles its event again would find the partition's
    /// budgets as they were later.
    pub fn is_urgent(&self) -> bool {
        let held = |decision: &Decision| decision.effect == Effect::Held;
        !(self.commands.is_empty()
            && self.cases.is_empty()
            && self.mails.is_empty()
            && self.dropped_cases.is_empty())
            || self.decisions.iter().any(held)
    }
}

/// What happened that only metrics are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Later than docs/rules.md 3 allows.
    pub late: u32,
    /// The same id and time among the entries held (docs/rules.md 5).
    pub duplicate: u32,
    /// The same id with another time (docs/rules.md 5).
    pub id_conflict: u32,
    /// Without the field a rule groups by (docs/rules.md 9).
    pub unkeyed: u32,
    /// More than 60 s ahead of the broker's clock (docs/rules.md 2).
    pub future: u32,
    /// `first_seen: country` did not apply: no country is known for the address (docs/rules.md 8).
    pub country_unknown: u32,
    /// An entry was dropped because a window was full (docs/rules.md 15).
    pub window_full: u32,
    /// Answers, operators' requests and bounces by what became of them.
    pub answers_applied: u32,
    pub answers_ignored: u32,
    pub answers_forged: u32,
    /// Recoveries that were stopped a second time in a row, and wait for an operator.
    pub recovery_disputed: u32,
    /// Mails that were not sent: no address is known, or the account's cap is reached.
    pub mail_no_address: u32,
    pub mail_capped: u32,
    /// Mails that ask nothing, and were kept back for the sake of those that ask.
    pub mail_untold: u32,
    /// Cases and recoveries whose mails reach nobody.
    pub mail_unreached: u32,
    /// Accounts that knew no place, or windows of those that do, forgotten for want of memory
    /// (docs/rules.md 15).
    pub evicted: u32,
    /// What country look-ups of addresses said.
    pub geo_found: u32,
    pub geo_not_found: u32,
    pub geo_special: u32,
    pub geo_failed: u32,
    pub geo_no_database: u32,
}

/// Why something was decided: one event that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub id: Box<str>,
    pub time: Timestamp,
    pub ip: Option<IpAddr>,
    pub country: Option<Country>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandKind {
    LockAccount,
    UnlockAccount,
    RequirePasswordChange,
    RevokeSessions,
    RotateApiKeys,
    HoldRecovery,
    ReleaseRecovery,
    CancelRecovery,
}

impl CommandKind {
    pub const ALL: &[CommandKind] = &[
        CommandKind::LockAccount,
        CommandKind::UnlockAccount,
        CommandKind::RequirePasswordChange,
        CommandKind::RevokeSessions,
        CommandKind::RotateApiKeys,
        CommandKind::HoldRecovery,
        CommandKind::ReleaseRecovery,
        CommandKind::CancelRecovery,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CommandKind::LockAccount => "lock_account",
            CommandKind::UnlockAccount => "unlock_account",
            CommandKind::RequirePasswordChange => "require_password_change",
            CommandKind::RevokeSessions => "revoke_sessions",
            CommandKind::RotateApiKeys => "rotate_api_keys",
            CommandKind::HoldRecovery => "hold_recovery",
            CommandKind::ReleaseRecovery => "release_recovery",
            CommandKind::CancelRecovery => "cancel_recovery",
        }
    }
}

/// How much of an account a lock covers (docs/contract.md section 3). `All` is the wider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Unfamiliar,
    #[default]
    All,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Unfamiliar => "unfamiliar",
            Scope::All => "all",
        }
    }
}

/// An order to the login pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// `c-` and a hash of the cause: the same cause gives the same id for ever.
    pub id: String,
    /// Rises per account.
    pub seq: i64,
    pub kind: CommandKind,
    pub account: Arc<str>,
    pub case: Option<CaseId>,
    /// Of the completing event, or of the answer.
    pub time: Timestamp,
    pub rule: Option<Arc<str>>,
    /// Why, as the rule names it, or `owner_confirmed`, `owner_denied`, `expired`, …
    pub reason: Arc<str>,
    /// The next three are for `lock_account`.
    pub scope: Option<Scope>,
    pub since: Option<Timestamp>,
    pub sessions: Vec<String>,
    /// When the lock ends by itself, or when a held recovery is released at the earliest.
    pub until: Option<Timestamp>,
    /// Ids of the events that counted; of a recovery, those of the requests.
    pub evidence: Vec<Box<str>>,
    /// Who asked for it, and why, where an operator did.
    pub operator: Option<Operator>,
    pub source: Source,
}

/// An operator's word for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub name: Box<str>,
    pub reason: Box<str>,
}

/// What became of a hit: the first that applies (docs/contract.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    Excepted,
    Stale,
    Shadow,
    CaseOpen,
    Cooldown,
    /// The rule's lock budget is used up; of a rule that only mails, too many accounts of the
    /// partition have been asked about and not answered (docs/rules.md 13).
    Held,
    Acted,
}

impl Effect {
    pub const ALL: &[Effect] = &[
        Effect::Excepted,
        Effect::Stale,
        Effect::Shadow,
        Effect::CaseOpen,
        Effect::Cooldown,
        Effect::Held,
        Effect::Acted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Excepted => "excepted",
            Effect::Stale => "stale",
            Effect::Shadow => "shadow",
            Effect::CaseOpen => "case_open",
            Effect::Cooldown => "cooldown",
            Effect::Held => "held",
            Effect::Acted => "acted",
        }
    }
}

/// One hit of one rule, acted on or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// `d-` and a hash of (account, rule, id of the completing event).
    pub id: String,
    /// Event time of the completing event.
    pub time: Timestamp,
    pub account: Arc<str>,
    pub rule: Arc<str>,
    pub mode: crate::rules::Mode,
    pub effect: Effect,
    /// What was counted: events, distinct values, the length of the streak; 1 otherwise.
    pub value: u32,
    /// Id of the completing event.
    pub event: Box<str>,
    pub evidence: Vec<Evidence>,
    /// The actions that the rule asks for, by name.
    pub actions: Vec<&'static str>,
    pub case: Option<CaseId>,
    /// Why it is [`Effect::Excepted`].
    pub exception: Option<Arc<str>>,
    pub source: Source,
}

/// `k-` and a hash of (account, rule, id of the completing event).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaseId(pub Arc<str>);

impl std::fmt::Display for CaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CaseState {
    /// Locked, the owner asked.
    Open,
    /// Not locked, the owner asked.
    Asked,
    /// "This was me", or an operator, or the lock's end.
    Unlocked,
    /// "This wasn't me": locked until a password change that names the case.
    Secured,
    /// The owner is back in.
    Recovered,
    /// An asked case that the owner answered with "me", an operator ended, or nobody answered.
    Closed,
    /// A recovery that waits for its end, or for its owner to stop it.
    Held,
    /// A recovery that was stopped a second time in a row: an operator decides.
    NeedsOperator,
    /// A recovery that went through.
    Released,
    /// A recovery that was stopped.
    Cancelled,
}

impl CaseState {
    pub const ALL: &[CaseState] = &[
        CaseState::Open,
        CaseState::Asked,
        CaseState::Unlocked,
        CaseState::Secured,
        CaseState::Recovered,
        CaseState::Closed,
        CaseState::Held,
        CaseState::NeedsOperator,
        CaseState::Released,
        CaseState::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            CaseState::Open => "open",
            CaseState::Asked => "asked",
            CaseState::Unlocked => "unlocked",
            CaseState::Secured => "secured",
            CaseState::Recovered => "recovered",
            CaseState::Closed => "closed",
            CaseState::Held => "held",
            CaseState::NeedsOperator => "needs_operator",
            CaseState::Released => "released",
            CaseState::Cancelled => "cancelled",
        }
    }

    pub fn parse(name: &str) -> Option<CaseState> {
        CaseState::ALL.iter().copied().find(|s| s.as_str() == name)
    }

    /// Whether hits still join this case.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            CaseState::Open | CaseState::Asked | CaseState::Secured
        )
    }

    pub fn is_locked(self) -> bool {
        matches!(self, CaseState::Open | CaseState::Secured)
    }

    /// Whether it is a state of recoveries, which are apart from cases.
    pub fn is_recovery(self) -> bool {
        matches!(
            self,
            CaseState::Held | CaseState::NeedsOperator | CaseState::Released | CaseState::Cancelled
        )
    }
}

/// A place that the owner can tick in "this was me".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The judged value, as the page posts it back: `country:BR`.
    pub value: Box<str>,
    /// When it was seen.
    pub time: Timestamp,
    /// Whether the owner has ticked it.
    pub known: bool,
}

/// The latest state of a case, as the owner's page shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseView {
    pub id: CaseId,
    pub account: Arc<str>,
    pub partition: i32,
    /// Starts at 1, rises when the case grows or changes state.
    pub version: u32,
    pub state: CaseState,
    pub opened: Timestamp,
    pub updated: Timestamp,
    pub rules: Vec<Arc<str>>,
    /// The first rule's reason.
    pub reason: Arc<str>,
    pub scope: Scope,
    /// The newest first; at most [`crate::engine::MAX_CASE_EVIDENCE`].
    pub evidence: Vec<Evidence>,
    pub places: Vec<Place>,
    /// The user agent of the newest completing event that had one.
    pub device: Option<Box<str>>,
    pub locale: Option<Box<str>>,
    /// Rules that asked for the lock.
    pub locks: Vec<LockedBy>,
    /// What operators asked for, the oldest first.
    pub notes: Vec<Note>,
    /// Broker time until which "this wasn't me" is believed after an unlock, and at which
    /// the lock ends by itself, or a recovery goes through.
    pub until: Option<Timestamp>,
    /// Broker time since which it is secured.
    pub secured_at: Option<Timestamp>,
    /// What its owner has done since then.
    pub steps: super::steps::Steps,
    /// Addresses that its mails did not reach.
    pub bounced: Vec<Bounced>,
}

/// Who a mail goes to, which decides what its links may do (ARCHITECTURE.md, the owner's mail).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecipientPart {
    /// Both links.
    Owner,
    /// "This wasn't me" only.
    CoOwner,
    /// No links: an unverified address, or one that was set within the last 7 days.
    Notice,
}

impl RecipientPart {
    pub const ALL: &[RecipientPart] = &[
        RecipientPart::Owner,
        RecipientPart::CoOwner,
        RecipientPart::Notice,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            RecipientPart::Owner => "owner",
            RecipientPart::CoOwner => "co_owner",
            RecipientPart::Notice => "notice",
        }
    }

    pub fn parse(name: &str) -> Option<RecipientPart> {
        RecipientPart::ALL
            .iter()
            .copied()
            .find(|p| p.as_str() == name)
    }
}

/// A mail to send. The links are made when it is sent, so no token stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// `m-` and a hash of (case, version, recipient); the Message-ID comes from it.
    pub id: String,
    pub to: Box<str>,
    pub part: RecipientPart,
    pub template: Arc<str>,
    pub locale: Option<Box<str>>,
    /// The account's name as its owner knows it; not for a notice.
    pub account_name: Option<Box<str>>,
    pub account: Arc<str>,
    pub partition: i32,
    pub case: CaseId,
    pub case_version: u32,
    pub rule: Arc<str>,
    pub reason: Arc<str>,
    /// Whether the account was locked, and how much of it.
    pub locked: Option<Scope>,
    /// When what happened happened: the completing event.
    pub time: Timestamp,
    pub evidence: Vec<Evidence>,
    pub device: Option<Box<str>>,
    /// When the recovery that it is about goes through; its links live as long.
    pub until: Option<Timestamp>,
}
