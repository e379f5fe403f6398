//! `doorward run`: the service.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::{OrStatus, Status};
use crate::app::{Parts, SHUTDOWN, Service};
use crate::mail::RetrySchedule;
use crate::mail::transport::Transport;
use crate::rules::RuleSet;

/// `doorward run`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  doorward run --config /etc/doorward/doorward.toml\n\n\
    SIGTERM and SIGINT end it: what was decided is committed, mails that are being sent are \
    finished, and it exits with 0 within 20 s.")]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs until it is asked to end.
///
/// # Errors
/// Every mistake in what it reads, before anything starts; later, why it could not go on.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = super::load_config(&args.config)?;
    crate::logging::init(&config.log)
        .map_err(|error| anyhow::anyhow!("log.filter: {error}"))
        .or_status(Status::Usage)?;
    let (facts, rules) = load(&config)?;
    let transport = Transport::smtp(&config.mail)
        .context("the mail settings")
        .or_status(Status::Usage)?;
    let mut service = Service::start(Parts {
        config,
        rules,
        facts,
        transport,
        schedule: RetrySchedule::default(),
    })?;
    let ended = service.wait_for_signal();
    let shut_down = service.shutdown(SHUTDOWN);
    ended.and(shut_down)?;
    tracing::info!("ended");
    Ok(Status::Done.into())
}
