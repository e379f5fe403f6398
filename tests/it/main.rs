//! Every integration test, in one binary.

mod config;
mod facts;
mod support;
mod watch;
