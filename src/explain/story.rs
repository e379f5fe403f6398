//! From moments to an answer: the first sentence, the lives of cases, the near misses.

use std::collections::BTreeMap;

use crate::engine::output::{CaseState, CaseView, Decision, Effect};
use crate::event::KnownType;
use crate::record::CaseRecord;
use crate::rules::{Rule, RuleSet};

use super::pass::{Seen, Watch};
use super::record::{CaseStory, Chapter, Deed, Moment, NearMiss, Progress, RuleWord, Word};
use super::words::{amount, clock, effect, hit, progress, shown, word};
use super::{Question, Sources};

/// What is told of the moments.
pub struct Told {
    pub answer: String,
    pub cases: Vec<CaseStory>,
    pub near_misses: Vec<NearMiss>,
    pub moments: Vec<Moment>,
}

/// The answer to `question`.
pub fn tell(question: &Question, sources: &Sources<'_>, watch: Watch<'_>) -> Told {
    let rules = &*sources.rules;
    let mut cases = case_stories(rules, &watch.seen);
    let near_misses = near_misses(rules, &watch.seen);
    let answer = match question {
        Question::Account(account) => {
            about_account(rules, account, &watch.seen, &cases, &near_misses)
        }
        Question::Case(case) => {
            cases.retain(|story| story.id == *case);
            about_case(rules, case, &watch.seen, &cases)
        }
        Question::Event(event) => about_event(rules, event, &watch.seen),
    };
    let mut moments: Vec<Moment> = watch.seen.into_iter().map(|seen| seen.moment).collect();
    if let Question::Event(event) = question {
        moments.retain(|moment| moment.event == *event);
        let named = |story: &CaseStory| {
            let touched = |moment: &Moment| moment.case.as_ref().is_some_and(|c| c.id == story.id);
            moments.iter().any(touched)
        };
        cases.retain(named);
    }
    Told {
        answer,
        cases,
        near_misses,
        moments,
    }
}

fn rule<'r>(rules: &'r RuleSet, id: &str) -> Option<&'r Rule> {
    rules.rules().iter().find(|rule| *rule.id == *id)
}

/// `RULE: 5 of 5 different addresses within 5 min`.
fn hit_words(rules: &RuleSet, decision: &Decision) -> String {
    let place = decision.evidence.last().and_then(|e| e.country);
    let place = place.map(|country| country.to_string());
    match rule(rules, &decision.rule) {
        Some(rule) => format!(
            "{}: {}",
            decision.rule,
            hit(rules, rule, decision.value, place.as_deref())
        ),
        None => decision.rule.to_string(),
    }
}

fn case_stories(rules: &RuleSet, seen: &[Seen]) -> Vec<CaseStory> {
    let mut order: Vec<String> = Vec::new();
    let mut last: BTreeMap<String, &CaseView> = BTreeMap::new();
    let mut chapters: BTreeMap<String, Vec<Chapter>> = BTreeMap::new();
    for at in seen {
        for view in &at.shown {
            let id = view.id.to_string();
            if !order.contains(&id) {
                order.push(id.clone());
            }
            let of_case = |deed: &&Deed| deed.case.as_deref() == Some(&*view.id.0);
            chapters.entry(id.clone()).or_default().push(Chapter {
                time: view.updated.to_string(),
                event: at.moment.event.clone(),
                what: what_happened(rules, at, view),
                state: view.state.as_str(),
                version: view.version,
                did: at.moment.did.iter().filter(of_case).cloned().collect(),
            });
            last.insert(id, view);
        }
    }
    let story = |id: &String| {
        let view = *last.get(id)?;
        let shown = CaseRecord::new(view);
        Some(CaseStory {
            id: id.clone(),
            account: shown.account,
            state: view.state.as_str(),
            version: view.version,
            reason: shown.reason,
            rules: shown.rules,
            opened: shown.opened,
            updated: shown.updated,
            evidence: shown.evidence,
            places: shown.places,
            chapters: chapters.remove(id).unwrap_or_default(),
        })
    };
    order.iter().filter_map(story).collect()
}

