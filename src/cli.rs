//! The command line: one file per command, each with its `Args` and its `run`.

pub mod check;
pub mod conform;
pub mod demo;
pub mod explain;
pub mod generate;
mod load;
mod operator;
pub mod record;
pub mod recovery;
pub mod replay;
pub mod resend;
pub mod run;
pub mod schema;
pub mod send;
mod status;
pub mod test;
pub mod topics;
pub mod undo;
pub mod unlock;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};
use crate::document::{self, Diagnostics};

pub use status::{OrStatus, Status, status_of};

/// Watches a login pipeline's events in Kafka, locks accounts under attack, asks their
/// owners by e-mail, and acts on the answer.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done, 1 the thing checked failed, 2 usage or \
                        configuration, 3 a dependency was unreachable."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole product on one machine, with no services installed
    Demo(demo::Args),
    /// Read configuration, rules, lists and database, and say every mistake
    Check(check::Args),
    /// Tell a login pipeline's team what its events lack
    Conform(conform::Args),
    /// Put recorded events through the rules, and say what would have been decided
    Replay(replay::Args),
    /// Say why the rules did what they did, and why not: of an account, a case or an event
    Explain(explain::Args),
    /// Write labelled synthetic login traffic
    Generate(generate::Args),
    /// Write a stretch of the events in Kafka to a file, for `replay`
    Record(record::Args),
    /// Decide a recovery that was stopped twice in a row
    Recovery(recovery::Args),
    /// Send the mail about a case once more, if need be to another address
    Resend(resend::Args),
    /// Write JSON Schemas of rule files, events, commands, decisions and the configuration
    Schema(schema::Args),
    /// Run the service
    Run(run::Args),
    /// Publish events, keyed by account
    Send(send::Args),
    /// Run the tests beside the rules
    Test(test::Args),
    /// Make the topics, or say what is wrong with them
    Topics(topics::Args),
    /// Unlock what a rule locked by mistake
    Undo(undo::Args),
    /// Unlock an account for its owner
    Unlock(unlock::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// One error with its causes; [`status_of`] tells the exit status that it asks for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Demo(args) => demo::run(args),
            Command::Check(args) => check::run(args),
            Command::Conform(args) => conform::run(args),
            Command::Replay(args) => replay::run(args),
            Command::Explain(args) => explain::run(args),
            Command::Generate(args) => generate::run(args),
            Command::Record(args) => record::run(args),
            Command::Recovery(args) => recovery::run(args),
            Command::Resend(args) => resend::run(args),
            Command::Schema(args) => schema::run(args),
            Command::Run(args) => run::run(args),
            Command::Send(args) => send::run(args),
            Command::Test(args) => test::run(args),
            Command::Topics(args) => topics::run(args),
            Command::Undo(args) => undo::run(args),
            Command::Unlock(args) => unlock::run(args),
        }
    }
}

/// The configuration in the file at `path`. Warnings go to stderr.
///
/// # Errors
/// With status [`Status::Usage`] and every mistake in the text, each with its line.
pub fn load_config(path: &Path) -> anyhow::Result<Config> {
    let (config, found) = config::written::read(path, &|name| std::env::var(name).ok());
    let Some(config) = config else {
        return Err(refused(&found));
    };
    if !found.found.is_empty() {
        let color = std::io::stderr().is_terminal();
        eprintln!("{}\n", document::render_all(&found, color));
    }
    Ok(config)
}

/// The error of a command that will not start because of `found`.
pub fn refused(found: &Diagnostics) -> anyhow::Error {
    let count = match found.error_count() {
        1 => "1 mistake".to_owned(),
        n => format!("{n} mistakes"),
    };
    let text = document::render_all(found, std::io::stderr().is_terminal());
    Status::Usage.error(anyhow::anyhow!(
        "{count} found, nothing was started\n\n{text}"
    ))
}
