//! `doorward recovery`: an operator's word about a recovery that its owner and somebody
//! else fight over (docs/rules.md 16).

use std::process::ExitCode;

use super::Status;
use super::operator::{Cases, Desk, Request, Who};
use crate::engine::output::CaseState;
use crate::record::CaseRecord;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward recovery release --config doorward.toml --case k-4e1f77 \
    --operator support --reason 'the owner came to the desk'\n\n\
    A release before the 24 hours are over lets the recovery go on; nothing shortens it.\n\n\
    Exit status: 0 the request is recorded, 1 there is nothing to decide, 3 the cluster does \
    not answer."
)]
pub struct Args {
    /// What becomes of the recovery
    #[arg(value_enum)]
    pub request: Word,
    /// The recovery's case reference
    #[arg(long, value_name = "CASE")]
    pub case: String,
    #[command(flatten)]
    pub who: Who,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Word {
    /// Whoever asked for it may have it
    Release,
    /// It ends
    Cancel,
}

impl Word {
    fn verb(self) -> &'static str {
        match self {
            Word::Release => "release_recovery",
            Word::Cancel => "cancel_recovery",
        }
    }
}

/// # Errors
/// Where there is no such recovery to decide, or the cluster does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&args.who.config)?;
    let case = desk.case(&args.case)?;
    if let Some(why) = settled(args.request, &case) {
        return Err(Status::Failed.error(anyhow::anyhow!("{}: {why}", case.id)));
    }
    desk.publish(&args.who, &Request::about(args.request.verb(), &case))?;
    let mut one = Cases::from([(case.id.clone(), case.clone())]);
    let moved = |cases: &Cases| cases.values().all(|now| now.version > case.version);
    let is_done = desk.wait(&mut one, &moved)?;
    match one.values().next().filter(|_| is_done) {
        Some(case) => println!("{}", said(case)),
        None => println!(
            "{}: recorded; the service carries it out when it reads it",
            case.id
        ),
    }
    Ok(Status::Done.into())
}

/// Why there is nothing to decide.
fn settled(request: Word, case: &CaseRecord) -> Option<&'static str> {
    match (CaseState::parse(&case.state), request) {
        (Some(CaseState::NeedsOperator), _) | (Some(CaseState::Held), Word::Cancel) => None,
        (Some(CaseState::Held), Word::Release) => {
            Some("nobody disputes it; it goes through by itself, and nothing shortens that")
        }
        (Some(CaseState::Released), _) => Some("it has gone through"),
        (Some(CaseState::Cancelled), _) => Some("it was stopped"),
        _ => Some("it is no recovery"),
    }
}

/// How the recovery stands then.
fn said(case: &CaseRecord) -> String {
    match (CaseState::parse(&case.state), case.until.as_deref()) {
        (Some(CaseState::Held), Some(until)) => {
            format!("{}: held, and goes through at {until}", case.id)
        }
        _ => format!("{}: {}", case.id, case.state.replace('_', " ")),
    }
}
