//! Recoveries in any order of events, answers, operators, timers and restarts, against a
//! model that remembers everything: no release after a stop, none before 24 hours, no two.

use std::collections::BTreeMap;

use doorward::engine::output::CommandKind;
use doorward::event::Timestamp;
use doorward::event::wire;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::config;
use crate::support::story::*;

#[derive(Clone, Debug)]
enum Step {
    /// With the same id as an earlier one, now and then.
    Request(u8),
    /// By a member of the team who is no Owner.
    Refused,
    /// Of the recovery so many before the last one.
    Stop(usize),
    Withdraw,
    Succeed,
    Fail,
    OperatorRelease,
    OperatorCancel,
    /// A timer that nobody asked for, of the recovery so many before the last one.
    Timer(usize),
    Restart,
    Delete,
}

fn step() -> impl Strategy<Value = (i64, Step)> {
    let waits = prop_oneof![
        4 => 0..90_i64,
        3 => 90..1_500_i64,
        1 => Just(1_440_i64),
        1 => 1_500..50_000_i64,
    ];
    let steps = prop_oneof![
        6 => any::<u8>().prop_map(|id| Step::Request(id % 12)),
        1 => Just(Step::Refused),
        4 => (0..3_usize).prop_map(Step::Stop),
        1 => Just(Step::Withdraw),
        1 => Just(Step::Succeed),
        1 => Just(Step::Fail),
        2 => Just(Step::OperatorRelease),
        2 => Just(Step::OperatorCancel),
        2 => (0..3_usize).prop_map(Step::Timer),
        2 => Just(Step::Restart),
        1 => Just(Step::Delete),
    ];
    (waits, steps)
}

/// What became of one recovery.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Held,
    Disputed,
    Released,
    Stopped,
}

#[derive(Clone, Debug)]
struct Told {
    request: String,
    opened: i64,
    state: State,
    closed: i64,
    joined: Vec<String>,
}

/// The obvious reading of docs/rules.md 16, which forgets nothing but what it must.
#[derive(Default)]
struct Model {
    /// All recoveries since the account was last deleted.
    all: Vec<Told>,
    stopped_at: Option<i64>,
}

impl Model {
    fn open(&mut self) -> Option<&mut Told> {
        let last = self.all.last_mut()?;
        matches!(last.state, State::Held | State::Disputed).then_some(last)
    }

    /// Hands on the release that time brings until `now`.
    fn pass(&mut self, now: i64) -> Vec<String> {
        let Some(last) = self.all.last_mut() else {
            return Vec::new();
        };
        let end = last.opened + DAY;
        if last.state != State::Held || end > now {
            return Vec::new();
        }
        (last.state, last.closed) = (State::Released, end);
        self.stopped_at = None;
        vec![format!("release_recovery {}", last.request)]
    }

    fn knows(&self, id: &str, now: i64) -> bool {
        let kept = |told: &Told, ms| {
            matches!(told.state, State::Held | State::Disputed) || now - told.closed < ms
        };
        let is_last = |at: usize| at + 1 == self.all.len();
        self.all.iter().enumerate().any(|(at, told)| {
            (told.request == id && kept(told, 30 * DAY))
                || (is_last(at) && told.joined.iter().any(|j| j == id) && kept(told, 72 * HOUR))
        })
    }

    fn take(&mut self, step: &Step, now: i64) -> Vec<String> {
        match step {
            Step::Request(n) => {
                let id = format!("r-{n}");
                if self.knows(&id, now) {
                    return Vec::new();
                }
                match self.open() {
                    Some(held) if held.joined.len() < 15 => held.joined.push(id),
                    Some(_) => {}
                    None => {
                        self.all.push(Told {
                            request: id.clone(),
                            opened: now,
                            state: State::Held,
                            closed: 0,
                            joined: Vec::new(),
                        });
                        return vec![format!("hold_recovery {id}")];
                    }
                }
                Vec::new()
            }
            Step::Refused => vec!["cancel_recovery refused".to_owned()],
            Step::Stop(back) => {
                let again = self.stopped_at.is_some_and(|at| now - at < 30 * DAY);
                let Some(held) = self
                    .open()
                    .filter(|held| *back == 0 && held.state == State::Held)
                else {
                    return Vec::new();
                };
                if again {
                    held.state = State::Disputed;
                    self.stopped_at = Some(now);
                    return Vec::new();
                }
                (held.state, held.closed) = (State::Stopped, now);
                let said = format!("cancel_recovery {}", held.request);
                self.stopped_at = Some(now);
                vec![said]
            }
            Step::Withdraw => {
                if let Some(held) = self.open().filter(|held| held.state == State::Held) {
                    (held.state, held.closed) = (State::Stopped, now);
                }
                Vec::new()
            }
            Step::Succeed => {
                if let Some(held) = self.open() {
                    (held.state, held.closed) = (State::Released, now);
                    self.stopped_at = None;
                }
                Vec::new()
            }
            Step::OperatorRelease => {
                let Some(held) = self.open().filter(|held| held.state == State::Disputed) else {
                    return Vec::new();
                };
                if now < held.opened + DAY {
                    held.state = State::Held;
                    return Vec::new();
                }
                (held.state, held.closed) = (State::Released, now);
                let said = format!("release_recovery {}", held.request);
                self.stopped_at = None;
                vec![said]
            }
            Step::OperatorCancel => {
                let Some(held) = self.open() else {
                    return Vec::new();
                };
                (held.state, held.closed) = (State::Stopped, now);
                let said = format!("cancel_recovery {}", held.request);
                self.stopped_at = None;
                vec![said]
            }
            Step::Delete => {
                *self = Model::default();
                Vec::new()
            }
            Step::Fail | Step::Timer(_) | Step::Restart => Vec::new(),
        }
    }
}

