//! Two rule sets, account by account.

use std::io::{self, Write};

use serde::Serialize;

use super::Output;
use crate::record::{DecisionRecord, Provenance};
use crate::replay::page::text::{given, owners, short};
use crate::replay::report::answers::Given;
use crate::replay::report::notes::number;
use crate::replay::report::{Compared, FirstLock, LockedBy, Report};

/// A line of `replay --against --output ndjson`.
#[derive(Serialize)]
struct ComparedRecord<'r> {
    account: &'r str,
    /// `new`, `old` or `both`.
    locked_by: &'static str,
    new: Option<LockRecord>,
    old: Option<LockRecord>,
    /// `null`: not known.
    owner: Option<OwnerRecord>,
}

/// The first lock under one rule set.
#[derive(Serialize)]
struct LockRecord {
    rule: String,
    /// Broker time.
    time: String,
    case: Option<String>,
    /// The decision, its evidence cut to the last 8 events; `null` where more than 100,000
    /// accounts were locked.
    decision: Option<DecisionRecord>,
}

#[derive(Serialize)]
struct OwnerRecord {
    /// `me` or `not_me`.
    answer: &'static str,
    /// `case`: this very case; `event`: another case with the same event; `near`: something
    /// else, within a day.
    about: &'static str,
}

/// Prints every account that one of the rule sets locked, and how many there are.
pub fn print(
    report: &Report,
    provenance: [&Provenance; 2],
    output: Output,
    out: &mut impl Write,
) -> io::Result<()> {
    let compared = report.compared();
    match output {
        Output::Ndjson => {
            for one in &compared {
                serde_json::to_writer(&mut *out, &record(report, provenance, one))?;
                writeln!(out)?;
            }
            Ok(())
        }
        Output::Table => {
            writeln!(
                out,
                "{:<9}  {:<24}  {:<28}  {:<28}  {:<18}  ACCOUNT",
                "LOCKED BY", "FIRST LOCKED", "NEW RULE", "OLD RULE", "OWNER SAID"
            )?;
            for one in &compared {
                writeln!(out, "{}", row(report, one))?;
            }
            writeln!(out)?;
            for by in LockedBy::ALL {
                let verdicts: Vec<Option<Given>> = compared
                    .iter()
                    .filter(|(locked_by, ..)| locked_by == by)
                    .map(|(_, _, account)| report.verdict_of(account))
                    .collect();
                let accounts = number(verdicts.len() as u64, "account", "accounts");
                let by = match by {
                    LockedBy::OnlyNew => "only by the new rules",
                    LockedBy::OnlyOld => "only by the old rules",
                    LockedBy::Both => "by both",
                };
                write!(out, "{accounts} locked {by}.")?;
                match verdicts.as_slice() {
                    [] => writeln!(out)?,
                    verdicts => writeln!(out, " {}", owners(verdicts))?,
                }
            }
            Ok(())
        }
    }
}

fn record<'r>(
    report: &Report,
    [new_from, old_from]: [&Provenance; 2],
    (by, account, told): &Compared<'r>,
) -> ComparedRecord<'r> {
    let [new, old] = &told.first;
    ComparedRecord {
        account,
        locked_by: by.as_str(),
        new: new.as_ref().map(|first| lock(first, new_from)),
        old: old.as_ref().map(|first| lock(first, old_from)),
        owner: report.verdict_of(told).map(|given| OwnerRecord {
            answer: given.verdict.as_str(),
            about: given.tie.as_str(),
        }),
    }
}

fn lock(first: &FirstLock, from: &Provenance) -> LockRecord {
    LockRecord {
        rule: first.rule.to_string(),
        time: first.now.to_string(),
        case: first.case.as_ref().map(ToString::to_string),
        decision: first
            .kept
            .as_ref()
            .map(|kept| DecisionRecord::new(&kept.decision, from)),
    }
}

fn row(report: &Report, (by, account, told): &Compared<'_>) -> String {
    let [new, old] = &told.first;
    let rule = |first: &Option<FirstLock>| {
        first
            .as_ref()
            .map_or_else(|| "-".to_owned(), |first| first.rule.to_string())
    };
    let first = new.iter().chain(old).map(|first| first.now).min();
    format!(
        "{:<9}  {:<24}  {:<28}  {:<28}  {:<18}  {}",
        by.as_str(),
        first.map_or_else(String::new, |time| time.to_string()),
        rule(new),
        rule(old),
        given(report.verdict_of(told)),
        short(account),
    )
}
