//! Which account a question is about, and what to say where nothing fits.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;

use crate::event::Event;
use crate::event::decode::Dropped;
use crate::replay::Replay;
use crate::replay::input::{Line, for_each_line};
use strsim::osa_distance;

use super::record::Stream;
use super::words::shown;
use super::{Question, Sources};

/// Ids that are named where the one that was asked for is not there.
const NAMED: usize = 5;

/// What a question is about.
pub enum Found {
    Account(String),
    /// The event is there, and belongs to no account.
    EventWithoutAccount,
    /// Nothing; what is there instead.
    Nothing(String),
}

/// The account of a case or an event, for which the files are read once more.
///
/// # Errors
/// A file that cannot be read; standard input, which can be read once only.
pub fn account_of(question: &Question, sources: &Sources<'_>) -> anyhow::Result<Found> {
    match question {
        Question::Account(account) => Ok(Found::Account(account.clone())),
        Question::Event(event) => of_event(event, sources),
        Question::Case(case) => of_case(case, sources),
    }
}

fn of_event(wanted: &str, sources: &Sources<'_>) -> anyhow::Result<Found> {
    let mut found: Option<Option<String>> = None;
    let mut near = Near::to(wanted);
    each_event(sources, |event| {
        if *event.id == *wanted {
            let account = event.account.as_deref().map(str::to_owned);
            if found.as_ref().is_none_or(Option::is_none) {
                found = Some(account);
            }
        } else if found.is_none() {
            near.look_at(&event.id);
        }
    })?;
    Ok(match found {
        Some(Some(account)) => Found::Account(account),
        Some(None) => Found::EventWithoutAccount,
        None => Found::Nothing(format!(
            "No event in these files has the id {}.{}",
            shown(wanted),
            near.said("The nearest are")
        )),
    })
}

fn of_case(wanted: &str, sources: &Sources<'_>) -> anyhow::Result<Found> {
    refuse_stdin(sources)?;
    let mut replay = Replay::new(
        sources.rules.clone(),
        sources.facts.clone(),
        sources.partitions,
    );
    let (mut account, mut named) = (None, None);
    let mut near = Near::to(wanted);
    for path in sources.files {
        for_each_line(path, |number, text| {
            if account.is_some() {
                return;
            }
            let handled =
                replay.line_with(number, text, |engine, accounts, event, source, now, out| {
                    if event.case.as_deref() == Some(wanted) {
                        named = Some(event.account.as_deref().map(str::to_owned));
                    }
                    engine.handle(accounts, event, source, now, out);
                });
            if let Ok(out) = handled {
                for case in &out.cases {
                    if *case.id.0 == *wanted {
                        account = Some(case.account.to_string());
                    } else if account.is_none() {
                        near.look_at(&case.id.0);
                    }
                }
            }
        })?;
    }
    Ok(match (account, named) {
        (Some(account), _) => Found::Account(account),
        (None, Some(account)) => Found::Nothing(format!(
            "The case {} is named by events in these files{}, but nothing in them opens it: \
             they begin too late, or other rules opened it.",
            shown(wanted),
            account.map_or_else(String::new, |a| format!(" (of the account {})", shown(&a)))
        )),
        (None, None) => Found::Nothing(format!(
            "These events open no case {} under these rules.{}",
            shown(wanted),
            near.said("The nearest are")
        )),
    })
}

/// What to say of an account that is nowhere in the files.
///
/// # Errors
/// A file that cannot be read.
pub fn no_such_account(
    wanted: &str,
    sources: &Sources<'_>,
    stream: &Stream,
) -> anyhow::Result<String> {
    let mut near = Near::to(wanted);
    if !sources.files.iter().any(|path| is_stdin(path)) {
        each_event(sources, |event| {
            if let Some(account) = &event.account {
                near.look_at(account);
            }
        })?;
    }
    Ok(format!(
        "No event in these files belongs to the account {}, of {}.{}",
        shown(wanted),
        super::words::amount(stream.events, "event"),
        near.said("The nearest are")
    ))
}

/// The ids that are most like one that is not there.
struct Near<'w> {
    wanted: &'w str,
    best: BTreeSet<(usize, String)>,
}

impl<'w> Near<'w> {
    fn to(wanted: &'w str) -> Near<'w> {
        Near {
            wanted,
            best: BTreeSet::new(),
        }
    }

    fn look_at(&mut self, id: &str) {
        let apart = id.len().abs_diff(self.wanted.len());
        let worst = self.best.last().map_or(usize::MAX, |(far, _)| *far);
        if self.best.len() >= NAMED && apart >= worst || id.len() > 256 {
            return;
        }
        let distance = osa_distance(self.wanted, id);
        if self.best.len() < NAMED || distance < worst {
            self.best.insert((distance, id.to_owned()));
            if self.best.len() > NAMED {
                self.best.pop_last();
            }
        }
    }

    /// ` WORDS: a, b.`, or nothing where nothing is near.
    fn said(&self, words: &str) -> String {
        let names: Vec<String> = self.best.iter().map(|(_, id)| shown(id)).collect();
        match names.len() {
            0 => String::new(),
            1 => format!(" The nearest is {}.", names[0]),
            _ => format!(" {words} {}.", names.join(", ")),
        }
    }
}

/// Hands every event of the files to `each`, as it is read and without any rule.
fn each_event(sources: &Sources<'_>, mut each: impl FnMut(&Event<'_>)) -> anyhow::Result<()> {
    refuse_stdin(sources)?;
    let decoder = sources.rules.decoder();
    for path in sources.files {
        for_each_line(path, |_, text| {
            let Ok(line) = Line::parse(text) else { return };
            if let Ok(event) = decoder.decode(line.event, &mut Dropped::new()) {
                each(&event);
            }
        })?;
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn refuse_stdin(sources: &Sources<'_>) -> anyhow::Result<()> {
    if sources.files.iter().any(|path| is_stdin(path)) {
        bail!(
            "a case or an event is looked for first and explained then, so the events are read \
             twice: put them into a file, standard input can be read once"
        );
    }
    Ok(())
}
