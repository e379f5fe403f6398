//! Ends the process when a thread hangs in a call that never returns.
//!
//! librdkafka has calls that ignore their timeout (librdkafka#5456). What waits for a shard
//! that hangs, or for the reader of the outbox, waits for nobody else as long as its process
//! is in the group, so it is better dead: a supervisor starts it again, and nothing
//! uncommitted was lost.

use std::time::Duration;

use anyhow::Context;

use super::shards::ShardThread;
use crate::mail::outbox::MAX_POLL_INTERVAL;
use crate::shard::control::Pulse;

/// Silence that is taken for a hang. Every blocking call of a shard has a shorter limit.
const HANGS_AFTER: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The exit status of a process that hangs on its log (docs/contract.md section 5).
const UNREACHABLE: i32 = 3;

/// A thread that is watched.
pub struct Watched {
    what: String,
    pulse: Pulse,
    hangs_after: Duration,
}

impl Watched {
    pub fn shard(shard: &ShardThread) -> Watched {
        Watched {
            what: format!("shard {}", shard.shard),
            pulse: shard.pulse.clone(),
            hangs_after: HANGS_AFTER,
        }
    }

    /// The reader of the outbox, which waits longer: for a mail server's last answer, and
    /// in calls for as long as Kafka is away.
    pub fn outbox(pulse: Pulse) -> Watched {
        Watched {
            what: "the reader of the outbox".into(),
            pulse,
            hangs_after: MAX_POLL_INTERVAL,
        }
    }

    fn hangs(&self) -> bool {
        // A thread that has ended hangs no longer.
        !self.pulse.has_stopped() && self.pulse.silence() > self.hangs_after
    }
}

/// Watches until the process ends.
pub fn start(watched: Vec<Watched>) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            #[allow(
                clippy::exit,
                reason = "a thread that hangs in a call cannot be ended in any other way"
            )]
            while watched.iter().any(|thread| !thread.pulse.has_stopped()) {
                std::thread::sleep(LOOK_EVERY);
                if let Some(thread) = watched.iter().find(|thread| thread.hangs()) {
                    tracing::error!(
                        thread = thread.what,
                        silent_seconds = thread.pulse.silence().as_secs(),
                        "it hangs in a call to Kafka; ending the process",
                    );
                    std::process::exit(UNREACHABLE);
                }
            }
        })
        .context("the watchdog's thread")?;
    Ok(())
}
