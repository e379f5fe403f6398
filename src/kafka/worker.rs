//! The thread on which a shard's batches are committed while the shard reads on.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use super::producer::Producer;
use crate::clock::SystemClock;
use crate::deliver::{Attempt, Attempted};
use crate::log::LogError;
use crate::log::client;

/// Dropped in the middle of an attempt, it leaves its thread behind, which ends with it.
pub struct Worker {
    attempts: SyncSender<Attempt<Producer>>,
    ended: Receiver<Attempted<Producer>>,
    /// One that has ended and was not taken yet.
    last: Option<Attempted<Producer>>,
}

impl Worker {
    /// # Errors
    /// [`LogError::Unavailable`] where the system gives no thread.
    pub fn start(shard: usize) -> Result<Worker, LogError> {
        let (attempts, begun) = mpsc::sync_channel::<Attempt<Producer>>(1);
        let (end, ended) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name(format!("commit-{shard}"))
            .spawn(move || {
                let clock = SystemClock::new();
                for attempt in begun {
                    if end.send(attempt.run(&clock)).is_err() {
                        break;
                    }
                }
            })
            .map_err(|error| LogError::Unavailable(format!("a thread to commit on: {error}")))?;
        Ok(Worker {
            attempts,
            ended,
            last: None,
        })
    }
}

impl client::Worker for Worker {
    type Producer = Producer;

    fn begin(&mut self, attempt: Attempt<Producer>) {
        // A thread that has ended is found out by whoever waits.
        let _ = self.attempts.send(attempt);
    }

    fn wait(&mut self, wait: Duration) -> Result<bool, LogError> {
        if self.last.is_none() {
            match self.ended.recv_timeout(wait) {
                Ok(attempted) => self.last = Some(attempted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let text = "the thread that commits has ended";
                    return Err(LogError::Stalled(text.into()));
                }
            }
        }
        Ok(self.last.is_some())
    }

    fn take(&mut self) -> Option<Attempted<Producer>> {
        self.last.take()
    }
}
