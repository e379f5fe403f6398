//! Time as the loop sees it: for pauses and guesses, never for decisions.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::Timestamp;

/// Where a shard takes its time from; the simulation brings its own.
pub trait Clock: Send {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// The machine's idea of the time of day, for a partition that nothing was read of yet.
    fn wall(&self) -> Timestamp;

    fn sleep(&self, pause: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| since.as_millis() as i64))
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}
