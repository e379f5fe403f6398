#![allow(clippy::all, reason = "scratch")]
#[path = "it/support.rs"]
mod support;
#[path = "it/simulation.rs"]
mod simulation;
