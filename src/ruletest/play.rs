//! One timeline through the engine, and what was different from what it expects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::engine::output::{CaseState, CaseView, Effect, Outputs};
use crate::engine::trace::Trace;
use crate::engine::{Engine, Partition, Settings};
use crate::enrich::Facts;
use crate::enrich::geoip::GeoDb;
use crate::event::decode::{Decoder, Dropped};
use crate::event::wire::{self, CaseResponse, MacKeys, OperatorRequest};
use crate::event::{DAY_MS, MINUTE_MS, Source};
use crate::rules::Mode;

use super::expect::{Expected, Standing};
use super::why::why;
use super::{START, Shelf, Step, Test, What};

/// What became of one test.
#[derive(Debug)]
pub struct Played {
    pub rows: Vec<Row>,
}

/// One step, as it was played.
#[derive(Debug)]
pub struct Row {
    /// Where it is written.
    pub span: Range<usize>,
    /// Event time, from the start; and the broker's, where that is another.
    pub at_ms: i64,
    pub received_ms: Option<i64>,
    pub what: String,
    pub expected: Expected,
    pub happened: Happened,
    /// What was not as expected, a sentence each.
    pub problems: Vec<String>,
}

/// What one step caused.
#[derive(Debug, Default)]
pub struct Happened {
    pub decisions: Vec<(Arc<str>, Effect, u32)>,
    pub commands: Vec<String>,
    /// Part and address.
    pub mails: Vec<(&'static str, String)>,
    pub account_is: Option<Standing>,
    /// Each rule at work that decided nothing, and why.
    pub whys: Vec<(Arc<str>, String)>,
}

impl Played {
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.problems.is_empty())
    }
}

/// Plays tests one after the other; holds the database that they share.
pub struct Player<'a> {
    shelf: &'a Shelf,
    geo: Option<Arc<GeoDb>>,
}

impl<'a> Player<'a> {
    pub fn new(shelf: &'a Shelf, geo: Option<Arc<GeoDb>>) -> Player<'a> {
        Player { shelf, geo }
    }

    /// Plays `test`. `None` where its rules cannot be compiled with its lists, which reading
    /// the test has excluded.
    pub fn play(&self, test: &Test) -> Option<Played> {
        self.play_in(test, None)
    }

    /// The same with all of the test's rules in `mode`, where there is one.
    pub fn play_in(&self, test: &Test, mode: Option<Mode>) -> Option<Played> {
        let (mut rules, lists) = self.shelf.rule_set(test)?;
        if let Some(mode) = mode {
            rules = rules.in_mode(mode);
        }
        let facts = Arc::new(Facts {
            geo: self.geo.clone(),
            lists,
            ..Facts::default()
        });
        let mut game = Game {
            decoder: rules.decoder(),
            engine: Engine::new(Arc::new(rules), facts, settings()),
            partition: Partition::default(),
            offset: 0,
            now_ms: 0,
            cases: BTreeMap::new(),
            out: Outputs::default(),
            trace: Trace::default(),
        };
        let rows = test.steps.iter().map(|step| game.step(step)).collect();
        Some(Played { rows })
    }
}

/// As the service is by default.
fn settings() -> Settings {
    Settings {
        max_lateness_ms: 5 * MINUTE_MS,
        act_within_ms: DAY_MS,
        link_valid_ms: DAY_MS,
        partitions: 12,
        max_forgettable_bytes: usize::MAX,
        // Nothing is kept, so any key will do; a fixed one repeats a test exactly.
        state_key: *b"doorward testing",
        answer_keys: None,
    }
}

struct Game {
    engine: Engine,
    decoder: Decoder,
    partition: Partition,
    offset: i64,
    /// The broker's clock, from the start.
    now_ms: i64,
    /// By account, its case as it was last shown.
    cases: BTreeMap<Arc<str>, CaseView>,
    out: Outputs,
    /// What the rules said of the last message.
    trace: Trace,
}

impl Game {
    fn step(&mut self, step: &Step) -> Row {
        self.wait_until(step.received_ms);
        self.trace = Trace::default();
        let mut problems = Vec::new();
        let account;
        match &step.what {
            What::Wait { account: of } => account = Some(of.clone()),
            What::Event(fields) => {
                account = text_of(fields.get("account"));
                let mut event = fields.clone();
                event
                    .entry("id")
                    .or_insert_with(|| Json::String(format!("e{}", self.offset + 1)));
                event.insert("time".to_owned(), (START.0 + step.at_ms).into());
                if event.get("case").and_then(Json::as_str) == Some("current") {
                    let case = account.as_deref();
                    let case = case.and_then(|of| self.engine.case_of(&self.partition, of));
                    event.insert(
                        "case".to_owned(),
                        case.map_or(Json::Null, |c| c.to_string().into()),
                    );
                }
                let bytes = serde_json::to_vec(&event).unwrap_or_default();
                // What a timer did on the way here is not this event's doing.
                self.out.clear();
                problems.extend(self.message(step.received_ms, &bytes).err());
            }
            What::Answer {
                account: of,
                answer,
                places,
                version,
                by,
            } => {
                account = Some(of.clone());
                self.out.clear();
                let said = Answer {
                    answer,
                    places: places.as_deref(),
                    version: *version,
                    by,
                };
                problems.extend(self.answer(step, of, &said).err());
            }
            What::Operator {
                account: of,
                request,
            } => {
                account = Some(of.clone());
                self.out.clear();
                problems.extend(self.operator(step, of, request).err());
            }
        }
        let happened = self.happened(account.as_deref());
        problems.extend(differences(&step.expected, &happened));
        self.out.clear();
        Row {
            span: step.span.clone(),
            at_ms: step.at_ms,
            received_ms: (step.received_ms != step.at_ms).then_some(step.received_ms),
            what: describe(&step.what),
            expected: step.expected.clone(),
            happened,
            problems,
        }
    }

