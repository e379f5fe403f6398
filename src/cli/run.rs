//! `doorward run`: the service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::{OrStatus, Status};
use crate::app::{Mails, Parts, SHUTDOWN, Service};
use crate::config::{Config, written};
use crate::facts;
use crate::mail::RetrySchedule;
use crate::publish::wall_clock;
use crate::reload::{Sources, read};
use crate::rules::RuleSet;

/// `doorward run`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  doorward run --config /etc/doorward/doorward.toml\n\n\
    Rules, lists, databases and translations are read again when they change, and at SIGHUP; \
    with a mistake in them, or a test beside the rules that fails, those that were read before \
    stay. At the start, it ends with 2.\n\
    SIGTERM and SIGINT end it: what was decided is committed, mails that are being sent are \
    finished, and it exits with 0 within 20 s."
)]
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
    let Written {
        config,
        rules,
        facts,
    } = read(&args.config)?;
    crate::logging::init(&config.log)
        .map_err(|error| anyhow::anyhow!("log.filter: {error}"))
        .or_status(Status::Usage)?;
    warn_of(&facts, &rules);
    let mut service = Service::start(Parts {
        config,
        rules: Arc::new(rules),
        facts,
        mails: Mails::Smtp,
        schedule: RetrySchedule::default(),
        reloads: true,
    })?;
    let ended = service.wait_for_signal();
    let shut_down = service.shutdown(SHUTDOWN);
    ended.and(shut_down)?;
    tracing::info!("ended");
    Ok(Status::Done.into())
}

/// Everything that people wrote and the service reads.
struct Written {
    config: Config,
    rules: RuleSet,
    facts: facts::Loaded,
}

/// Reads configuration, lists, database and rules.
///
/// # Errors
/// With status [`Status::Usage`] and every mistake in all of them at once.
fn read(path: &Path) -> anyhow::Result<Written> {
    let (config, mut found) = written::read(path, &|name| std::env::var(name).ok());
    let Some(config) = config else {
        return Err(super::refused(&found));
    };
    match read::candidate(&Sources::of(&config), None, &mut found) {
        Some(candidate) if !found.has_errors() => Ok(Written {
            config,
            rules: candidate.rules,
            facts: candidate.loaded,
        }),
        _ => Err(super::refused(&found)),
    }
}

/// Says what could not be used but does not keep the service from starting.
fn warn_of(facts: &facts::Loaded, rules: &RuleSet) {
    for problem in &facts.problems.found {
        tracing::warn!(file = %problem.file.name, problem = %problem.message, "cannot be used");
    }
    for (rule, list) in rules.missing_lists() {
        tracing::warn!(%rule, list, "the rule is off: its list could not be loaded");
    }
    for (exception, list) in rules.missing_for_exceptions() {
        tracing::warn!(%exception, list, "the exception does nothing: its list could not be loaded");
    }
    let now = wall_clock();
    for exception in rules.exceptions().iter().filter(|e| e.has_expired(now)) {
        tracing::warn!(
            exception = &*exception.id,
            expired = %exception.expires,
            owner = exception.owner,
            "an exception has expired and does nothing",
        );
    }
}
