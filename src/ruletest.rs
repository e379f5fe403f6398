//! Tests of rules, as analysts write them: a timeline of events, and what is expected.
//!
//! [`parse`] reads a `*.test.yaml` and says every mistake in it with its place; [`play`]
//! puts one test's timeline through the engine that the service runs, timers included, and
//! compares; [`report`] tells people and their CI; [`judge`] says whether a whole set of rules
//! may go to work. Which files there are is the caller's
//! business, and so is the country database; lists hold what a test says and nothing else,
//! so that no test depends on the feed of the day.

mod expect;
mod fields;
pub mod form;
pub mod judge;
pub mod parse;
mod places;
pub mod play;
pub mod report;
mod step;
mod time;
mod why;

use std::ops::Range;
use std::sync::Arc;

use crate::document::{Diagnostics, SourceFile};
use crate::enrich::geoip::GeoDb;
use crate::enrich::iplist::Lists;
use crate::event::Timestamp;
use crate::rules::{RuleSet, exceptions};

pub use expect::Expected;
pub use step::{Step, What};

/// When every timeline begins: Monday, 2026-01-05 00:00:00 UTC.
pub const START: Timestamp = Timestamp(1_767_571_200_000);

/// A file of tests that was read.
#[derive(Debug)]
pub struct TestFile {
    pub file: Arc<SourceFile>,
    pub tests: Vec<Test>,
}

/// One timeline.
#[derive(Debug)]
pub struct Test {
    /// A sentence that says what is promised.
    pub name: String,
    /// Where it stands.
    pub span: Range<usize>,
    /// Ids of the rules at work; every other one is out of the way.
    pub rules: Vec<Arc<str>>,
    /// What the lists hold; one that is not named is empty.
    pub lists: Vec<(String, Vec<String>)>,
    pub steps: Vec<Step>,
}

/// The rules that tests may name, each with its file, and the names of the lists.
#[derive(Debug, Default)]
pub struct Shelf {
    rules: Vec<(Arc<str>, Arc<SourceFile>)>,
    lists: Vec<String>,
    /// Whether these are all; else a name that is not here may still be right.
    complete: bool,
}

impl Shelf {
    /// The rules of `files`. Their mistakes go to `found`; `None` where there is one.
    pub fn new(files: &[Arc<SourceFile>], lists: &Lists, found: &mut Diagnostics) -> Option<Shelf> {
        RuleSet::load(files, lists, found)?;
        let mut rules = Vec::new();
        // Exceptions, whose days end, would make a test fail that nobody touched.
        let of_rules = files
            .iter()
            .filter(|file| !file.name.ends_with(exceptions::FILE));
        for file in of_rules {
            // It was read a moment ago, together with the others.
            let alone = RuleSet::load(
                std::slice::from_ref(file),
                lists,
                &mut Diagnostics::default(),
            )?;
            let rule = alone.rules().first()?;
            rules.push((Arc::clone(&rule.id), Arc::clone(file)));
        }
        Some(Shelf {
            rules,
            lists: lists.names().map(str::to_owned).collect(),
            complete: true,
        })
    }

    /// The rules of `files` that can be read, for a reader that says every mistake in tests
    /// although there are mistakes in rules. `lists` is `None` where it is not known which
    /// there are. What tests name and is not here is taken for good; such tests cannot be
    /// played.
    pub fn of_readable(files: &[Arc<SourceFile>], lists: Option<&Lists>) -> Shelf {
        let none = Lists::default();
        let mut rules = Vec::new();
        for file in files {
            let alone = std::slice::from_ref(file);
            let read = RuleSet::load(alone, lists.unwrap_or(&none), &mut Diagnostics::default());
            if let Some(rule) = read.as_ref().and_then(|set| set.rules().first()) {
                rules.push((Arc::clone(&rule.id), Arc::clone(file)));
            }
        }
        let names = lists.into_iter().flat_map(Lists::names);
        Shelf {
            rules,
            lists: names.map(str::to_owned).collect(),
            complete: false,
        }
    }

    /// Ids of all rules, in order of their files.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().map(|(id, _)| id)
    }

    /// The rules of one test, with its lists; `None` where one of them cannot be read.
    fn rule_set(&self, test: &Test) -> Option<(RuleSet, Lists)> {
        let lists = self.lists_of(test)?;
        let files: Vec<Arc<SourceFile>> = self
            .rules
            .iter()
            .filter(|(id, _)| test.rules.contains(id))
            .map(|(_, file)| Arc::clone(file))
            .collect();
        let rules = RuleSet::load(&files, &lists, &mut Diagnostics::default())?;
        Some((rules, lists))
    }

    fn lists_of(&self, test: &Test) -> Option<Lists> {
        let filled: Vec<(&str, Vec<&str>)> = self
            .lists
            .iter()
            .map(|name| {
                let own = test.lists.iter().find(|(list, _)| list == name);
                let entries = own.map_or(Vec::new(), |(_, entries)| {
                    entries.iter().map(String::as_str).collect()
                });
                (name.as_str(), entries)
            })
            .collect();
        let slices: Vec<(&str, &[&str])> = filled
            .iter()
            .map(|(name, entries)| (*name, entries.as_slice()))
            .collect();
        Lists::from_entries(&slices).ok()
    }
}

/// What a reader of test files needs to know.
pub struct Known<'a> {
    pub shelf: &'a Shelf,
    /// For `from: Norway`; without it such a step is a mistake.
    pub geo: Option<&'a GeoDb>,
}
