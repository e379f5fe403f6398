//! Why, and why not: what the rules made of one account, case or event in recorded files.
//!
//! The files go through the same engine as in `run` and `replay`, in one pass and in order,
//! since rules kept by address and the order of the log matter; of what concerns the
//! question, the engine's trace is kept. [`record`] is the answer, [`text`] its words for
//! people. It reads files and writes nothing.

pub mod lookup;
mod pass;
pub mod record;
mod steer;
mod story;
pub mod text;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::enrich::Facts;
use crate::rules::RuleSet;

use record::{Asked, Explanation, JudgedBy, Listed, RuleFact};

/// What somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    Account(String),
    /// The reference that an owner reads out.
    Case(String),
    Event(String),
}

/// What a question is answered from.
pub struct Sources<'a> {
    pub files: &'a [PathBuf],
    pub rules: Arc<RuleSet>,
    pub facts: Arc<Facts>,
    /// Partitions of the input topic.
    pub partitions: u32,
    /// Names and hashes of the lists.
    pub lists: BTreeMap<String, String>,
    /// Finds the entry of a list in which an address stands.
    pub where_listed: &'a dyn Fn(&str, IpAddr) -> Listed,
}

/// The question's answer.
#[derive(Debug)]
pub enum Answer {
    Found(Box<Explanation>),
    /// What was asked about is not in the files: what was there instead, in sentences.
    Unknown(String),
}

/// Answers `question` from the files.
///
/// # Errors
/// A file that cannot be read, or standard input where the files must be read twice.
pub fn explain(question: &Question, sources: &Sources<'_>) -> anyhow::Result<Answer> {
    let account = match lookup::account_of(question, sources)? {
        lookup::Found::Account(account) => Some(account),
        lookup::Found::EventWithoutAccount => None,
        lookup::Found::Nothing(why) => return Ok(Answer::Unknown(why)),
    };
    let event = match question {
        Question::Event(event) => Some(event.as_str()),
        Question::Account(_) | Question::Case(_) => None,
    };
    let mut watch = pass::Watch::new(sources, account.as_deref(), event);
    let stream = pass::run(sources, &mut watch)?;
    if watch.is_empty() {
        let why = lookup::no_such_account(account.as_deref().unwrap_or(""), sources, &stream)?;
        return Ok(Answer::Unknown(why));
    }
    let told = story::tell(question, sources, watch);
    Ok(Answer::Found(Box::new(Explanation {
        schema: 1,
        question: match question.clone() {
            Question::Account(id) => Asked::Account(id),
            Question::Case(id) => Asked::Case(id),
            Question::Event(id) => Asked::Event(id),
        },
        answer: told.answer,
        account,
        stream,
        judged_by: judged_by(sources),
        cases: told.cases,
        near_misses: told.near_misses,
        moments: told.moments,
    })))
}

fn judged_by(sources: &Sources<'_>) -> JudgedBy {
    let database = |geo: Option<&crate::enrich::geoip::GeoDb>| {
        geo.map(|geo| record::Database {
            kind: geo.kind().to_owned(),
            built: geo.built().to_string(),
        })
    };
    let rules = sources.rules.rules().iter().map(|rule| RuleFact {
        id: rule.id.to_string(),
        title: rule.title.clone(),
        mode: rule.mode.as_str(),
        file: rule.file.to_string(),
        needs: words::needs(&sources.rules, rule),
    });
    JudgedBy {
        rule_set: sources.rules.hash().to_owned(),
        rules: rules.collect(),
        geoip: database(sources.facts.geo.as_deref()),
        previous_geoip: database(sources.facts.previous_geo.as_deref()),
        lists: sources.lists.clone(),
    }
}
