//! What owners said of what rules did, as far as a recording tells.
//!
//! An answer names a case, and a case's id follows from account, rule and completing event.
//! So it is known what an owner said of a hit where the recording's rule set began that very
//! case, or where the answered case holds the same event. All else is only near in time: the
//! owner spoke of something else, and that is kept apart and never counted as an answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::output::{Decision, Effect};
use crate::event::{DAY_MS, HOUR_MS, Timestamp};

use super::super::parallel::Answer;

/// Hits of one rule on one account within this long are one episode, as they would be one
/// case; and an answer after this long says nothing of it (links live as long).
const EPISODE_MS: i64 = DAY_MS;
/// How long an episode waits for an answer: closed cases are kept as long.
const WAIT_MS: i64 = 3 * DAY_MS;
/// Episodes of one account that wait, and events of one that are remembered; the first ones.
const PER_ACCOUNT: usize = 64;
const EVENTS: usize = 64;
/// Accounts with episodes that wait.
const ACCOUNTS: usize = 1_000_000;

/// What an owner said. "Not me" is believed over "me".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    Me,
    NotMe,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Me => "me",
            Verdict::NotMe => "not_me",
        }
    }

    /// In the words of the mail's buttons.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Me => "this was me",
            Verdict::NotMe => "this wasn't me",
        }
    }
}

/// What an answer was about, the weakest tie first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tie {
    /// Another case of the account, within a day.
    Near,
    /// Another case, which holds the same event.
    Event,
    /// This case.
    Case,
}

impl Tie {
    pub fn as_str(self) -> &'static str {
        match self {
            Tie::Near => "near",
            Tie::Event => "event",
            Tie::Case => "case",
        }
    }
}

/// An answer, as far as it says something of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Given {
    pub tie: Tie,
    pub verdict: Verdict,
}

impl Given {
    pub fn of_case(verdict: Verdict) -> Given {
        Given {
            tie: Tie::Case,
            verdict,
        }
    }

    /// The closer one, and of two as close "not me".
    pub fn better(held: Option<Given>, new: Given) -> Given {
        held.map_or(new, |held| held.max(new))
    }
}

/// What owners said of one rule's episodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub episodes: u64,
    /// Of the case itself, or of one with the same event.
    pub me: u64,
    pub not_me: u64,
    /// Only near in time.
    pub near_me: u64,
    pub near_not_me: u64,
}

impl Heard {
    pub(super) fn add(&mut self, given: Option<Given>) {
        self.episodes += 1;
        let count = match given {
            None => return,
            Some(Given {
                tie: Tie::Near,
                verdict: Verdict::Me,
            }) => &mut self.near_me,
            Some(Given { tie: Tie::Near, .. }) => &mut self.near_not_me,
            Some(Given {
                verdict: Verdict::Me,
                ..
            }) => &mut self.me,
            Some(_) => &mut self.not_me,
        };
        *count += 1;
    }

    /// The share of answered episodes that were the owner's own doing, from 0 to 1; `None`
    /// where nobody answered.
    pub fn false_positive_rate(&self) -> Option<f64> {
        let answered = self.me + self.not_me;
        (answered > 0).then(|| self.me as f64 / answered as f64)
    }
}

/// Hits of one rule on one account that an owner would be asked about once.
#[derive(Debug)]
pub struct Episode {
    pub side: usize,
    pub rule: Arc<str>,
    pub given: Option<Given>,
    /// The case that it began or joined; `None` where nothing was done.
    case: Option<Arc<str>>,
    /// The cases that its hits would have begun.
    would_be: Vec<Arc<str>>,
    events: Vec<Box<str>>,
    first: Timestamp,
    last: Timestamp,
}

/// The id of the case that a decision would have begun: both are hashes of the same.
pub fn would_be_case(decision_id: &str) -> Arc<str> {
    Arc::from(format!("k-{}", decision_id.trim_start_matches("d-")))
}

/// Episodes that wait for an answer, and the answers so far.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: HashMap<Arc<str>, Vec<Episode>>,
    /// The account of each case of an episode that waits.
    homes: HashMap<Arc<str>, Arc<str>>,
    cases: HashMap<Box<str>, Verdict>,
    swept: Timestamp,
    /// "This was me" and "this wasn't me", heard in the stream.
    pub given: [u64; 2],
}

impl Answers {
    /// What was said of a case.
    pub fn of_case(&self, case: &str) -> Option<Verdict> {
        self.cases.get(case).copied()
    }