fn what_happened(rules: &RuleSet, at: &Seen, view: &CaseView) -> String {
    let of_case = |decision: &&Decision| decision.case.as_ref() == Some(&view.id);
    let hits = at.decisions.iter().filter(of_case).map(|decision| {
        let verb = match decision.effect {
            Effect::Acted => "opened by",
            _ => "joined by",
        };
        format!("{verb} {}", hit_words(rules, decision))
    });
    let steered = at.moment.steered.iter().map(|steered| steered.what.clone());
    // No other timer closes a case that did not lock.
    let unanswered =
        at.moment.kind == KnownType::TimerDue.as_str() && view.state == CaseState::Closed;
    let unanswered = unanswered.then(|| "nobody had answered for 72 hours".to_owned());
    let parts: Vec<String> = hits.chain(steered).chain(unanswered).collect();
    if parts.is_empty() {
        format!("{} of the account", at.moment.kind)
    } else {
        parts.join("; ")
    }
}

/// Of each rule that never hit, the furthest it came.
fn near_misses(rules: &RuleSet, seen: &[Seen]) -> Vec<NearMiss> {
    let mut best: BTreeMap<String, NearMiss> = BTreeMap::new();
    let mut hits: Vec<&str> = Vec::new();
    for at in seen {
        for RuleWord { rule, word } in &at.moment.rules {
            match word {
                Word::Hit(_) => hits.push(rule),
                Word::Counted(progress) | Word::Redundant(progress) => {
                    let held = best.get(rule).map_or(0, |miss| miss.progress.value);
                    if progress.value > held {
                        best.insert(
                            rule.clone(),
                            NearMiss {
                                rule: rule.clone(),
                                time: at.moment.time.clone(),
                                progress: progress.clone(),
                                ended_by: None,
                            },
                        );
                    }
                }
                Word::EndedRun { length } => {
                    let whole = |miss: &&mut NearMiss| miss.progress.value == *length;
                    if let Some(miss) = best.get_mut(rule).filter(whole) {
                        let ended_by = || at.moment.event.clone();
                        miss.ended_by.get_or_insert_with(ended_by);
                    }
                }
                _ => {}
            }
        }
    }
    let mut misses: Vec<NearMiss> = best
        .into_values()
        .filter(|miss| !hits.contains(&&*miss.rule) && rule(rules, &miss.rule).is_some())
        .collect();
    let share = |p: &Progress| u64::from(p.value) * 1000 / u64::from(p.needed.max(1));
    misses.sort_by_key(|miss| std::cmp::Reverse(share(&miss.progress)));
    misses
}

/// How near a rule came.
pub fn miss_words(rules: &RuleSet, miss: &NearMiss) -> String {
    let far = rule(rules, &miss.rule)
        .map_or_else(String::new, |rule| progress(rules, rule, &miss.progress));
    let ended = miss.ended_by.as_deref();
    let ended = ended.map_or_else(String::new, |event| format!("; {} ended it", shown(event)));
    format!("{}, at {}: {far}{ended}", miss.rule, clock(&miss.time))
}

fn about_account(
    rules: &RuleSet,
    account: &str,
    seen: &[Seen],
    cases: &[CaseStory],
    misses: &[NearMiss],
) -> String {
    let locks = seen.iter().filter(|at| {
        let deeds = at.moment.did.iter();
        let mut opening = deeds.filter(|deed| deed.action == "lock_account");
        opening.any(|_| at.decisions.iter().any(|d| d.effect == Effect::Acted))
    });
    let locks: Vec<&Seen> = locks.collect();
    let name = shown(account);
    if let Some(last) = locks.last() {
        let why = last.decisions.iter().find(|d| d.effect == Effect::Acted);
        let why = why.map_or_else(String::new, |decision| hit_words(rules, decision));
        let now = match cases.last() {
            Some(story) => format!(" {}", state_words(story, &format!("The case {}", story.id))),
            None => String::new(),
        };
        let when = clock(&last.moment.arrived);
        return match locks.len() {
            1 => format!("{name} was locked at {when} by {why}.{now}"),
            n => format!("{name} was locked {n} times, the last time at {when} by {why}.{now}"),
        };
    }
    if let Some(story) = cases.last() {
        let opened = clock(&story.opened);
        return format!(
            "{name} was not locked by a rule. A case was opened at {opened}, reason {}. {}",
            story.reason,
            state_words(story, &format!("The case {}", story.id))
        );
    }
    let hits = seen.iter().flat_map(|at| &at.moment.rules);
    let last = hits.rev().find_map(|word| match &word.word {
        Word::Hit(found) => Some((word, found)),
        _ => None,
    });
    if let Some((word, found)) = last
        && let Some(of) = rule(rules, &word.rule)
    {
        return format!(
            "{name} was not locked. The rule {} was met; that was {}.",
            word.rule,
            effect(rules, of, found)
        );
    }
    match misses.first() {
        Some(miss) => format!(
            "{name} was not locked. Nearest came {}.",
            miss_words(rules, miss)
        ),
        None => format!(
            "{name} was not locked: in its {} no rule found anything.",
            amount(seen.len() as u64, "event")
        ),
    }
}

