//! What the console shows: the last events, decisions, locks, mails and attacks.
//!
//! Takes what was seen and says what changed, as the messages that every open page gets.
//! It knows no network and no clock; every list has a cap.

mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::event::Timestamp;
use crate::record::{CaseRecord, CommandRecord, DecisionRecord};

use super::mailbox::{self, Mail};
use super::trace::{EventLine, Round, Seen, Trace, What};

pub use view::{DecisionView, EventView, LockView, RoundView, Snapshot, TrafficView, Update};

/// What is kept of each list.
const EVENTS_KEPT: usize = 40;
const DECISIONS_KEPT: usize = 100;
const LOCKS_KEPT: usize = 500;
const ROUNDS_KEPT: usize = 40;
/// Seconds of traffic that the strip shows.
pub const SECONDS_KEPT: usize = 90;

/// Events of one second, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Second {
    accepted: u32,
    refused: u32,
    other: u32,
}

/// The state of the console.
pub struct Board {
    /// Rule id to title.
    titles: BTreeMap<String, String>,
    accounts: usize,
    seconds: VecDeque<Second>,
    accepted: u64,
    refused: u64,
    other: u64,
    events: VecDeque<EventView>,
    decisions: VecDeque<DecisionView>,
    locks: BTreeMap<String, LockView>,
    mails: VecDeque<Arc<Mail>>,
    traces: VecDeque<Trace>,
}

impl Board {
    /// A board for a pipeline of `accounts` accounts and rules with these titles.
    pub fn new(accounts: usize, titles: BTreeMap<String, String>) -> Board {
        Board {
            titles,
            accounts,
            seconds: VecDeque::from([Second::default()]),
            accepted: 0,
            refused: 0,
            other: 0,
            events: VecDeque::new(),
            decisions: VecDeque::new(),
            locks: BTreeMap::new(),
            mails: VecDeque::new(),
            traces: VecDeque::new(),
        }
    }

    /// Everything, for a page that opens or comes back.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            traffic: self.traffic(),
            seconds: self
                .seconds
                .iter()
                .map(|s| [s.accepted, s.refused, s.other])
                .collect(),
            events: self.events.iter().cloned().collect(),
            decisions: self.decisions.iter().cloned().collect(),
            locks: self.lock_list(),
            mails: self.mails.iter().map(|mail| mail.view()).collect(),
            rounds: self.traces.iter().map(view::round).collect(),
        }
    }

    pub fn mail(&self, id: u64) -> Option<Arc<Mail>> {
        self.mails.iter().find(|mail| mail.id == id).cloned()
    }

    /// One second is over.
    pub fn tick(&mut self) -> Update {
        let update = Update::Traffic(self.traffic());
        push_capped(&mut self.seconds, Second::default(), SECONDS_KEPT);
        update
    }

    /// Takes in one record; what pages must be told is appended to `updates`.
    pub fn observe(&mut self, seen: &Seen, updates: &mut Vec<Update>) {
        match &seen.what {
            What::Event(event) => self.event(event, updates),
            What::Decision(decision) => self.decision(decision, updates),
            What::Command(command) => self.command(command, seen.at, updates),
            What::Case(case) => self.case(case, updates),
            What::Mail(mail) => {
                push_capped(&mut self.mails, Arc::clone(mail), mailbox::KEPT);
                updates.push(Update::Mail(mail.view()));
            }
            What::Round(round) => self.round(round, updates),
        }
        for trace in &mut self.traces {
            if trace.observe(seen) {
                updates.push(Update::Round(view::round(trace)));
            }
        }
    }

    fn event(&mut self, event: &EventLine, updates: &mut Vec<Update>) {
        let second = self.seconds.back_mut();
        let (now, total) = match (event.kind.as_str(), event.outcome.as_deref()) {
            ("login" | "two_factor", Some("success")) => {
                (second.map(|s| &mut s.accepted), &mut self.accepted)
            }
            ("login" | "two_factor", Some("failure")) => {
                (second.map(|s| &mut s.refused), &mut self.refused)
            }
            _ => (second.map(|s| &mut s.other), &mut self.other),
        };
        *total += 1;
        if let Some(now) = now {
            *now += 1;
        }
        let round = self.traces.iter().rev().map(|trace| &trace.round);
        let view = view::event(event, round);
        push_capped(&mut self.events, view.clone(), EVENTS_KEPT);
        updates.push(Update::Event(view));
    }

    fn decision(&mut self, decision: &DecisionRecord, updates: &mut Vec<Update>) {
        let view = view::decision(decision, self.titles.get(&decision.rule));
        push_capped(&mut self.decisions, view.clone(), DECISIONS_KEPT);
        updates.push(Update::Decision(view));
    }

    fn command(&mut self, command: &CommandRecord, at: Timestamp, updates: &mut Vec<Update>) {
        let changed = match command.command.as_str() {
            "lock_account" => {
                let title = command.rule.as_ref().and_then(|rule| self.titles.get(rule));
                let lock = view::lock(command, title, at);
                match self.locks.get_mut(&command.account) {
                    // A wider lock of the same case: it began when it began.
                    Some(held) => held.scope = lock.scope,
                    None => {
                        while self.locks.len() >= LOCKS_KEPT {
                            self.locks.pop_first();
                        }
                        self.locks.insert(command.account.clone(), lock);
                    }
                }
                true
            }
            "unlock_account" => self.locks.remove(&command.account).is_some(),
            _ => false,
        };
        if changed {
            updates.push(Update::Locks(self.lock_list()));
        }
    }

    fn case(&mut self, case: &CaseRecord, updates: &mut Vec<Update>) {
        if let Some(lock) = self.locks.get_mut(&case.account)
            && lock.case.as_deref() == Some(&case.id)
            && lock.state != case.state
        {
            lock.state.clone_from(&case.state);
            updates.push(Update::Locks(self.lock_list()));
        }
    }

    fn round(&mut self, round: &Arc<Round>, updates: &mut Vec<Update>) {
        let trace = Trace::new(Arc::clone(round));
        updates.push(Update::Round(view::round(&trace)));
        push_capped(&mut self.traces, trace, ROUNDS_KEPT);
    }

    fn traffic(&self) -> TrafficView {
        // The newest second is still running.
        let last: Vec<&Second> = self.seconds.iter().rev().take(10).collect();
        let events: u32 = last.iter().map(|s| s.accepted + s.refused + s.other).sum();
        let newest = self.seconds.back().copied().unwrap_or_default();
        TrafficView {
            per_second: f64::from(events) / last.len().max(1) as f64,
            second: [newest.accepted, newest.refused, newest.other],
            accounts: self.accounts,
            accepted: self.accepted,
            refused: self.refused,
            other: self.other,
            locked: self.locks.len(),
        }
    }

    /// The newest lock first.
    fn lock_list(&self) -> Vec<LockView> {
        let mut locks: Vec<LockView> = self.locks.values().cloned().collect();
        locks.sort_by_key(|lock| std::cmp::Reverse(lock.since));
        locks
    }
}

fn push_capped<T>(list: &mut VecDeque<T>, item: T, cap: usize) {
    while list.len() >= cap {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests;
