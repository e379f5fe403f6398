//! doorward reads a login pipeline's events from Kafka, decides which accounts are under
//! attack, locks them, asks their owners by e-mail, and acts on the answer.
//!
//! The modules stand in the order in which data flows. The first five are the pure core:
//! they take facts and a time and return values, and import no clock, no network, no
//! randomness (a test checks it). The rest is a thin shell around them.

pub mod document;
pub mod engine;
pub mod enrich;
pub mod event;
pub mod record;
pub mod replay;
pub mod rules;

pub mod clock;
pub mod deliver;
pub mod ingest;
pub mod kafka;
pub mod log;
pub mod shard;
pub mod sim;

pub mod follow;
pub mod link;
pub mod locale;
pub mod mail;
pub mod publish;
pub mod stretch;
pub mod tail;
pub mod web;

pub mod admin;
pub mod app;
pub mod builtin;
pub mod cli;
pub mod config;
pub mod conform;
pub mod demo;
pub mod explain;
pub mod facts;
pub mod generate;
pub mod logging;
pub mod metrics;
pub mod reload;
pub mod ruletest;
pub mod schema;
pub mod topics;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `DOORWARD_REVISION` named when it was built, such as a commit; otherwise `unknown`.
pub const REVISION: &str = match option_env!("DOORWARD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