fn about_case(rules: &RuleSet, case: &str, seen: &[Seen], cases: &[CaseStory]) -> String {
    let Some(story) = cases.first() else {
        return format!("The case {} is not in these files.", shown(case));
    };
    let opening = seen
        .iter()
        .flat_map(|at| &at.decisions)
        .find(|d| d.effect == Effect::Acted && d.case.as_ref().is_some_and(|c| *c.0 == *case));
    let why = match opening {
        Some(decision) => format!("by {}", hit_words(rules, decision)),
        None => format!("for {}", story.reason),
    };
    let locked = story
        .chapters
        .iter()
        .any(|chapter| chapter.did.iter().any(|deed| deed.action == "lock_account"));
    let did = if locked {
        "locked"
    } else {
        "asked the owner of"
    };
    format!(
        "{} {did} {} at {} {why}. {}",
        story.id,
        shown(&story.account),
        clock(&story.opened),
        state_words(story, "It")
    )
}

fn about_event(rules: &RuleSet, event: &str, seen: &[Seen]) -> String {
    let mine: Vec<&Seen> = seen.iter().filter(|at| at.moment.event == *event).collect();
    let Some(first) = mine.first() else {
        return format!("{} is not in these files.", shown(event));
    };
    let kind = match &first.moment.outcome {
        Some(outcome) => format!("{} {outcome}", first.moment.kind),
        None => first.moment.kind.clone(),
    };
    let when = clock(&first.moment.time);
    let words = mine.iter().flat_map(|at| &at.moment.rules);
    let best = words.min_by_key(|said| weight(&said.word));
    let steered = first.moment.steered.as_ref();
    let what = match (best, steered) {
        (Some(said), _) if weight(&said.word) < weight_of_control() => said_by(rules, said),
        (_, Some(steered)) => steered.what.clone(),
        (Some(said), None) => format!("it counted for no rule. Nearest: {}", said_by(rules, said)),
        (None, None) => "there are no rules".to_owned(),
    };
    let more = match mine.len() {
        1 => String::new(),
        n => format!(" The id is there {n} times."),
    };
    format!("{} ({} at {when}): {what}.{more}", shown(event), kind)
}

fn said_by(rules: &RuleSet, said: &RuleWord) -> String {
    match rule(rules, &said.rule) {
        Some(rule) => format!("{}: {}", said.rule, word(rules, rule, &said.word)),
        None => said.rule.clone(),
    }
}

/// How much a word says; the smaller, the more.
fn weight(word: &Word) -> u8 {
    match word {
        Word::Hit(_) => 0,
        Word::Counted(_) => 1,
        Word::EndedRun { length } if *length > 0 => 2,
        Word::Learned { .. } | Word::Known { .. } | Word::Moved { .. } => 3,
        Word::EndedRun { .. } => 4,
        Word::Redundant(_) => 5,
        Word::Ignored { .. } | Word::BeforeCut { .. } | Word::Late { .. } | Word::Duplicate => 6,
        Word::NotTaught { .. } | Word::NoCountry { .. } | Word::NoValue { .. } => 7,
        Word::NoRoom | Word::Unkeyed { .. } | Word::Deleted => 8,
        Word::NotMatching { field, .. } if field != "type" => 9,
        Word::NotMatching { .. } => 10,
        Word::Off { .. } => 11,
    }
}

/// Below this a rule's word says more than what the event did to a case.
fn weight_of_control() -> u8 {
    9
}

/// How a case stands at the end of the files, in a sentence.
fn state_words(story: &CaseStory, it: &str) -> String {
    let since = clock(&story.updated);
    match story.state {
        "open" => format!("{it} is still open: locked, and its owner has not answered."),
        "asked" => format!("{it} is still open: not locked, and its owner has not answered."),
        "secured" => {
            format!("{it} is secured since {since}: locked until the password is changed for it.")
        }
        "needs_operator" => format!("{it} waits for an operator since {since}."),
        state => format!("{it} is {state} since {since}."),
    }
}