/// The recovery so many before the last one.
fn case(cases: &[String], back: usize) -> &str {
    let at = cases.len().checked_sub(back + 1);
    at.map_or("k-none", |at| cases[at].as_str())
}

/// Plays one step to the engine.
fn play(story: &mut Story, step: &Step, now: i64, cases: &[String]) -> Said {
    let recovery = |outcome: &str, more: Value| {
        let mut event = json!({ "type": "recovery", "outcome": outcome, "account": "u" });
        for (name, value) in more.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    };
    let operator = |request: &str| {
        json!({ "type": "operator_request", "account": "u", "request": request,
                "operator": "support desk", "reason": "asked" })
    };
    let event = match step {
        Step::Request(n) => recovery("requested", json!({ "id": format!("r-{n}") })),
        Step::Refused => recovery("requested", json!({ "id": "refused", "role": "member" })),
        Step::Stop(back) => json!({
            "type": "case_response", "account": "u", "case": case(cases, *back), "case_version": 1,
            "answer": "cancel_recovery", "by": "owner" }),
        Step::Withdraw => recovery("cancelled", json!({})),
        Step::Succeed => recovery("success", json!({})),
        Step::Fail => recovery("failure", json!({})),
        Step::OperatorRelease => operator("release_recovery"),
        Step::OperatorCancel => operator("cancel_recovery"),
        Step::Delete => json!({ "type": "account_deleted", "account": "u" }),
        Step::Timer(back) => {
            let (long_ago, id) = (Timestamp(START), format!("t-{now}"));
            let timer = wire::timer_due(
                &id,
                "u",
                case(cases, *back),
                "recovery_hold",
                long_ago,
                long_ago,
            );
            return story.bytes(now, &timer);
        }
        Step::Restart => {
            story.restart(&["u"]);
            return Said::default();
        }
    };
    story.event(now, event)
}

/// `command`, and the request that it names first.
fn told(said: &Said) -> Vec<String> {
    let commands = said.commands.iter();
    commands
        .map(|command| format!("{} {}", command.kind.as_str(), command.evidence[0]))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..config() })]

    #[test]
    fn rules_16_recoveries_end_as_the_model_says_in_whatever_order(
        history in prop::collection::vec(step(), 1..40),
    ) {
        let (mut story, mut model) = (Story::new(), Model::default());
        let (mut now, mut cases) = (0, Vec::<String>::new());
        // An id that is used again, long after or for a new account, names the same case.
        let mut open: BTreeMap<String, i32> = BTreeMap::new();
        for (minutes, step) in &history {
            now += minutes * MINUTE;
            let passed = story.wait_until(now);
            prop_assert_eq!(told(&passed), model.pass(now));
            // What names an earlier one may name the last one after all.
            let step = &match step {
                Step::Stop(back) if case(&cases, *back) == case(&cases, 0) => Step::Stop(0),
                step => step.clone(),
            };
            let said = play(&mut story, step, now, &cases);
            prop_assert_eq!(told(&said), model.take(step, now), "{:?}", step);
            for command in passed.commands.iter().chain(&said.commands) {
                let Some(case) = &command.case else { continue };
                let open = open.entry(case.to_string()).or_default();
                if command.kind == CommandKind::HoldRecovery {
                    cases.push(case.to_string());
                    *open += 1;
                } else {
                    *open -= 1;
                }
                prop_assert!(*open >= 0, "{} ended twice", case);
            }
        }
    }
}
