//! `doorward unlock`: support unlocks one account.

use std::process::ExitCode;

use super::Status;
use super::operator::{Cases, Desk, Request, Who, outcome, printable};
use crate::engine::output::CaseState;
use crate::record::CaseRecord;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward unlock --config doorward.toml --account u-123 \
    --operator ann --reason 'the owner called from the number on file'\n\n\
    The places of its case are known from then on. Where no case is open, the login pipeline \
    is told to unlock the account all the same.\n\n\
    Exit status: 0 it is unlocked, or the request is recorded, 1 the service refused it, 3 the \
    cluster does not answer."
)]
pub struct Args {
    /// The account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: String,
    #[command(flatten)]
    pub who: Who,
}

/// # Errors
/// Where the cluster does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&args.who.config)?;
    let of_account = |case: &CaseRecord| case.account == args.account;
    let cases = desk.cases(&of_account)?;
    let account = printable(&args.account);
    let open = cases.values().find(|case| is_open(case));
    let Some(case) = open else {
        // Any case of the account tells its partition.
        let partition = cases.values().next().map(|case| case.partition);
        let request = Request {
            verb: "unlock",
            account: &args.account,
            case: None,
            partition,
            rule: None,
            to: None,
        };
        desk.publish(&args.who, &request)?;
        println!("{account}: no case is open; the pipeline will be told to unlock it");
        return Ok(Status::Done.into());
    };
    let id = case.id.clone();
    let event = desk.publish(&args.who, &Request::about("unlock", case))?;
    let mut one = Cases::from([(id.clone(), case.clone())]);
    desk.wait(&mut one, &|cases| {
        cases.values().all(|case| outcome(case, &event).is_some())
    })?;
    let case = &one[&id];
    match outcome(case, &event) {
        Some(note) if note.done => println!("{account}: {} is {}", id, case.state),
        Some(_) => {
            let error = anyhow::anyhow!("{account}: not unlocked; {id} is {}", case.state);
            return Err(Status::Failed.error(error));
        }
        None => println!("{account}: recorded; the service carries it out when it reads it"),
    }
    Ok(Status::Done.into())
}

fn is_open(case: &CaseRecord) -> bool {
    CaseState::parse(&case.state).is_some_and(CaseState::is_open)
}
