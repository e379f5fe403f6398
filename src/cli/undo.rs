//! `doorward undo`: takes back what a rule locked by mistake.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::Status;
use super::operator::{Cases, Desk, Request, Who, outcome, printable};
use crate::engine::output::CaseState;
use crate::event::Timestamp;
use crate::record::CaseRecord;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward undo --config doorward.toml --rule first-seen-country \
    --from 2026-11-22T06:00:00Z --to 2026-11-22T08:00:00Z \
    --operator ann --reason 'a broken country database' --dry-run\n\n\
    Accounts are unlocked whose lock only this rule asked for, first between the two times, by \
    the broker's clock. Their owners are told that it was a mistake, and nothing is learned. \
    What an owner has disowned, and what another rule would have locked, stays locked. Done \
    twice it does nothing more.\n\n\
    Exit status: 0 all of them are unlocked, 1 some are not, 3 the cluster does not answer."
)]
pub struct Args {
    /// The rule
    #[arg(long, value_name = "RULE")]
    pub rule: String,
    /// The first moment, RFC 3339 with its offset
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Timestamp,
    /// The moment after the last
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Timestamp,
    /// Only show what would be unlocked
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub who: Who,
}

fn time(text: &str) -> Result<Timestamp, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Timestamp(time.as_millisecond())),
        Err(_) => Err("write it with its offset, as 2026-11-22T06:00:00Z".into()),
    }
}

/// What is to become of a case.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Unlock,
    /// It stays as it is, and why.
    Leave(String),
}

/// # Errors
/// Where the cluster does not answer, or some account could not be unlocked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.from >= args.to {
        return Err(Status::Usage.error(anyhow::anyhow!("--from must be before --to")));
    }
    let mut desk = Desk::open(&args.who.config)?;
    let locked = |case: &CaseRecord| {
        locked_at(case, &args.rule).is_some_and(|time| args.from <= time && time < args.to)
    };
    let mut cases = desk.cases(&locked)?;
    print!("{}", table(&cases, &args.rule));
    cases.retain(|_, case| verdict(case, &args.rule) == Verdict::Unlock);
    if cases.is_empty() {
        eprintln!("nothing to unlock");
        return Ok(Status::Done.into());
    }
    if args.dry_run {
        eprintln!(
            "{} would be unlocked; nothing was done",
            counted(cases.len())
        );
        return Ok(Status::Done.into());
    }
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    for case in cases.values() {
        let request = Request {
            rule: Some(&args.rule),
            ..Request::about("undo", case)
        };
        asked.insert(case.id.clone(), desk.publish(&args.who, &request)?);
    }
    let note = |case: &CaseRecord| outcome(case, &asked[&case.id]).map(|note| note.done);
    desk.wait(&mut cases, &|cases| {
        cases.values().all(|case| note(case).is_some())
    })?;
    let done = cases.values().filter(|case| note(case) == Some(true));
    let unlocked = done.count();
    let mut waiting = 0;
    for case in cases.values() {
        let why = match note(case) {
            Some(true) => continue,
            Some(false) => match verdict(case, &args.rule) {
                Verdict::Leave(why) => why,
                Verdict::Unlock => format!("its case is {}", case.state),
            },
            None => {
                waiting += 1;
                continue;
            }
        };
        eprintln!("{}: not unlocked: {why}", printable(&case.account));
    }
    eprintln!("{} unlocked", counted(unlocked));
    if waiting > 0 {
        eprintln!(
            "{} recorded; the service carries them out when it reads them",
            counted(waiting)
        );
    }
    Ok(if unlocked + waiting == asked.len() {
        Status::Done.into()
    } else {
        Status::Failed.into()
    })
}

fn counted(accounts: usize) -> String {
    match accounts {
        1 => "1 account".to_owned(),
        n => format!("{n} accounts"),
    }
}

/// When `rule` locked the account, by broker time. Cases of an earlier version name no locks:
/// the first of their rules opened them.
fn locked_at(case: &CaseRecord, rule: &str) -> Option<Timestamp> {
    let time = match &case.locks[..] {
        [] => (case.rules.first()? == rule).then_some(&case.opened)?,
        locks => &locks.iter().find(|lock| lock.rule == rule)?.time,
    };
    time.parse::<jiff::Timestamp>()
        .ok()
        .map(|time| Timestamp(time.as_millisecond()))
}

/// What the service will make of an `undo`, as it decides it itself.
fn verdict(case: &CaseRecord, rule: &str) -> Verdict {
    match CaseState::parse(&case.state) {
        Some(CaseState::Open) => {}
        Some(CaseState::Secured) => {
            return Verdict::Leave("its owner said that it was not them".into());
        }
        _ => return Verdict::Leave(format!("it is {}", case.state)),
    }
    let mut others: Vec<&str> = match &case.locks[..] {
        [] => case.rules.iter().map(String::as_str).collect(),
        locks => locks.iter().map(|lock| &*lock.rule).collect(),
    };
    others.retain(|other| *other != rule);
    match others.as_slice() {
        [] => Verdict::Unlock,
        others => Verdict::Leave(format!("{} locked it too", others.join(", "))),
    }
}

/// A line for each case: account, case, when it was locked, and what becomes of it.
fn table(cases: &Cases, rule: &str) -> String {
    let rows: Vec<[String; 4]> = cases
        .values()
        .map(|case| {
            let locked = locked_at(case, rule).map_or_else(String::new, |time| time.to_string());
            let what = match verdict(case, rule) {
                Verdict::Unlock => "unlock".to_owned(),
                Verdict::Leave(why) => format!("leave: {why}"),
            };
            [printable(&case.account), case.id.clone(), locked, what]
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let (account, case, locked) = (width(0), width(1), width(2));
    let lines = rows
        .iter()
        .map(|[a, c, l, what]| format!("{a:account$}  {c:case$}  {l:locked$}  {what}\n"));
    lines.collect()
}
