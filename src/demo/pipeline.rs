//! A login pipeline, as far as the demo needs one: who is signed in where, who is locked,
//! and what becomes of a sign-in.
//!
//! It obeys commands as docs/contract.md section 3 asks of any pipeline, an old one (a lower
//! `seq` than was seen before) not at all. Pure: times and numbers are arguments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::event::Timestamp;
use crate::record::CommandRecord;

use super::attack::PipelineEvent;
use super::people::Person;

/// Sessions and known addresses that are kept of one account.
const KEPT: usize = 8;

/// What the pipeline knows of one account.
#[derive(Debug, Default)]
struct Account {
    lock: Option<Lock>,
    /// The case whose owner must set a new password.
    must_change: Option<String>,
    sessions: VecDeque<String>,
    /// Addresses that signed in while the account was not locked.
    familiar: BTreeSet<IpAddr>,
    last_seq: Option<i64>,
}

/// Whom a lock keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Everybody,
    /// Everybody but those who had signed in before.
    Unfamiliar,
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// The account was not locked before and is now.
    Locked,
    /// These sessions ended and must be told.
    Ended(Vec<String>),
    /// Done, or nothing to do.
    Quietly,
}

/// All accounts that anything happened to.
#[derive(Debug, Default)]
pub struct Pipeline {
    accounts: BTreeMap<String, Account>,
}

impl Pipeline {
    /// What becomes of `person`'s, or a thief's, sign-in from `ip` with the right password:
    /// a session, or a refusal where the account is locked.
    pub fn sign_in(
        &mut self,
        person: &Person,
        ip: IpAddr,
        device: &'static str,
        id: String,
        now: Timestamp,
    ) -> PipelineEvent {
        let session = format!("s-{id}");
        let base = PipelineEvent {
            ip: Some(ip),
            method: Some("password"),
            user_agent: Some(device),
            ..PipelineEvent::new(id, "login", person, now)
        };
        if self.refuses(&person.account, ip) {
            return PipelineEvent {
                outcome: Some("failure"),
                reason: Some("account_locked"),
                ..base
            };
        }
        self.signed_in(&person.account, ip, &session);
        PipelineEvent {
            outcome: Some("success"),
            session: Some(session),
            ..base
        }
    }

    /// Remembers a session that began.
    pub fn signed_in(&mut self, account: &str, ip: IpAddr, session: &str) {
        let account = self.accounts.entry(account.to_owned()).or_default();
        while account.sessions.len() >= KEPT {
            account.sessions.pop_front();
        }
        account.sessions.push_back(session.to_owned());
        if account.familiar.len() < KEPT {
            account.familiar.insert(ip);
        }
    }

    /// Whether the account's lock keeps `ip` out.
    pub fn refuses(&self, account: &str, ip: IpAddr) -> bool {
        let Some(account) = self.accounts.get(account) else {
            return false;
        };
        match account.lock {
            Some(Lock::Everybody) => true,
            Some(Lock::Unfamiliar) => !account.familiar.contains(&ip),
            None => false,
        }
    }

    pub fn is_locked(&self, account: &str) -> bool {
        self.accounts
            .get(account)
            .is_some_and(|account| account.lock.is_some())
    }

    /// Does what `command` says.
    pub fn obey(&mut self, command: &CommandRecord) -> Obeyed {
        let account = self.accounts.entry(command.account.clone()).or_default();
        if account.last_seq.is_some_and(|last| command.seq < last) {
            return Obeyed::Quietly;
        }
        account.last_seq = Some(command.seq);
        match command.command.as_str() {
            "lock_account" => {
                let before = account.lock.replace(match command.scope.as_deref() {
                    Some("unfamiliar") => Lock::Unfamiliar,
                    _ => Lock::Everybody,
                });
                account.sessions.retain(|s| !command.sessions.contains(s));
                match before {
                    None => Obeyed::Locked,
                    Some(_) => Obeyed::Quietly,
                }
            }
            "unlock_account" => {
                account.lock = None;
                account.must_change = None;
                Obeyed::Quietly
            }
            "revoke_sessions" => {
                // Whoever was familiar before may have been the thief.
                account.familiar.clear();
                Obeyed::Ended(account.sessions.drain(..).collect())
            }
            "require_password_change" => {
                account.must_change.clone_from(&command.case);
                Obeyed::Quietly
            }
            _ => Obeyed::Quietly,
        }
    }

