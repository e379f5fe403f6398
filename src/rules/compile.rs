//! The dispatch table: event type and outcome pick the few rules that can apply.

use crate::event::{Event, EventType, KnownType, Outcome};

use super::eval::Condition;
use super::{Detect, Field, Rule};

/// What an event of some type and outcome may be to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the rule in the set.
    pub rule: usize,
    pub role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may match `when`.
    Match,
    /// It may end a streak, by this condition of `broken_by`.
    Breaks(usize),
}

/// For each known type and outcome, the rules that can apply, in order of rule. Types
/// that nobody knows beforehand share one row, whose rules are tested in full.
#[derive(Debug)]
pub struct Dispatch {
    rows: Vec<Vec<Candidate>>,
}

const OUTCOMES: usize = Outcome::ALL.len() + 1;

impl Dispatch {
    pub fn new(rules: &[Rule]) -> Dispatch {
        let types = KnownType::ALL.iter().map(|kind| Some(kind.as_str()));
        let mut rows = Vec::with_capacity((KnownType::ALL.len() + 1) * OUTCOMES);
        for kind in types.chain([None]) {
            for outcome in Outcome::ALL.iter().map(|o| Some(o.as_str())).chain([None]) {
                rows.push(row(rules, kind, outcome));
            }
        }
        Dispatch { rows }
    }

    /// The rules that can apply to `event`.
    pub fn candidates(&self, event: &Event<'_>) -> &[Candidate] {
        let kind = match event.kind {
            EventType::Known(known) => known as usize,
            EventType::Other(_) => KnownType::ALL.len(),
        };
        let outcome = event.outcome.map_or(OUTCOMES - 1, |o| o as usize);
        &self.rows[kind * OUTCOMES + outcome]
    }
}

/// `kind` is `None` for types that are not known beforehand.
fn row(rules: &[Rule], kind: Option<&str>, outcome: Option<&str>) -> Vec<Candidate> {
    let may_hold = |condition: &Condition| {
        condition.lines.iter().all(|line| match line.field {
            Field::Type => kind.is_none_or(|kind| line.test.holds_for_text(Some(kind))),
            Field::Outcome => line.test.holds_for_text(outcome),
            _ => true,
        })
    };
    let mut row = Vec::new();
    for (rule, compiled) in rules.iter().enumerate() {
        if !compiled.is_on() {
            continue;
        }
        if let Detect::Streak { broken_by, .. } = &compiled.detect {
            for (at, condition) in broken_by.iter().enumerate() {
                if may_hold(condition) {
                    row.push(Candidate {
                        rule,
                        role: Role::Breaks(at),
                    });
                }
            }
        }
        if may_hold(&compiled.when) {
            row.push(Candidate {
                rule,
                role: Role::Match,
            });
        }
    }
    row
}
