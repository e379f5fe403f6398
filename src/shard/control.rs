//! How the rest of the process talks with a shard's thread: stop it, see that it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::admin::Readiness;

/// Asks shards to finish. Clones share one state.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<StopState>,
}

#[derive(Debug)]
struct StopState {
    start: Instant,
    requested: AtomicBool,
    /// Milliseconds after `start`; meaningful once requested.
    deadline_ms: AtomicU64,
}

impl Default for Stop {
    fn default() -> Self {
        Stop::new()
    }
}

impl Stop {
    pub fn new() -> Stop {
        Stop {
            shared: Arc::new(StopState {
                start: Instant::now(),
                requested: AtomicBool::new(false),
                deadline_ms: AtomicU64::new(u64::MAX),
            }),
        }
    }

    /// From now on shards commit what they have and end; after `within` they end in any
    /// case, and what is not committed is read again by whoever comes next.
    pub fn request(&self, within: Duration) {
        let deadline = (self.shared.start.elapsed() + within).as_millis();
        let deadline = u64::try_from(deadline).unwrap_or(u64::MAX);
        self.shared.deadline_ms.store(deadline, Ordering::Relaxed);
        self.shared.requested.store(true, Ordering::Release);
    }

    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Whether the time to finish is over.
    pub fn is_overdue(&self) -> bool {
        let elapsed = self.shared.start.elapsed().as_millis();
        self.is_requested()
            && elapsed >= u128::from(self.shared.deadline_ms.load(Ordering::Relaxed))
    }
}

/// A shard's sign of life, read by the watchdog. Clones share one state.
#[derive(Clone, Debug)]
pub struct Pulse {
    start: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse::new()
    }
}

impl Pulse {
    pub fn new() -> Pulse {
        Pulse {
            start: Instant::now(),
            last_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// There will be no more beats, and that is no hang.
    pub fn stop(&self) {
        self.last_ms.store(u64::MAX, Ordering::Relaxed);
    }

    pub fn has_stopped(&self) -> bool {
        self.last_ms.load(Ordering::Relaxed) == u64::MAX
    }

    /// How long ago the last beat was.
    pub fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// A shard's line in `/readyz`. It touches the shared map only when something changes.
#[derive(Debug)]
pub struct Ready {
    readiness: Readiness,
    component: String,
    reason: Option<String>,
}

impl Ready {
    /// Not ready, for `reason`, until said otherwise.
    pub fn new(readiness: Readiness, shard: usize, reason: &str) -> Ready {
        let mut ready = Ready {
            readiness,
            component: format!("shard {shard}"),
            reason: None,
        };
        ready.lost(reason);
        ready
    }

    pub fn is_ready(&self) -> bool {
        self.reason.is_none()
    }

    /// Says why the shard cannot work; true where that is news.
    pub fn lost(&mut self, reason: &str) -> bool {
        let is_news = self.reason.as_deref() != Some(reason);
        if is_news {
            self.readiness.set(self.component.as_str(), reason);
            self.reason = Some(reason.to_owned());
        }
        is_news
    }

    /// True where the shard was not ready before.
    pub fn regained(&mut self) -> bool {
        let was_lost = self.reason.take().is_some();
        if was_lost {
            self.readiness.clear(&self.component);
        }
        was_lost
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.lost("ended");
    }
}