    /// Notes a decision; `settle` is handed what has waited long enough.
    pub fn decided(
        &mut self,
        side: usize,
        decision: &Decision,
        now: Timestamp,
        settle: impl FnMut(&Episode),
    ) {
        self.sweep(now, settle);
        let asks = match decision.effect {
            Effect::Acted | Effect::CaseOpen => decision.case.is_some(),
            Effect::Shadow | Effect::Held => true,
            Effect::Excepted | Effect::Stale | Effect::Cooldown => false,
        };
        let full = self.waiting.len() >= ACCOUNTS && !self.waiting.contains_key(&decision.account);
        if !asks || full {
            return;
        }
        let case = decision.case.as_ref().map(|case| Arc::clone(&case.0));
        let would_be = would_be_case(&decision.id);
        for case in case.iter().chain([&would_be]) {
            let account = Arc::clone(&decision.account);
            self.homes.insert(Arc::clone(case), account);
        }
        let episodes = self
            .waiting
            .entry(Arc::clone(&decision.account))
            .or_default();
        let same = episodes.iter().position(|episode| {
            episode.side == side
                && episode.rule == decision.rule
                && episode.case == case
                && (case.is_some() || now.since_ms(episode.first) < EPISODE_MS)
        });
        let events = decision
            .evidence
            .iter()
            .map(|evidence| evidence.id.clone())
            .chain([decision.event.clone()]);
        match same {
            Some(at) => {
                let episode = &mut episodes[at];
                episode.last = episode.last.max(now);
                let room = EVENTS.saturating_sub(episode.events.len());
                episode.events.extend(events.take(room));
                if episode.would_be.len() < EVENTS {
                    episode.would_be.push(would_be);
                }
            }
            None if episodes.len() < PER_ACCOUNT => episodes.push(Episode {
                side,
                rule: Arc::clone(&decision.rule),
                given: None,
                case,
                would_be: vec![would_be],
                events: events.take(EVENTS).collect(),
                first: now,
                last: now,
            }),
            None => {}
        }
    }

    /// Notes an answer; `each` is told of the account where it says something of one of its
    /// episodes.
    pub fn hear(
        &mut self,
        answer: &Answer,
        mut each: impl FnMut(&str, Given),
        settle: impl FnMut(&Episode),
    ) {
        self.sweep(answer.now, settle);
        let verdict = match (&*answer.answer, &*answer.by) {
            ("me", "owner") => Verdict::Me,
            ("not_me", _) => Verdict::NotMe,
            _ => return,
        };
        self.given[usize::from(verdict == Verdict::NotMe)] += 1;
        let held = self
            .cases
            .entry(Box::from(&*answer.case))
            .or_insert(verdict);
        *held = verdict.max(*held);
        let account = match &answer.account {
            Some(account) => Some(Arc::from(&**account)),
            None => self.homes.get(&*answer.case).cloned(),
        };
        let Some(account) = account else { return };
        let Some(episodes) = self.waiting.get_mut(&account) else {
            return;
        };
        let is_answered = |episode: &Episode| {
            episode.case.as_deref() == Some(&*answer.case)
                || episode.would_be.iter().any(|case| **case == *answer.case)
        };
        let events: HashSet<Box<str>> = episodes
            .iter()
            .filter(|episode| is_answered(episode))
            .flat_map(|episode| episode.events.iter().cloned())
            .collect();
        for episode in episodes {
            if episode.first > answer.now {
                continue;
            }
            let tie = if is_answered(episode) {
                Tie::Case
            } else if episode.events.iter().any(|event| events.contains(event)) {
                Tie::Event
            } else if answer.now.since_ms(episode.last) <= EPISODE_MS {
                Tie::Near
            } else {
                continue;
            };
            let given = Given { tie, verdict };
            episode.given = Some(Given::better(episode.given, given));
            each(&account, given);
        }
    }

    /// Hands out what still waits.
    pub fn finish(&mut self, mut settle: impl FnMut(&Episode)) {
        for episode in self.waiting.drain().flat_map(|(_, episodes)| episodes) {
            settle(&episode);
        }
        self.homes.clear();
    }

    /// Once an hour, lets go of what has waited too long.
    fn sweep(&mut self, now: Timestamp, mut settle: impl FnMut(&Episode)) {
        if now.since_ms(self.swept) < HOUR_MS {
            return;
        }
        self.swept = now;
        self.waiting.retain(|_, episodes| {
            episodes.retain(|episode| {
                let waits = now.since_ms(episode.last) <= WAIT_MS;
                if !waits {
                    settle(episode);
                }
                waits
            });
            !episodes.is_empty()
        });
        let waiting = &self.waiting;
        self.homes
            .retain(|_, account| waiting.contains_key(account));
    }
}