    /// The account whose owner must set a new password because of `case`.
    pub fn waiting(&self, case: &str) -> Option<&str> {
        self.accounts
            .iter()
            .find(|(_, account)| account.must_change.as_deref() == Some(case))
            .map(|(id, _)| id.as_str())
    }

    /// The newest case that waits for a new password, where there is exactly one.
    pub fn only_waiting(&self) -> Option<(&str, &str)> {
        let mut waiting = self
            .accounts
            .iter()
            .filter_map(|(id, account)| Some((account.must_change.as_deref()?, id.as_str())));
        let first = waiting.next()?;
        waiting.next().is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::Country;
    use crate::record::SourceRecord;

    const THIEF: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

    fn owner() -> Person {
        Person {
            account: "u-1".into(),
            email: "u-1@mail.example".into(),
            home: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            country: Country::parse("DE").expect("a country"),
            device: "",
            locale: "en",
        }
    }

    fn command(seq: i64, command: &str, scope: Option<&str>) -> CommandRecord {
        CommandRecord {
            schema: 1,
            id: format!("c-{seq}"),
            seq,
            command: command.into(),
            account: "u-1".into(),
            case: Some("k-1".into()),
            time: String::new(),
            rule: None,
            rule_set: String::new(),
            reason: String::new(),
            scope: scope.map(str::to_owned),
            since: None,
            sessions: Vec::new(),
            until: None,
            evidence: Vec::new(),
            operator: None,
            source: SourceRecord {
                topic: String::new(),
                partition: 0,
                offset: 0,
            },
        }
    }

    fn outcome(pipeline: &mut Pipeline, ip: IpAddr) -> Option<&'static str> {
        let event = pipeline.sign_in(&owner(), ip, "", "e1".into(), Timestamp(0));
        event.reason.or(event.outcome)
    }

    #[test]
    fn a_lock_for_the_unfamiliar_keeps_the_thief_out_and_lets_the_owner_in() {
        let mut pipeline = Pipeline::default();
        assert_eq!(outcome(&mut pipeline, owner().home), Some("success"));
        let obeyed = pipeline.obey(&command(1, "lock_account", Some("unfamiliar")));
        assert_eq!(obeyed, Obeyed::Locked);
        assert_eq!(outcome(&mut pipeline, THIEF), Some("account_locked"));
        assert_eq!(outcome(&mut pipeline, owner().home), Some("success"));
        pipeline.obey(&command(2, "lock_account", Some("all")));
        assert_eq!(outcome(&mut pipeline, owner().home), Some("account_locked"));
        pipeline.obey(&command(3, "unlock_account", None));
        assert_eq!(outcome(&mut pipeline, owner().home), Some("success"));
    }

    #[test]
    fn a_secured_account_loses_its_sessions_and_waits_for_a_password() {
        let mut pipeline = Pipeline::default();
        pipeline.signed_in("u-1", owner().home, "s-1");
        pipeline.obey(&command(1, "lock_account", None));
        let obeyed = pipeline.obey(&command(2, "revoke_sessions", None));
        assert_eq!(obeyed, Obeyed::Ended(vec!["s-1".into()]));
        pipeline.obey(&command(3, "require_password_change", None));
        assert_eq!(pipeline.waiting("k-1"), Some("u-1"));
        pipeline.obey(&command(4, "unlock_account", None));
        assert_eq!(pipeline.waiting("k-1"), None);
    }

    #[test]
    fn an_old_command_is_old_news() {
        let mut pipeline = Pipeline::default();
        pipeline.obey(&command(16, "lock_account", None));
        pipeline.obey(&command(32, "unlock_account", None));
        pipeline.obey(&command(16, "lock_account", None));
        assert!(!pipeline.is_locked("u-1"));
    }
}
