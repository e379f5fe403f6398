//! This machine's clocks, for the mailer.

use std::time::Instant;

use super::plan::Now;
use crate::publish::wall_clock;

/// Counts steady time from its own beginning. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    pub fn now(self) -> Now {
        Now {
            wall: wall_clock(),
            steady_ms: i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX),
        }
    }
}
