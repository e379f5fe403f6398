//! Every integration test, in one binary.

mod facts;
mod support;
mod watch;