    /// Every timer that falls due until `until_ms` is published and read back at that moment,
    /// as a shard does it.
    fn wait_until(&mut self, until_ms: i64) {
        while let Some(due) = self
            .engine
            .next_deadline(&self.partition)
            .filter(|due| *due <= START.plus_ms(until_ms))
        {
            let now = due.max(START.plus_ms(self.now_ms));
            let timers = self.engine.due_timers(&mut self.partition, now);
            if timers.is_empty() {
                break;
            }
            for timer in timers {
                let bytes = wire::timer_due(
                    &timer.id,
                    &timer.account,
                    &timer.case,
                    timer.kind,
                    timer.deadline,
                    now,
                );
                // Its own messages are well formed.
                let _ = self.message(now.since_ms(START), &bytes);
            }
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn answer(&mut self, step: &Step, account: &str, said: &Answer<'_>) -> Result<(), String> {
        let case = match said.answer {
            "cancel_recovery" => self.engine.recovery_of(&self.partition, account),
            _ => self.engine.case_of(&self.partition, account),
        };
        let Some(case) = case else {
            return Err(format!("{account} has no case that could be answered"));
        };
        let shown = self.cases.get(account);
        let version = said
            .version
            .and_then(|version| u32::try_from(version).ok())
            .or_else(|| shown.map(|case| case.version));
        let places: Vec<String> = match (said.places, shown) {
            (Some(places), _) => places.to_vec(),
            (None, Some(case)) => case.places.iter().map(|p| p.value.to_string()).collect(),
            (None, None) => Vec::new(),
        };
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let bytes = wire::case_response(
            &CaseResponse {
                id: &format!("a{}", self.offset + 1),
                account: Some(account),
                case: &case.0,
                case_version: version.unwrap_or(0),
                answer: said.answer,
                places: &places,
                by: said.by,
                time: START.plus_ms(step.at_ms),
            },
            &MacKeys::default(),
        );
        self.message(step.received_ms, &bytes)
    }

    fn operator(&mut self, step: &Step, account: &str, request: &str) -> Result<(), String> {
        let case = match request {
            "release_recovery" | "cancel_recovery" => {
                self.engine.recovery_of(&self.partition, account)
            }
            // What is taken back is the lock of the account's case.
            "undo" => self.engine.case_of(&self.partition, account),
            _ => None,
        };
        // With one rule at work there is no doubt which lock was a mistake.
        let rules = self.engine.rules().rules();
        let rule = rules.first().filter(|_| request == "undo");
        let rule = rule.map(|rule| rule.id.to_string());
        let bytes = wire::operator_request(
            &OperatorRequest {
                id: &format!("o{}", self.offset + 1),
                account,
                case: case.as_ref().map(|case| &*case.0),
                request,
                rule: rule.as_deref(),
                to: None,
                operator: "operator",
                reason: "in a test",
                time: START.plus_ms(step.at_ms),
            },
            &MacKeys::default(),
        );
        self.message(step.received_ms, &bytes)
    }

    /// Hands one message to the engine; what it causes is added to `out`.
    fn message(&mut self, now_ms: i64, bytes: &[u8]) -> Result<(), String> {
        self.now_ms = now_ms;
        let source = Source {
            partition: 0,
            offset: self.offset,
        };
        self.offset += 1;
        let mut dropped = Dropped::new();
        let event = self
            .decoder
            .decode(bytes, &mut dropped)
            .map_err(|rejected| format!("this is no event: {}", rejected.reason))?;
        let now = START.plus_ms(now_ms);
        let partition = &mut self.partition;
        self.trace = self
            .engine
            .handle_traced(partition, &event, source, now, &mut self.out);
        for case in &self.out.cases {
            if !case.state.is_recovery() {
                self.cases.insert(Arc::clone(&case.account), case.clone());
            }
        }
        match dropped.first() {
            None => Ok(()),
            Some(field) => Err(format!("the value of `{field}` is none that it can have")),
        }
    }

    fn happened(&self, account: Option<&str>) -> Happened {
        let out = &self.out;
        Happened {
            decisions: out
                .decisions
                .iter()
                .map(|d| (Arc::clone(&d.rule), d.effect, d.value))
                .collect(),
            commands: out
                .commands
                .iter()
                .map(|command| match command.scope {
                    Some(scope) => format!("{} {}", command.kind.as_str(), scope.as_str()),
                    None => command.kind.as_str().to_owned(),
                })
                .collect(),
            mails: out
                .mails
                .iter()
                .map(|mail| (mail.part.as_str(), mail.to.to_string()))
                .collect(),
            whys: self
                .trace
                .rules
                .iter()
                .filter_map(|said| Some((Arc::clone(&said.rule), why(&said.said)?)))
                .collect(),
            account_is: account.map(|account| {
                self.cases
                    .get(account)
                    .map_or(Standing::Free, |case| standing(case.state))
            }),
        }
    }
}

struct Answer<'a> {
    answer: &'a str,
    places: Option<&'a [String]>,
    version: Option<i64>,
    by: &'a str,
}

fn standing(state: CaseState) -> Standing {
    match state {
        CaseState::Open => Standing::Locked,
        CaseState::Asked => Standing::Asked,
        CaseState::Secured => Standing::Secured,
        _ => Standing::Free,
    }
}

/// What is not as expected, a sentence each.
fn differences(expected: &Expected, happened: &Happened) -> Vec<String> {
    let mut problems = Vec::new();
    let mut left = happened.decisions.clone();
    for wanted in &expected.decisions {
        let fits = |(rule, effect, value): &(Arc<str>, Effect, u32)| {
            *rule == wanted.rule
                && wanted.effect.fits(*effect)
                && wanted.value.is_none_or(|wanted| wanted == *value)
        };
        if let Some(at) = left.iter().position(fits) {
            left.remove(at);
            continue;
        }
        let wants = super::report::wanted(wanted);
        let other = left.iter().position(|(rule, ..)| *rule == wanted.rule);
        problems.push(match other {
            Some(at) => {
                let (rule, effect, value) = left.remove(at);
                format!(
                    "{rule}: expected {wants}, and it was {} {value}",
                    effect.as_str()
                )
            }
            None => {
                let why = why_not(&happened.whys, &wanted.rule);
                let rule = &wanted.rule;
                format!("{rule}: expected {wants}, and it decided nothing{why}")
            }
        });
    }
    for (rule, effect, value) in left {
        problems.push(format!(
            "{rule}: {} {value}, and no decision was expected",
            effect.as_str()
        ));
    }
    for (rule, wanted) in &expected.near {
        // A rule of runs may say two things of one event.
        let said: Vec<&str> = whys_of(&happened.whys, rule).collect();
        if !said.contains(&wanted.as_str()) {
            let said = match said.is_empty() {
                true => "it gave no reason".to_owned(),
                false => format!("it was `{}`", said.join("`, `")),
            };
            problems.push(format!("{rule}: expected `{wanted}`, and {said}"));
        }
    }
    if let Some(wanted) = &expected.commands {
        let fits = |wanted: &String, command: &String| {
            command == wanted || command.split(' ').next() == Some(wanted)
        };
        if !same(wanted, &happened.commands, fits) {
            problems.push(unlike("commands", wanted, &happened.commands));
        }
    }
    if let Some(wanted) = &expected.mails {
        let fits = |wanted: &String, (part, to): &(&str, String)| wanted == part || wanted == to;
        if !same(wanted, &happened.mails, fits) {
            let sent: Vec<String> = happened
                .mails
                .iter()
                .map(|(part, to)| format!("{part} {to}"))
                .collect();
            problems.push(unlike("mails", wanted, &sent));
        }
    }
    if let Some(wanted) = expected.account_is
        && happened.account_is != Some(wanted)
    {
        let is = happened
            .account_is
            .map_or("not known here", Standing::as_str);
        problems.push(format!(
            "the account is {is}, and was expected to be {}",
            wanted.as_str()
        ));
    }
    problems
}

fn whys_of<'a>(
    whys: &'a [(Arc<str>, String)],
    rule: &'a Arc<str>,
) -> impl Iterator<Item = &'a str> {
    whys.iter()
        .filter(move |(of, _)| of == rule)
        .map(|(_, why)| why.as_str())
}

