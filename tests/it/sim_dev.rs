#![allow(dead_code, clippy::all, reason = "scratch")]
mod support {
    #[path = "../support/oracle.rs"]
    pub mod oracle;
    #[path = "../support/story.rs"]
    pub mod story;
}
mod simulation;
fn main() {}
