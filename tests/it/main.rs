//! The integration tests, in one binary: it links librdkafka once.
//!
//! Tests that need a real Kafka, SMTP server or promtool run where the environment names
//! them (`make services` installs them) and are skipped with a printed line elsewhere;
//! with `DOORWARD_REQUIRE_SERVICES=1` a missing one is a failure.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

mod bad_rules;
mod bounded;
mod browser;
mod check;
mod config;
mod conform;
mod consumers;
mod decode;
mod demo;
mod deploy;
mod document;
mod explain;
mod facts;
mod failures;
mod gallery;
mod generate;
mod guide;
mod kafka;
mod lists;
mod mail;
mod mailer;
mod meaning;
mod model;
mod model_cases;
mod oracle;
mod owner;
mod places;
mod ranges;
mod recoveries;
mod reload;
mod replay;
mod ruletest;
mod schema;
mod security;
mod services;
mod shard;
mod simulation;
mod state;
mod support;
mod thief;
mod tidy;
mod trace;
mod translations;
mod watch;
mod web;