/// ` (4 of 5)`, where the rule gave a reason.
fn why_not(whys: &[(Arc<str>, String)], rule: &Arc<str>) -> String {
    let said: Vec<&str> = whys_of(whys, rule).collect();
    match said.is_empty() {
        true => String::new(),
        false => format!(" ({})", said.join(", ")),
    }
}

/// Whether each wanted thing happened, once, and nothing else, in whatever order.
fn same<W, H>(wanted: &[W], happened: &[H], fits: impl Fn(&W, &H) -> bool) -> bool {
    let mut left: Vec<&H> = happened.iter().collect();
    wanted.len() == left.len()
        && wanted.iter().all(|wanted| {
            let at = left.iter().position(|happened| fits(wanted, happened));
            at.is_some_and(|at| {
                left.remove(at);
                true
            })
        })
}

fn unlike(what: &str, wanted: &[String], got: &[String]) -> String {
    let list = |items: &[String]| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    };
    format!(
        "{what}: expected {}, and there were {}",
        list(wanted),
        list(got)
    )
}

/// A step in a few words.
fn describe(what: &What) -> String {
    match what {
        What::Wait { .. } => "time passes".to_owned(),
        What::Answer {
            account, answer, ..
        } => format!("{account} answers {answer}"),
        What::Operator { account, request } => format!("an operator: {request} {account}"),
        What::Event(fields) => {
            let words = [
                "account", "type", "outcome", "method", "reason", "country", "ip",
            ];
            let words: Vec<String> = words
                .into_iter()
                .filter_map(|name| text_of(fields.get(name)))
                .collect();
            words.join(" ")
        }
    }
}

fn text_of(value: Option<&Json>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}
