//! Structured logs, to stderr: text for people, JSON for machines.
//!
//! Each line stands where something is handled, with fields; never a mail address, a
//! token or a whole IP address at info level.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::{LogFormat, LogSettings};

/// The filter where none is configured.
pub const DEFAULT_FILTER: &str = "info";

/// Reads a filter such as `info,doorward::shard=debug`.
///
/// # Errors
/// What is wrong with it, for a message.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| error.to_string())
}

/// Starts logging for the whole process. The first call counts: later ones (several tests
/// in one process) change nothing.
///
/// # Errors
/// Where the filter cannot be read.
pub fn init(settings: &LogSettings) -> Result<(), String> {
    let filter = match settings.filter.as_str() {
        "" => DEFAULT_FILTER,
        filter => filter,
    };
    let builder = SubscriberBuilder::default()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // `try_init` fails only where a subscriber is set already.
    let _ = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Says what is wrong with something that mends itself, and not for every error that tells of
/// it: while a cluster is away, librdkafka names another broker several times a second.
#[derive(Debug)]
pub struct Complaint {
    what: &'static str,
    said: Option<Instant>,
}

/// One warning in so long. What comes in between is for whoever debugs.
const SAY_EVERY: Duration = Duration::from_secs(60);

impl Complaint {
    /// `what` is the sentence that the error explains.
    pub fn new(what: &'static str) -> Complaint {
        Complaint { what, said: None }
    }

    pub fn hear(&mut self, error: &dyn std::error::Error) {
        if self.said.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            tracing::debug!(%error, "{}", self.what);
            return;
        }
        self.said = Some(Instant::now());
        tracing::warn!(%error, "{}", self.what);
    }
}
