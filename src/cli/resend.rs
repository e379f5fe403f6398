//! `doorward resend`: the mail about a case once more.

use std::process::ExitCode;

use super::Status;
use super::operator::{Cases, Desk, Request, Who, outcome, printable};
use crate::engine::mailing;
use crate::engine::output::CaseState;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward resend --config doorward.toml --case k-4e1f77 \
    --to ada@elsewhere.example --operator ann --reason 'the mailbox on file is dead'\n\n\
    Whoever reads the mailbox named by --to can unlock the account: make sure that it is the \
    owner's. Without --to the mail goes to the addresses on file.\n\n\
    Exit status: 0 the mail is on its way, or the request is recorded, 1 there is nothing to \
    send, 3 the cluster does not answer."
)]
pub struct Args {
    /// The case reference
    #[arg(long, value_name = "CASE")]
    pub case: String,
    /// Another address, for this mail only
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub to: Option<String>,
    #[command(flatten)]
    pub who: Who,
}

fn address(text: &str) -> Result<String, String> {
    match mailing::is_usable(text) {
        true => Ok(text.to_owned()),
        false => Err("this is no mail address".into()),
    }
}

/// # Errors
/// Where there is no such case, nothing can be sent, or the cluster does not answer.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut desk = Desk::open(&args.who.config)?;
    let case = desk.case(&args.case)?;
    let id = printable(&case.id);
    if CaseState::parse(&case.state).is_none_or(CaseState::is_recovery) {
        let error = anyhow::anyhow!("{id} is a recovery; its owner asks for the mail at /help");
        return Err(Status::Failed.error(error));
    }
    let request = Request {
        to: args.to.as_deref(),
        ..Request::about("resend", &case)
    };
    let event = desk.publish(&args.who, &request)?;
    let mut one = Cases::from([(case.id.clone(), case.clone())]);
    desk.wait(&mut one, &|cases| {
        cases.values().all(|case| outcome(case, &event).is_some())
    })?;
    match one.values().find_map(|case| outcome(case, &event)) {
        Some(note) if note.done => println!("{id}: the mail is on its way"),
        Some(_) => {
            let error = anyhow::anyhow!("{id}: no address is known; name one with --to");
            return Err(Status::Failed.error(error));
        }
        None => println!("{id}: recorded; the service carries it out when it reads it"),
    }
    Ok(Status::Done.into())
}
