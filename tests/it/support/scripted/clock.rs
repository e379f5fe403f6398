//! Time that moves only when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorward::clock::Clock;
use doorward::event::Timestamp;

/// A clock that its clones share. A sleep moves it.
#[derive(Clone, Debug)]
pub struct SimClock {
    start: Timestamp,
    elapsed_ms: Arc<AtomicU64>,
}

impl SimClock {
    pub fn new(start: Timestamp) -> SimClock {
        SimClock {
            start,
            elapsed_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        let ms = self.elapsed_ms.load(Ordering::Relaxed);
        self.start.plus_ms(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    fn sleep(&self, pause: Duration) {
        self.advance(pause);
    }
}
