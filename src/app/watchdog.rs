//! Ends the process when a shard hangs in a call that never returns.
//!
//! librdkafka has calls that ignore their timeout (librdkafka#5456). The events of a shard
//! that hangs wait for nobody else as long as its process is in the group, so it is better
//! dead: a supervisor starts it again, and nothing uncommitted was lost.

use std::time::Duration;

use anyhow::Context;

use super::shards::ShardThread;
use crate::shard::control::Pulse;

/// Silence that is taken for a hang. Every blocking call of a shard has a shorter limit.
const HANGS_AFTER: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The exit status of a process that hangs on its log (docs/contract.md section 5).
const UNREACHABLE: i32 = 3;

/// Watches until the process ends.
pub fn start(shards: &[ShardThread]) -> anyhow::Result<()> {
    let mut watched: Vec<(usize, Pulse)> = shards
        .iter()
        .map(|shard| (shard.shard, shard.pulse.clone()))
        .collect();
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            #[allow(
                clippy::exit,
                reason = "a thread that hangs in a call cannot be ended in any other way"
            )]
            while !watched.is_empty() {
                std::thread::sleep(LOOK_EVERY);
                // A shard that has ended hangs no longer.
                watched.retain(|(_, pulse)| !pulse.has_stopped());
                if let Some((shard, pulse)) = watched.iter().find(|(_, p)| hangs(p)) {
                    tracing::error!(
                        shard,
                        silent_seconds = pulse.silence().as_secs(),
                        "the shard hangs in a call to Kafka; ending the process",
                    );
                    std::process::exit(UNREACHABLE);
                }
            }
        })
        .context("the watchdog's thread")?;
    Ok(())
}

fn hangs(pulse: &Pulse) -> bool {
    pulse.silence() > HANGS_AFTER
}
