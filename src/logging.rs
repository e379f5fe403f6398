//! Structured logs, to stderr: text for people, JSON for machines.
//!
//! Each line stands where something is handled, with fields; never a mail address, a
//! token or a whole IP address at info level.

use std::io::IsTerminal;

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
