//! `doorward generate`: labelled synthetic traffic.

use std::process::ExitCode;

use super::Status;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  doorward generate --events 1000 --accounts 50 --seed 1")]
pub struct Args {
    /// How many events of ordinary traffic
    #[arg(long, value_name = "N")]
    pub events: u64,
}

/// # Errors
/// Where the events cannot be written.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    Ok(Status::Done.into())
}
