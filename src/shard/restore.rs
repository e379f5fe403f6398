//! A restore that is under way, as the shard's log tells of it.

use std::time::Duration;

/// How often a long restore says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// One partition's accounts on their way back into memory.
#[derive(Debug)]
pub struct Restore {
    pub partition: i32,
    pub began: Duration,
    pub records: u64,
    told: Duration,
}

impl Restore {
    pub fn new(partition: i32, now: Duration) -> Restore {
        Restore {
            partition,
            began: now,
            records: 0,
            told: now,
        }
    }

    /// Says now and then how far it is: `read` of `of` offsets.
    pub fn tell(&mut self, shard: usize, now: Duration, read: i64, of: i64) {
        if now.saturating_sub(self.told) < TELL_EVERY {
            return;
        }
        self.told = now;
        tracing::info!(
            shard,
            partition = self.partition,
            records = self.records,
            percent = read.saturating_mul(100) / of.max(1),
            seconds = now.saturating_sub(self.began).as_secs_f64(),
            "restoring",
        );
    }
}
